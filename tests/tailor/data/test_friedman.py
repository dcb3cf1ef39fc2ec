"""Friedman #1: its formula against scikit-learn's, its source and target, and regression from end to end."""

from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import make_friedman1

from tailor.data import friedman, task_data
from tailor.data.task_data import Samples
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.datasets import DATASETS
from tailor.methods.recipe import Recipe
from tests.tailor.trials import short_trial

Run = Callable[..., list[StageEvent]]
FRIEDMAN = {"network": "friedman_mlp", "data": {"name": "friedman1"}}


def without_noise(samples: Samples, variant: friedman.FriedmanVariant) -> torch.Tensor:
    """Labels as the function gives them for the samples' inputs, in the function's own units."""
    inputs = ((samples.images.double() + 1.0) / 2.0).tolist()
    return torch.tensor([friedman.friedman1(row, variant) for row in inputs], dtype=torch.float64)


def test_the_formula_is_scikit_learns() -> None:
    inputs, values = make_friedman1(n_samples=50, noise=0.0, random_state=0)
    found = [friedman.friedman1(row, friedman.ORIGINAL) for row in inputs.tolist()]
    assert found == pytest.approx(values.tolist())


def test_a_relative_is_written_out() -> None:
    variant = friedman.FriedmanVariant(
        scales=(2.0, 3.0, 4.0, 5.0), input_scales=(0.5, 1.0, 2.0, 1.5, 0.1), input_shifts=(0.0, 0.5, -0.1, 0.2, 0.3)
    )
    inputs = [1.0, 0.5, 0.4, 0.2, 0.7, *[0.9] * 5]
    # sin(pi * 0.5 * 1) = 1; (0.7 - 0.5)^2 = 0.04; 0.2 * 1.5 + 0.2 = 0.5; 0.1 * 0.7 + 0.3 = 0.37
    assert friedman.friedman1(inputs, variant) == pytest.approx(20.0 + 60.0 * 0.04 + 40.0 * 0.5 + 25.0 * 0.37)


@pytest.mark.parametrize("name", ["friedman1", "friedman1_large"])
def test_the_data_are_what_the_catalog_says(name: str) -> None:
    info, loaded = DATASETS[name], task_data.load(name)
    assert task_data.digest(loaded) == info.sha256
    assert (len(loaded["source"]), len(loaded["target"])) == (info.source_images, info.target_images)
    assert not set(loaded["source"].ids.tolist()) & set(loaded["target"].ids.tolist())
    for samples in loaded.values():
        assert samples.images.dtype == samples.labels.dtype == torch.float32
        assert samples.images.shape[1:] == info.input_shape
        assert -1.0 <= float(samples.images.min()) < -0.99 < 0.99 < float(samples.images.max()) <= 1.0


def test_the_large_one_has_the_same_source_and_more_of_the_target() -> None:
    small, large = task_data.load("friedman1"), task_data.load("friedman1_large")
    assert torch.equal(large["source"].labels, small["source"].labels)
    assert torch.equal(large["target"].images[:1400], small["target"].images)


def test_source_and_target_differ_in_their_function_alone() -> None:
    """What is left without the function is noise of deviation 1 around 0, for each task with its own function."""
    loaded, shifted = friedman.load(), friedman.draw_variant(friedman.SEED)
    for task, own, other in (
        ("source", shifted, friedman.ORIGINAL),
        ("target", friedman.ORIGINAL, shifted),
    ):
        samples = loaded[task]
        values = samples.labels.double() * friedman.SPREAD + friedman.MEAN
        noise = values - without_noise(samples, own)
        assert abs(float(noise.mean())) < 0.1
        assert float(noise.std()) == pytest.approx(friedman.NOISE_DEVIATION, abs=0.06)
        assert float((values - without_noise(samples, other)).square().mean()) > 5.0
        assert float(samples.images.std()) == pytest.approx(3**-0.5, abs=0.01)  # uniform in [-1, 1]


def test_a_relative_depends_on_its_seed_alone() -> None:
    assert friedman.draw_variant(1) == friedman.draw_variant(1) != friedman.draw_variant(2)


def test_numbers_are_not_scaled_like_pixels() -> None:
    rows = friedman.load()["target"].images[:3]
    assert torch.equal(task_data.normalise(rows), rows)


@pytest.mark.parametrize("count", [5, 50])
def test_a_few_samples_are_drawn_by_the_seed(count: int) -> None:
    drawn = []
    for seed in (0, 1):
        settings = FRIEDMAN | {"data": {"name": "friedman1", "images_per_class": count}}
        train = task_data.splits(Recipe(short_trial({"name": "head_only"}, seed=seed, **settings)).task).train
        assert len(train) == len(set(train.ids.tolist())) == count
        drawn.append(set(train.ids.tolist()))
    whole = task_data.splits(Recipe(short_trial({"name": "head_only"}, **FRIEDMAN)).task)
    assert drawn[0] != drawn[1]
    assert drawn[0] <= set(whole.train.ids.tolist())


def test_regression_from_end_to_end(run: Run, shared_cache: Cache) -> None:
    """Tuning everything explains more than the head alone, and the point holds what the formulas give."""
    scores = {}
    for method in ("head_only", "fine_tune"):
        settings = FRIEDMAN | {"optimisation": {"epochs": 25, "head_epochs": 10, "learning_rate": 0.005}}
        config = short_trial({"name": method}, **settings)
        events = run(config, shared_cache)
        info, found = events[-1].result.info, events[-1].result.read_tensors()
        assert info["metric"] == "r_squared"
        assert events[-2].result.info["epochs"][0]["train_accuracy_fraction"] is None
        validation = task_data.splits(Recipe(config).task).validation
        residual = (found["validation/prediction"] - validation.labels).double()
        assert info["validation_loss"] == pytest.approx(float(residual.square().mean()))
        assert torch.equal(found["validation/label"], validation.labels)
        assert "validation/probability" not in found
        scores[method] = info["validation_score"]
    assert 0.5 < scores["head_only"] < scores["fine_tune"] < 1.0
