"""The rivals that are methods of their own right, and what a sweep of all methods shares."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tailor.common.errors import ConfigError
from tailor.execution.cache import Cache
from tailor.execution.dry_run import dry_run
from tailor.execution.runner import StageEvent
from tailor.facts.networks import NETWORKS as NETWORKS_BY_NAME
from tailor.facts.networks import NetworkInfo
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning import surgery
from tailor.stage_execution import StageContext, apply, compute
from tailor.stage_execution.preparing import own_parameters
from tailor.stages import GroupRule, Reinitialise
from tests.tailor.trials import NETWORKS, planned_stages, short_trial

Run = Callable[..., list[StageEvent]]


def result_of(events: list[StageEvent], kind: str, number: int = 0) -> Any:
    return [event.result for event in events if event.result.stage.kind == kind][number]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_smaller_dense_network_is_narrower_everywhere_by_about_the_same_share(
    network: str, run: Run, shared_cache: Cache
) -> None:
    events = run(
        short_trial({"name": "smaller_dense", "asked_removed_macs_fraction": 0.5}, network=network), shared_cache
    )
    info = events[-1].result.info
    assert 0.45 <= info["macs"] / info["original_macs"] <= 0.5
    inner = info["layers"][:-1]  # the head's width is the number of classes
    shares = [layer["width"] / layer["original_width"] for layer in inner]
    assert max(shares) - min(shares) < 0.05
    assert (
        result_of(events, "train_source").model_state().tensors.keys() == events[-1].result.model_state().tensors.keys()
    )


def test_widths_from_scratch_are_those_of_the_pruned_network_and_nothing_else_is(run: Run, shared_cache: Cache) -> None:
    method = {"name": "prune", "criterion": "l1", "asked_removed_macs_fraction": 0.3}
    kept = run(short_trial(method), shared_cache)
    fresh = run(short_trial(method | {"weights": "reinitialised"}), shared_cache)
    pruned, made_new = result_of(kept, "prune").model_state(), result_of(fresh, "reinitialise").model_state()
    assert {n: t.shape for n, t in pruned.tensors.items()} == {n: t.shape for n, t in made_new.tensors.items()}
    assert all(not torch.equal(t, made_new.tensors[n]) for n, t in pruned.tensors.items() if n.endswith("weight"))
    other = run(short_trial(method | {"weights": "reinitialised"}, seed=1), shared_cache)
    assert not torch.equal(
        result_of(other, "reinitialise").model_state().tensors["features.0.weight"],
        made_new.tensors["features.0.weight"],
    )


WITH_OWN = ("digits_vit", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t", "convnext_tiny")
OTHERS = (*WITH_OWN[1:], "efficientnet_b0", "densenet121", "regnet_y_400mf")


@pytest.mark.parametrize(
    "network",
    ["digits_resnet", "digits_vit", *(pytest.param(name, marks=pytest.mark.check) for name in OTHERS)],
)
def test_a_plan_knows_which_networks_have_parameters_without_a_reset(network: str) -> None:
    whole = ModelState(network=network, classes=5, input_shape=(3, 64, 64), tensors={})
    assert bool(own_parameters(whole)) == (network in WITH_OWN)
    assert NETWORKS_BY_NAME[network].has_own_parameters == (network in WITH_OWN)


def reinitialisation(network: str) -> Reinitialise:
    """The stage as a trial of this network has it."""
    method = {"name": "prune", "weights": "reinitialised", "asked_removed_macs_fraction": 0.1}
    stages = planned_stages(short_trial(method, network=network, pruning={"linear": True}))
    return next(stage for stage in stages if isinstance(stage, Reinitialise))


def test_from_scratch_keeps_nothing_of_a_transformer(place: StageContext) -> None:
    """Positions and class tokens are those of a new network, cut to the widths that are left."""
    tensors = {name: t + 0.125 for name, t in building.build("digits_vit", 5, seed=0).state_dict().items()}
    whole = ModelState(network="digits_vit", classes=5, input_shape=(1, 8, 8), tensors=tensors)
    found = surgery.groups(whole.build(), whole.input_shape, GroupRule(stream=True, heads=True, linear=True))
    state = surgery.slim(whole, {g.name: torch.arange(1, g.filters) for g in found}, found)
    stage = reinitialisation("digits_vit")
    after = apply(stage, state, compute(stage, state, place).tensors)
    assert {n: t.shape for n, t in after.tensors.items()} == {n: t.shape for n, t in state.tensors.items()}
    assert [name for name, tensor in after.tensors.items() if torch.equal(tensor, state.tensors[name])] == []
    new = building.build("digits_vit", 5, seed=stage.seed).state_dict()
    for name in ("positions", "class_token"):
        assert torch.equal(after.tensors[name], new[name][:, :, :31]), name
    assert after.build().eval()(torch.zeros(1, 1, 8, 8)).shape == (1, 5)


class Shifted(nn.Module):
    """A network with a parameter of its own and no method that sets it anew."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.relu, self.head = nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes)
        self.shift = nn.Parameter(torch.zeros(8))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.relu(self.first(images.flatten(1))) + self.shift)
        return logits


def test_a_parameter_that_nothing_sets_anew_is_refused(monkeypatch: pytest.MonkeyPatch, place: StageContext) -> None:
    monkeypatch.setitem(
        NETWORKS_BY_NAME._records, "shifted", NetworkInfo(description="", builder=Shifted, input_shape=(1, 8, 8))
    )
    tensors = building.build("shifted", 5, seed=0).state_dict()
    state = ModelState(network="shifted", classes=5, input_shape=(1, 8, 8), tensors=tensors)
    with pytest.raises(ConfigError, match=r"would keep shift of shifted as it was pre-trained.*give it one"):
        compute(Reinitialise(of=None, seed=1), state, place)


def test_tune_first_tunes_the_whole_network_as_full_fine_tuning_does(run: Run, shared_cache: Cache) -> None:
    tuned = run(short_trial({"name": "fine_tune"}), shared_cache)
    first = run(short_trial({"name": "prune", "order": "tune_first"}), shared_cache)
    assert result_of(first, "fine_tune").key == result_of(tuned, "fine_tune").key
    assert result_of(first, "fine_tune", 1).stage.training.seed != result_of(first, "fine_tune").stage.training.seed


def test_iterative_pruning_scores_anew_and_reaches_equal_shares_of_the_budget(run: Run, shared_cache: Cache) -> None:
    method = {"name": "prune", "criterion": "taylor", "steps": 3, "asked_removed_macs_fraction": 0.3}
    events = run(short_trial(method), shared_cache)
    asked = [event.result.stage.asked_removed_macs_fraction for event in events if event.point is not None]
    assert asked == [0.1, 0.2, 0.3]
    scorings = [event.result.key for event in events if event.result.stage.kind == "score_filters"]
    assert len(set(scorings)) == 3


def all_methods(seed: int) -> list[dict[str, Any]]:
    """A known sweep: every kind of beginning, several budgets, both orders."""
    budgets = (0.2, 0.4)
    rivals = [
        {"name": "prune", "criterion": criterion, "asked_removed_macs_fraction": budget, "order": order}
        for criterion in ("l1", "taylor")
        for budget in budgets
        for order in ("head_first", "tune_first")
    ]
    paths = [{"name": "transtailor", "steps": 2}, {"name": "transtailor", "steps": 3}]
    methods = [{"name": "head_only"}, {"name": "fine_tune"}, {"name": "pac_net"}, *paths, *rivals]
    return [{"method": method, "seed": seed} for method in methods]


def test_the_distinct_stages_of_a_known_sweep() -> None:
    """Counted by hand: what does not depend on the seed is there once, what methods have in common once per seed."""
    walks = [dry_run(short_trial(**trial)) for seed in (0, 1) for trial in all_methods(seed)]
    stages = {stage.key: stage.kind for walked in walks for stage in walked.stages}
    found = Counter(stages.values())
    assert found["train_source"] == 1  # serves PAC-Net, too
    assert found["find_essential"] == found["allocate"] == 1  # one Prune and one Allocate for all seeds and targets
    assert found["fit_head"] == 2 * 2  # per seed one on the source's features, one on PAC-Net's
    assert found["calibrate"] == 2
    # Per seed: l1 and taylor, each behind the head and behind the first tuning; three steps of the longer path.
    assert found["score_filters"] == 2 * (4 + 3)
    assert found["prune"] == 2 * (2 * 4 + 3)  # both budgets of each scoring; the shorter path is part of the longer
    # Per seed: full fine-tuning, which is the first tuning of tune_first, too; one behind each pruning.
    assert found["fine_tune"] == 2 * (1 + 2 * 4 + 3)
    assert found["train_factors"] == 2 * 3
    # Per seed: head_only, whose point is the path's first; fine_tune; PAC-Net; one behind each pruning.
    assert found["operating_point"] == 2 * (3 + 2 * 4 + 3)
