"""What all methods that prune have in common. Without torch."""

from typing import Annotated, Literal

from pydantic import Field

from tailor.core.settings import Count, Fraction, Settings


class PruningConfig(Settings):
    """What all methods that prune have in common."""

    residual: Literal["inside", "coupled"] = "inside"
    """`inside` prunes what can be pruned alone; `coupled` also layers whose outputs are added, as one group."""
    linear: bool = False
    """Whether hidden linear layers lose outputs, too."""
    minimum_filters_fraction: Fraction = 0.1
    """Share of each layer's original filters that always stay, at least one."""
    width_multiple: Annotated[Count, Field(json_schema_extra={"neutral": 1})] = 1
    """Each layer that loses filters keeps a multiple of so many (8 suits GPUs), or all that it has."""
    measure_norms: bool = False
    """Whether the norms' running statistics are measured again after each pruning."""
    optimiser_state: Literal["reset", "kept"] = "reset"
    """Whether momentum is kept over a pruning, from one fine-tuning to the next."""
