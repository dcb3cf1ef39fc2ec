"""Networks by name, built at their original widths or at the widths of given tensors."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tailor.catalogue.networks import NETWORKS
from tailor.core.errors import ConfigError
from tailor.core.registry import function_of
from tailor.core.torch_private import BatchNormBase


def build(name: str, classes: int, *, seed: int) -> nn.Module:
    """The network `name` with a last layer of `classes` outputs, initialised from `seed` alone.

    Torch initialises layers from its global generator, which is restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _built(name, classes)


def rebuild(name: str, classes: int, tensors: dict[str, Tensor]) -> nn.Module:
    """The network `name` with copies of these tensors as its state_dict, and with their widths; no random numbers.

    Raises:
        ConfigError: the tensors are not those of this network.
    """
    with torch.random.fork_rng(devices=[]), _WithoutMemory():
        model = _built(name, classes)
    expected = set(model.state_dict())
    if wrong := sorted(expected ^ set(tensors)):
        which = "missing" if wrong[0] in expected else "unknown"
        raise ConfigError(
            f"these tensors do not fit {name}: {wrong[0]!r} is {which} ({len(wrong)} such names); "
            "give the network that they were saved from"
        )
    try:
        fill(model, tensors)
    except (ValueError, IndexError, RuntimeError) as error:  # wrong dimensions, or numbers that cannot be trained
        raise ConfigError(f"these tensors do not fit {name}: {error}") from error
    return model


def fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Replace the tensors of `model` by copies of these, by name, and set the widths of its layers."""
    copied: dict[int, Tensor] = {}  # by the old tensor's id, so that tied weights stay tied
    for name, module in model.named_modules():
        weight = tensors.get(f"{name}.weight")
        if weight is not None:
            _widen(module, weight)
        own = [kind(recurse=False, remove_duplicate=False) for kind in (module.named_parameters, module.named_buffers)]
        for key, old in [pair for pairs in own for pair in pairs]:
            new = tensors.get(f"{name}.{key}" if name else key)
            if new is not None:
                if id(old) not in copied:
                    copy = new.clone()
                    copied[id(old)] = nn.Parameter(copy) if isinstance(old, nn.Parameter) else copy
                setattr(module, key, copied[id(old)])


def _widen(module: nn.Module, weight: Tensor) -> None:
    """Set a layer's numbers of channels to those of its weight."""
    if isinstance(module, nn.Conv2d):
        if module.groups > 1 and module.groups == module.in_channels:  # depthwise
            module.groups = weight.shape[0] * module.in_channels // module.out_channels
        module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, BatchNormBase):
        module.num_features = weight.shape[0]


def skeleton(name: str, classes: int) -> nn.Module:
    """The network `name` without memory for its weights (on torch's device `meta`): only shapes and structure."""
    with torch.random.fork_rng(devices=[]), _WithoutMemory():
        return _built(name, classes).to("meta")


class _WithoutMemory(TorchFunctionMode):
    """Makes layers' weights on `meta`; small tensors from which a network computes its widths stay real."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))


def _built(name: str, classes: int) -> nn.Module:
    model: nn.Module = function_of(NETWORKS[name].builder)(num_classes=classes)
    return model
