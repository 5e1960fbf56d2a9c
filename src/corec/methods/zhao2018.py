"""Zhao, Bai, Li, Wang, Zhao 2018, "Mixed-Resolution Image Representation and Compression with Convolutional Neural
Networks".

arXiv 1802.01447. At low rates most bits are spent on structures, and a description of half the size spares them; beyond
some rate it cannot hold more, and one of full size is better. The networks and their training are those of
zhao2017.py, for either: at full size FDNN's stride is 1, and PPNN and VCNN end in a plain convolution (ours; the
abstract gives no layers). A model is for one size. The models of both are one family, from which a size is chosen for
each picture and rate; the abstract does not say where the authors change over.
"""

from dataclasses import dataclass

from corec.methods import zhao2017
from corec.methods.zhao2017 import GRID, Method

__all__ = ["GRID", "Method", "Settings"]


@dataclass(frozen=True)
class Settings(zhao2017.Settings):
    """What a recipe may say of this method, under [settings]: that of zhao2017, and which of the two sizes."""

    half: bool = True
