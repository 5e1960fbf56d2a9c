"""The JPEG that networks are trained through is the JPEG that they are used with."""

import io
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from corec import color
from corec.codecs import jpeg, trellis
from corec.training.proxies import JpegProxy, rgb_from_ycbcr, ycbcr_from_rgb

BUNDLED = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]  # part of scikit-image's package
CID22 = Path(__file__).parents[2] / "shared" / "data" / "train" / "cid22"
STEPS = [8.0, 20.0, 45.0, 80.0]


def planes(path: Path, color: bool, half: bool) -> np.ndarray:
    """A photograph as uint8 (H, W, 1 or 3), luma or YCbCr, cut to whole blocks, as a compact image would be."""
    if not path.exists():
        pytest.skip(f"this scikit-image has no {path.name} in its package")
    with Image.open(path) as opened:
        picture = opened.convert("RGB").convert("YCbCr" if color else "L")
    array = np.atleast_3d(np.asarray(picture.reduce(2) if half else picture))
    return array[: array.shape[0] // 16 * 16, : array.shape[1] // 16 * 16]


def as_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.transpose(2, 0, 1)[None].astype(np.float32)) / 255


def quantised(proxy: JpegProxy, image: Tensor, tables: Tensor) -> np.ndarray:
    """uint8 (H, W, C) planes whose coefficients are those that the proxy chose, chroma as libjpeg will average it.

    The proxy rounds coefficients towards zero, libjpeg to the nearest; from this image libjpeg, with the
    same tables, finds the proxy's coefficients again.
    """
    decoded = [proxy.plane(255 * image[:, :1], tables[:, 0])[0]]
    for plane in range(1, image.shape[1]):
        chroma = proxy.plane(F.avg_pool2d(255 * image[:, plane : plane + 1], 2), tables[:, 1])[0]
        decoded.append(chroma.repeat_interleave(2, 2).repeat_interleave(2, 3))
    return torch.cat(decoded, 1)[0].permute(1, 2, 0).numpy().astype(np.uint8)


def libjpeg(array: np.ndarray, tables: Tensor) -> bytes:
    """A JPEG file with optimised Huffman tables: gray or YCbCr 4:2:0."""
    mode = "YCbCr" if array.shape[2] == 3 else "L"
    picture = Image.frombytes(mode, (array.shape[1], array.shape[0]), array.tobytes())
    file = io.BytesIO()
    subsampling = 2 if array.shape[2] == 3 else -1
    picture.save(file, "JPEG", qtables=tables[0].int().tolist(), optimize=True, subsampling=subsampling)
    return file.getvalue()


def scan_bits(data: bytes) -> int:
    """Bits of a baseline file's one scan, which the proxy estimates; tables and headers left out."""
    start = data.index(b"\xff\xda")
    return 8 * (len(data) - 2 - start - 2 - int.from_bytes(data[start + 2 : start + 4]))


def away_from_clipping(luma: np.ndarray) -> np.ndarray:
    """Pixels of those blocks where no decoded value is clipped, which alone determine their coefficients."""
    inside = (luma > 0) & (luma < 255)
    height, width = luma.shape
    blocks = inside.reshape(height // 8, 8, width // 8, 8).all((1, 3))
    return blocks.repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize("color", [False, True], ids=["gray", "color"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
@torch.no_grad()
def test_decoded_pixels_are_those_of_libjpeg_within_rounding(name: str, color: bool) -> None:
    array = planes(BUNDLED / name, color, half=True)
    proxy = JpegProxy(color)
    for step in STEPS:
        tables = proxy.tables(torch.tensor([step]))
        expected = 255 * proxy(as_tensor(array), tables)[0][0].permute(1, 2, 0).numpy()
        found, _ = jpeg.decode(libjpeg(quantised(proxy, as_tensor(array), tables), tables))
        difference = np.abs(found - expected)
        # libjpeg's integer transform may round to the neighbouring level, no further.
        sure = away_from_clipping(expected[..., 0])
        assert sure.mean() > 0.7
        assert difference[..., 0][sure].max() <= 1.001
        assert difference[..., 0].mean() < 0.2
        # Chroma is a weighted mean of four samples that may be one level off, which libjpeg rounds: 1 + 1/2.
        if color:
            assert difference[..., 1:].max() <= 1.501
            assert difference[..., 1:].mean() < 0.5


@pytest.mark.parametrize("step", [10, 24, 60])
@torch.no_grad()
def test_the_shipped_encoder_spends_its_bits_better_than_the_quantiser_of_training(step: int) -> None:
    array = planes(BUNDLED / "chelsea.png", False, half=True)
    flat = np.full((1, 64), step)
    trained = 255 * JpegProxy(False).plane(255 * as_tensor(array), torch.from_numpy(flat).float())[0]
    file = io.BytesIO()
    plain = Image.fromarray(trained[0, 0].div(255).byte().numpy())
    plain.save(file, "JPEG", qtables=[[step] * 64], optimize=True)

    def cost(data: bytes) -> float:
        error = np.square(jpeg.decode(data)[0].astype(float) - array).sum() / step**2
        return float(error + trellis.WEIGHT * 8 * len(data))

    jfif = trellis.WEIGHT * 8 * 18
    assert cost(jpeg.encode(array, 1, flat)) < cost(file.getvalue()) - jfif


@pytest.mark.parametrize("half", [False, True], ids=["full", "half"])
@pytest.mark.parametrize("color", [False, True], ids=["gray", "color"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
@torch.no_grad()
def test_the_rate_is_that_of_libjpeg_within_a_tenth(name: str, color: bool, half: bool) -> None:
    check_rate(BUNDLED / name, color, half)


@pytest.mark.parametrize("color", [False, True], ids=["gray", "color"])
@torch.no_grad()
def test_the_rate_is_that_of_libjpeg_within_a_tenth_on_training_photographs(color: bool) -> None:
    photographs = sorted(CID22.glob("pexels-*.webp"))[::12]
    if not photographs:
        pytest.skip("needs ../shared/data/train/cid22")
    for path in photographs:
        check_rate(path, color, half=True)


def check_rate(path: Path, color: bool, half: bool) -> None:
    array = planes(path, color, half)
    proxy = JpegProxy(color)
    for step in STEPS:
        tables = proxy.tables(torch.tensor([step]))
        estimate = float(proxy(as_tensor(array), tables)[1])
        true = scan_bits(libjpeg(quantised(proxy, as_tensor(array), tables), tables))
        assert 0.9 < estimate / true < 1.1, f"{path.name} at step {step:g}"


def test_gradients_reach_the_image_and_the_tables() -> None:
    proxy = JpegProxy(color=True)
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for target in (0, 1):  # the decoded image alone, then the rate alone
        result = proxy(image, proxy.tables(torch.tensor([12.0, 40.0])))[target]
        (result.square().mean() if target == 0 else result.sum()).backward()
        for gradient in (image.grad, proxy.log_shapes.grad):
            assert gradient is not None and torch.isfinite(gradient).all()
            assert (gradient != 0).float().mean() > 0.5
        image.grad = proxy.log_shapes.grad = None


def test_coarser_tables_cost_fewer_bits_and_the_gradient_says_so() -> None:
    proxy = JpegProxy(color=False)
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    bits = proxy(image.expand(len(STEPS), 1, 64, 64), proxy.tables(torch.tensor(STEPS)))[1].tolist()
    assert bits == sorted(bits, reverse=True) and bits[0] > 2 * bits[-1]
    step = torch.tensor([20.0], requires_grad=True)
    proxy(image, proxy.tables(step))[1].sum().backward()
    assert step.grad is not None and float(step.grad) < 0


def test_the_colours_of_training_are_those_of_the_shipped_conversion() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    found = ycbcr_from_rgb(as_tensor(rgb))
    assert np.abs(found[0].permute(1, 2, 0).numpy() - color.ycbcr_from_rgb(rgb)).max() < 1e-5
    back = rgb_from_ycbcr(found)[0].permute(1, 2, 0).numpy()
    assert np.abs(255 * back - rgb).max() < 0.01
    assert np.array_equal(color.rgb_from_ycbcr(found[0].permute(1, 2, 0).numpy()), rgb)


def test_tables_have_the_step_for_their_mean_and_hold_what_jpeg_can() -> None:
    proxy = JpegProxy(color=True)
    tables = proxy.tables(torch.tensor([1.0, 20.0, 250.0]))
    assert tables.shape == (3, 2, 64)
    assert torch.equal(tables, tables.round()) and tables.min() >= 1 and tables.max() <= 255
    assert float(proxy.log_step(tables)[1, 0].exp()) == pytest.approx(20, rel=0.02)


def test_pixels_out_of_range_are_clipped_and_get_no_gradient() -> None:
    image = torch.full((1, 1, 16, 16), 0.5)
    image[..., 8:] = 1.5
    image.requires_grad_()
    proxy = JpegProxy(False)
    decoded, bits = proxy(image, proxy.tables(torch.tensor([10.0])))
    assert decoded.min() >= 0 and decoded.max() <= 1
    (decoded.square().sum() + bits.sum()).backward()
    assert image.grad is not None
    assert image.grad[..., 8:].abs().max() == 0
    assert image.grad[..., :8].abs().max() > 0
