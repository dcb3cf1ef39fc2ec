"""TransTailor against hand-computed values and the statements of its paper."""

from collections.abc import Callable
from dataclasses import replace
from operator import mul
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tailor import stages
from tailor.data import task_data
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.methods.recipe import Recipe
from tailor.methods.transtailor import TransTailor
from tailor.model.factors import attach
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning import importance, surgery
from tailor.stages import GroupRule
from tests.tailor.trials import NETWORKS, assert_equal_tensors, by_kind, planned_stages, short_trial

Run = Callable[..., list[StageEvent]]
RULE = GroupRule()


@pytest.mark.parametrize("network", NETWORKS)
def test_alpha_trains_and_lowers_the_loss_while_all_else_is_unchanged(
    network: str, run: Run, shared_cache: Cache
) -> None:
    events = run(short_trial({"name": "transtailor", "steps": 1}, network=network), shared_cache)
    head, factors = (
        by_kind(events, "fit_head")[0].result.model_state(),
        by_kind(events, "train_factors")[0].result.model_state(),
    )
    assert_equal_tensors(factors.tensors, head.tensors)  # weights and running statistics, bit for bit
    assert factors.factors == head.factors == {}
    assert all((alpha != 1).any() for alpha in factors.alpha.values())
    assert {len(alpha) for alpha in factors.alpha.values()} == {
        g.filters for g in surgery.groups(head.build(), head.input_shape, RULE)
    }
    losses = [epoch["train_loss"] for epoch in by_kind(events, "train_factors")[0].result.info["epochs"]]
    assert losses[-1] < losses[0]


def slow_derivative(
    state: ModelState, alpha: dict[str, torch.Tensor], site: str, index: int, batch: task_data.Batch
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


def train_batches(batch_size: int) -> list[task_data.Batch]:
    samples = task_data.splits(Recipe(short_trial({"name": "head_only"})).task).train
    alone = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
    return list(task_data.batches(samples, batch_size, 0, 0, "none", alone))


@pytest.mark.parametrize("network", NETWORKS)
def test_one_step_of_alpha_by_hand(network: str, run: Run, shared_cache: Cache) -> None:
    """One batch of all images and one epoch: alpha = 1 - rate x dL/dalpha."""
    method = {"name": "transtailor", "steps": 1, "alpha_epochs": 1, "alpha_learning_rate": 0.5}
    one_batch = {"epochs": 1, "head_epochs": 2, "batch_size": 200}
    events = run(short_trial(method, network=network, optimisation=one_batch), shared_cache)
    head, trained = (by_kind(events, kind)[0].result.model_state() for kind in ("fit_head", "train_factors"))
    ones = {site: torch.ones_like(alpha) for site, alpha in trained.alpha.items()}
    (batch,) = train_batches(200)
    for site, alpha in trained.alpha.items():
        for index in (0, len(alpha) - 1):
            expected = 1 - 0.5 * slow_derivative(head, ones, site, index, batch)
            assert alpha[index].item() == pytest.approx(expected, abs=1e-5)


def slow_beta(state: ModelState, batch_size: int, site: str, index: int) -> float:
    """|dL/dalpha x alpha| of one filter, averaged over mini-batches, a smaller one with the weight of its images."""
    factor, batches = state.alpha[site][index].item(), train_batches(batch_size)
    images = [len(batch.labels) for batch in batches]
    sizes = [abs(slow_derivative(state, state.alpha, site, index, batch) * factor) for batch in batches]
    return sum(map(mul, sizes, images)) / sum(images)


@pytest.mark.parametrize("network", NETWORKS)
def test_beta_is_the_mean_over_batches_of_the_absolute_gradient_times_factor(
    network: str, run: Run, shared_cache: Cache
) -> None:
    events = run(short_trial({"name": "transtailor", "steps": 1}, network=network), shared_cache)
    trained = by_kind(events, "train_factors")[0].result.model_state()
    scored = by_kind(events, "score_filters")[0].result.model_state()
    assert scored.alpha == {}  # discarded after scoring
    for group in surgery.groups(trained.build(), trained.input_shape, RULE)[:2]:
        (member,) = group.members
        for index in (0, group.filters - 1):
            expected = slow_beta(trained, 32, member.site("after_norm"), index)
            # Float32 gradients against float64 differences: 1e-4 of the value, 1e-6 near a kink of a ReLU.
            assert scored.scores[member.layer][index].item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("network", "mode"), [("digits_vgg", "fold"), ("digits_resnet", "raw")])
def test_beta_is_frozen_and_in_the_model_at_inference(mode: str, network: str, run: Run, shared_cache: Cache) -> None:
    method = {"name": "transtailor", "steps": 1, "alpha_epochs": 1, "beta": mode}
    events = run(short_trial(method, network=network), shared_cache)
    attached = by_kind(events, "attach_importance")[0].result.model_state()
    tuned = by_kind(events, "fine_tune")[0].result.model_state()
    assert attached.factors
    assert_equal_tensors(tuned.factors, attached.factors)
    changed = [n for n in tuned.tensors if not torch.equal(tuned.tensors[n], attached.tensors[n])]
    assert set(changed) >= {n for n in tuned.tensors if n.endswith("weight")}
    images = task_data.normalise(task_data.source("digits").images[:8])
    with torch.no_grad():
        with_beta = tuned.build().eval()(images)
        without = replace(tuned, factors={}).build().eval()(images)
    assert not torch.allclose(with_beta, without, atol=1e-4)


def beta_state(mode: str, **how: Any) -> ModelState:
    """A state whose beta is known: the first layer's filters score 1, 2, 3, ... and the others 1."""
    model = building.build("digits_vgg", 5, seed=0)
    found = surgery.groups(model, (1, 8, 8), RULE)
    scores = {g.name: torch.ones(g.filters) for g in found}
    scores[found[0].name] = torch.arange(1, found[0].filters + 1, dtype=torch.float32)
    state = ModelState(
        network="digits_vgg", classes=5, input_shape=(1, 8, 8), tensors=model.state_dict(), scores=scores
    )
    settings = {"normalisation": "layer_mean", "placement": "after_norm", "seed": None} | how
    attach = stages.AttachImportance(of=None, rule=RULE, mode=mode, **settings)  # type: ignore[arg-type]
    return importance.attach_importance(state, found, attach)


NUMBERS = torch.arange(1, 25, dtype=torch.float32)  # mean 12.5


def test_the_modes_of_beta_by_hand() -> None:
    expected = (NUMBERS / 12.5).clamp(0.1, 10)
    assert expected[0] == pytest.approx(0.1)  # 0.08, clipped
    torch.testing.assert_close(beta_state("fold").factors["features.0"], expected)
    torch.testing.assert_close(beta_state("grad").gradient_factors["features.0"], expected)
    root = NUMBERS.sqrt()
    torch.testing.assert_close(beta_state("sqrt").factors["features.0"], (root / root.mean()).clamp(0.1, 10))
    torch.testing.assert_close(beta_state("raw").factors["features.0"], NUMBERS)
    assert beta_state("off").factors == {} and beta_state("grad").factors == {}
    assert all(beta_state(mode).scores == {} for mode in ("fold", "sqrt", "grad", "raw", "off"))


def test_the_normalisations_of_beta_by_hand() -> None:
    mean = (NUMBERS / 12.5).clamp(0.1, 10)
    rms = (NUMBERS / (sum(n * n for n in range(1, 25)) / 24) ** 0.5).clamp(0.1, 10)
    torch.testing.assert_close(beta_state("grad", normalisation="rms").gradient_factors["features.0"], rms)
    torch.testing.assert_close(beta_state("grad", normalisation="none").gradient_factors["features.0"], NUMBERS)
    dealt = [beta_state("grad", normalisation="permuted", seed=seed).gradient_factors["features.0"] for seed in (0, 1)]
    for values in dealt:  # the same values, at other filters
        torch.testing.assert_close(values.sort().values, mean)
        assert not torch.equal(values, mean)
    assert not torch.equal(*dealt)


@pytest.mark.parametrize(
    ("network", "placement"),
    [("digits_vgg", "before_norm"), ("digits_resnet", "after_norm"), ("digits_resnet", "after_activation")],
)
def test_folding_keeps_the_function_wherever_the_factor_sits(
    placement: str, network: str, run: Run, shared_cache: Cache
) -> None:
    method = {"name": "transtailor", "steps": 2, "alpha_epochs": 1, "beta": "fold", "placement": placement}
    events = run(short_trial(method, network=network), shared_cache)
    images = task_data.normalise(task_data.source("digits").images[:8])

    def outputs(kind: str, number: int) -> torch.Tensor:
        with torch.no_grad():
            return by_kind(events, kind)[number].result.model_state().build().eval()(images)

    pruned, attached = outputs("prune", 0), outputs("attach_importance", 0)  # W / beta under beta
    tuned, folded = outputs("fine_tune", 0), outputs("fold_importance", 0)
    torch.testing.assert_close(attached, pruned, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(folded, tuned, rtol=1e-4, atol=1e-5)
    sites = by_kind(events, "attach_importance")[0].result.model_state().factors
    found = surgery.groups(by_kind(events, "fit_head")[0].result.model_state().build(), (1, 8, 8), RULE)
    assert set(sites) == {member.site(placement) for group in found for member in group.members}


@pytest.mark.parametrize(("prune_by", "expected"), [("random", "at random"), ("nothing", "none at all")])
def test_the_controls_of_the_loop(prune_by: str, expected: str, run: Run, shared_cache: Cache) -> None:
    """Random filters go, and the importance still belongs to those that stay; or no filter goes."""
    method = {"name": "transtailor", "steps": 1, "alpha_epochs": 1}
    loop = run(short_trial(method), shared_cache)
    control = run(short_trial(method | {"prune_by": prune_by}), shared_cache)
    scored = by_kind(loop, "score_filters")[0].result
    assert by_kind(control, "score_filters")[0].result.key == scored.key  # the same factors and scores
    if prune_by == "nothing":
        assert by_kind(control, "prune") == []
        assert control[-1].result.info["macs"] == control[-1].result.info["original_macs"]
        return
    kept = [by_kind(events, "prune")[0].result.read_tensors() for events in (loop, control)]
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in kept[0]), expected
    random_state = by_kind(control, "prune")[0].result.model_state()
    for group_name, indices in kept[1].items():
        layer = group_name.removeprefix("kept/")
        torch.testing.assert_close(random_state.scores[layer], scored.model_state().scores[layer][indices])


@pytest.mark.parametrize(("start", "noise"), [(0.5, 0.0), (1.0, 0.1)])
def test_factors_start_where_the_settings_say(start: float, noise: float, run: Run, shared_cache: Cache) -> None:
    method = {"name": "transtailor", "steps": 1, "alpha_epochs": 0, "alpha_start": start, "alpha_noise": noise}
    alpha = by_kind(run(short_trial(method), shared_cache), "train_factors")[0].result.model_state().alpha
    values = torch.cat(list(alpha.values()))
    assert values.mean().item() == pytest.approx(start, abs=0.05)
    assert values.std().item() == pytest.approx(noise, abs=0.03)


def test_a_layer_that_scores_zero_gets_factors_of_one() -> None:
    assert importance.normalise_importance(torch.zeros(3), "layer_mean").tolist() == [1.0, 1.0, 1.0]


def test_grad_scales_the_gradients_of_each_filter(run: Run, tmp_path: Path) -> None:
    """One SGD step without momentum: the change of a filter's weights is `off`'s times its factor."""
    once = {"epochs": 1, "head_epochs": 2, "batch_size": 200, "momentum": 0.0, "weight_decay": 0.0}
    states = {}
    for mode in ("off", "grad"):
        method = {"name": "transtailor", "steps": 1, "alpha_epochs": 1, "beta": mode}
        events = run(short_trial(method, optimisation=once), Cache(tmp_path))
        states[mode] = [by_kind(events, kind)[0].result.model_state() for kind in ("attach_importance", "fine_tune")]
    factors = states["grad"][0].gradient_factors["features.2"]
    name = "features.2.weight"
    moved = {mode: after.tensors[name] - before.tensors[name] for mode, (before, after) in states.items()}
    torch.testing.assert_close(moved["grad"], moved["off"] * factors[:, None, None, None], rtol=1e-2, atol=1e-7)
    assert (factors != 1).any()


def test_auto_chooses_by_the_network() -> None:
    def resolved(network: str, **settings: str) -> tuple[str, str]:
        method = short_trial({"name": "transtailor"} | settings, network=network).method.resolve(network)
        assert isinstance(method, TransTailor)
        return method.beta, method.beta_normalisation

    assert resolved("digits_vgg") == ("fold", "layer_mean")
    assert resolved("digits_resnet") == ("fold", "layer_mean")
    assert resolved("digits_vgg", beta="raw") == ("raw", "none")


def test_zero_alpha_epochs_score_like_plain_taylor(run: Run, shared_cache: Cache) -> None:
    path = run(short_trial({"name": "transtailor", "steps": 1, "alpha_epochs": 0}), shared_cache)
    plain = run(short_trial({"name": "prune", "criterion": "beta", "alpha_epochs": 0}), shared_cache)
    scores = [by_kind(events, "score_filters")[0].result.model_state().scores for events in (path, plain)]
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
    kinds = [stage.kind for stage in planned_stages(short_trial({"name": "transtailor", "steps": 2}))]
    loop = ["train_factors", "score_filters", "prune", "attach_importance", "fine_tune", "operating_point"]
    assert kinds == ["train_source", "fit_head", "operating_point", *loop, "fold_importance", *loop]
