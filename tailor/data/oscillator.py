"""Solutions of an ordinary differential equation: where a Duffing oscillator is after a time, from its start.

x'' = -damping x' - x - stiffening x^3. PAC-Net's paper also transfers solutions of differential equations; which
equations and sizes are not known to us, so this task is ours. Source and target are two oscillators of different
damping and stiffening. A network reads time, place and speed at the start, and estimates the place.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch

from tailor.core.seeds import stream
from tailor.data.task_data import Samples

SOURCE_COUNT, TARGET_COUNT = 2000, 1400
LONGEST_TIME, FARTHEST = 6.0, 1.5  # times are in [0, 6]; places and speeds at the start in [-1.5, 1.5]
STEPS = 64  # of the Runge-Kutta method; 128 change no sample by more than 0.0001
DECIMALS = 4  # so that differences of mathematical libraries in the last bit do not show
SEED = 1918


@dataclass(frozen=True, kw_only=True)
class Oscillator:
    """Constants of the equation."""

    damping: float
    stiffening: float


SOURCE = Oscillator(damping=0.05, stiffening=0.5)
TARGET = Oscillator(damping=0.3, stiffening=1.0)


def places(time: np.ndarray, place: np.ndarray, speed: np.ndarray, oscillator: Oscillator) -> np.ndarray:
    """The place (N,) after each time (N,), by the classical Runge-Kutta method in float64.

    >>> spring = Oscillator(damping=0.0, stiffening=0.0)
    >>> round(float(places(np.array([1.0]), np.array([1.0]), np.array([0.0]), spring)[0]), 6)  # cos(1)
    0.540302
    """

    def slope(state: np.ndarray) -> np.ndarray:
        x, v = state
        return np.stack([v, -oscillator.damping * v - x - oscillator.stiffening * x * x * x])

    state, step = np.stack([place, speed]), time / STEPS
    for _ in range(STEPS):
        first = slope(state)
        second = slope(state + step / 2 * first)
        third = slope(state + step / 2 * second)
        fourth = slope(state + step * third)
        state = state + step / 6 * (first + 2 * second + 2 * third + fourth)
    found: np.ndarray = state[0]
    return found


def load() -> dict[str, Samples]:
    """Source (2,000) and target (1,400): inputs in [-1, 1], float32 (N, 3); labels, the places, float32."""
    return {
        "source": draw(SOURCE, SOURCE_COUNT, stream(SEED, "oscillator source"), first_id=0),
        "target": draw(TARGET, TARGET_COUNT, stream(SEED, "oscillator target"), first_id=SOURCE_COUNT),
    }


def draw(oscillator: Oscillator, count: int, seed: int, *, first_id: int) -> Samples:
    """`count` starts and times, uniform, with the place there; Python promises that a seed's numbers stay the same."""
    numbers = random.Random(seed)
    inputs = np.array([[round(2.0 * numbers.random() - 1.0, DECIMALS) for _ in range(3)] for _ in range(count)])
    time, place, speed = (inputs[:, 0] + 1.0) / 2.0 * LONGEST_TIME, inputs[:, 1] * FARTHEST, inputs[:, 2] * FARTHEST
    return Samples(
        images=torch.tensor(inputs, dtype=torch.float32),
        labels=torch.tensor(places(time, place, speed, oscillator).round(DECIMALS), dtype=torch.float32),
        ids=torch.arange(first_id, first_id + count),
    )
