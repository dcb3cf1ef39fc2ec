"""What a network can lose at the most: the table counted anew, and against networks that are really slimmed."""

import json
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailor.common.errors import ConfigError
from tailor.config.needs import find_prunable
from tailor.config.parsing import parse_trial
from tailor.facts.datasets import DATASETS
from tailor.facts.networks import EMBEDDED, NETWORKS, NetworkInfo
from tailor.facts.prunable import Prunable
from tailor.facts.widths import WIDE_FILTERS
from tailor.methods.feasibility import most_removable, refuse_impossible
from tailor.model import cost
from tailor.model.cost import macs_of, removed_macs_fraction
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning import surgery
from tailor.pruning.feasibility_count import prunable, terms_of
from tailor.stages import GroupRule
from tests.tailor.trials import SHORT
from tools.methods_table import random_pixels

RULES = [{"residual": residual, "linear": linear} for residual, linear in product(("inside", "coupled"), (False, True))]


@pytest.fixture(autouse=True)
def own_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_records", dict(DATASETS._records))


def trial(network: str, **pruning: Any) -> dict[str, Any]:
    data = {"name": {"friedman_mlp": "friedman1", "oscillator_mlp": "oscillator"}.get(network, "digits")}
    return SHORT | {"network": network, "data": data, "pruning": pruning, "method": {"name": "head_only"}}


@pytest.mark.parametrize(
    ("network", "side_px"),
    [
        *((network, None) for network in EMBEDDED),
        ("resnet18", 97),
        pytest.param("mobilenet_v2", 160, marks=pytest.mark.check),
        pytest.param("alexnet", 255, marks=pytest.mark.check),
        *(pytest.param(n, 160, marks=pytest.mark.long) for n in ("vgg16", "inception_v3", "shufflenet_v2_x1_0")),
    ],
)
def test_of_a_whole_network_nothing_is_lost(network: str, side_px: int | None) -> None:
    shape = NETWORKS[network].input_shape if side_px is None else (3, side_px, side_px + 31)
    whole = cost.macs(network, 5, cost.original_shapes(network, 5), shape)
    for rule in RULES:
        known = prunable(network, GroupRule(**rule), shape)
        assert known.macs_left(5, [1.0] * len(known.widths)) == whole


def test_what_is_asked_is_what_is_counted() -> None:
    rule = GroupRule(heads=True, stream=True)
    config = parse_trial(trial("digits_vit", heads=True, stream=True), "test")
    counted = prunable("digits_vit", rule, (1, 8, 8))
    assert json.dumps(vars(find_prunable(config))) == json.dumps(vars(counted))


class CalledInGroups(nn.Module):
    """A network whose convolution in groups is no module of torch's."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, num_classes)
        self.grouped = nn.Module()
        self.grouped.weight = nn.Parameter(torch.randn(8, 4, 3, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, classes) of images (N, 1, 8, 8)."""
        found = functional.conv2d(self.first(images).relu(), self.grouped.weight, groups=2)
        logits: Tensor = self.head(found.relu().mean((2, 3)))
        return logits


def test_convolutions_in_groups_are_found_however_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NETWORKS, "_records", dict(NETWORKS._records))
    NETWORKS.add("called_in_groups", NetworkInfo(description="", builder=CalledInGroups, input_shape=(1, 8, 8)))
    rule = GroupRule(conv_groups="alike")
    assert "conv_groups" in prunable("called_in_groups", rule, (1, 8, 8)).kinds


def half_left(network: str, found: tuple[surgery.Group, ...], input_shape: tuple[int, ...]) -> float:
    widths = tuple({(g.filters, g.filters_each) for g in found})
    terms = terms_of(network, found, widths, input_shape)
    known = Prunable(widths=widths, terms=terms, kinds=(), without_norm="", without_activation="")
    return known.macs_left(5, [0.5] * len(widths))


@pytest.mark.parametrize(
    ("network", "rule"),
    [*product(EMBEDDED, RULES), *(("digits_vit", rule | {"heads": True, "stream": True}) for rule in RULES)],
    ids=str,
)
def test_what_is_left_of_a_slimmed_network(network: str, rule: dict[str, Any]) -> None:
    """Half of each group's filters, which is a whole number of them: exact."""
    info = NETWORKS[network]
    tensors = building.build(network, 5, seed=0).state_dict()
    state = ModelState(network=network, classes=5, input_shape=info.input_shape, tensors=tensors)
    found = surgery.groups(state.build(), state.input_shape, GroupRule(**rule))
    slimmed = surgery.slim(state, {g.name: torch.arange(g.filters // 2) for g in found}, found)
    assert half_left(network, found, info.input_shape) == macs_of(slimmed)


@pytest.mark.parametrize(("minimum", "multiple"), [(0.0, 1), (0.1, 1), (1.0, 1), (0.1, 6)])
@pytest.mark.parametrize("rule", [RULES[0], RULES[-1]], ids=str)
@pytest.mark.parametrize("network", EMBEDDED)
def test_the_bound_is_what_a_slimmed_network_has_lost(
    network: str, rule: dict[str, Any], minimum: float, multiple: int
) -> None:
    """Of any number of classes, with widths that are multiples: each group at the fewest filters that it may keep."""
    settings = rule | {"minimum_filters_fraction": minimum, "width_multiple": multiple}
    config = parse_trial(trial(network, **settings), "test")
    classes = DATASETS[config.data.name].target_classes
    tensors = building.build(network, classes, seed=0).state_dict()
    state = ModelState(network=network, classes=classes, input_shape=NETWORKS[network].input_shape, tensors=tensors)
    found = surgery.groups(state.build(), state.input_shape, GroupRule(**rule))
    fewest = {}
    for g in found:
        allowed = range(1, g.filters) if g.filters < WIDE_FILTERS else range(multiple, g.filters, multiple)
        fewest[g.name] = min((n for n in allowed if n >= minimum * g.filters), default=g.filters)
    reached = removed_macs_fraction(surgery.slim(state, {name: torch.arange(n) for name, n in fewest.items()}, found))
    assert most_removable(config) == pytest.approx(reached, abs=1e-12)
    refuse_impossible(config, reached)
    with pytest.raises(ValueError, match=f" of the MACs is more than {network} can lose, which is "):
        refuse_impossible(config, reached + 1e-6)


def test_a_plan_refuses_what_multiples_do_not_reach() -> None:
    """Half of vgg16's filters of each layer, or more: with multiples of 256 most of its layers stay whole."""
    raw = {"network": "vgg16", "method": {"name": "prune", "asked_removed_macs_fraction": 0.9}}
    data = {"name": random_pixels(224), "train_images": 8}
    parse_trial(raw | {"data": data}, "test")
    with pytest.raises(ConfigError, match=r"vgg16 can lose, which is 0\.2.*, pruning.width_multiple = 256"):
        parse_trial(raw | {"data": data, "pruning": {"width_multiple": 256}}, "test")


@pytest.mark.check
@pytest.mark.parametrize("rule", [RULES[0], RULES[-1]], ids=str)
def test_what_is_left_of_a_slimmed_network_that_reads_other_images(rule: dict[str, Any]) -> None:
    tensors = building.build("mobilenet_v2", 5, seed=0).state_dict()
    state = ModelState(network="mobilenet_v2", classes=5, input_shape=(3, 97, 97), tensors=tensors)
    found = surgery.groups(state.build(), state.input_shape, GroupRule(**rule))
    slimmed = surgery.slim(state, {g.name: torch.arange(g.filters // 2) for g in found}, found)
    assert half_left("mobilenet_v2", found, state.input_shape) == macs_of(slimmed)


def test_a_budget_that_is_impossible_at_a_size_is_refused_there_alone() -> None:
    """alexnet's linear layers, which lose nothing here, weigh the more the smaller the images are."""
    raw = {"network": "alexnet", "method": {"name": "prune", "asked_removed_macs_fraction": 0.9}}

    def parsed(side_px: int) -> None:
        parse_trial(raw | {"data": {"name": random_pixels(side_px), "train_images": 8}}, "test")

    parsed(224)
    parsed(160)
    with pytest.raises(ConfigError, match=r"0\.9 of the MACs is more than alexnet can lose, which is 0\.8"):
        parsed(97)


def test_of_a_network_with_windows_the_budget_is_known_at_other_sizes() -> None:
    raw = {
        "network": "swin_t",
        "method": {"name": "prune", "asked_removed_macs_fraction": 0.95},
        "pruning": {"linear": True},
    }
    for side_px in (224, 97):
        with pytest.raises(ConfigError, match=r"0\.95 of the MACs is more than swin_t can lose"):
            parse_trial(raw | {"data": {"name": random_pixels(side_px), "train_images": 8}}, "test")
