"""Training pictures: a folder in memory, and random crops of it that depend on the step alone."""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from corec.errors import CorecError, RecipeError
from corec.files import PICTURES, below
from corec.picture import read_picture, resized
from corec.pipeline import refuse_ours


class Photographs:
    """The pictures under a folder as uint8 arrays (H, W, 1 or 3), split into training and validation.

    Every `hold_out`-th file (in the order of corec.files.below) is for validation. Pictures larger than `reduce_above`
    pixels on their long side come at half size as well as whole: the reduction removes what noise and
    coding artefacts they have. For colour, gray pictures are left out. Raises RecipeError for a folder
    without pictures and for a picture that cannot be read.
    """

    def __init__(self, folder: Path, color: bool, hold_out: int = 20, reduce_above: int = 1000) -> None:
        if not folder.is_dir():
            raise RecipeError(f"{folder} is no folder")
        try:
            found = below(folder, PICTURES, Path(os.devnull))
        except OSError as error:
            raise RecipeError(f"{folder} cannot be read: {error.strerror}") from error
        files = [path for path, _ in found]
        if not files:
            raise RecipeError(f"there are no pictures under {folder}")
        names = "\n".join(relative.as_posix() for _, relative in found)
        self.origin = {
            "data": f"{', '.join(sorted({p.parent.name for p in files}))}: {len(files)} files",
            "names": hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:8],
        }
        """What the pictures were, for the training facts of a model; by their names it is that some are held out."""
        self.training: list[np.ndarray] = []
        self.validation: list[np.ndarray] = []
        for index, path in enumerate(files):
            image = opened(path, color)
            if image is None:
                continue
            pictures = [image]
            if max(image.size) > reduce_above:
                pictures.append(image.reduce(2))
            held_out = index % hold_out == hold_out - 1
            for picture in pictures:
                array = np.asarray(picture)
                (self.validation if held_out else self.training).append(array if color else array[..., None])
        if not self.training:
            raise RecipeError(f"there are no {'colour ' if color else ''}pictures to train with under {folder}")
        areas = np.array([a.shape[0] * a.shape[1] for a in self.training], float)
        self.weights = np.minimum(areas, 512 * 512) / np.minimum(areas, 512 * 512).sum()

    def batch(self, step: int, count: int, size: int, seed: int, enlarged: float = 0.0) -> Tensor:
        """(count, C, size, size) in 0..1: the same for the same step and seed, on any machine. A share of them are
        enlarged, as corec.picture.resized does, from a side of 3/4 of the size."""
        random = np.random.default_rng([seed, step])
        crops = []
        for index in random.choice(len(self.training), count, p=self.weights):
            smaller = bool(enlarged) and random.random() < enlarged
            crop = cut(self.training[index], size * 3 // 4 if smaller else size, random)
            if smaller:
                crop = resized(crop, size, size)
            if random.random() < 0.5:
                crop = crop[:, ::-1]
            crops.append(np.rot90(crop, int(random.integers(4))))
        return as_tensor(crops)

    def validation_batch(self, size: int, count: int) -> Tensor | None:
        """The central crops, in 0..1, of the first `count` validation pictures that are large enough, if any."""
        crops = []
        for picture in self.validation:
            top, left = ((extent - size) // 2 for extent in picture.shape[:2])
            if min(top, left) >= 0:
                crops.append(picture[top : top + size, left : left + size])
        return as_tensor(crops[:count]) if crops else None


def opened(path: Path, color: bool) -> Image.Image | None:
    """The picture of a file as RGB or luma, as compress reads it; None for a gray one where colour is asked for."""
    try:
        refuse_ours(path)
    except CorecError as error:
        raise RecipeError(f"the training picture {path}: {error}") from error
    try:
        picture = read_picture(path, "white")
    except CorecError as error:
        raise RecipeError(f"the training picture {error}") from error
    if color and picture.gray:
        return None
    return Image.fromarray((picture if color else picture.luma()).pixels)


def cut(picture: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """A random square of the picture; a smaller picture is continued by reflection first."""
    missing = [max(0, size - extent) for extent in picture.shape[:2]]
    if any(missing):
        picture = np.pad(picture, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")
    top, left = (int(random.integers(extent - size + 1)) for extent in picture.shape[:2])
    return picture[top : top + size, left : left + size]


def as_tensor(crops: list[np.ndarray]) -> Tensor:
    stacked = np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2))
    return torch.from_numpy(stacked).float() / 255
