"""A plugin's subclasses, with other constants than the program's methods, allocations and regularisers have."""

from typing import ClassVar, Literal

from tailor.config.allocations import ALLOCATIONS, LeGR
from tailor.config.trial import METHODS
from tailor.facts.regularisation import BSS, REGULARISERS, Delta
from tailor.methods.schemes import GateDecorator


class TwoTicks(GateDecorator):
    """Ticks of two epochs."""

    name: Literal["gbn_of_two_ticks"] = "gbn_of_two_ticks"  # type: ignore[assignment]
    ticks: ClassVar[int] = 2
    tick_epochs: ClassVar[int] = 2


class TunedLeGR(LeGR):
    """Rankings are tuned before they are evaluated."""

    name: Literal["tuned_legr"] = "tuned_legr"  # type: ignore[assignment]
    samples: ClassVar[int] = 2
    tuning_steps: ClassVar[int] = 3


class LeGROfNineSteps(LeGR):
    """Rankings are tuned for long."""

    name: Literal["legr_of_nine_steps"] = "legr_of_nine_steps"  # type: ignore[assignment]
    tuning_steps: ClassVar[int] = 9
    tuning_learning_rate: ClassVar[float] = 0.01


class OneLeGR(LeGR):
    """One ranking serves all budgets up to 0.4."""

    name: Literal["one_legr"] = "one_legr"  # type: ignore[assignment]
    learned_at: ClassVar[float | None] = 0.4


class ThreeBSS(BSS):
    """Three singular values."""

    name: Literal["bss_of_three"] = "bss_of_three"  # type: ignore[assignment]
    smallest: ClassVar[int] = 3


class QuickDelta(Delta):
    """Attention by four images."""

    name: Literal["quick_delta"] = "quick_delta"  # type: ignore[assignment]
    attention_images: ClassVar[int] = 4


ADDED = (
    (METHODS, (TwoTicks,)),
    (ALLOCATIONS, (TunedLeGR, LeGROfNineSteps, OneLeGR)),
    (REGULARISERS, (ThreeBSS, QuickDelta)),
)


def add_all() -> None:
    """Registers them, as a plugin does."""
    for registry, kinds in ADDED:
        for kind in kinds:
            registry.add(kind.model_fields["name"].default, kind)  # type: ignore[attr-defined]
