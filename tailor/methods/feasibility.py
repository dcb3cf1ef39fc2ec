"""What a trial's network can lose, so that an impossible budget is refused before training. Without torch."""

import json

from tailor.common.plugin_digests import digest_of
from tailor.config.needs import find_prunable
from tailor.config.trial import TrialConfig
from tailor.facts.networks import NETWORKS

ROUNDING = 1e-9  # of a share of the MACs


def most_removable(config: TrialConfig) -> float:
    """The fraction of the original MACs that the trial's network can lose, in [0, 1].

    Every group keeps `pruning.minimum_filters_fraction`, at a width that `pruning.width_multiple` allows. 1.0 if
    that is not known, of a user's network.

    >>> config = TrialConfig(method="prune", network="digits_resnet")
    >>> 0.2 < most_removable(config) < 1.0
    True
    """
    data = config.data
    pruning = config.pruning
    prunable = find_prunable(config)
    if prunable is None:
        return 1.0
    if not prunable.widths:
        return 0.0
    kept_fractions = []
    for filters, filters_each in prunable.widths:
        fewest = pruning.widths.fewest(filters, filters_each, pruning.minimum_filters_fraction)
        kept_fractions.append(fewest / filters)
    classes = data.info.target_classes
    least = prunable.macs_left(classes, kept_fractions)
    original = prunable.macs_left(classes, [1.0] * len(prunable.widths))
    return 1.0 - least / original


def refuse_impossible(config: TrialConfig, asked_removed_macs_fraction: float) -> None:
    """Raise ValueError if the trial's network cannot lose this fraction; for a method's `check`."""
    refuse_missing_kinds(config)
    if config.latency_table is not None:  # its milliseconds are the budget, and the one in MACs is not read
        return
    most = most_removable(config)
    if asked_removed_macs_fraction > most + ROUNDING:
        pruning = config.pruning
        settings = f"pruning.residual = {pruning.residual!r}, pruning.linear = {str(pruning.linear).lower()}"
        for kind, value in pruning.rule.wholes.items():
            settings += f", pruning.{kind} = {json.dumps(value)}"
        if pruning.width_multiple != 1:
            settings += f", pruning.width_multiple = {pruning.width_multiple}"
        settings += f" and pruning.minimum_filters_fraction = {pruning.minimum_filters_fraction:g}"
        raise ValueError(
            f"{asked_removed_macs_fraction:g} of the MACs is more than {config.network} can lose, which is "
            f"{most:.3f} with {settings}; {_choices(config, most)}"
        )


def _choices(config: TrialConfig, most: float) -> str:
    """What to do where a network can lose `most` of its MACs, which is not enough."""
    choices = "choose a smaller budget, or change one of these settings"
    if most <= ROUNDING:
        choices = "change one of these settings, or choose method 'fine_tune' or 'head_only', which remove none"
    if digest_of(NETWORKS, config.network) is None:
        return choices
    from tailor.pruning.feasibility_count import layers_kept_by_code

    by_code = layers_kept_by_code(config.network, config.pruning.rule)
    return f"{by_code}; or {choices}" if by_code else choices


def refuse_missing_kinds(config: TrialConfig) -> None:
    """Raise ValueError if the settings prune heads, a stream or groups of convolutions and the network has none."""
    rule = config.pruning.rule
    prunable = find_prunable(config)
    for kind, value in rule.wholes.items():
        if prunable is not None and kind not in prunable.kinds:
            other = "resnext50_32x4d" if kind == "conv_groups" else "a transformer such as vit_b_16 or swin_t"
            raise ValueError(
                f"pruning.{kind} = {str(value).lower()}, and {config.network} has no {kind} that can go; "
                f"leave pruning.{kind} out, or choose {other}"
            )
