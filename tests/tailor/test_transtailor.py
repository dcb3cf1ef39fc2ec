"""TransTailor against hand-computed values and the statements of its paper."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tailor import data, importance, stage, surgery
from tailor.cache import Cache
from tailor.config import parse_trial
from tailor.distributed import Ranks
from tailor.factors import attach
from tailor.methods.recipe import Recipe
from tailor.methods.transtailor import TransTailor
from tailor.runner import StageEvent
from tailor.state import ModelState
from tests.tailor.trials import NETWORKS, assert_equal_tensors, short_trial

Run = Callable[..., list[StageEvent]]


def by_kind(events: list[StageEvent], kind: str) -> list[StageEvent]:
    return [event for event in events if event.result.stage.kind == kind]


@pytest.mark.parametrize("network", NETWORKS)
def test_alpha_trains_while_all_else_is_unchanged(network: str, run: Run, shared_cache: Cache) -> None:
    events = run(short_trial({"name": "transtailor", "steps": 1}, network=network), shared_cache)
    head, factors = by_kind(events, "fit_head")[0].result.state, by_kind(events, "train_factors")[0].result.state
    assert_equal_tensors(factors.tensors, head.tensors)  # weights and running statistics, bit for bit
    assert factors.factors == head.factors == {}
    assert all((alpha != 1).any() for alpha in factors.alpha.values())
    assert {len(alpha) for alpha in factors.alpha.values()} == {
        g.filters for g in surgery.groups(head.build(), network)
    }


@pytest.mark.parametrize("network", NETWORKS)
def test_trained_factors_lower_the_training_loss(network: str, run: Run, shared_cache: Cache) -> None:
    events = run(short_trial({"name": "transtailor", "steps": 1}, network=network), shared_cache)
    losses = [epoch["train_loss"] for epoch in by_kind(events, "train_factors")[0].result.info["epochs"]]
    assert losses[-1] < losses[0]


def slow_derivative(
    state: ModelState, alpha: dict[str, torch.Tensor], site: str, index: int, batch: data.Batch
) -> float:
    """dL/dalpha of one filter by central differences in float64, every norm with its running statistics."""
    losses = []
    for step in (1e-5, -1e-5):
        moved = {name: value.double().clone() for name, value in alpha.items()}
        moved[site][index] += step
        model = state.build().double().eval()
        attach(model, moved)
        with torch.no_grad():
            losses.append(F.cross_entropy(model(batch.images.double()), batch.labels).item())
    return (losses[0] - losses[1]) / 2e-5


def train_batches(batch_size: int) -> list[data.Batch]:
    samples = data.splits(Recipe(short_trial({"name": "head_only"})).task).train
    alone = Ranks(rank=0, count=1, device=torch.device("cpu"))
    return list(data.batches(samples, batch_size, 0, 0, "none", alone))


@pytest.mark.parametrize("network", NETWORKS)
def test_one_step_of_alpha_by_hand(network: str, run: Run, shared_cache: Cache) -> None:
    """One batch of all images and one epoch: alpha = 1 - rate x dL/dalpha."""
    method = {"name": "transtailor", "steps": 1, "alpha_epochs": 1, "alpha_learning_rate": 0.5}
    one_batch = {"epochs": 1, "head_epochs": 2, "batch_size": 200}
    events = run(short_trial(method, network=network, optimisation=one_batch), shared_cache)
    head, trained = (by_kind(events, kind)[0].result.state for kind in ("fit_head", "train_factors"))
    ones = {site: torch.ones_like(alpha) for site, alpha in trained.alpha.items()}
    (batch,) = train_batches(200)
    for site, alpha in trained.alpha.items():
        for index in (0, len(alpha) - 1):
            expected = 1 - 0.5 * slow_derivative(head, ones, site, index, batch)
            assert alpha[index].item() == pytest.approx(expected, abs=1e-5)


def slow_beta(state: ModelState, batch_size: int, site: str, index: int) -> float:
    """|dL/dalpha x alpha| of one filter, averaged over mini-batches."""
    factor, batches = state.alpha[site][index].item(), train_batches(batch_size)
    return sum(abs(slow_derivative(state, state.alpha, site, index, b) * factor) for b in batches) / len(batches)


@pytest.mark.parametrize("network", NETWORKS)
def test_beta_is_the_mean_over_batches_of_the_absolute_gradient_times_factor(
    network: str, run: Run, shared_cache: Cache
) -> None:
    events = run(short_trial({"name": "transtailor", "steps": 1}, network=network), shared_cache)
    trained = by_kind(events, "train_factors")[0].result.state
    scored = by_kind(events, "score_filters")[0].result.state
    assert scored.alpha == {}  # discarded after scoring
    for group in surgery.groups(trained.build(), network)[:2]:
        for index in (0, group.filters - 1):
            expected = slow_beta(trained, 32, group.site, index)
            # Float32 gradients against float64 differences: 1e-4 of the value, 1e-6 near a kink of a ReLU.
            assert scored.scores[group.site][index].item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("mode", ["fold", "sqrt", "raw"])
@pytest.mark.parametrize("network", NETWORKS)
def test_beta_is_frozen_and_in_the_model_at_inference(mode: str, network: str, run: Run, shared_cache: Cache) -> None:
    method = {"name": "transtailor", "steps": 1, "alpha_epochs": 1, "beta": mode}
    events = run(short_trial(method, network=network), shared_cache)
    attached = by_kind(events, "attach_importance")[0].result.state
    tuned = by_kind(events, "fine_tune")[0].result.state
    assert attached.factors
    assert_equal_tensors(tuned.factors, attached.factors)
    changed = [n for n in tuned.tensors if not torch.equal(tuned.tensors[n], attached.tensors[n])]
    assert set(changed) >= {n for n in tuned.tensors if n.endswith("weight")}
    images = data.normalise(data.source("digits").images[:8])
    with torch.no_grad():
        with_beta = tuned.build().eval()(images)
        without = replace(tuned, factors={}).build().eval()(images)
    assert not torch.allclose(with_beta, without, atol=1e-4)


def beta_state(mode: str) -> ModelState:
    """A state whose beta is known: the first layer's filters score 1, 2, 3, ... and the others 1."""
    from tailor import networks

    model = networks.build("digits_vgg", 5, seed=0)
    found = surgery.groups(model, "digits_vgg")
    scores = {g.site: torch.ones(g.filters) for g in found}
    scores[found[0].site] = torch.arange(1, found[0].filters + 1, dtype=torch.float32)
    state = ModelState(network="digits_vgg", classes=5, tensors=model.state_dict(), scores=scores)
    return importance.attach_importance(state, mode, {g.site: g.layer for g in found})


def test_the_modes_of_beta_by_hand() -> None:
    numbers = torch.arange(1, 25, dtype=torch.float32)  # mean 12.5
    expected = (numbers / 12.5).clamp(0.1, 10)
    assert expected[0] == pytest.approx(0.1)  # 0.08, clipped
    torch.testing.assert_close(beta_state("fold").factors["features.0"], expected)
    torch.testing.assert_close(beta_state("grad").gradient_factors["features.0"], expected)
    root = numbers.sqrt()
    torch.testing.assert_close(beta_state("sqrt").factors["features.0"], (root / root.mean()).clamp(0.1, 10))
    torch.testing.assert_close(beta_state("raw").factors["features.0"], numbers)
    assert beta_state("off").factors == {} and beta_state("grad").factors == {}
    assert all(beta_state(mode).scores == {} for mode in ("fold", "sqrt", "grad", "raw", "off"))


def test_a_layer_that_scores_zero_gets_factors_of_one() -> None:
    assert importance.normalised(torch.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_grad_scales_the_gradients_of_each_filter(run: Run, tmp_path: Path) -> None:
    """One SGD step without momentum: the change of a filter's weights is `off`'s times its factor."""
    once = {"epochs": 1, "head_epochs": 2, "batch_size": 200, "momentum": 0.0, "weight_decay": 0.0}
    states = {}
    for mode in ("off", "grad"):
        method = {"name": "transtailor", "steps": 1, "alpha_epochs": 1, "beta": mode}
        events = run(short_trial(method, optimisation=once), Cache(tmp_path))
        states[mode] = [by_kind(events, kind)[0].result.state for kind in ("attach_importance", "fine_tune")]
    factors = states["grad"][0].gradient_factors["features.2"]
    name = "features.2.weight"
    moved = {mode: after.tensors[name] - before.tensors[name] for mode, (before, after) in states.items()}
    torch.testing.assert_close(moved["grad"], moved["off"] * factors[:, None, None, None], rtol=1e-2, atol=1e-7)
    assert (factors != 1).any()


def test_auto_chooses_by_the_network() -> None:
    assert TransTailor().mode("digits_vgg") == "fold"
    assert TransTailor().mode("digits_resnet") == "sqrt"
    assert TransTailor(beta="raw").mode("digits_vgg") == "raw"


def test_zero_alpha_epochs_score_like_plain_taylor(run: Run, shared_cache: Cache) -> None:
    path = run(short_trial({"name": "transtailor", "steps": 1, "alpha_epochs": 0}), shared_cache)
    plain = run(short_trial({"name": "one_shot", "criterion": "taylor"}), shared_cache)
    scores = [by_kind(events, "score_filters")[0].result.state.scores for events in (path, plain)]
    assert_equal_tensors(*scores)


def test_each_step_just_reaches_its_budget_of_the_original_network(run: Run, shared_cache: Cache) -> None:
    for network in NETWORKS:
        events = run(short_trial({"name": "transtailor", "steps": 3, "alpha_epochs": 1}, network=network), shared_cache)
        points = [event.result for event in events if event.point is not None]
        asked = [point.stage.asked_removed_macs_fraction for point in points]
        removed = [1 - point.info["macs"] / point.info["original_macs"] for point in points]
        assert asked == [0.0, 0.1, 0.2, 0.3]
        assert removed[0] == 0.0
        for wanted, measured in zip(asked[1:], removed[1:], strict=True):
            assert wanted <= measured < wanted + 0.025  # one filter is at most 2.4% of these networks
        prunes = [event.result.info["removed_macs_fraction"] for event in by_kind(events, "prune")]
        assert prunes == pytest.approx(removed[1:])


def test_algorithm_1_in_order() -> None:
    walk = parse_trial({"method": {"name": "transtailor", "steps": 2}}, "test")
    steps = walk.method.walk(walk)
    kinds, outcome = [], None
    while True:
        try:
            found = steps.send(outcome)
        except StopIteration:
            break
        kinds.append(found.kind)
        outcome = _Outcome(found.key())
    loop = ["train_factors", "score_filters", "prune", "attach_importance", "fine_tune", "operating_point"]
    assert kinds == ["train_source", "fit_head", "operating_point", *loop, "fold_importance", *loop]


class _Outcome:
    def __init__(self, key: str) -> None:
        self.key, self.validation_accuracy = key, float("nan")


def test_a_stage_names_its_parent() -> None:
    assert stage.FoldImportance(of=_Outcome("a" * 64)).parents == ("a" * 64,)
