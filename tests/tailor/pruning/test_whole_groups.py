"""Heads, the stream and hidden units of transformers: what goes together, and slimmed equals masked."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from tailor.data.task_data import generator
from tailor.model.factors import HEADS as HEADS_SUFFIX
from tailor.model.factors import attach
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.networks.sizes import set_sizes
from tailor.pruning import surgery
from tailor.pruning.surgery import Group, Kept, groups
from tailor.stages import GroupRule
from tests.tailor import small_transformers
from tests.tailor.refusals import refusals
from tools.masked_reference import mask_model

SHAPE = (3, 16, 16)
ALL = GroupRule(residual="coupled", linear=True, stream=True, heads=True)
STREAM, HEADS = GroupRule(stream=True), GroupRule(heads=True)
LINEAR = GroupRule(linear=True, heads=True)
NAMES = ("ViT", "FusedViT", "NormedViT", "RmsViT", "TorchvisionViT", "Swin", "SwinV2", "Mixer")


def small(name: str) -> nn.Module:
    """A network whose parameters are all noisy, in float64: some are made zero, and norms all alike."""
    torch.manual_seed(0)
    model: nn.Module = getattr(small_transformers, name)()
    draw = generator(0, "noise")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return model.double().eval()


def slimmed_model(name: str, kept: Kept, found: tuple[Group, ...]) -> nn.Module:
    state = ModelState(network=name, classes=5, input_shape=SHAPE, tensors=small(name).state_dict())
    slimmed = surgery.slim(state, kept, found)
    model = small(name)
    set_sizes(model, slimmed.sizes)
    building.fill(model, slimmed.tensors)
    return model


def outputs_and_gradients(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    images = torch.randn(3, *SHAPE, generator=generator(0, "images"), dtype=torch.float64)
    logits = model(images)
    (logits * torch.linspace(-1.0, 1.0, logits.numel(), dtype=logits.dtype).reshape(logits.shape)).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), gradients


def difference_of(name: str, kept: Kept, found: tuple[Group, ...], *, is_norm_masked: bool = True) -> float:
    """How far slimmed and masked logits are apart, over the largest; the kept weights' gradients are equal as well."""
    reference = small(name)
    mask_model(reference, kept, found, is_norm_masked=is_norm_masked)
    expected, expected_gradients = outputs_and_gradients(reference)
    slimmed = slimmed_model(name, kept, found)
    logits, gradients = outputs_and_gradients(slimmed)
    difference = float((logits - expected).abs().max() / expected.abs().max())
    if difference < 1e-9:
        tensors = reference.state_dict() | expected_gradients
        state = ModelState(network=name, classes=5, input_shape=SHAPE, tensors=tensors)
        expected_slimmed = surgery.slim(state, kept, found).tensors
        assert gradients.keys() == expected_gradients.keys()
        for tensor, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected_slimmed[tensor], rtol=1e-7, atol=1e-9, msg=tensor)
    return difference


def drawn(found: tuple[Group, ...], seed: int = 1) -> Kept:
    """About two thirds of each group, unequal in each."""
    draw, kept = generator(seed, "kept"), {}
    for group in found:
        count = int(torch.randint((group.filters + 1) // 2, group.filters, (), generator=draw))
        kept[group.name] = torch.randperm(group.filters, generator=draw)[: max(1, count)].sort().values
    return kept


@pytest.mark.parametrize(
    ("name", "rule"),
    [*((name, ALL) for name in NAMES), *product(("ViT", "Swin", "Mixer"), (STREAM, HEADS, LINEAR))],
    ids=str,
)
def test_masked_equals_slimmed(name: str, rule: GroupRule) -> None:
    found = groups(small(name), SHAPE, rule)
    asked = {"stream": rule.stream, "heads": rule.heads and name != "Mixer", "filters": rule.linear}
    assert {group.kind for group in found} == {kind for kind, is_asked in asked.items() if is_asked}
    kept = drawn(found)
    assert difference_of(name, kept, found) < 1e-9
    original, _ = outputs_and_gradients(small(name))
    for group in found:
        alone = {group.name: kept[group.name]}
        logits, _ = outputs_and_gradients(slimmed_model(name, alone, found))
        assert (logits - original).abs().max() > 1e-3 * original.abs().max(), f"{group.name} changes nothing"


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_a_channel_of_zeros_under_an_ordinary_norm_is_not_a_channel_that_is_gone(name: str) -> None:
    found = groups(small(name), SHAPE, STREAM)
    assert difference_of(name, drawn(found), found, is_norm_masked=False) > 1e-3


def rotated(group: Group) -> Group:
    """What the next head has in place of each head's, in what reads the heads; the rest as it is."""
    reader = group.name.removesuffix(HEADS_SUFFIX) + ".weight"
    slices = (replace(s, indices=s.indices.roll(1, 0)) if s.tensor == reader else s for s in group.slices)
    return replace(group, slices=tuple(slices))


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_rotated_heads_are_seen(name: str) -> None:
    found = groups(small(name), SHAPE, HEADS)
    kept = {group.name: torch.tensor([0, 2]) for group in found}
    assert difference_of(name, kept, found) < 1e-9
    assert difference_of(name, kept, tuple(map(rotated, found))) > 1e-3


@pytest.mark.parametrize(
    ("name", "rule", "layer", "reason"),
    [
        ("HardCodedViT", ALL, "blocks.0.attn.proj:heads", "no number of heads is an attribute of its module"),
        ("FixedWidthViT", ALL, "patches", "does not run with fewer"),
        ("FixedWidthViT", ALL, "blocks.0.attn.proj:heads", "does not run with fewer"),
        ("ViT", HEADS, "patches", "pruning.stream"),
        ("ViT", STREAM, "blocks.0.attn.proj:heads", "pruning.heads"),
        ("ViT", HEADS, "blocks.0.up", "it is a linear layer"),
        ("ViT", ALL, "head", "the network's output"),
    ],
)
def test_a_refusal_says_why(name: str, rule: GroupRule, layer: str, reason: str) -> None:
    assert reason in refusals(small(name), SHAPE, rule)[layer]


def test_what_belongs_to_a_head() -> None:
    group = next(g for g in groups(small("Swin"), SHAPE, HEADS) if g.name == "features.1.1.attn.proj:heads")
    parts = {(part.tensor.removeprefix("features.1.1.attn."), part.dim): part.indices for part in group.slices}
    rows = [[place + 4 * head + d for place in (0, 12, 24) for d in range(4)] for head in range(3)]
    assert parts.pop(("qkv.weight", 0)).tolist() == parts.pop(("qkv.bias", 0)).tolist() == rows
    assert parts.pop(("proj.weight", 1)).tolist() == [[4 * head + d for d in range(4)] for head in range(3)]
    assert parts.pop(("relative_position_bias_table", 1)).tolist() == [[0], [1], [2]]
    assert not parts


def test_the_stream_is_as_wide_as_all_that_writes_and_reads_it() -> None:
    (group,) = groups(small("ViT"), SHAPE, STREAM)
    model, own = small("ViT"), [[channel] for channel in range(12)]
    assert all(part.indices.tolist() == own for part in group.slices)
    widths = {(name, dim) for name, p in model.named_parameters() for dim, n in enumerate(p.shape) if n == 12}
    not_of_it = {(f"blocks.{n}.attn.proj.weight", 1) for n in range(2)}  # the heads are as wide together
    assert {(part.tensor, part.dim) for part in group.slices} == widths - not_of_it
    members = [f"blocks.{n}.{layer}" for n in range(2) for layer in ("attn.proj", "down")]
    assert [member.layer for member in group.members] == ["patches", *members]


def test_slimming_twice_is_slimming_once() -> None:
    found = groups(small("TorchvisionViT"), SHAPE, ALL)
    first = {g.name: torch.arange(g.filters - 1) for g in found}
    state = ModelState(network="", classes=5, input_shape=SHAPE, tensors=small("TorchvisionViT").state_dict())
    once = surgery.slim(state, first, found)
    model = slimmed_model("TorchvisionViT", first, found)
    again = groups(model, SHAPE, ALL)
    assert [(g.name, g.filters) for g in again] == [(g.name, g.filters - 1) for g in found]
    second = {g.name: torch.arange(1, g.filters) for g in again}
    twice = surgery.slim(once, second, again)
    at_once = surgery.slim(state, {g.name: torch.arange(1, g.filters - 1) for g in found}, found)
    assert twice.sizes == at_once.sizes
    assert twice.kept is not None and at_once.kept is not None
    assert {n: k.tolist() for n, k in twice.kept.items()} == {n: k.tolist() for n, k in at_once.kept.items()}
    assert all(torch.equal(tensor, at_once.tensors[name]) for name, tensor in twice.tensors.items())


@pytest.mark.parametrize("name", ["TorchvisionViT", "Swin", "SwinV2"])
def test_factors_act_in_attention_that_does_not_call_its_projection(name: str) -> None:
    """A model as it is built: the projection's weight is used without calling it until factors are attached."""
    found = groups(small(name), SHAPE, ALL)
    model = small(name)
    before, _ = outputs_and_gradients(model)
    ones = {m.layer: torch.ones(g.filters, dtype=torch.float64) for g in found for m in g.members}
    parameters = attach(model, ones, trainable=True)
    after, _ = outputs_and_gradients(model)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    for site, parameter in zip(ones, parameters, strict=True):
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-6, site


WHOLE, ALIKE = GroupRule(conv_groups="whole"), GroupRule(conv_groups="alike")


@pytest.mark.parametrize("rule", [WHOLE, ALIKE], ids=["whole", "alike"])
def test_groups_of_convolutions_masked_equals_slimmed(rule: GroupRule) -> None:
    found = groups(small("Grouped"), SHAPE, rule)
    expected = [("first:groups", 3)] if rule is WHOLE else [(f"{n}:groups", 8 if n == "grouped" else 4) for n in CHAIN]
    assert [(g.name, g.filters) for g in found if g.kind == "conv_groups"] == expected
    assert {g.name for g in found if g.kind == "filters"} == {"squeeze", "last"}
    kept = drawn(found)
    assert difference_of("Grouped", kept, found) < 1e-9
    original, _ = outputs_and_gradients(small("Grouped"))
    for group in found:
        logits, _ = outputs_and_gradients(slimmed_model("Grouped", {group.name: kept[group.name]}, found))
        assert (logits - original).abs().max() > 1e-3 * original.abs().max(), f"{group.name} changes nothing"
    without = {g.name for g in groups(small("Grouped"), SHAPE, GroupRule())}
    assert without == {"squeeze", "last"}


CHAIN = ("first", "grouped", "again")


def test_whole_groups_are_fewer_and_alike_ones_are_narrower() -> None:
    for rule, groups_left, width in ((WHOLE, 2, 4), (ALIKE, 3, 3)):
        found = [g for g in groups(small("Grouped"), SHAPE, rule) if g.kind == "conv_groups"]
        kept = {g.name: torch.arange(1, g.filters) for g in found}
        layer = slimmed_model("Grouped", kept, tuple(found)).get_submodule("grouped")
        assert isinstance(layer, nn.Conv2d)
        assert (layer.groups, layer.weight.shape[1]) == (groups_left, width)
        assert (layer.in_channels, layer.out_channels) == (groups_left * width, layer.weight.shape[0])
