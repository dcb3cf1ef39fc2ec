"""What an image looks like, in 128 bits that do not depend on the size at which a data set is prepared.

The bits are two perceptual hashes of the image's centre square, in 72 x 72 pixels: whether each cell of an 8 x 8 grid
is brighter than the mean of the grid, and whether each cell of an 8 x 9 grid is brighter than its left neighbour. All
sums are of whole numbers, so each machine finds the same bits.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HOW = "mean hash and difference hash of the centre square, grey (ITU-R BT.601), 72 x 72 pixels (area means)"
SIDE_PX = 72  # the least that 8 and 9 cells divide
HASH_BITS = 64


def fingerprint(image: Image.Image) -> str:
    """Return the 128 bits of an RGB image as 32 hexadecimal digits: the mean hash, then the difference hash.

    >>> fingerprint(Image.new("RGB", (100, 80)))
    '00000000000000000000000000000000'
    """
    width, height = image.size
    half = min(width, height) / 2
    centre_square = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    small = image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX, box=centre_square)
    grey = np.asarray(small, dtype=np.int64)
    grid_8_8 = grey.reshape(8, 9, 8, 9).sum(axis=(1, 3))
    grid_8_9 = grey.reshape(8, 9, 9, 8).sum(axis=(1, 3))
    brighter_than_mean = grid_8_8 * grid_8_8.size > grid_8_8.sum()
    brighter_than_left = grid_8_9[:, 1:] > grid_8_9[:, :-1]
    return np.packbits(np.concatenate([brighter_than_mean, brighter_than_left])).tobytes().hex()


def bits_of(fingerprints: Sequence[str]) -> NDArray[np.bool_]:
    """Return the bits (N, 128) of fingerprints."""
    packed = np.frombuffer(bytes.fromhex("".join(fingerprints)), dtype=np.uint8)
    return np.unpackbits(packed.reshape(len(fingerprints), 2 * HASH_BITS // 8), axis=1).astype(np.bool_)
