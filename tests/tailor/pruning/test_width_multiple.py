"""Widths that are multiples, budgets that are missed, and layers that would be empty."""

import logging
import math
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.widths import WidthRule
from tailor.model.cost import macs_of, original_macs, removed_macs_fraction
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning import budget_solver, surgery
from tailor.pruning.budget_solver import Ranking
from tailor.stage_execution.pruning import surgery_output
from tailor.stages import GroupRule
from tests.tailor.trials import short_trial

Run = Callable[..., list[StageEvent]]
Found = tuple[surgery.Group, ...]
INSIDE, COUPLED = GroupRule(), GroupRule(residual="coupled", linear=True)
ROWS: dict[str, Any] = {"network": "friedman_mlp", "data": {"name": "friedman1", "train_images": 33}}
ALLOCATIONS = ("lowest_of_all", "uniform")


def ranked(state: ModelState, rule: GroupRule) -> tuple[Found, Ranking]:
    found = surgery.groups(state.build(), state.input_shape, rule)
    draw = generator(5, "test scores")
    return found, {g.name: torch.rand(g.filters, generator=draw) for g in found}


def pruned(
    how: str, state: ModelState, found: Found, ranking: Ranking, budget: float, multiple: int, minimum: float = 0.1
) -> surgery.Kept:
    least = budget_solver.minimums(state, found, minimum)
    asked = budget_solver.Budget(state, found, budget, least, WidthRule(multiple=multiple))
    return getattr(budget_solver, how)(asked, ranking)  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ALLOCATIONS)
@pytest.mark.parametrize(("network", "multiple"), [("digits_vgg", 4), ("digits_resnet", 2)])
def test_the_budget_is_met_by_the_fewest_rounded_removals(
    how: str, network: str, multiple: int, fitted: Callable[[str], ModelState]
) -> None:
    """Widths without a multiple that shrink, rounded up and really slimmed; those of the last step one by one."""
    state = fitted(network)
    found, ranking = ranked(state, COUPLED)
    kept = pruned(how, state, found, ranking, 0.3, multiple)
    least = budget_solver.minimums(state, found, 0.1)
    whole = original_macs(state)

    def slow(widths: dict[str, int]) -> tuple[dict[str, list[int]], float]:
        stays = {g.name: ranking[g.name].argsort(stable=True)[max(0, g.filters - widths[g.name]) :] for g in found}
        slimmed = surgery.slim(state, {name: which.sort().values for name, which in stays.items()}, found)
        return {name: sorted(which.tolist()) for name, which in stays.items()}, 1 - macs_of(slimmed) / whole

    before = {g.name: g.filters for g in found}
    for step in count():
        widths = {n: multiple * math.ceil(w / multiple) for n, w in unrounded(how, found, ranking, least, step).items()}
        if slow(widths)[1] >= 0.3:
            break
        before = widths
    if slow(widths)[1] > 0.3 + budget_solver.BUDGET_MARGIN:
        for name in widths:
            before = before | {name: widths[name]}
            if slow(before)[1] >= 0.3:
                widths = before
                break
    assert {name: which.tolist() for name, which in kept.items()} == slow(widths)[0]


def unrounded(how: str, found: Found, ranking: Ranking, least: budget_solver.Minimum, step: int) -> dict[str, int]:
    """Widths after so many steps of an allocation, written down once more."""
    if how == "lowest_of_all":
        gone = [name for name, _ in budget_solver.removal_order(ranking, least)[:step]]
        return {g.name: g.filters - gone.count(g.name) for g in found}
    if how == "uniform":
        return {g.name: max(least[g.name], round(g.filters * (1000 - step) / 1000)) for g in found}
    numbers = generator(1, "test widths")
    shares = {g.name: torch.rand((), generator=numbers).item() for g in found}
    part, beyond = min(step, 1000) / 1000, max(step - 1000, 0) / 1000
    taken = {name: share * part + (1 - share) * beyond for name, share in shares.items()}
    return {g.name: max(least[g.name], g.filters - round(g.filters * taken[g.name])) for g in found}


REAL = [
    pytest.param("mobilenet_v2", INSIDE, 8, "lowest_of_all"),  # depthwise
    pytest.param("resnet18", COUPLED, 8, "uniform"),  # added outputs
    pytest.param("resnext50_32x4d", COUPLED, 16, "uniform", marks=pytest.mark.long),  # grouped convolutions between
    pytest.param("densenet121", INSIDE, 8, "lowest_of_all", marks=pytest.mark.long),  # concatenated
]


@pytest.mark.check
@pytest.mark.parametrize(("network", "rule", "multiple", "how"), REAL)
def test_every_layer_of_real_networks_is_a_multiple_or_whole(
    network: str, rule: GroupRule, multiple: int, how: str
) -> None:
    tensors = building.build(network, 5, seed=0).state_dict()
    state = ModelState(network=network, classes=5, input_shape=(3, 64, 64), tensors=tensors)
    found, ranking = ranked(state, rule)
    slimmed = surgery.slim(state, pruned(how, state, found, ranking, 0.3, multiple), found)
    assert 0.3 <= removed_macs_fraction(slimmed) <= 0.3 + budget_solver.BUDGET_MARGIN
    narrower = 0
    for name, tensor in slimmed.tensors.items():
        if name.endswith(".weight") and tensor.dim() > 1 and name != "fc.weight" and "classifier" not in name:
            width, whole = len(tensor), len(tensors[name])
            assert width == whole or width % multiple == 0
            narrower += width < whole
    assert narrower >= len(found) / 2
    with torch.no_grad():
        assert slimmed.build().eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def rounded(state: ModelState, found: Found, removed: dict[str, int], widths: WidthRule) -> dict[str, int]:
    return budget_solver.round_widths(budget_solver.Budget(state, found, 0.0, {}, widths), removed)


def test_what_is_narrower_than_the_multiple_stays_whole(fitted: Callable[[str], ModelState]) -> None:
    state = fitted("digits_vgg")
    found, _ = ranked(state, INSIDE)
    most = {g.name: g.filters - 1 for g in found}
    assert set(rounded(state, found, most, WidthRule(multiple=64)).values()) == {0}
    some = {g.name: 3 for g in found}
    assert rounded(state, found, some, WidthRule()) == some


def test_narrow_layers_keep_any_number(fitted: Callable[[str], ModelState]) -> None:
    """Narrow in the unpruned network: a wide layer that lost filters still keeps multiples."""
    state = fitted("digits_vgg")
    found, ranking = ranked(state, INSIDE)
    wide = {g.name for g in found if g.filters == 48}
    assert wide < {g.name for g in found} and all(g.filters == 24 for g in found if g.name not in wide)
    widths = WidthRule(multiple=8, from_filters=32)
    removed = rounded(state, found, {g.name: 3 for g in found}, widths)
    assert removed == {g.name: 0 if g.name in wide else 3 for g in found}
    narrower = surgery.slim(state, dict.fromkeys(wide, torch.arange(24)), found)
    found, _ = ranked(narrower, INSIDE)
    assert {g.filters for g in found} == {24}
    removed = rounded(narrower, found, {g.name: 7 for g in found}, widths)
    assert removed == {g.name: 0 if g.name in wide else 7 for g in found}


@pytest.mark.check
@pytest.mark.parametrize("what", ["whole", "alike"])
def test_groups_of_convolutions_are_counted_by_their_filters(what: Any) -> None:
    """Of 128 filters in 32 groups: a group has four, and a place in all groups has 32."""
    state = ModelState(network="resnext50_32x4d", classes=5, input_shape=(3, 64, 64), tensors={})
    found = surgery.groups(building.skeleton("resnext50_32x4d", 5), (3, 64, 64), GroupRule(conv_groups=what))
    first = next(g for g in found if g.kind == "conv_groups")
    each = 128 // first.filters
    assert each == first.filters_each == {"whole": 4, "alike": 32}[what]
    for multiple in (8, 24, 64):
        for asked in range(first.filters):
            removed = rounded(state, (first,), {first.name: asked}, WidthRule(multiple=multiple))[first.name]
            widths = [each * n for n in range(first.filters - asked, first.filters) if each * n % multiple == 0]
            assert each * (first.filters - removed) == min(widths, default=128)


def test_a_trial_keeps_multiples_on_its_whole_path(run: Run, shared_cache: Cache) -> None:
    method = {"name": "prune", "criterion": "l1", "asked_removed_macs_fraction": 0.4, "steps": 2}
    events = run(short_trial(method, pruning={"width_multiple": 2, "linear": True}, **ROWS), shared_cache)
    cuts = [event.result for event in events if event.result.stage.kind == "prune"]
    for cut, asked in zip(cuts, (0.2, 0.4), strict=True):
        assert asked <= cut.removed_macs_fraction <= asked + budget_solver.BUDGET_MARGIN
        assert all(len(kept) % 2 == 0 for kept in cut.read_tensors().values())


# --- budgets that are missed, and layers that would be empty ---


def test_a_multiple_that_lets_nothing_go_is_an_impossible_budget(fitted: Callable[[str], ModelState]) -> None:
    state = fitted("digits_vgg")
    with pytest.raises(
        ConfigError, match=r"can lose, which is 0\.000 with its prunable layers .*pruning.width_multiple"
    ):
        pruned("uniform", state, *ranked(state, INSIDE), 0.2, 64)


def test_an_empty_layer_is_refused_by_name(fitted: Callable[[str], ModelState]) -> None:
    state = fitted("digits_vgg")
    found, _ = ranked(state, INSIDE)
    kept = {g.name: torch.arange(g.filters) for g in found} | {found[1].name: torch.arange(0)}
    with pytest.raises(ConfigError, match=f"would leave no filter of {found[1].name}; keep at least one"):
        surgery_output(state, kept, found, 0.2)


def coarsest_slowly(state: ModelState, found: tuple[surgery.Group, ...]) -> tuple[str, float]:
    """The group whose last filter, really slimmed away, takes the most MACs with it, and their share."""
    shares = {}
    for g in found:
        slimmed = surgery.slim(state, {g.name: torch.arange(g.filters - 1)}, found)
        shares[g.name] = removed_macs_fraction(slimmed) - removed_macs_fraction(state)
    layer = max(shares, key=shares.__getitem__)
    return layer, shares[layer]


def test_a_pruning_that_removes_nothing_names_the_layer_in_the_way(
    fitted: Callable[[str], ModelState], caplog: pytest.LogCaptureFixture
) -> None:
    """It is an error, unless an earlier step removed enough for it: then it is said."""
    network = "digits_resnet"
    whole = fitted(network)
    found, ranking = ranked(whole, INSIDE)
    layer, share = coarsest_slowly(whole, found)
    everything = {g.name: torch.arange(g.filters) for g in found}
    named = rf"{layer.replace('.', '[.]')} has the coarsest filters, {share:.4f} of the MACs each; choose another"
    with pytest.raises(
        ConfigError, match=rf"removes no filter: 0\.000 of the MACs of {network} are removed.* = 0\.2; .*{named}"
    ):
        surgery_output(whole, everything, found, 0.2)
    smaller = surgery.slim(whole, pruned("lowest_of_all", whole, found, ranking, 0.2, 1), found)
    found, ranking = ranked(smaller, INSIDE)
    everything, present = {g.name: torch.arange(g.filters) for g in found}, removed_macs_fraction(smaller)
    with pytest.raises(ConfigError, match=rf"removes no filter: {present:.3f} of the MACs"):
        surgery_output(smaller, everything, found, present + 1e-6)
    assert caplog.text == ""
    layer, share = coarsest_slowly(smaller, found)
    for asked in (present, 0.2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            made = surgery_output(smaller, everything, found, asked)
        assert made.info == {"removed_macs_fraction": present}
        assert (
            f"no filter is removed: {present:.3f} of the MACs are removed already, and the budget is {asked:.3f}"
            in caplog.text
        )
        assert f"those of {layer}, {share:.4f} of the MACs each" in caplog.text


def test_a_path_finer_than_its_filters_goes_on(run: Run, shared_cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    """Two filters are more than a step: points stay within the margin, and some are as wide as the one before."""
    method = {"name": "prune", "criterion": "l1", "asked_removed_macs_fraction": 0.2, "steps": 20}
    config = short_trial(method, pruning={"width_multiple": 2, "linear": True}, **ROWS)
    with caplog.at_level(logging.WARNING):
        points = [event.result for event in run(config, shared_cache) if event.point is not None]
    asked = [point.stage.asked_removed_macs_fraction for point in points]
    removed = [1.0 - point.info["macs"] / point.info["original_macs"] for point in points]
    assert all(0.0 <= gone - wanted <= budget_solver.BUDGET_MARGIN for gone, wanted in zip(removed, asked, strict=True))
    repeated = sum(after == before for before, after in pairwise(removed))
    assert repeated == caplog.text.count("no filter is removed") > 0
