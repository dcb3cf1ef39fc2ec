"""The oscillator: its equation against scipy's solver, its source and target, and a trial on it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from tailor.data import oscillator, task_data
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.datasets import DATASETS
from tests.tailor.trials import short_trial

Run = Callable[..., list[StageEvent]]


@pytest.mark.parametrize("constants", [oscillator.SOURCE, oscillator.TARGET])
def test_the_positions_are_those_of_another_solver(constants: oscillator.Oscillator) -> None:
    starts = np.array([[0.5, 1.5, 0.0], [3.0, -1.0, 1.5], [6.0, 1.5, 1.5], [6.0, 0.2, -0.3]])

    def slope(_: float, state: np.ndarray) -> list[float]:
        x, v = state
        return [v, -constants.damping * v - x - constants.stiffening * x**3]

    expected = [solve_ivp(slope, (0, t), (x, v), rtol=1e-10, atol=1e-10).y[0, -1] for t, x, v in starts]
    assert oscillator.positions_after(*starts.T, constants) == pytest.approx(expected, abs=3e-4)


def test_the_data_are_what_the_catalog_says() -> None:
    info, loaded = DATASETS["oscillator"], oscillator.load()
    assert task_data.digest(loaded) == info.sha256
    assert (len(loaded["source"]), len(loaded["target"])) == (info.source_images, info.target_images)
    assert not set(loaded["source"].ids.tolist()) & set(loaded["target"].ids.tolist())
    for samples, own, other in (
        (loaded["source"], oscillator.SOURCE, oscillator.TARGET),
        (loaded["target"], oscillator.TARGET, oscillator.SOURCE),
    ):
        inputs = samples.images.double().numpy()
        time = (inputs[:, 0] + 1) / 2 * oscillator.LONGEST_TIME
        position = inputs[:, 1] * oscillator.LARGEST_START
        speed = inputs[:, 2] * oscillator.LARGEST_START
        labels = samples.labels.double().numpy()
        assert np.abs(oscillator.positions_after(time, position, speed, own) - labels).max() < 1e-4
        assert np.abs(oscillator.positions_after(time, position, speed, other) - labels).max() > 0.5
        assert samples.images.dtype == samples.labels.dtype == torch.float32


def test_the_source_helps_where_samples_are_few(run: Run, shared_cache: Cache) -> None:
    """Twenty samples and a head explain most of the positions, because the hidden layers come from the source."""
    data = {"name": "oscillator", "images_per_class": 20}
    optimisation = {"epochs": 1, "head_epochs": 100, "optimiser": "adam", "learning_rate": 0.005}
    source = {"epochs": 10}
    config = short_trial(
        {"name": "head_only"}, network="oscillator_mlp", data=data, optimisation=optimisation, source=source
    )
    info = run(config, shared_cache)[-1].result.info
    assert info["metric"] == "r_squared"
    assert 0.3 < info["validation_score"] < 1.0
