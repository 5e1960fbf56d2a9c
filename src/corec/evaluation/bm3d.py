"""BM3D against the artefacts of gray JPEG files: the measured representative of post-processing before networks.

The denoiser of Dabov et al. 2007 in its authors' own package, which may be used for non-commercial purposes only and is
therefore no part of the extra "evaluate".
"""

import numpy as np

from corec.codecs.jpeg import opened
from corec.errors import MissingExtraError, PictureError
from corec.evaluation.jpegs import shown
from corec.runtime import available_threads

SHARE = 1.2
"""Of the standard deviation that noise() gives: the best of 0.85, 1, 1.2 and 1.4 at qualities 5 and 10 together, on
eight pictures of train400 (every 50th); 1.4 and 1 are 0.02 dB behind."""


def deblocked(data: bytes) -> np.ndarray:
    """The picture of a gray JPEG file, uint8 (H, W), denoised. Raises MissingExtraError, PictureError."""
    try:
        import bm3d
    except ImportError as error:
        raise MissingExtraError("BM3D (for non-commercial use only): pip install 'corec[bm3d]'") from error
    pixels = shown(data)
    if pixels.ndim != 2:
        raise PictureError("BM3D is measured on gray pictures only: ask for --gray")
    profile = bm3d.BM3DProfile()
    profile.num_threads = available_threads()
    estimate = bm3d.bm3d(pixels.astype(np.float64), SHARE * noise(data), profile)
    return np.clip(np.rint(estimate), 0, 255).astype(np.uint8)


def noise(data: bytes) -> float:
    """The standard deviation of a JPEG file's quantisation noise, in levels, by its luma table alone.

    Foi, Katkovnik and Egiazarian 2007, "Pointwise Shape-Adaptive DCT": the variance is 0.69 q ** 1.3, where q is the
    mean of the nine entries of lowest frequency.
    """
    with opened(data) as image:
        table = np.array(image.quantization[0]).reshape(8, 8)
    return float(np.sqrt(0.69 * table[:3, :3].mean() ** 1.3))
