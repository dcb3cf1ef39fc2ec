"""Networks by name, built at their original widths or at the widths of given tensors."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tailor.common.errors import ConfigError
from tailor.common.neighbours import unchanged_defaults
from tailor.common.registry import function_of
from tailor.common.torch_private import NormBase
from tailor.facts.networks import NETWORKS
from tailor.networks.sizes import Sizes, set_sizes

RUN_WHILE_BUILT = (F.conv1d, F.conv2d, F.linear, F.batch_norm, F.layer_norm, F.group_norm)
INITIALISING = {"uniform_", "normal_", "erfinv_", "clamp_", "mul_", "add_", "fill_", "zero_"}


def build(name: str, classes: int, *, seed: int) -> nn.Module:
    """The network `name` with a last layer of `classes` outputs, initialised from `seed` alone.

    Torch initialises layers from its global generator, which is restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(name, classes)


def rebuild(name: str, classes: int, tensors: dict[str, Tensor], sizes: Sizes | None = None) -> nn.Module:
    """The network `name` with copies of these tensors as its state_dict, and with their widths; no random numbers.

    Raises:
        ConfigError: the tensors or sizes are not those of this network.
    """
    model = _without_memory(name, classes)
    expected = set(tensors_of(model))
    wrong = sorted((expected - set(tensors)) | (set(tensors) - set(model.state_dict())))
    if wrong:
        which = "missing" if wrong[0] in expected else "unknown"
        raise ConfigError(
            f"these tensors do not fit {name}: {wrong[0]!r} is {which} ({len(wrong)} such names); "
            "give the network that they were saved from"
        )
    set_sizes(model, sizes or {})
    try:
        fill(model, tensors)
    except (ValueError, IndexError, RuntimeError) as error:  # wrong dimensions, or numbers that cannot be trained
        raise ConfigError(f"these tensors do not fit {name}: {error}") from error
    _compute_buffers(model, name, classes, next(iter(tensors.values())).device)
    return model


def _compute_buffers(model: nn.Module, name: str, classes: int, device: torch.device) -> None:
    """Give buffers that no state_dict has, such as the masks of shifted windows, the values of a whole network."""
    without_values: list[tuple[str, str]] = []  # module, name of its buffer
    for path, module in model.named_modules():
        without_values += [(path, key) for key, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
    if not without_values or device.type == "meta":
        return
    whole = build(name, classes, seed=0)
    for path, key in without_values:
        setattr(model.get_submodule(path), key, whole.get_submodule(path).get_buffer(key).to(device))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's state_dict; of a module with several names, only by the first, as `named_modules` has it.

    >>> layer = nn.Linear(2, 3)
    >>> list(tensors_of(nn.ModuleDict({"first": layer, "again": layer})))
    ['first.weight', 'first.bias']
    """
    first_names: set[str] = set()
    for path, module in model.named_modules():
        first_names |= {name for name, _ in module.named_parameters(path, recurse=False, remove_duplicate=False)}
        first_names |= {name for name, _ in module.named_buffers(path, recurse=False, remove_duplicate=False)}
    return {name: tensor for name, tensor in model.state_dict().items() if name in first_names}


def refuse_no_module(model: Any, who: str) -> None:
    """Raise ConfigError unless what a user gave is a module of Python; `who` begins the message: "model is"."""
    kind = type(model).__name__
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule) or kind == "OptimizedModule":
        raise ConfigError(
            f"{who} a {kind}; expected a torch.nn.Module as the class of a network makes it (Net(), not Net), neither "
            "compiled nor scripted; type model._orig_mod for a compiled one, model.load_state_dict(...) for weights, "
            "and .model of what has the network in it"
        )


def refuse_unregistered(model: nn.Module) -> None:
    """Raise ConfigError if layers or weights of the model are in a plain list, tuple or dictionary.

    Torch does not see them there: it trains, moves and saves them no more than this program.

    >>> model = nn.Module()
    >>> model.layers = [nn.Linear(2, 3)]
    >>> refuse_unregistered(model)
    Traceback (most recent call last):
    tailor.common.errors.ConfigError: layers is a list with a Linear, which torch neither trains nor saves; write...
    """
    registered = {id(part) for part in (*model.modules(), *model.parameters())}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if not isinstance(value, list | tuple | dict):
                continue
            parts = value.values() if isinstance(value, dict) else value
            hidden = next((part for part in parts if _has_weights(part) and id(part) not in registered), None)
            if hidden is not None:
                kind = "Parameter" if isinstance(hidden, nn.Parameter) else "Module"
                container = f"{kind}Dict" if isinstance(value, dict) else f"{kind}List"
                raise ConfigError(
                    f"{f'{path}.{name}' if path else name} is a {type(value).__name__} with a {type(hidden).__name__},"
                    f" which torch neither trains nor saves; write torch.nn.{container}(...), or take it out of the"
                    " network"
                )


def _has_weights(part: object) -> bool:
    return isinstance(part, nn.Parameter) or (isinstance(part, nn.Module) and bool(part.state_dict()))


def copied(model: nn.Module, memory: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy, also of a weight that a hook keeps computed (`torch.nn.utils.weight_norm`), which deepcopy refuses.

    Args:
        memory: id of an object -> what takes its place in the copy.
    """
    in_place_of = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):  # an attribute that is no parameter and no buffer
                in_place_of[id(value)] = value.detach().clone()
    return copy.deepcopy(model, in_place_of | (memory or {}))


def fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Replace the tensors of `model` by copies of these, by name, and set the widths of its layers.

    What the model does not train (`requires_grad`) stays so.
    """
    new_of: dict[int, Tensor] = {}  # by the old tensor's id, so that tied weights stay tied
    for path, module in model.named_modules():
        weight = tensors.get(f"{path}.weight", tensors.get(f"{path}.running_mean"))
        if weight is not None:
            _widen(module, weight)
        own = [
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        ]
        for key, old in own:
            name = f"{path}.{key}" if path else key
            if name not in tensors:
                continue
            if id(old) not in new_of:
                new_of[id(old)] = tensors[name].clone()
                if isinstance(old, nn.Parameter):
                    new_of[id(old)] = nn.Parameter(new_of[id(old)], requires_grad=old.requires_grad)
            setattr(module, key, new_of[id(old)])


def _widen(module: nn.Module, weight: Tensor) -> None:
    """Set a layer's numbers of channels to those of its weight."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if module.groups > 1 and module.groups == module.in_channels:  # depthwise
            module.groups = weight.shape[0] * module.in_channels // module.out_channels
        module.out_channels = weight.shape[0]
        module.in_channels = weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, NormBase):
        module.num_features = len(weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(weight)
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and len(module.normalized_shape) == 1:
        module.normalized_shape = tuple(weight.shape)
    elif isinstance(module, nn.GroupNorm) and module.num_groups in (1, module.num_channels):
        module.num_groups = min(module.num_groups, len(weight))
        module.num_channels = len(weight)


def skeleton(name: str, classes: int) -> nn.Module:
    """The network `name` without memory for its weights (on torch's device `meta`): for shapes and structure alone.

    Buffers of integers keep their values, by which networks look up others (the relative positions of attention).
    """
    model = _without_memory(name, classes)
    integers: list[tuple[nn.Module, str, Tensor]] = []  # module, name of its buffer, the buffer
    for module in model.modules():
        for key, buffer in module.named_buffers(recurse=False):
            is_float = buffer.dtype.is_floating_point
            if not is_float and buffer.dim() > 0 and not buffer.is_meta:
                integers.append((module, key, buffer))
    model.to("meta")
    for module, key, buffer in integers:
        setattr(module, key, buffer)
    return model


def _without_memory(name: str, classes: int) -> nn.Module:
    NETWORKS[name]  # finds the facts of a user's network, for which it runs with memory
    with torch.random.fork_rng(devices=[]):
        try:
            with _WithoutMemory(integers="real"):
                return _build(name, classes)
        except NotImplementedError:  # integers that are computed from weights have no values
            with _WithoutMemory(integers="meta"):
                return _build(name, classes)


class _WithoutMemory(TorchFunctionMode):
    """Makes layers' weights on `meta`; small tensors that a network computes its own widths with stay real.

    Where a network runs a part of itself while it is built, its images go to `meta`, as the weights are. Weights there
    have no values to be initialised, which would take half of the time.
    """

    def __init__(self, integers: Literal["real", "meta"]) -> None:
        super().__init__()
        self.integers = integers

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        changed = args[0] if args else kwargs.get("tensor")  # as torch.nn.init calls it
        if getattr(func, "__name__", "") in INITIALISING and isinstance(changed, Tensor) and changed.is_meta:
            return changed
        if func in RUN_WHILE_BUILT and any(isinstance(arg, Tensor) and arg.is_meta for arg in args):
            args = [arg.to("meta") if isinstance(arg, Tensor) else arg for arg in args]
        if func is torch.empty:
            is_float = (kwargs.get("dtype") or torch.float32).is_floating_point
            if is_float or self.integers == "meta":
                kwargs = kwargs | {"device": "meta"}
        return func(*args, **kwargs)


def _build(name: str, classes: int) -> nn.Module:
    with unchanged_defaults(f"the builder of {name}"):
        model: nn.Module = function_of(NETWORKS[name].builder)(num_classes=classes)
    refuse_no_module(model, f"{name}: its builder returns")
    return model
