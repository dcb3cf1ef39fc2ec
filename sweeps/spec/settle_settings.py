"""The table `[settle]` of a spec: seeds are added, look by look, until each comparison is settled."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from results.sign_flip import LOOKS, pairs_needed
from sweeps.errors import SpecError
from tailor.common.settings import Count

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
SEED = "seed"


class SettleSettings(BaseModel):
    """Arms are compared with one of them, at several numbers of seeds; those that are settled get no more."""

    model_config = _STRICT
    against: str = Field(min_length=1)
    """The arm that all others are compared with: its name, or its label if it is the only one with it."""
    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(default=(), strict=False)
    """Shares of the MACs to remove at which arms are compared; arms without a budget are compared as they are."""
    matters: float = Field(gt=0, lt=1)
    """The smallest difference that matters, in the unit of the score: 0.01 is a point of accuracy."""
    looks: tuple[Count, ...] = Field(default=LOOKS, strict=False)
    """Numbers of seeds after which the comparisons are looked at, ascending; after the last one nothing is added."""
    alpha: float = Field(default=0.05, gt=0, le=0.5)
    """The chance that any comparison is called better or worse without a difference, over all looks together."""
    hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """After this many hours, over all launches, no more seeds are added; those that began are not cut off."""
    gpu_hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The same in hours of the GPUs that trials have had."""

    @field_validator("looks")
    @classmethod
    def _looks_ascend(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        if not looks or list(looks) != sorted(set(looks)):
            raise ValueError("expected numbers of seeds in ascending order, such as [10, 13, 18, 25, 35, 50]")
        if looks[0] < pairs_needed():
            raise ValueError(f"the first look has {looks[0]} seeds, which can settle nothing; {pairs_needed()} or more")
        return looks

    @property
    def most_seeds(self) -> int:
        """How many seeds an arm has at the last look."""
        return self.looks[-1]


def check_settle(
    settle: SettleSettings | None,
    document: Mapping[str, Any],
    seed_axes: Collection[str],
    where: str,
) -> None:
    """Raise SpecError for tables of a spec that cannot stand beside [settle].

    Args:
        document: the whole spec.
        seed_axes: the tables that give the key `seed`, such as "[axes]".
    """
    if settle is None:
        return
    if document.get("search") is not None:
        raise SpecError(
            f"{where} [settle]: [search] chooses settings by scores, and what was chosen so is compared with new seeds "
            "only; search first, then settle the winner in a spec of its own"
        )
    if document.get("tuning"):
        raise SpecError(
            f"{where} [settle]: [tuning] chooses the best setting of each seed by its scores, which may change when "
            "seeds are added; write the setting of each arm into its variant"
        )
    if seed_axes:
        raise SpecError(
            f"{where} {sorted(seed_axes)[0]} seed: [settle] gives the seeds, 0 to {settle.most_seeds - 1}, as far as "
            "its looks need them; remove this key (of a spec that is extended: copy that one without it), and choose "
            "looks = [...] instead"
        )
