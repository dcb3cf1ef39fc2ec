"""What a trial's network can lose, so that an impossible budget is refused before training. Without torch."""

import json
from functools import lru_cache

from tailor.catalogue.analysis import rules_of
from tailor.catalogue.feasibility_table import TABLE_CLASSES, Prunable, macs_left, table
from tailor.catalogue.networks import NETWORKS, is_of_family
from tailor.config.trial import TrialConfig
from tailor.stages import GroupRule


def most_removable(config: TrialConfig) -> float:
    """An upper bound of the fraction of the original MACs that the trial's network can lose, in [0, 1].

    Every group keeps `pruning.minimum_filters_fraction`; rounding to whole filters is ignored. 1.0 if little is known:
    for a user's network, and for one with windows (Swin) at another size of images than the table's.

    >>> config = TrialConfig(method="prune", network="digits_resnet")
    >>> 0.2 < most_removable(config) < 1.0
    True
    """
    name, data, kept = config.network, config.data, config.pruning.minimum_filters_fraction
    info = NETWORKS[name]
    known = _find_prunable(config)
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


def _find_prunable(config: TrialConfig) -> Prunable | None:
    """What the trial's network can lose under its rule; None if it is not known."""
    rule, rules = config.pruning.rule, _rules(config.network)
    if rule.exclude or (rules is None and rule.is_whole):
        return _analyse(config.network, rule)[0]
    return None if rules is None else rules.get(rule.name)


@lru_cache
def _analyse(network: str, rule: GroupRule) -> tuple[Prunable, frozenset[str]]:
    """What can go of a user's network, or without some modules, and the kinds that there are: once per process."""
    from tailor.pruning.feasibility_count import prunable

    return prunable(network, rule)


@lru_cache
def _rules(network: str) -> dict[str, Prunable] | None:
    """What a network can lose under each rule; None if it is not known."""
    return rules_of(network) if is_of_family(network) else table().get(network)


def refuse_impossible(config: TrialConfig, removed_macs_fraction: float) -> None:
    """Raise ValueError if the trial's network cannot lose this fraction; for a method's `check`."""
    refuse_missing_kinds(config)
    most = most_removable(config)
    if removed_macs_fraction > most:
        pruning = config.pruning
        raise ValueError(
            f"{removed_macs_fraction:g} of the MACs is more than {config.network} can lose, which is {most:.3f} with "
            f"pruning.residual = {pruning.residual!r}, pruning.linear = {str(pruning.linear).lower()}"
            + "".join(f", pruning.{kind} = {json.dumps(value)}" for kind, value in pruning.rule.wholes.items())
            + f" and pruning.minimum_filters_fraction = {pruning.minimum_filters_fraction:g}; choose a smaller budget, "
            "or change one of these settings"
        )


def refuse_missing_kinds(config: TrialConfig) -> None:
    """Raise ValueError if the settings prune heads or a stream and the trial's network has none that can go."""
    rule, rules = config.pruning.rule, _rules(config.network)
    for kind, value in rule.wholes.items():
        if rules is None or rule.exclude:
            has = kind in _analyse(config.network, rule)[1]
        else:
            has = GroupRule(**{kind: value}).name in rules  # type: ignore[arg-type]
        if not has:
            raise ValueError(
                f"pruning.{kind} = {str(value).lower()}, and {config.network} has no {kind} that can go; "
                f"leave pruning.{kind} out, or choose "
                + ("resnext50_32x4d" if kind == "conv_groups" else "a transformer such as vit_b_16 or swin_t")
            )


def is_prunable(config: TrialConfig) -> bool:
    """Whether the trial's network can lose a filter; True if it is not known.

    The groups of filters are the same for images of any size.
    """
    known = _find_prunable(config)
    return known is None or any(c1 or c2 for *_, c1, c2 in known.parts)


def refuse_unprunable(config: TrialConfig) -> None:
    """Raise ValueError if the trial's network can lose no filter under its rule of groups; for a method's `check`."""
    if not is_prunable(config):
        pruning = config.pruning
        raise ValueError(
            f"no layer of {config.network} can lose filters with pruning.residual = {pruning.residual!r} and "
            f"pruning.linear = {str(pruning.linear).lower()}; set pruning.linear = true or residual = 'coupled'"
        )


def refuse_without_norms(config: TrialConfig, what: str) -> None:
    """Raise ValueError unless each layer that can lose filters has a norm after it; for the `check` of a method.

    Args:
        what: the part that reads the norms' factors, such as "method 'gbn'".
    """
    if not NETWORKS[config.network].has_norm:
        raise ValueError(f"{what} reads BatchNorm's factors, and {config.network} has no norm")
    known = _find_prunable(config)
    if known is not None and known.without_norm:
        raise ValueError(
            f"{what} reads the factor of the norm behind each layer, and {known.without_norm} of {config.network}, "
            "which can lose filters, has none; choose another, or pruning.linear = false if the layer is linear"
        )


def refuse_without_activations(config: TrialConfig) -> None:
    """Raise ValueError unless each layer that can lose filters has its own activation; for a method's `check`."""
    known = _find_prunable(config)
    if known is not None and known.without_activation:
        raise ValueError(
            f"placement = 'after_activation': {known.without_activation} of {config.network}, which can lose filters, "
            "has no activation module of its own that a factor can follow; choose placement = 'after_norm', or other "
            "layers with pruning.residual and pruning.linear"
        )
