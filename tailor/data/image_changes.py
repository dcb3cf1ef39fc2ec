"""RandAugment, colour jitter, random erasing, mixup and CutMix: drawn here, computed by torchvision's functions.

Every draw is a hash of (seed, epoch, image), as in `augmentation.py`, and so is the pair of an image: the one before it
in its batch. So ranks, micro-batches and interruptions change nothing. Shapes: N samples of an epoch, B images, C
channels, H height, W width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.data.augmentation import hashes
from tailor.stages import ImageChanges

BINS = 31  # of RandAugment's magnitudes, torchvision's default
MAGNITUDE = 9  # of them, torchvision's default
ATTEMPTS = 10  # to find a rectangle that fits, torchvision's
ERASED_AREA = (0.02, 0.33)  # share of an image, torchvision's
ERASED_RATIO = (0.3, 3.3)  # of height to width, torchvision's
ORDERS = tuple(permutations(range(3)))  # of brightness, contrast and saturation


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """What is drawn for each image of an epoch, by its place in the order; None: nothing of this kind."""

    operations: Tensor | None = None  # (N, operations) int64, numbers of RandAugment's operations with their signs
    colours: Tensor | None = None  # (N, 4): factors of brightness, contrast and saturation, and the number of an order
    erased: Tensor | None = None  # (N, 4) int64: top, left, bottom, right; an empty one erases nothing
    share: Tensor | None = None  # (N,) float32: of the image in its mixture
    pixel_share: Tensor | None = None  # (N,) float64: of each of its pixels, 1 with CutMix
    pasted: Tensor | None = None  # (N, 4) int64: what CutMix takes of the other image; empty with mixup

    def at(self, select: Callable[[Tensor], Tensor]) -> "Draws":
        """Return the draws of some images, which `select` picks of each tensor."""
        selected = {}
        for field in fields(self):
            value = getattr(self, field.name)
            selected[field.name] = None if value is None else select(value)
        return Draws(**selected)


def draw(changes: ImageChanges, ids: Tensor, size: Sequence[int], seed: int, epoch: int) -> Draws:
    """Draw how an epoch changes each image of this height and width, by its id (N,)."""

    def uniform(purpose: str, number: int = 0) -> Tensor:
        return (hashes(ids, seed, purpose, epoch, number).double() + 0.5) / 2**31

    drawn: dict[str, Tensor] = {}
    if changes.rand_augment:
        numbers = [hashes(ids, seed, "operation", epoch, number) for number in range(changes.rand_augment)]
        drawn["operations"] = torch.stack(numbers, dim=1) % (2 * len(OPERATIONS))
    if changes.colour_jitter:
        factors = [1.0 + changes.colour_jitter * (2.0 * uniform("colour", number) - 1.0) for number in range(3)]
        order = hashes(ids, seed, "colours", epoch) % len(ORDERS)
        drawn["colours"] = torch.stack([*factors, order.double()], dim=1)
    if changes.random_erasing:
        is_erased = uniform("erasing") < changes.random_erasing
        nowhere = torch.zeros(len(ids), 4, dtype=torch.int64, device=ids.device)
        drawn["erased"] = torch.where(is_erased[:, None], _draw_rectangles(uniform, size, nowhere), nowhere)
    if changes.mixup or changes.cutmix:
        drawn |= _draw_mixtures(changes, uniform, size)
    return Draws(**drawn)


def _draw_rectangles(uniform: Callable[[str, int], Tensor], size: Sequence[int], otherwise: Tensor) -> Tensor:
    """Return the rectangles (N, 4) that random erasing takes: the first of some that is smaller than the image."""
    height, width = size
    smallest, largest = ERASED_AREA
    lowest, highest = (math.log(ratio) for ratio in ERASED_RATIO)
    rectangles = otherwise
    for attempt in reversed(range(ATTEMPTS)):  # so that the first one that fits is the last one that is kept
        area = height * width * (smallest + (largest - smallest) * uniform("area", attempt))
        ratio = (lowest + (highest - lowest) * uniform("ratio", attempt)).exp()
        rows = (area * ratio).sqrt().round()
        columns = (area / ratio).sqrt().round()
        top = (uniform("top", attempt) * (height - rows + 1)).floor()
        left = (uniform("left", attempt) * (width - columns + 1)).floor()
        rectangle = torch.stack([top, left, top + rows, left + columns], dim=1).long()
        fits = (rows < height) & (columns < width)
        rectangles = torch.where(fits[:, None], rectangle, rectangles)
    return rectangles


def _draw_mixtures(
    changes: ImageChanges, uniform: Callable[[str, int], Tensor], size: Sequence[int]
) -> dict[str, Tensor]:
    """Return shares and rectangles of mixtures; where both kinds are wanted, each image has one or the other (timm)."""
    from scipy.special import betaincinv  # takes a third of a second

    height, width = size
    cut_fraction = 0.5 if changes.mixup and changes.cutmix else float(bool(changes.cutmix))
    is_cut = uniform("cut", 0) < cut_fraction
    alpha = torch.where(is_cut, changes.cutmix or 1.0, changes.mixup or 1.0)
    exponents, quantiles = torch.stack([alpha, uniform("share", 0)]).cpu().numpy()  # a GPU waits once an epoch
    share = torch.as_tensor(betaincinv(exponents, exponents, quantiles), device=alpha.device)
    side = 0.5 * (1.0 - share).sqrt()  # half of a square's in an image of side 1
    rows = (side * height).floor()
    columns = (side * width).floor()
    row = (uniform("row", 0) * height).floor()  # of the rectangle's centre
    column = (uniform("column", 0) * width).floor()
    edges = [row - rows, column - columns, row + rows, column + columns]
    limits = [height, width, height, width]
    pasted = torch.stack([edge.clamp(0, limit) for edge, limit in zip(edges, limits, strict=True)], dim=1)
    pasted = pasted.long() * is_cut[:, None]
    area = (pasted[:, 2] - pasted[:, 0]) * (pasted[:, 3] - pasted[:, 1])
    share_of_image = torch.where(is_cut, 1.0 - area / (height * width), share)
    pixel_share = torch.where(is_cut, 1.0, share)
    return {"share": share_of_image.float(), "pixel_share": pixel_share, "pasted": pasted}


def change_pixels(images: Tensor, drawn: Draws) -> Tensor:
    """Return images (B, C, H, W) uint8 after RandAugment and then colour jitter, one by one.

    Raises:
        ConfigError: they are no bytes.
    """
    if drawn.operations is None and drawn.colours is None:
        return images
    if images.dtype != torch.uint8:
        raise ConfigError(
            f"rand_augment and colour_jitter change images of bytes (uint8), and these are {images.dtype}; leave them "
            "out, or let the data set's loader return uint8"
        )
    changed = list(images)
    if drawn.operations is not None:
        for place, numbers in enumerate(drawn.operations.tolist()):
            for number in numbers:
                changed[place] = operate(changed[place], number, MAGNITUDE)
    if drawn.colours is not None:
        for place, (*factors, order) in enumerate(drawn.colours.tolist()):
            for number in ORDERS[int(order)]:
                change = getattr(_v2().functional, COLOUR_CHANGES[number])
                changed[place] = change(changed[place], factors[number])
    return torch.stack(changed) if changed else images


def operate(image: Tensor, number: int, magnitude: int) -> Tensor:
    """Return an image (C, H, W) uint8 after an operation of RandAugment; odd numbers turn its direction around."""
    operation, weakest, strongest = OPERATIONS[number // 2]
    height, width = image.shape[-2:]
    if strongest in ("width", "height"):
        strongest = 150.0 / 331.0 * (width if strongest == "width" else height)
    strength = float(torch.linspace(weakest, float(strongest), BINS)[magnitude])
    return operation(image, -strength if number % 2 else strength)


def _v2() -> Any:
    """Return torchvision's transforms, whose import takes seconds: only who changes images so needs them."""
    from torchvision.transforms import v2

    return v2


def _sheared(image: Tensor, x: float, y: float) -> Tensor:
    shear = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    result: Tensor = _v2().functional.affine(
        image, 0.0, [0, 0], 1.0, shear, _v2().InterpolationMode.NEAREST, center=[0, 0]
    )
    return result


def _translated(image: Tensor, x: float, y: float) -> Tensor:
    result: Tensor = _v2().functional.affine(
        image, 0.0, [int(x), int(y)], 1.0, [0.0, 0.0], _v2().InterpolationMode.NEAREST
    )
    return result


OPERATIONS: tuple[tuple[Callable[[Tensor, float], Tensor], float, float | str], ...] = (
    (lambda image, _: image, 0.0, 0.0),
    (lambda image, x: _sheared(image, x, 0.0), 0.0, 0.3),
    (lambda image, y: _sheared(image, 0.0, y), 0.0, 0.3),
    (lambda image, x: _translated(image, x, 0.0), 0.0, "width"),
    (lambda image, y: _translated(image, 0.0, y), 0.0, "height"),
    (lambda image, angle: _v2().functional.rotate(image, angle, _v2().InterpolationMode.NEAREST), 0.0, 30.0),
    (lambda image, change: _v2().functional.adjust_brightness(image, 1.0 + change), 0.0, 0.9),
    (lambda image, change: _v2().functional.adjust_saturation(image, 1.0 + change), 0.0, 0.9),
    (lambda image, change: _v2().functional.adjust_contrast(image, 1.0 + change), 0.0, 0.9),
    (lambda image, change: _v2().functional.adjust_sharpness(image, 1.0 + change), 0.0, 0.9),
    (lambda image, bits: _v2().functional.posterize(image, round(abs(bits))), 8.0, 4.0),
    (lambda image, threshold: _v2().functional.solarize(image, 255.0 * abs(threshold)), 1.0, 0.0),
    (lambda image, _: _v2().functional.autocontrast(image), 0.0, 0.0),
    (lambda image, _: _v2().functional.equalize(image), 0.0, 0.0),
)
"""Torchvision's fourteen, with their weakest and strongest value; "width" and "height": 150 / 331 of it."""
COLOUR_CHANGES = ("adjust_brightness", "adjust_contrast", "adjust_saturation")
"""Functions of torchvision's."""


def erase(images: Tensor, rectangles: Tensor | None) -> Tensor:
    """Return images (B, C, H, W) that are 0, grey once they are normalised, in their rectangles (B, 4)."""
    if rectangles is None:
        return images
    return torch.where(inside(rectangles, images), 0.0, images)


def mix(images: Tensor, others: Tensor, drawn: Draws) -> Tensor:
    """Return each image (B, C, H, W) mixed with another one by mixup, or with a rectangle of it by CutMix."""
    assert drawn.pixel_share is not None and drawn.pasted is not None
    share = drawn.pixel_share[:, None, None, None]
    mixed = others * (1.0 - share).to(images.dtype) + images * share.to(images.dtype)
    return torch.where(inside(drawn.pasted, images), others, mixed)


def inside(rectangles: Tensor, images: Tensor) -> Tensor:
    """Return (B, 1, H, W) which pixels of images (B, C, H, W) are in their rectangles (B, 4)."""
    height, width = images.shape[-2:]
    top, left, bottom, right = rectangles[:, :, None].unbind(1)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    is_row = (rows >= top) & (rows < bottom)
    is_column = (columns >= left) & (columns < right)
    return (is_row[:, :, None] & is_column[:, None, :])[:, None]
