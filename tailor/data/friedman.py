"""Friedman #1, a regression task of known form, as a source task and a shifted target task.

Friedman (1991) takes y = 10 sin(pi x1 x2) + 20 (x3 - 1/2)^2 + 10 x4 + 5 x5 + noise, with ten inputs uniform in [0, 1]
of which five do nothing. Pardoe and Stone ("Boosting for Regression Transfer", ICML 2010) make related tasks of it:
every term is scaled, and the inputs in it are scaled and shifted, at random. Here the target is the function itself and
the source one such relative, fixed by a seed; the sizes of scales and shifts are our choice.
"""

import math
import random
from dataclasses import dataclass
from statistics import NormalDist

import torch

from tailor.common.seeds import stream
from tailor.data.task_data import Samples

INPUTS = 10
USED_INPUTS = 5
TERMS = 4
SOURCE_COUNT = 2000
TARGET_COUNT = 1400
LARGE_TARGET_COUNT = 20_000
SCALE_DEVIATION = 0.2  # standard deviation around 1
SHIFT_DEVIATION = 0.1  # standard deviation around 0
NOISE_DEVIATION = 1.0
MEAN, SPREAD = 14.4, 5.0  # about the mean and standard deviation of the original function with noise
DECIMALS = 4  # so that differences of mathematical libraries in the last bit do not show
SEED = 1991


@dataclass(frozen=True, kw_only=True)
class FriedmanVariant:
    """A variant of the function: the scales of its four terms, and the scales and shifts of the inputs in them."""

    scales: tuple[float, ...]
    input_scales: tuple[float, ...]
    input_shifts: tuple[float, ...]


ORIGINAL = FriedmanVariant(scales=(1.0,) * TERMS, input_scales=(1.0,) * USED_INPUTS, input_shifts=(0.0,) * USED_INPUTS)


def friedman1(inputs: list[float], variant: FriedmanVariant) -> float:
    """Return the value without noise at `inputs`, ten numbers in [0, 1].

    >>> friedman1([0.5] * 10, ORIGINAL) == 10 * math.sin(math.pi / 4) + 7.5
    True
    """
    scaled_inputs = zip(inputs[:USED_INPUTS], variant.input_scales, variant.input_shifts, strict=True)
    x1, x2, x3, x4, x5 = [scale * x + shift for x, scale, shift in scaled_inputs]
    sine_scale, square_scale, x4_scale, x5_scale = variant.scales
    return (
        sine_scale * 10.0 * math.sin(math.pi * x1 * x2)
        + square_scale * 20.0 * (x3 - 0.5) ** 2
        + x4_scale * 10.0 * x4
        + x5_scale * 5.0 * x5
    )


def draw_variant(seed: int) -> FriedmanVariant:
    """Draw a variant of the original by `seed`."""
    numbers = random.Random(stream(seed, "friedman variant"))

    def draw(mean: float, deviation: float, count: int) -> tuple[float, ...]:
        normal = NormalDist(mean, deviation)
        return tuple(normal.inv_cdf(numbers.random()) for _ in range(count))

    return FriedmanVariant(
        scales=draw(1.0, SCALE_DEVIATION, TERMS),
        input_scales=draw(1.0, SCALE_DEVIATION, USED_INPUTS),
        input_shifts=draw(0.0, SHIFT_DEVIATION, USED_INPUTS),
    )


def load() -> dict[str, Samples]:
    """Return source (2,000) and target (1,400).

    Inputs are 2 x - 1, in [-1, 1], float32 (N, 10). Labels are (y - 14.4) / 5, float32 (N,).
    """
    return _draw_samples(TARGET_COUNT)


def load_large() -> dict[str, Samples]:
    """Return what `load` does with a target as large as in PAC-Net's paper, 20,000; the source is the same."""
    return _draw_samples(LARGE_TARGET_COUNT)


def _draw_samples(target_count: int) -> dict[str, Samples]:
    return {
        "source": draw(draw_variant(SEED), SOURCE_COUNT, stream(SEED, "friedman source"), first_id=0),
        "target": draw(ORIGINAL, target_count, stream(SEED, "friedman target"), first_id=SOURCE_COUNT),
    }


def draw(variant: FriedmanVariant, count: int, seed: int, *, first_id: int) -> Samples:
    """Draw `count` rows with noise. Python promises that a seed's `random()` is the same in all its versions."""
    numbers = random.Random(seed)
    noise = NormalDist(0.0, NOISE_DEVIATION)
    rows = []
    labels = []
    for _ in range(count):
        inputs = [round(numbers.random(), DECIMALS) for _ in range(INPUTS)]
        value = friedman1(inputs, variant) + noise.inv_cdf(numbers.random())
        rows.append([round(2.0 * x - 1.0, DECIMALS) for x in inputs])
        labels.append(round((value - MEAN) / SPREAD, DECIMALS))
    return Samples(
        images=torch.tensor(rows, dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.float32),
        ids=torch.arange(first_id, first_id + count),
    )
