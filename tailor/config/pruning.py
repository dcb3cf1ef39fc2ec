"""The settings that all pruning methods share. Without torch."""

from dataclasses import fields
from typing import Annotated, Literal

from pydantic import Field

from tailor.core.settings import Count, Fraction, Settings
from tailor.stages import ConvGroups, GroupRule


class PruningConfig(Settings):
    """The settings that all pruning methods share."""

    residual: Literal["inside", "coupled"] = "inside"
    """`inside` prunes layers one by one; `coupled` also layers whose outputs are added to each other, as one group."""
    linear: bool = False
    """Whether hidden linear layers also lose outputs."""
    stream: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    """Whether channels go that run through LayerNorms: the width of a transformer, from its patches to its head."""
    heads: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    """Whether heads of attention go."""
    conv_groups: Annotated[ConvGroups, Field(json_schema_extra={"neutral": "none"})] = "none"
    """What goes of convolutions in groups: `whole` groups, or filters `alike` in each group (the same places)."""
    exclude: Annotated[tuple[str, ...], Field(json_schema_extra={"neutral": ()}, strict=False)] = ()
    """Modules by name whose filters all stay, with all that is in them."""
    minimum_filters_fraction: Fraction = 0.1
    """Share of each layer's original filters that always stays, at least one filter."""
    width_multiple: Annotated[Count, Field(json_schema_extra={"neutral": 1})] = 1
    """Each layer that loses filters keeps a multiple of this number (8 suits GPUs), or all filters that it has."""
    measure_norms: bool = False
    """Whether the norms' running statistics are measured again after each pruning."""
    shift_means: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    """Whether biases take over what removed filters and heads gave on average (VBP, arXiv 2507.12988)."""
    optimiser_state: Literal["reset", "kept"] = "reset"
    """Whether momentum is kept over a pruning, from one fine-tuning to the next."""

    @property
    def rule(self) -> GroupRule:
        """What can be removed."""
        return GroupRule(**{field.name: getattr(self, field.name) for field in fields(GroupRule)})
