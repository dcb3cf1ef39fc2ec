"""Augmentation: images shifted, cropped, flipped, on the device where they are.

Every draw is a hash of (seed, epoch, image id). So an image looks the same whatever the number of ranks, the order of
images or interruptions, and no generator has a state. Shapes: B images, C channels, H height, W width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tailor.common.seeds import stream


def draw_places(
    how: str, ids: Tensor, size: Sequence[int], crop_px: int | None, seed: int, epoch: int
) -> Tensor | None:
    """Draw where an epoch shows each image of a height and width, by its id (N,); None if nothing is drawn.

    For `shift` the result is (N, 2), rows and columns from 0 to 2; for `crop_flip` (N, 3), the square's top and left
    and whether it is mirrored. It is drawn for a whole epoch at once, because on a GPU the forty small operations take
    longer than a step's images.

    >>> draw_places("crop_flip", torch.tensor([0, 1]), (8, 8), 6, seed=0, epoch=0).tolist()
    [[0, 2, 1], [1, 2, 0]]
    """
    if how == "shift":
        draw = hashes(ids, seed, "shift", epoch)
        return torch.stack([draw % 3, draw // 3 % 3], dim=1)
    if how == "crop_flip" and crop_px is not None:
        draw = hashes(ids, seed, "crop", epoch)
        height, width = size
        top = draw % (height - crop_px + 1)
        left = hashed(draw) % (width - crop_px + 1)
        is_mirrored = hashed(draw + 1) % 2
        return torch.stack([top, left, is_mirrored], dim=1)
    return None


def augment(images: Tensor, how: str, places: Tensor | None, crop_px: int | None) -> Tensor:
    """Return the images (B, C, H, W) as an epoch shows them, at their places (B, 2 or 3) from `draw_places`.

    With `crop_px` the result is (B, C, crop_px, crop_px), cut from the centre unless the squares are drawn.
    """
    if places is not None and how == "shift":
        return centre(shift(images, places), crop_px)
    if places is not None and crop_px is not None:
        return crop_flip(images, places, crop_px)
    return centre(images, crop_px)


def centre(images: Tensor, crop_px: int | None) -> Tensor:
    """Return the middle crop_px x crop_px pixels, rounded as torchvision's `CenterCrop` does; None: whole images."""
    if crop_px is None:
        return images
    height, width = images.shape[-2:]
    top = round((height - crop_px) / 2)
    left = round((width - crop_px) / 2)
    return images[..., top : top + crop_px, left : left + crop_px]


def crop_flip(images: Tensor, places: Tensor, crop_px: int) -> Tensor:
    """Return a square of crop_px of each image at its place (B, 3), perhaps mirrored (TransTailor: 224 random crop)."""
    top, left, flip = places.unbind(1)
    if images.device.type == "cpu":
        return crop_by_slice(images, top, left, flip == 1, crop_px)
    return crop_by_index(images, top, left, flip == 1, crop_px)


def crop_by_index(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, crop_px: int) -> Tensor:
    """Return each image's square at (top, left), mirrored where `flip` is true, by one index for all: for GPUs."""
    offsets = torch.arange(crop_px, device=images.device)
    rows = top[:, None] + offsets
    columns = left[:, None] + torch.where(flip[:, None], offsets.flip(0), offsets)
    return _pick(images, rows, columns)


def crop_by_slice(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, crop_px: int) -> Tensor:
    """Return the same pixels in the same layout, image by image: three times as fast on a CPU."""
    squares = images.new_empty((*images.shape[:2], crop_px, crop_px))
    for number, (row, column, is_mirrored) in enumerate(zip(top.tolist(), left.tolist(), flip.tolist(), strict=True)):
        square = images[number, :, row : row + crop_px, column : column + crop_px]
        squares[number] = square.flip(-1) if is_mirrored else square
    return squares


def shift(images: Tensor, places: Tensor) -> Tensor:
    """Move each of the images (B, C, H, W) by -1, 0 or 1 pixel in both directions (B, 2), with black at the border."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    down, right = places.unbind(1)
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    return _pick(padded, down[:, None] + rows, right[:, None] + columns)


def hashes(ids: Tensor, seed: int, purpose: str, *counters: int) -> Tensor:
    """Return a number from 0 to 2^31 - 1 for each image by its id (N,), for a purpose and an epoch."""
    return hashed(ids + (stream(seed, purpose, *counters) & 0x7FFFFFFF))


def hashed(numbers: Tensor) -> Tensor:
    """Return a 31-bit hash of each non-negative integer (two multiply-and-shift rounds on 32 bits).

    >>> hashed(torch.tensor([0, 1, 2])).tolist()
    [0, 1056877847, 114040327]
    """
    mask = 0xFFFFFFFF
    bits = numbers & mask
    for multiplier in (0x45D9F3B, 0x119DE1F3):
        bits = ((bits ^ (bits >> 16)) * multiplier) & mask
    return (bits ^ (bits >> 16)) >> 1


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels (B, C, R, S) at the rows (B, R) and columns (B, S) of each image; contiguous."""
    image_count, channel_count = images.shape[:2]
    numbers = torch.arange(image_count, device=images.device)
    channels = torch.arange(channel_count, device=images.device)
    indices = (numbers[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :])
    return images[indices].contiguous()
