"""Images in Minari's HDF5 files, where each frame is a JPEG file unless ``jpeg_encoding`` is false."""

import io
from math import prod
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.content import check_size
from sb3_pgfd.demonstrations.formats.hdf5 import Array

_JPEG = b"\xff\xd8\xff"


def is_encoded(array: Array, shape: tuple[int, ...] | None) -> bool:
    """
    :param array: Observations of an episode: Minari writes files of different lengths as values of variable length, files
        that happen to have the same length as rows of bytes
    :param shape: Of one observation, None: the dataset does not say
    """
    if array.dtype.kind == "O":
        return True
    if array.dtype != np.uint8 or len(array.shape) != 2 or not len(array) or array.shape[1:] == shape:
        return False
    first = np.empty((1, array.shape[1]), np.uint8)
    array.read_into(first)
    return first.tobytes().startswith(_JPEG)


class Images:
    """
    The images of an episode, decoded when they are read.

    :param array: Encoded ones
    :param shape: Of one image, None: as the first is
    :raises DemonstrationsError: If they cannot be decoded, or are of another shape
    """

    def __init__(self, array: Array, shape: tuple[int, ...] | None):
        self.name = array.name
        self.dtype = np.dtype(np.uint8)
        self._files = array.values() if array.dtype.kind == "O" else [row.tobytes() for row in array.read()]
        if not self._files:
            raise DemonstrationsError(f"{self.name}: found no image, expected at least one")
        self._shape = shape or _shape(_open(self._files[0], self.name))
        self.shape = (len(self._files), *self._shape)
        check_size(self.name, prod(self.shape), sum(map(len, self._files)))

    def __len__(self) -> int:
        return len(self._files)

    def read_into(self, rows: np.ndarray) -> None:
        """:param rows: To be filled with as many images, from the first"""
        for number in range(len(rows)):
            image = _open(self._files[number], self.name)
            # Before it is decoded: an image of a few bytes can declare 65,535 rows of as many pixels
            if _shape(image) != self._shape:
                raise DemonstrationsError(
                    f"{self.name}: step {number}: found an image of shape {_shape(image)}, expected {self._shape}"
                )
            rows[number] = np.asarray(image)


def _open(content: bytes, name: str) -> Any:
    """:return: An image whose size is known, not decoded yet"""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading JPEG images needs pillow: pip install sb3-pgfd[minari]") from error
    try:
        return Image.open(io.BytesIO(content), formats=["JPEG"])
    except (Image.DecompressionBombError, OSError) as error:
        raise DemonstrationsError(
            f"{name}: found what is no JPEG image ({error!s:.200}), expected one for each step"
        ) from error


def _shape(image: Any) -> tuple[int, ...]:
    bands = len(image.getbands())
    return (image.height, image.width, bands) if bands > 1 else (image.height, image.width)
