"""Numbers that modules compute with and that no tensor's shape says: how many heads there are, how wide the stream is.

They are set by name, from a closed list, so that a saved model cannot set anything else.
"""

from collections.abc import Mapping

from torch import nn

from tailor.common.errors import ConfigError

Sizes = Mapping[str, Mapping[str, int]]
"""Name of a module -> its attributes that differ from those that it was made with, or that tell it apart."""

HEAD_COUNTS = ("num_heads", "heads", "bias_shape")
HEAD_WIDTHS = ("attn_dim", "val_attn_dim", "key_attn_dim", "out_dim", "dim_out")  # of all heads together
STREAM_WIDTHS = ("hidden_dim", "embed_dim", "shape")
TUPLE_INDEX = {"bias_shape": -1, "shape": 0}  # of the number, in attributes that are a tuple
GROUP_COUNTS = ("groups",)  # of convolutions
CHANNEL_COUNTS = ("num_features", "num_groups", "num_channels")  # of norms without factors
ALLOWED = (*HEAD_COUNTS, *HEAD_WIDTHS, *STREAM_WIDTHS, *GROUP_COUNTS, *CHANNEL_COUNTS)


def size_of(module: nn.Module | None, attribute: str) -> int | None:
    """The number that a module has by this name; None if it has none, or another kind of value."""
    value = getattr(module, attribute, None)
    if attribute in TUPLE_INDEX:
        value = value[TUPLE_INDEX[attribute]] if isinstance(value, tuple) and value else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def set_size(module: nn.Module, attribute: str, size: int) -> None:
    """Set the number that a module has by this name; in an attribute that is a tuple, its other numbers stay.

    >>> norm = nn.BatchNorm2d(8)
    >>> set_size(norm, "num_features", 5)
    >>> norm.num_features
    5
    """
    if attribute not in TUPLE_INDEX:
        setattr(module, attribute, size)
        return
    numbers = list(getattr(module, attribute))
    numbers[TUPLE_INDEX[attribute]] = size
    setattr(module, attribute, tuple(numbers))


def set_sizes(model: nn.Module, sizes: Sizes) -> None:
    """Set these sizes in a model as it is made, and replace attention that would not run with them.

    Raises:
        ConfigError: the model has no such module or attribute, or it cannot have this size.
    """
    if any(set(attributes) - set(CHANNEL_COUNTS) for attributes in sizes.values()):
        from tailor.networks.attention import replace_attention  # imports torchvision, which takes a second

        replace_attention(model)
    modules = dict(model.named_modules())
    for name, attributes in sizes.items():
        for attribute, size in attributes.items():
            original = size_of(modules.get(name), attribute) if attribute in ALLOWED else None
            if original is None or not 1 <= size <= original:
                raise ConfigError(
                    f"sizes: {name or 'the network'} has no {attribute} that can be {size}; expected is one of "
                    f"{', '.join(ALLOWED)}, from 1 to the number that the network is made with ({original}); save "
                    "the model again with the same version of this program"
                )
            set_size(modules[name], attribute, size)
