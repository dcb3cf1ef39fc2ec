"""What a network can lose, known without torch: what is impossible is refused before anything is trained."""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tailor.catalog import NETWORKS

if TYPE_CHECKING:
    from tailor.config import TrialConfig

TABLE_FILE = Path(__file__).parent / "possible.json"  # made by `python -m tailor.possible_table`
TABLE_CLASSES = 5  # outputs of the networks' heads in the table

Part = tuple[int, int, int, int, int]
"""Layers with the same grid, as stride, offset, c0, c1, c2. Along a side of n pixels they are applied at
floor((n + offset) / stride) places; a stride of 0 stands for one place, whatever the size. At each place
c0 + c1 k + c2 k^2 MACs are left when each group keeps the fraction k of its filters."""


@dataclass(frozen=True)
class Prunable:
    """What can go of a network under one rule of groups."""

    parts: tuple[Part, ...]  # what is left as groups shrink; of strides 0 alone: for the table's size of images
    without_norm: str  # the first layer that can lose filters and has no norm with factors behind it; "": all have one
    without_activation: str  # the same for an activation module of its own, at whose output a factor can sit


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, Prunable]]:
    """Network -> name of a rule (see `rule_name`) -> what can go under it."""
    rows = json.loads(TABLE_FILE.read_bytes())
    return {
        network: {rule: Prunable(tuple(map(tuple, parts)), *bare) for rule, (parts, *bare) in rules.items()}
        for network, rules in rows.items()
    }


def rule_name(residual: str, linear: bool) -> str:
    """The name of a rule of groups in the table."""
    return f"{residual} + linear" if linear else residual


def macs_left(parts: tuple[Part, ...], input_shape: tuple[int, ...], kept_fraction: float) -> float:
    """The MACs of one input that are left when each group of filters keeps such a fraction, in [0, 1]."""
    left = 0.0
    for stride, offset, c0, c1, c2 in parts:
        places = math.prod(max(0, side + offset) // stride for side in input_shape[1:] if stride)
        left += places * (c0 + c1 * kept_fraction + c2 * kept_fraction**2)
    return left


def most_removable(config: "TrialConfig") -> float:
    """An upper bound of the fraction of the original MACs that the trial's network can lose, in [0, 1].

    Every group keeps `pruning.minimum_filters_fraction`; that it keeps whole filters is not counted. 1.0 where little
    is known: a user's network; and one with windows (Swin) at another size of images than the table's.
    """
    name, data, kept = config.network, config.data, config.pruning.minimum_filters_fraction
    info = NETWORKS[name]
    known = _known(config)
    if known is None:
        return 1.0
    if not is_prunable(config):
        return 0.0
    if data.input_shape != info.input_shape and not any(stride for stride, *_ in known.parts):
        return 1.0
    features = info.head_params_count // TABLE_CLASSES  # or one more, where the head has a bias
    heads_difference = (data.info.target_classes - TABLE_CLASSES) * features
    left = macs_left(known.parts, data.input_shape, kept) + min(0, heads_difference)
    return 1.0 - max(0.0, left) / (macs_left(known.parts, data.input_shape, 1.0) + heads_difference)


def _known(config: "TrialConfig") -> Prunable | None:
    """What can go of the trial's network under its rule; None: nothing is known."""
    rules = _rules(config.network)
    return None if rules is None else rules[rule_name(config.pruning.residual, config.pruning.linear)]


@lru_cache
def _rules(network: str) -> dict[str, Prunable] | None:
    """What is known of a network; None: nothing."""
    if network.startswith("timm/"):  # whose facts need torch in any case
        from tailor.possible_table import rules

        return rules(network)
    return table().get(network)


def refuse_impossible(config: "TrialConfig", removed_macs_fraction: float) -> None:
    """Do nothing if the trial's network may be able to lose so much; for a method's `check`.

    Raises:
        ValueError: it cannot.
    """
    most = most_removable(config)
    if removed_macs_fraction > most:
        pruning = config.pruning
        raise ValueError(
            f"{removed_macs_fraction:g} of the MACs is more than {config.network} can lose, which is {most:.3f} with "
            f"pruning.residual = {pruning.residual!r}, pruning.linear = {str(pruning.linear).lower()} and "
            f"pruning.minimum_filters_fraction = {pruning.minimum_filters_fraction:g}; choose a smaller budget, or let "
            "more filters go with one of these"
        )


def is_prunable(config: "TrialConfig") -> bool:
    """Whether some filter of the trial's network may go; true where nothing is known of it.

    Which groups of filters there are is the same for images of any size.
    """
    known = _known(config)
    return known is None or any(c1 or c2 for *_, c1, c2 in known.parts)


def refuse_unprunable(config: "TrialConfig") -> None:
    """Do nothing if some filter of the trial's network may go; for a method's `check`.

    Raises:
        ValueError: none can, under the trial's rule of groups.
    """
    if not is_prunable(config):
        pruning = config.pruning
        raise ValueError(
            f"no layer of {config.network} can lose filters with pruning.residual = {pruning.residual!r} and "
            f"pruning.linear = {str(pruning.linear).lower()}; set pruning.linear = true or residual = 'coupled'"
        )


def refuse_without_norms(config: "TrialConfig", what: str) -> None:
    """Do nothing if each layer that can lose filters has a norm behind it; for the `check` of a method.

    Args:
        what: reads the norms' factors, as "method 'gbn'".

    Raises:
        ValueError: the network has no norm at all, or such a layer has none.
    """
    if not NETWORKS[config.network].has_norm:
        raise ValueError(f"{what} reads BatchNorm's factors, and {config.network} has no norm")
    known = _known(config)
    if known is not None and known.without_norm:
        raise ValueError(
            f"{what} reads the factor of the norm behind each layer, and {known.without_norm} of {config.network}, "
            "which can lose filters, has none; choose another, or pruning.linear = false if the layer is linear"
        )


def refuse_without_activations(config: "TrialConfig") -> None:
    """Do nothing if a factor can sit behind the activation of each layer that can lose filters; for a method's `check`.

    Raises:
        ValueError: such a layer has no activation module of its own.
    """
    known = _known(config)
    if known is not None and known.without_activation:
        raise ValueError(
            f"placement = 'after_activation': behind {known.without_activation} of {config.network}, which can lose "
            "filters, there is no activation module of its own that a factor can follow; choose placement = "
            "'after_norm', or other layers with pruning.residual and pruning.linear"
        )
