"""Torchvision's classifiers pruned by 30% of their MACs, most in `make test-long` alone. All: docs/networks.md."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from tailor.facts.networks import NETWORKS
from tailor.model import cost
from tailor.model.state import ModelState, load_model, save_model
from tailor.networks import building
from tailor.pruning import surgery
from tailor.pruning.group_records import Group
from tailor.pruning.groups import groups
from tailor.pruning.network_facts import CLASSES
from tailor.stages import GroupRule
from tools.networks_document import COLUMNS, DOCUMENT, load_table, row
from tools.networks_table import check, choose_at_random, macs_with, measure_differences, replace_statistics

INSIDE, COUPLED, LINEAR = GroupRule(), GroupRule(residual="coupled"), GroupRule(linear=True)
SMALL = {
    "mobilenet_v3_large": (INSIDE, 64),  # depthwise convolutions, squeeze and excitation
    "densenet121": (INSIDE, 64),  # concatenated outputs
    "regnet_y_400mf": (COUPLED, 65),  # convolutions in groups, added outputs
    "swin_t": (LINEAR, 96),
}
MORE = {
    "resnet18": (INSIDE, 64),
    "mobilenet_v2": (INSIDE, 96),
    "shufflenet_v2_x1_0": (INSIDE, 64),
    "resnext50_32x4d": (COUPLED, 64),
    "efficientnet_b0": (INSIDE, 64),
    "vgg16": (INSIDE, 64),
    "vgg16_bn": (GroupRule(residual="inside", linear=True), 96),
    "resnet50": (COUPLED, 96),
    "resnet101": (INSIDE, 64),
    "convnext_tiny": (LINEAR, 64),
    "vit_b_16": (LINEAR, 224),
}
pytestmark = pytest.mark.check
PRUNED = [
    *(pytest.param(name, *how, id=name) for name, how in SMALL.items()),
    *(pytest.param(name, *how, id=name, marks=pytest.mark.long) for name, how in MORE.items()),
]


def found_in(name: str, rule: GroupRule, size: int) -> tuple[Group, ...]:
    return groups(building.skeleton(name, CLASSES), (3, size, size), rule)


@pytest.mark.parametrize(("name", "rule", "size"), PRUNED)
def test_masked_equals_slimmed(name: str, rule: GroupRule, size: int) -> None:
    difference, effect = measure_differences(name, found_in(name, rule, size), (3, size, size))
    assert difference < 1e-5
    assert effect > 1e-3


def test_groups_are_those_of_any_input_size() -> None:
    def described(size: int) -> list[tuple[str, list[tuple[str, int, list[list[int]]]]]]:
        found = found_in("mobilenet_v3_large", COUPLED, size)
        return [(g.name, [(p.tensor, p.dim, p.indices.tolist()) for p in g.slices]) for g in found]

    assert described(96) == described(225)


def test_a_pruned_network_is_saved_and_rebuilt(tmp_path: Path) -> None:
    name, shape = "mobilenet_v3_large", (3, 64, 64)
    found = found_in(name, COUPLED, 64)
    kept = choose_at_random(name, found, 0.3, seed=1)
    tensors = replace_statistics(building.build(name, CLASSES, seed=0).state_dict())
    state = ModelState(network=name, classes=CLASSES, input_shape=shape, tensors=tensors)
    slimmed = surgery.slim(state, kept, found)
    shapes = {tensor: values.shape for tensor, values in slimmed.tensors.items()}
    left = cost.macs(name, CLASSES, shapes, (3, 224, 224)) / macs_with(name, found, 1.0)
    assert left == pytest.approx(0.7, abs=0.01)
    save_model(slimmed, tmp_path / "model")
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_model(tmp_path / "model")(images), slimmed.build().eval()(images))
    again = groups(slimmed.build(), shape, COUPLED)
    assert [g.filters for g in again] == [len(kept[g.name]) for g in found]


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.long) for name in MORE)])
def test_the_file_says_what_is_found(name: str) -> None:
    found = asdict(NETWORKS[name])
    said = load_table()[name]["info"]
    assert {key: found[key] for key in said} == said | {"input_shape": tuple(said["input_shape"])}
    head = building.skeleton(name, 7).get_submodule(NETWORKS[name].head)
    assert head.weight.shape[0] == 7


def test_all_networks_in_the_file_pass_or_say_why() -> None:
    checked = {name: found["checked"] for name, found in load_table().items()}
    assert len(checked) >= 80
    assert sum(one["passes"] for one in checked.values()) >= 74
    assert all(one["note"] for one in checked.values())


def test_a_state_of_another_network_is_refused() -> None:
    tensors = building.build("digits_vgg", 5, seed=0).state_dict()
    with pytest.raises(ValueError, match="these tensors do not fit digits_resnet"):
        building.rebuild("digits_resnet", 5, tensors)


@pytest.mark.long
def test_a_line_of_the_table_is_what_a_check_shows() -> None:
    name = "shufflenet_v2_x0_5"
    line = row(name, NETWORKS[name], check(name))
    assert line in DOCUMENT.read_text().splitlines()
    assert line.count("|") == len(COLUMNS) + 1
    assert line.count(" yes ") == 3  # passes, rebuilt, torch.export
