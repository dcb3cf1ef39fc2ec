"""A call of small networks with every kind of layer: each result is right, or refused for the true reason.

Right: the pruned network computes what the whole one computes with zeros in place of what was removed, it can be
trained, and its cost is that of torch's own counter.
"""

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import tailor
from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.networks.building import copied
from tailor.pruning.group_records import Group
from tailor.pruning.groups import groups
from tailor.pruning.surgery import Kept
from tailor.stages import GroupRule
from tailor.user_module.pruned import PrunedNetwork
from tests.tailor.user_module.layer_networks import CASES
from tests.tailor.user_module.layer_parts import WIDTH
from tools.masked_reference import mask_model

SHAPE = (1, 8, 8)
RULE = GroupRule(residual="coupled", linear=True)
QUICK = ("PReLU of each channel", "InstanceNorm2d", "scale", "weight_norm", "auxiliary output", "counts its filters",
         "layers in a list")  # fmt: skip
ALL = [pytest.param(name, marks=() if name in QUICK else pytest.mark.check) for name in CASES]


def example(count: int = 3) -> Tensor:
    return torch.randn(count, *SHAPE, generator=generator(0, "images"))


def outputs_of(model: nn.Module) -> Tensor:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        made: Tensor = copied(model).eval()(example())
    return made


def counted_macs(model: nn.Module) -> int:
    """By torch's own counter, attention as its two products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        copied(model).eval()(example(1))
    return counter.get_total_flops() // 2


def masked(model: nn.Module, kept: Kept, found: tuple[Group, ...]) -> nn.Module:
    reference = copied(model)
    mask_model(reference, kept, found)
    return reference


def assert_same(model: nn.Module, reference: nn.Module) -> None:
    torch.testing.assert_close(outputs_of(model), outputs_of(reference), rtol=1e-4, atol=1e-5)


def assert_trains(model: nn.Module) -> None:
    """It runs forward and backward in training mode."""
    outputs = copied(model).train()(example())
    sum(part.square().mean() for part in (outputs if isinstance(outputs, tuple) else [outputs])).backward()


@pytest.mark.parametrize("name", ALL)
def test_a_call(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    model = case.make()
    if case.refused:
        with pytest.raises(ConfigError, match=case.refused):
            tailor.prune(model, torch.zeros(2, *SHAPE), criterion="l2", asked_removed_macs_fraction=case.removes)
        return
    made = tailor.prune(model, torch.zeros(2, *SHAPE), criterion="l2", asked_removed_macs_fraction=case.removes)
    assert " ".join(group.layers[0] for group in made.groups if group.reason is None) == case.prunes
    reasons = {group.layers[0]: group.reason for group in made.groups if group.reason is not None}
    assert {layer for layer, words in case.why.items() if words not in reasons[layer]} == set(), reasons
    assert_every_layer_is_listed(model, made)
    found = groups(copied(model), SHAPE, RULE)
    fates = [group for group in made.groups if group.reason is None]
    kept = {group.name: torch.tensor(fate.kept) for group, fate in zip(found, fates, strict=True)}
    assert any(len(fate.kept) < fate.filters for fate in fates)
    assert_same(made.model, masked(model, kept, found))
    assert made.macs == counted_macs(made.model) + case.uncounted_macs
    assert made.original_macs == counted_macs(model) + case.uncounted_macs
    assert_trains(made.model)


def assert_every_layer_is_listed(model: nn.Module, made: PrunedNetwork) -> None:
    """Each module with a matrix of weights of its own, or of what its weight is computed from."""
    listed = {layer for group in made.groups for layer in group.layers}
    sizes = {name: sum(size > 1 for size in parameter.shape) for name, parameter in model.named_parameters()}
    matrices = [name for name, dims in sizes.items() if dims > 1 and ("weight" in name or "parametrizations" in name)]
    layers = {name.partition(".parametrizations.")[0] for name in matrices if ".parametrizations." in name}
    layers |= {name.rpartition(".")[0] for name in matrices if ".parametrizations." not in name}
    assert layers <= listed


@pytest.mark.parametrize("name", ["InstanceNorm2d", "GroupNorm of each channel without factors", "scale"])
def test_what_was_saved_is_loaded(name: str, tmp_path: Path) -> None:
    model = CASES[name].make()
    made = tailor.prune(model, example(), criterion="l2", asked_removed_macs_fraction=0.2)
    made.save(tmp_path)
    assert torch.equal(outputs_of(tailor.load(tmp_path, model=model)), outputs_of(made.model))
    norms = [module for module in made.model.modules() if isinstance(module, nn.InstanceNorm2d)]
    assert all(norm.num_features < WIDTH for norm in norms)


@pytest.mark.check
def test_every_layer_class_of_torch_with_weights_is_in_a_network() -> None:
    used = {type(module) for case in CASES.values() for module in case.make().modules()}
    kinds = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    with_weights = {kind for kind in kinds if any("Parameter(" in inspect.getsource(k) for k in kind.__mro__[:-2])}
    others = {nn.ParameterList, nn.ParameterDict, nn.DataParallel, nn.RNNBase, nn.RNNCellBase}  # no layers, or bases
    others |= {kind for kind in kinds if kind.__name__.startswith("Lazy")}  # others, as soon as they have run once
    assert with_weights - others - used == set()
    assert len(CASES) >= 100
