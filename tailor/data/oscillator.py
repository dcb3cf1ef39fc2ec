"""Solutions of an ordinary differential equation: where a Duffing oscillator is after a time, from its start.

x'' = -damping x' - x - stiffening x^3. PAC-Net's paper also transfers solutions of differential equations; which
equations and sizes are not known to us, so this task is ours. Source and target are two oscillators of different
damping and stiffening. A network reads a time, and position and speed at the start; it estimates the position then.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch

from tailor.common.seeds import stream
from tailor.data.task_data import Samples

SOURCE_COUNT = 2000
TARGET_COUNT = 1400
LONGEST_TIME = 6.0  # times are in [0, 6]
LARGEST_START = 1.5  # positions and speeds at the start are in [-1.5, 1.5]
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


def positions_after(time: np.ndarray, position: np.ndarray, speed: np.ndarray, oscillator: Oscillator) -> np.ndarray:
    """Return the position (N,) after each time (N,), by the classical Runge-Kutta method in float64.

    >>> spring = Oscillator(damping=0.0, stiffening=0.0)
    >>> round(float(positions_after(np.array([1.0]), np.array([1.0]), np.array([0.0]), spring)[0]), 6)  # cos(1)
    0.540302
    """

    def slope(state: np.ndarray) -> np.ndarray:
        x, v = state
        return np.stack([v, -oscillator.damping * v - x - oscillator.stiffening * x * x * x])

    state = np.stack([position, speed])
    step = time / STEPS
    for _ in range(STEPS):
        first = slope(state)
        second = slope(state + step / 2 * first)
        third = slope(state + step / 2 * second)
        fourth = slope(state + step * third)
        state = state + step / 6 * (first + 2 * second + 2 * third + fourth)
    last_position: np.ndarray = state[0]
    return last_position


def load() -> dict[str, Samples]:
    """Return source (2,000) and target (1,400): inputs in [-1, 1], float32 (N, 3); labels, the positions, float32."""
    return {
        "source": draw(SOURCE, SOURCE_COUNT, stream(SEED, "oscillator source"), first_id=0),
        "target": draw(TARGET, TARGET_COUNT, stream(SEED, "oscillator target"), first_id=SOURCE_COUNT),
    }


def draw(oscillator: Oscillator, count: int, seed: int, *, first_id: int) -> Samples:
    """Draw `count` times and starts, uniformly; the labels are the positions at these times.

    Python promises that a seed's `random()` is the same in all its versions.
    """
    numbers = random.Random(seed)
    drawn = [round(2.0 * numbers.random() - 1.0, DECIMALS) for _ in range(3 * count)]
    inputs = np.array(drawn).reshape(count, 3)
    time = (inputs[:, 0] + 1.0) / 2.0 * LONGEST_TIME
    position = inputs[:, 1] * LARGEST_START
    speed = inputs[:, 2] * LARGEST_START
    labels = positions_after(time, position, speed, oscillator).round(DECIMALS)
    return Samples(
        images=torch.tensor(inputs, dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.float32),
        ids=torch.arange(first_id, first_id + count),
    )
