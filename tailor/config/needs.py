"""What methods, criteria and regularisers need of a trial, refused in one place. Without torch."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from tailor.common.registry import function_of
from tailor.facts.asked import ask
from tailor.facts.networks import is_asked
from tailor.facts.prunable import Prunable
from tailor.stages import GroupRule

NEVER_NEGATIVE = ("ReLU", "ReLU6", "none")  # none: no activation modules, so a ReLU is applied instead


class Requirement(NamedTuple):
    """One word of `needs`."""

    lacks: Callable[[Any], str]
    """What in a `TrialConfig` stands against it; empty if it is met."""
    needed: str
    advice: str


def _without(text: str, is_met: Callable[[Any], bool]) -> Callable[[Any], str]:
    return lambda c: "" if is_met(c) else text.format(network=c.network, data=c.data.name)


def _without_norm(config: Any) -> str:
    if not config.network_info.has_norm:
        return f"{config.network} has no norm"
    prunable = find_prunable(config)
    return f"{prunable.without_norm} of {config.network} has none" if prunable and prunable.without_norm else ""


def _without_activation(config: Any) -> str:
    prunable = find_prunable(config)
    layer = prunable.without_activation if prunable else ""
    return f"{layer} of {config.network}, which can lose filters, has no activation module of its own" if layer else ""


def _unprunable(config: Any) -> str:
    prunable, pruning = find_prunable(config), config.pruning
    if prunable is None or prunable.widths:
        return ""
    settings = f"pruning.residual = {pruning.residual!r} and pruning.linear = {str(pruning.linear).lower()}"
    return f"no layer of {config.network} can lose filters with {settings}"


def _negative_activation(config: Any) -> str:
    activation = config.network_info.activation
    return "" if activation in NEVER_NEGATIVE else f"{config.network} has {activation}"


NEEDS = {
    "norm": Requirement(
        _without_norm,
        "BatchNorm's or another norm's factor behind each layer that can lose filters",
        "choose another, or pruning.linear = false if the layer is linear",
    ),
    "some_norm": Requirement(
        _without("{network} has no norm", lambda c: c.network_info.has_norm), "factors of norms", "leave it out"
    ),
    "trained_norms": Requirement(
        _without("optimisation.norm = 'frozen' keeps them", lambda c: c.optimisation.norm != "frozen"),
        "factors of norms that are trained",
        "leave one of them out",
    ),
    "relu": Requirement(
        _negative_activation,
        "activations from 0 on, as behind a ReLU",
        "choose criterion or statistic = 'mean_absolute_activation'",
    ),
    "activation": Requirement(
        _without_activation,
        "an activation behind each layer, which a factor can follow",
        "choose placement = 'after_norm', or other layers with pruning.residual and pruning.linear",
    ),
    "feature_maps": Requirement(
        _without("{network} has none", lambda c: len(c.network_info.input_shape) > 1),
        "feature maps of convolutions",
        "leave it out",
    ),
    "prunable": Requirement(_unprunable, "filters that can go", "set pruning.linear = true or residual = 'coupled'"),
    "filters": Requirement(
        _without("the trial prunes more than filters", lambda c: not c.pruning.rule.is_whole),
        "filters that are pruned alone",
        "leave out pruning.heads, pruning.stream and pruning.conv_groups, or choose method 'transtailor' or 'prune' by "
        "another criterion, such as 'taylor' or 'l1'",
    ),
    "no_conv_groups": Requirement(
        _without("groups of convolutions have none", lambda c: c.pruning.conv_groups == "none"),
        "factors of filters and heads",
        "leave out pruning.conv_groups, or choose method 'prune' by criterion 'l1', 'l2' or 'fpgm'",
    ),
    "source_task": Requirement(
        _without("{data} has no source task", lambda c: c.data.info.source_images > 0),
        "a source task to train on",
        "choose data with one, or another method",
    ),
    "source_training": Requirement(
        _without("source.weights only fits the whole network", lambda c: c.source.weights is None),
        "a narrower network that is trained on the source task",
        "leave source.weights out, or compare with fine_tune of a smaller network",
    ),
    "whole_batches": Requirement(
        _without("accumulation_steps divides it", lambda c: c.optimisation.accumulation_steps == 1),
        "the whole batch at once",
        "leave one of them out",
    ),
    "last_weights": Requirement(
        _without("in an average of the weights no filter is zero", lambda c: c.optimisation.ema_decay is None),
        "the weights of the last epoch, which zeroed the filters that go",
        "leave ema_decay out",
    ),
    "pretrained_start": Requirement(
        _without(
            "weights = 'reinitialised' trains from scratch",
            lambda c: getattr(c.method, "weights", "kept") != "reinitialised",
        ),
        "pre-trained weights, to which it pulls",
        "leave one of them out",
    ),
}
"""Word -> what it says; a plugin may add words."""


def refuse_missing(config: Any, parts: Mapping[str, frozenset[str]]) -> None:
    """Raise ValueError if a part of a trial, by name, needs what the trial does not have."""
    for part, needs in parts.items():
        for word in sorted(needs):
            lacking = NEEDS[word].lacks(config)
            if lacking:
                raise ValueError(f"{part} needs {NEEDS[word].needed}, and {lacking}; {NEEDS[word].advice}")


@lru_cache(maxsize=1024)  # a plan has few of these
def _prunable(network: str, rule: GroupRule, input_shape: tuple[int, ...]) -> Prunable | None:
    if is_asked(network):
        return Prunable(**ask("prunable", network, rule.identity(), input_shape))
    if not rule.exclude and not rule.is_whole:
        return None
    counted: Prunable = function_of("tailor.pruning.feasibility_count:prunable")(network, rule, input_shape)
    return counted


def find_prunable(config: Any) -> Prunable | None:
    """What the trial's network can lose under its rule; None if it is not known before it was tried: of a user's."""
    return _prunable(config.network, config.pruning.rule, config.data.input_shape)
