"""The settings that all pruning methods share. Without torch."""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from tailor.common.settings import Count, Fraction, ReadIf
from tailor.facts.widths import ANY_WIDTH, WIDE_FILTERS, WidthRule
from tailor.stages import GroupRule

OF_SURGERY = ReadIf(lambda c: c.method.removes, "a method that removes filters")
OF_MACS = ReadIf(lambda c: c.method.removes and not c.method.latency_budgets(), "a budget in MACs")
OF_NORMS = ReadIf(lambda c: c.network_info.has_norm, "a network with norms")
OF_TARGETS_DATA = ("source", "noise", "scrambled", "shuffled")
"""Donors of `scores_from` that are no other data set."""


class PruningConfig(GroupRule):
    """The settings that all pruning methods share."""

    minimum_filters_fraction: Annotated[Fraction, OF_SURGERY] = 0.1
    """Share of each layer's original filters that always stays, at least one filter."""
    width_multiple: Annotated[
        Count | Literal["auto"],
        Field(json_schema_extra={"neutral": 1}),
        ReadIf(
            lambda c: c.method.prunes_to_a_budget or "pruning" in c.method.unread,
            "a method that prunes to a budget",
            refused=True,
            harmless=(1,),
        ),
        OF_MACS,
    ] = "auto"
    """Each layer of 64 filters or more (in the unpruned network) that loses filters keeps a multiple of this number, or
    all filters that it has: odd widths are slow on GPUs and CPUs. `auto` is 8, and 1 for embedded networks and for
    methods whose rule decides how many filters go; ids and keys have the number."""
    measure_norms: Annotated[bool, OF_SURGERY, OF_NORMS] = False
    """Whether the norms' running statistics are measured again after each pruning."""
    shift_means: Annotated[
        bool,
        Field(json_schema_extra={"neutral": False}),
        ReadIf(lambda c: "filters" not in c.method.needs, "method 'transtailor' or 'prune'", refused=True),
        OF_SURGERY,
    ] = False
    """Whether biases take over what removed filters and heads gave on average (VBP, arXiv 2507.12988)."""
    scores_from: Annotated[
        str,
        Field(min_length=1, json_schema_extra={"neutral": "target"}),
        ReadIf(
            lambda c: c.method.scores_by_images and "pruning" not in c.method.unread,
            "a method and a criterion that score filters by images",
            refused=True,
        ),
    ] = "target"
    """Whose images and labels score the filters and train the factors: the `target`'s, or those of a donor: another
    data set by its name, the target's `source` task, or what is made of the target's images, `noise` of their colours,
    their phases `scrambled`, their labels `shuffled`. A donor has a head of its own, and as many training images."""
    optimiser_state: Annotated[
        Literal["reset", "kept"],
        ReadIf(
            lambda c: c.optimisation.optimiser == "sgd" and c.optimisation.momentum > 0.0,
            "optimisation.optimiser = 'sgd' and a momentum",
            refused=True,
        ),
    ] = "reset"
    """Whether momentum is kept over a pruning, from one fine-tuning to the next."""

    @property
    def rule(self) -> GroupRule:
        """What can be removed: these settings without those that are not about groups."""
        return _rule(*[(name, getattr(self, name)) for name in GroupRule.model_fields])

    @property
    def widths(self) -> WidthRule:
        """Which widths layers may keep, by the number of `width_multiple`, with which `TrialConfig` replaces `auto`."""
        assert self.width_multiple != "auto"
        if self.width_multiple == 1:
            return ANY_WIDTH
        return WidthRule(multiple=self.width_multiple, from_filters=WIDE_FILTERS)


@cache  # a plan has few rules, and asks for one with each stage that prunes
def _rule(*settings: tuple[str, Any]) -> GroupRule:
    return GroupRule(**dict(settings))
