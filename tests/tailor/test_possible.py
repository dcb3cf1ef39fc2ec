"""What a network can lose at the most: the table counted anew, and against networks that are really slimmed."""

import json
import subprocess
import sys
from itertools import product
from typing import Any

import pytest
import torch

from tailor import allocation, networks, possible, surgery
from tailor.budget import macs_of, removed_macs_fraction
from tailor.catalog import DATASETS, NETWORKS, TORCHVISION_FILE
from tailor.config import parse_trial
from tailor.possible import most_removable, refuse_impossible
from tailor.possible_table import left_under, rules
from tailor.stages import GroupRule
from tailor.state import ModelState
from tests.tailor.trials import SHORT

EMBEDDED = ("digits_resnet", "digits_vgg", "digits_vgg_bn", "friedman_mlp")
RULES = [{"residual": residual, "linear": linear} for residual, linear in product(("inside", "coupled"), (False, True))]


def trial(network: str, **pruning: Any) -> dict[str, Any]:
    data = {"name": "friedman1" if network == "friedman_mlp" else "digits"}
    return SHORT | {"network": network, "data": data, "pruning": pruning, "method": {"name": "head_only"}}


@pytest.mark.parametrize("network", [*EMBEDDED, "resnet18", "mobilenet_v2"])
def test_the_table_is_counted_anew(network: str) -> None:
    assert possible.table()[network] == rules(network)
    for known in possible.table()[network].values():
        assert sum(known.macs) == NETWORKS[network].macs  # nothing removed


def test_all_networks_are_in_the_table() -> None:
    assert {*EMBEDDED, *json.loads(TORCHVISION_FILE.read_bytes())} == possible.table().keys()


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("network", EMBEDDED)
def test_what_is_left_of_a_slimmed_network(network: str, rule: dict[str, Any]) -> None:
    """Half of each group's filters, which is a whole number of them: exact."""
    info = NETWORKS[network]
    tensors = networks.build(network, 5, seed=0).state_dict()
    state = ModelState(network=network, classes=5, input_shape=info.input_shape, tensors=tensors)
    found = surgery.groups(state.build(), state.input_shape, GroupRule(**rule))
    slimmed = surgery.slim(state, {g.name: torch.arange(g.filters // 2) for g in found}, found)
    c0, c1, c2 = left_under(network, found)
    assert c0 + c1 / 2 + c2 / 4 == macs_of(slimmed)


@pytest.mark.parametrize("minimum", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("network", EMBEDDED)
def test_the_bound_is_kept_and_nearly_reached(network: str, rule: dict[str, Any], minimum: float) -> None:
    config = parse_trial(trial(network, **rule, minimum_filters_fraction=minimum), "test")
    classes = DATASETS[config.data.name].target_classes
    tensors = networks.build(network, classes, seed=0).state_dict()
    state = ModelState(network=network, classes=classes, input_shape=NETWORKS[network].input_shape, tensors=tensors)
    found = surgery.groups(state.build(), state.input_shape, GroupRule(**rule))
    least = allocation.minimums(state, found, minimum)
    reached = removed_macs_fraction(surgery.slim(state, {name: torch.arange(n) for name, n in least.items()}, found))
    assert 0 <= most_removable(config) - reached < 0.06  # whole filters, and the head of other classes
    refuse_impossible(config, reached)
    if most_removable(config) < 0.99:
        with pytest.raises(ValueError, match=f"0.99 of the MACs is more than {network} can lose, which is "):
            refuse_impossible(config, 0.99)


def test_it_is_known_without_torch() -> None:
    program = "import sys, tailor.possible as p; p.table(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
