"""Which filters can go and what goes with them, on small networks that hang together in one way each."""

from collections import defaultdict

import pytest
import torch
import torch_pruning
from torch import Tensor, nn

from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.facts.networks import NETWORKS
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning import surgery
from tailor.pruning.criteria.base import norms_behind
from tailor.pruning.group_records import Group, GroupMember, sites
from tailor.pruning.groups import groups
from tailor.stages import GroupRule
from tests.tailor import small_networks
from tests.tailor.refusals import refusals
from tools.networks_table import replace_statistics

INSIDE, COUPLED = GroupRule(), GroupRule(residual="coupled")
LINEAR, ALL = GroupRule(linear=True), GroupRule(residual="coupled", linear=True)
SHAPE = (3, 8, 8)

# network -> groups (layers whose outputs lose filters together) under the most permissive rule
SMALL = {
    "Chain": [("first",), ("second",), ("third",)],
    "Flattened": [("first",), ("second",)],
    "Dense": [("first",), ("second",), ("third",)],
    "Skip": [("first", "third"), ("second",)],
    "Gated": [("first",), ("second",), ("third",), ("squeeze",)],
    "Depthwise": [("first",), ("third",)],
    "Grouped": [("third",)],
    "Halves": [("first",), ("third",)],
    "Shuffled": [("first",), ("third",)],
    "Shared": [("first", "second"), ("third",)],
    "Tokens": [("first",), ("up",)],
    "Regression": [("hidden",)],
    "Padded": [("first",), ("second",), ("third",)],
    "Bypassed": [("first",), ("third",)],
    "Scaled": [("first",), ("second",), ("third",)],
    "ChannelsLast": [("first",), ("second",)],
    "Partial": [],
}


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = getattr(small_networks, name)()
    model.load_state_dict(replace_statistics(model.state_dict()))
    return model.eval()


def layers(found: tuple[Group, ...]) -> list[tuple[str, ...]]:
    return [tuple(member.layer for member in group.members) for group in found]


def outputs(name: str, tensors: dict[str, Tensor]) -> Tensor:
    model = small(name)
    building.fill(model, tensors)
    with torch.no_grad():
        logits: Tensor = model(torch.randn(4, *SHAPE, generator=generator(0, "test images")))
    return logits


@pytest.mark.parametrize("name", SMALL)
def test_groups_of_small_networks_masked_equals_slimmed(name: str) -> None:
    model = small(name)
    found = groups(model, SHAPE, ALL)
    assert layers(found) == SMALL[name]
    state = ModelState(network=name, classes=5, input_shape=SHAPE, tensors=model.state_dict())
    draw = generator(1, "test kept")
    kept = {g.name: torch.randperm(g.filters, generator=draw)[: g.filters * 5 // 8].sort().values for g in found}
    masked, slimmed = surgery.mask(state, kept, found), surgery.slim(state, kept, found)
    torch.testing.assert_close(outputs(name, slimmed.tensors), outputs(name, masked.tensors), rtol=1e-5, atol=1e-5)
    for group in found:
        others = {other: kept[other] for other in kept if other != group.name}
        alone = outputs(name, surgery.slim(state, others, found).tensors)
        assert not torch.allclose(alone, outputs(name, slimmed.tensors), rtol=1e-6, atol=1e-6), (
            f"{group.name} changes nothing"
        )


def test_one_filter_takes_along_all_that_belongs_to_it() -> None:
    found = groups(small("Gated"), SHAPE, INSIDE)
    second = next(g for g in found if g.name == "second")
    parts = {(part.tensor, part.dim): part.indices.tolist() for part in second.slices}
    own = [[j] for j in range(8)]
    made = ("second.weight", "second.bias", "excite.weight", "excite.bias")
    assert parts == dict.fromkeys([(t, 0) for t in made] + [("squeeze.weight", 1), ("third.weight", 1)], own)
    flattened = next(g for g in groups(small("Flattened"), SHAPE, INSIDE) if g.name == "second")
    read = next(part for part in flattened.slices if part.tensor == "head.weight")
    assert read.dim == 1 and read.indices.tolist() == [list(range(16 * j, 16 * j + 16)) for j in range(8)]
    depthwise = next(g for g in groups(small("Depthwise"), SHAPE, INSIDE) if g.name == "first")
    rows = {part.tensor: part.indices[3].tolist() for part in depthwise.slices}
    assert rows["second.weight"] == rows["deep_norm.running_var"] == rows["third.weight"] == [6, 7]


def test_what_a_rule_allows() -> None:
    model = small("Skip")
    assert layers(groups(model, SHAPE, INSIDE)) == [("second",)]
    assert "added" in refusals(model, SHAPE, INSIDE)["third"]
    assert layers(groups(small("Tokens"), SHAPE, COUPLED)) == [("first",)]
    assert refusals(small("Tokens"), SHAPE, COUPLED)["up"] == "it is a linear layer"
    assert layers(groups(small("Regression"), SHAPE, INSIDE)) == []


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("Chain", "head", "the network's output"),
        ("Grouped", "first", "a grouped convolution"),
        ("Halves", "second", "a part of another layer's"),
        ("Shuffled", "second", "by their places"),
        ("Tokens", "second", "addmm"),
        ("MixedTokens", "second", "its tokens are mixed"),
        ("Bypassed", "second", "without calling it"),
        ("Tied", "second", "its weight is another layer's, too"),
        ("Partial", "second", "a part of another layer's"),
    ],
)
def test_a_refusal_says_why(name: str, layer: str, reason: str) -> None:
    assert reason in refusals(small(name), SHAPE, ALL)[layer]


def test_members_and_their_sites() -> None:
    first, second = (g.members[0] for g in groups(small("Chain"), SHAPE, INSIDE)[:2])
    assert first == GroupMember(layer="first", norm="norm", activation="act", activation_kind="ReLU")
    placements = ("before_norm", "after_norm", "after_activation")
    assert [first.site(placement) for placement in placements] == ["first", "norm", "act"]
    assert second == GroupMember(layer="second", norm=None, activation=None, activation_kind=None)  # F.relu has no name
    assert second.site("after_norm") == "second"
    with pytest.raises(ConfigError, match="second has no activation module"):
        second.site("after_activation")
    (up,) = (g.members[0] for g in groups(small("Tokens"), SHAPE, LINEAR) if g.name == "up")
    assert up == GroupMember(layer="up", norm=None, activation="gelu", activation_kind="GELU")


def test_a_norm_behind_two_layers_is_no_place_for_factors() -> None:
    found = groups(small("SharedNorm"), SHAPE, COUPLED)
    assert ("second", "third") in layers(found)
    with pytest.raises(ConfigError, match="shared follows both second and third, .* choose placement 'before_norm'"):
        sites(found, "after_norm")
    assert sites(found, "before_norm") == {layer: layer for group in layers(found) for layer in group}
    model = small("SharedNorm")
    state = ModelState(network="SharedNorm", classes=5, input_shape=SHAPE, tensors=model.state_dict())
    with pytest.raises(ConfigError, match="method 'gbn' reads .* shared of SharedNorm follows third and another layer"):
        norms_behind(state, found, "method 'gbn'")


def test_an_activation_that_is_called_twice_is_no_site() -> None:
    found = groups(building.skeleton("resnet18", 5), (3, 64, 64), INSIDE)
    inside = {g.name: g.members[0] for g in found}["layer1.0.conv1"]
    assert inside == GroupMember(layer="layer1.0.conv1", norm="layer1.0.bn1", activation=None, activation_kind="ReLU")


@pytest.mark.parametrize(
    "activation", [nn.CELU, nn.ELU, nn.Hardsigmoid, nn.Hardswish, nn.LeakyReLU, nn.ReLU6, nn.SELU, nn.SiLU]
)
def test_an_activation_that_works_in_place_keeps_no_filter(activation: type[nn.Module]) -> None:
    """Older versions of torch do not say of all of them that they work on single elements."""
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    model = nn.Sequential(nn.Conv2d(3, 6, 3), activation(inplace=True), nn.Conv2d(6, 6, 3), nn.LeakyReLU(), *head)
    assert layers(groups(model, SHAPE, INSIDE)) == [("0",), ("2",)]


def test_finding_groups_changes_nothing() -> None:
    model = building.build("digits_resnet", 5, seed=0).train()
    model.blocks[0].bn1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = {name: module.training for name, module in model.named_modules()}
    groups(model, (1, 8, 8), ALL)
    assert flags == {name: module.training for name, module in model.named_modules()}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def by_torch_pruning(model: nn.Module, layer: str, shape: tuple[int, ...]) -> dict[tuple[str, int], list[list[int]]]:
    """(module, dim) -> the indices that go with each output of a layer, as Torch-Pruning finds them."""
    names = {id(module): name for name, module in model.named_modules()}
    graph = torch_pruning.DependencyGraph().build_dependency(model.eval(), torch.zeros(1, *shape))
    module = model.get_submodule(layer)
    root = torch_pruning.prune_linear_out_channels
    if isinstance(module, nn.Conv2d):
        root = torch_pruning.prune_conv_out_channels
    count = module.weight.shape[0]
    found: dict[tuple[str, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for item in graph.get_pruning_group(module, root, idxs=list(range(count))):
        name = names.get(id(item.dep.target.module))
        if name is not None:
            # A depthwise convolution is named twice, as one that reads and as one that makes.
            deep = getattr(item.dep.target.module, "groups", 1) > 1
            dim = 0 if deep or "out_channels" in item.dep.handler.__name__ else 1
            if not isinstance(item.dep.target.module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                continue
            for index, filter_ in zip(item.idxs, item.root_idxs, strict=True):
                found[name, dim][filter_].append(index)
    return {key: [sorted(set(rows[j])) for j in range(count)] for key, rows in found.items()}


@pytest.mark.parametrize(
    "network",
    ["digits_vgg_bn", "digits_resnet", pytest.param("mobilenet_v3_small", marks=pytest.mark.check)],
)
def test_torch_pruning_finds_the_same_slices(network: str) -> None:
    """An independent tool that asks autograd's graph instead of running labels."""
    shape = (3, 64, 64) if NETWORKS[network].input_shape[0] == 3 else (1, 8, 8)
    model = building.build(network, 5, seed=0)
    found = groups(model, shape, ALL)
    for group in found[:: max(1, len(found) // 6)]:
        ours = {(p.tensor.rpartition(".")[0], p.dim): p.indices.tolist() for p in group.slices}
        assert ours == by_torch_pruning(model, group.name, shape), group.name
