"""Target-aware adaptation: its path, and what the engine promises of it; its rules are in test_adaptation_rules."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.config.needs import refuse_missing
from tailor.config.pruning import PruningConfig
from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.dry_run import PlannedOutcome, dry_run
from tailor.execution.runner import StageEvent
from tailor.methods.adaptation import TargetAwareAdaptation
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.stage_execution import StageContext, compute
from tailor.stages import CumulativeSum, GroupRule, PruneByCumulativeSum
from tests.tailor.trials import by_kind, short_trial

Run = Callable[..., list[StageEvent]]
ANY_WIDTHS = PruningConfig(width_multiple=1)
METHOD = {"name": "target_aware_adaptation", "iterations": 3}


# --- the path ---


def test_a_plan_walks_to_the_end_and_starts_with_full_fine_tuning() -> None:
    config = short_trial(METHOD | {"iterations": 2})
    planned = dry_run(config).stages
    loop = ["score_filters", "prune_by_cumulative_sum", "fine_tune", "operating_point"]
    kinds = [stage.kind for stage in planned]
    assert kinds == ["train_source", "fit_head", "fine_tune", "operating_point", *loop, *loop]
    assert [stage.key for stage in planned[:4]] == [s.key for s in dry_run(short_trial({"name": "fine_tune"})).stages]
    measured = short_trial(METHOD | {"iterations": 1}, network="digits_resnet", pruning={"measure_norms": True})
    assert [stage.kind for stage in dry_run(measured).stages][4:7] == [*loop[:2], "measure_norms"]


def slow_removed(scores: torch.Tensor, fraction: float, most: float) -> set[int]:
    """The filters that the rule lets go of a layer, one after the other from the smallest, summing what is left."""
    order = sorted(range(len(scores)), key=lambda index: (scores[index].item(), index))
    gone: set[int] = set()
    for index in order:
        left = sum(scores[other].item() for other in order if other not in gone | {index})
        if left < fraction * scores.double().sum().item() or len(gone) + 1 > max(1, int(most * len(scores))):
            break
        gone.add(index)
    return gone


@pytest.mark.parametrize(
    ("network", "priority"),
    [pytest.param("digits_vgg", "removable_x_macs", marks=pytest.mark.check), ("digits_resnet", "removable")],
)
def test_each_iteration_removes_what_the_rule_says_of_the_layers_it_chose(
    network: str, priority: str, run: Run, shared_cache: Cache
) -> None:
    method = METHOD | {"priority": priority, "kept_cumulative_fraction": 0.9, "layers_per_iteration": 1}
    events = run(short_trial(method, network=network), shared_cache)
    scored, pruned = by_kind(events, "score_filters"), by_kind(events, "prune_by_cumulative_sum")
    assert len(pruned) == 3
    for before, after in zip(scored, pruned, strict=True):
        scores, layers = before.result.model_state().scores, after.result.info["layers"]
        kept = {name.removeprefix("kept/"): set(t.tolist()) for name, t in after.result.read_tensors().items()}
        gone = {name: set(range(len(scores[name]))) - kept[name] for name in kept}
        (chosen,) = [name for name in gone if gone[name]]
        assert gone[chosen] == slow_removed(scores[chosen], 0.9, 0.1)
        by_name = {found["name"]: found for found in layers}
        assert by_name[chosen]["priority"] == max(found["priority"] for found in layers)
        for name, found in by_name.items():
            unlimited = slow_removed(scores[name], 0.9, 1.0)
            assert found["removable_fraction"] == pytest.approx(len(unlimited) / len(scores[name]))
    fractions = [event.result.info["removed_macs_fraction"] for event in pruned]
    assert 0 < fractions[0] < fractions[1] < fractions[2]
    points = [event.result for event in events if event.point is not None]
    assert [point.stage.asked_removed_macs_fraction for point in points] == [0.0, None, None, None]
    measured = [1 - point.info["macs"] / point.info["original_macs"] for point in points]
    assert measured == pytest.approx([0.0, *fractions])


def test_priority_by_macs_weighs_the_present_share_of_each_layer(run: Run, shared_cache: Cache) -> None:
    events = run(short_trial(METHOD | {"priority": "removable_x_macs"}), shared_cache)
    for point, after in zip(
        by_kind(events, "operating_point"), by_kind(events, "prune_by_cumulative_sum")[:3], strict=False
    ):
        macs = {row["layer"]: row["macs"] / point.result.info["macs"] for row in point.result.info["layers"]}
        for found in after.result.info["layers"]:
            assert found["priority"] == pytest.approx(found["removable_fraction"] * macs[found["name"]])


def test_the_path_ends_where_nothing_can_be_removed(
    run: Run, shared_cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    """With a minimum of 95% each layer loses once, and the second iteration finds nothing."""
    method = METHOD | {"kept_cumulative_fraction": 0.5, "layers_per_iteration": 9}
    config = short_trial(method, pruning={"minimum_filters_fraction": 0.95})
    events = run(config, shared_cache)
    pruned = by_kind(events, "prune_by_cumulative_sum")
    assert len(pruned) == 2
    assert pruned[0].result.info["removed_macs_fraction"] == pruned[1].result.info["removed_macs_fraction"] > 0
    removed = {layer["name"]: layer["removed"] for layer in pruned[0].result.info["layers"]}
    assert list(removed.values()) == [1, 2, 2, 2]
    assert all(layer["removed"] == 0 for layer in pruned[1].result.info["layers"])
    assert events[-1] is pruned[1]
    assert [event.point for event in events if event.point is not None] == [0, 1]
    assert caplog.text.count("no filter can be removed") == 1
    widths = {layer["name"]: layer["filters"] for layer in pruned[1].result.info["layers"]}
    nearest = min(widths, key=lambda name: math.ceil(0.95 * (widths[name] + removed[name])) / widths[name])
    assert f"nearest is {nearest}: of its {widths[nearest]} filters the sum keeps " in caplog.text
    planned = [stage.key for stage in dry_run(config).stages]
    assert [event.result.key for event in events] == planned[: len(events)]


@pytest.mark.parametrize("tolerance", [0.01, 1.0])
def test_stopping_early_ends_after_the_first_point_below_the_best_by_more_than_the_tolerance(
    tolerance: float, run: Run, shared_cache: Cache
) -> None:
    """Hardly trained after each surgery, the score falls along the path."""
    path = METHOD | {"kept_cumulative_fraction": 0.5, "most_filters_fraction": 0.3, "layers_per_iteration": 4}
    rates = {"epochs": 1, "head_epochs": 40, "learning_rate": 1e-7, "head_learning_rate": 0.005}
    whole, stopped = (
        [
            event.result.deciding_score
            for event in run(short_trial(method, optimisation=rates), shared_cache)
            if event.point is not None
        ]
        for method in (path, path | {"stop_early": True, "tolerance_fraction": tolerance})
    )
    assert len(whole) == 4
    falls = [n for n in range(1, 4) if round(max(whole[:n]) - whole[n], 9) > tolerance]
    assert bool(falls) == (tolerance < 1.0)
    assert stopped == whole[: falls[0] + 1 if falls else 4]


@pytest.mark.parametrize(
    ("scores", "points"),
    [
        ([0.90, 0.895, 0.889, 0.95], 3),  # small falls add up, for they are counted from the best
        ([0.90, 0.89, 0.95, 0.94], 4),  # a fall of exactly the tolerance goes on
        ([0.90, 0.95, 0.93, 0.99], 3),  # the best is not the first
        ([0.90, 0.80, 0.99, 0.99], 2),
        ([math.nan] * 4, 4),  # not known while planning
    ],
)
def test_the_stop_rule_by_hand(scores: list[float], points: int) -> None:
    config = short_trial(METHOD | {"stop_early": True})
    steps, measured, pruned = config.method.walk(config), 0, 0.0
    stage = next(steps)
    with contextlib.suppress(StopIteration):
        while True:
            score = math.nan
            if stage.kind == "operating_point":
                score, measured = scores[measured], measured + 1
            if stage.kind == PruneByCumulativeSum.kind:
                pruned += 0.1
            stage = steps.send(PlannedOutcome(stage.key(), deciding_score=score, removed_macs_fraction=pruned))
    assert measured == points


@pytest.mark.parametrize("statistic", ["mean_absolute_activation", "apoz"])
def test_other_statistics_and_hidden_linear_layers(statistic: str, run: Run, shared_cache: Cache) -> None:
    method = METHOD | {"statistic": statistic, "kept_cumulative_fraction": 0.9, "iterations": 1}
    events = run(short_trial(method, pruning={"linear": True}), shared_cache)
    (scored,), (pruned,) = by_kind(events, "score_filters"), by_kind(events, "prune_by_cumulative_sum")
    assert scored.result.stage.settings()["criterion"] == statistic
    assert "classifier.0" in {layer["name"] for layer in pruned.result.info["layers"]}


def test_layers_that_are_added_lose_filters_together(run: Run, shared_cache: Cache) -> None:
    method = METHOD | {"kept_cumulative_fraction": 0.7, "layers_per_iteration": 9, "iterations": 1}
    events = run(short_trial(method, network="digits_resnet", pruning={"residual": "coupled"}), shared_cache)
    scores = by_kind(events, "score_filters")[0].result.model_state().scores
    (pruned,) = by_kind(events, "prune_by_cumulative_sum")
    kept = set(pruned.result.read_tensors()["kept/blocks.1.conv2"].tolist())
    together = scores["blocks.1.conv2"] + scores["blocks.1.skip.0"]
    assert set(range(48)) - kept == slow_removed(together, 0.7, 0.1)


# --- the engine's promises ---


# --- what cannot be ---


def test_a_statistic_that_may_be_negative_is_refused_before_anything_is_trained() -> None:
    def refuse(statistic: Any, network: str) -> None:
        parts = TargetAwareAdaptation(statistic=statistic).parts
        of_statistic = {part: needs for part, needs in parts.items() if statistic in part}
        refuse_missing(TrialConfig.model_construct(network=network, pruning=ANY_WIDTHS), of_statistic)

    for statistic in ("mean_activation", "apoz"):
        with pytest.raises(ValueError, match="efficientnet_b0 has SiLU; choose .* = 'mean_absolute_activation'"):
            refuse(statistic, "efficientnet_b0")
        for network in ("digits_vgg", "mobilenet_v2"):
            refuse(statistic, network)
    refuse("mean_absolute_activation", "efficientnet_b0")


def test_a_network_without_a_layer_to_prune_is_an_error_that_says_what_to_set(place: StageContext) -> None:
    tensors = building.build("friedman_mlp", 1, seed=0).state_dict()
    state = ModelState(network="friedman_mlp", classes=1, input_shape=(10,), tensors=tensors)
    cut = CumulativeSum(
        kept_cumulative_fraction=0.9, priority="removable", layers_per_iteration=1, most_filters_fraction=0.1
    )
    todo = PruneByCumulativeSum(of=None, rule=GroupRule(), grouping="sum", cut=cut, minimum_filters_fraction=0.1)
    with pytest.raises(ConfigError, match="no layer of friedman_mlp .* set pruning.linear = true"):
        compute(todo, state, place)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kept_cumulative_fraction": 0.0},
        {"most_filters_fraction": 0.0},
        {"layers_per_iteration": 0},
        {"priority": "macs"},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"method.{next(iter(wrong))}"):
        short_trial(METHOD | wrong)


def test_labels_tell_statistics_and_priorities_apart() -> None:
    assert TargetAwareAdaptation().label() == "target_aware_adaptation"
    other = TargetAwareAdaptation(statistic="apoz", priority="removable_x_macs")
    assert other.label() == "target_aware_adaptation apoz removable_x_macs"
