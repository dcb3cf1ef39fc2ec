"""Factors at the outputs of filters: attached to a module, and folded into its weights."""

from collections.abc import Iterable
from functools import partial

from torch import Tensor, nn

from tailor.common.torch_private import NormBase

HEADS = ":heads"  # behind a site's name: its factors multiply the heads that the layer reads, and not its outputs
GROUPS = ":groups"  # the same of groups of a convolution, which have scores and no factors
FACTOR = "factor"
HEAD_FACTOR = "head_factor"
FACTORS = (FACTOR, HEAD_FACTOR)  # names of what `attach` adds to modules
OF_SWIN = ("torchvision.models.swin_transformer",)
NORMS = (NormBase, nn.LayerNorm, nn.GroupNorm)
FILTERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def attach(model: nn.Module, factors: dict[str, Tensor], *, trainable: bool = False) -> list[nn.Parameter]:
    """Multiply the output of each site by its factors (filters,), from now on.

    A norm that applies its activation itself (timm's `BatchNormAct2d`) is multiplied before the activation, like the
    output of all other norms.

    Args:
        model: changed in place: each site gets a `factor` and a hook that multiplies.
        factors: site name -> one factor per output channel.
        trainable: whether the factors are parameters (alpha) or frozen buffers (beta).

    Returns:
        The trainable parameters, in the order of `factors`; empty for frozen ones.
    """
    _replace_uncalled_attention(model, factors)
    parameters = []
    for site, values in factors.items():
        module = model.get_submodule(site.removesuffix(HEADS))
        is_of_heads = site.endswith(HEADS)
        name = HEAD_FACTOR if is_of_heads else FACTOR
        if trainable:
            parameter = nn.Parameter(values.clone())
            module.register_parameter(name, parameter)
            parameters.append(parameter)
        else:
            module.register_buffer(name, values.clone())
        if is_of_heads:
            module.register_forward_pre_hook(_multiply_heads)
        else:
            _multiply_at(module)
    return parameters


def _replace_uncalled_attention(model: nn.Module, sites: Iterable[str]) -> None:
    """Replace attention that reads the weights of a site without calling the site, so that hooks there act."""
    owners = [model.get_submodule(site.removesuffix(HEADS).rpartition(".")[0]) for site in sites]
    if any(isinstance(owner, nn.MultiheadAttention) or type(owner).__module__ in OF_SWIN for owner in owners):
        from tailor.networks.attention import replace_attention  # imports torchvision, which takes a second

        replace_attention(model)


def _multiply_heads(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (heads,) = inputs
    factor = module.head_factor
    assert isinstance(factor, Tensor)
    return (heads * factor.repeat_interleave(heads.shape[-1] // len(factor)),)


def _multiply_at(module: nn.Module) -> None:
    inner = None  # the part of a norm that gets the norm's result
    if isinstance(module, NORMS):
        inner = next(module.children(), None)
    if inner is None:
        module.register_forward_hook(_multiply)
    else:
        inner.register_forward_pre_hook(partial(_multiply_inside, module))  # a copied model has its own factors


def _multiply(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    factor = module.factor  # a parameter or a buffer
    assert isinstance(factor, Tensor)
    shape = [1] * output.dim()
    shape[_channels_dim(module, output)] = -1
    return output * factor.reshape(shape)


def _channels_dim(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return -1
    has_channels_first = output.dim() > 3 or isinstance(module, nn.Conv1d | NormBase | nn.GroupNorm)
    return 1 if has_channels_first else -1  # tokens have them last


def _multiply_inside(norm: nn.Module, _inner: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return _multiply(norm, inputs, inputs[0])


def carries(model: nn.Module, site: str) -> bool:
    """Whether factors at this site can be multiplied into weights.

    Not after an activation, nor after a user's own layer, whose output may be anything.

    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    >>> carries(model, "0"), carries(model, "1")
    (True, False)
    """
    module = model.get_submodule(site.removesuffix(HEADS))
    is_known = type(module).__module__.startswith(("torch.nn.", "timm.layers."))
    return is_known and isinstance(module, (*FILTERS, *NORMS)) and module.weight is not None


def fold_into(tensors: dict[str, Tensor], factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in which each site's weight and bias are multiplied along their filters: f (W x + b) = (fW) x + fb.

    This is true for a convolution and for the affine part of a norm. Factors of heads are multiplied into the columns
    of the layer that reads them: W (f h) = (W f) h.
    """
    folded = dict(tensors)
    for site, values in factors.items():
        reader = f"{site.removesuffix(HEADS)}.weight"
        if site.endswith(HEADS) and reader in folded:
            width = folded[reader].shape[1] // len(values)  # of a head
            folded[reader] = folded[reader] * values.repeat_interleave(width)
        for name in (f"{site}.weight", f"{site}.bias"):
            if name in folded:
                tensor = folded[name]
                folded[name] = tensor * values.reshape(-1, *[1] * (tensor.dim() - 1))
    return folded
