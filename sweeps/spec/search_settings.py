"""The tables `[search]` and `[confirm]` of a spec: how settings are chosen from the axes, and how the best are tried.

[search]
sampler = "tpe"     # grid, random, tpe or nsga2
trials = 40         # at most as many settings are tried
[confirm]
top = 3             # the best ones by validation are run again
seeds = 10          # with this many seeds that the search has not used
"""

from collections.abc import Collection
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sweeps.errors import SpecError

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)


class SearchSettings(BaseModel):
    """Settings are proposed in batches; each batch reads the scores of all batches before it."""

    model_config = _STRICT
    sampler: Literal["grid", "random", "tpe", "nsga2"] = "grid"
    """How the next settings are chosen; `nsga2` wants a high score and few MACs, all others a high score."""
    trials: int | None = Field(default=None, ge=1)
    """The most settings that are tried, each with all seeds of the axis `seed`; None: as many as the grid has."""
    batch: int = Field(default=4, ge=1)
    """Settings that are proposed from the same scores, and can run at the same time."""
    seed: int = Field(default=0, ge=0)
    """Of the samplers."""

    @property
    def reads_scores(self) -> bool:
        """Whether a proposal depends on scores; if not, all are made in one batch."""
        return self.sampler in ("tpe", "nsga2")


class ConfirmSettings(BaseModel):
    """The best settings of a search are run again with new seeds, and only these trials are compared."""

    model_config = _STRICT
    top: int = Field(default=3, ge=1)
    """How many settings, the best by their mean validation score."""
    seeds: int = Field(default=10, ge=2)
    """How many seeds, the smallest ones above those of the search."""


def check_search(
    search: SearchSettings | None,
    confirm: ConfirmSettings | None,
    axes: Collection[str],
    tuning: Collection[str],
    where: str,
) -> None:
    """Raise SpecError for tables that contradict each other."""
    if search is None:
        if confirm is not None:
            raise SpecError(f'{where} [confirm]: there is no search to confirm; add [search] with sampler = "tpe"')
        return
    if tuning:
        raise SpecError(f"{where} [search]: [tuning] chooses settings too; move its keys to [axes]")
    if search.trials is None and search.sampler != "grid":
        raise SpecError(f"{where} [search]: sampler {search.sampler!r} has no end; type trials = 40, for example")
    for key in axes:
        if key in ("data", "data.name"):
            raise SpecError(
                f"{where} [search]: scores on different data sets cannot be compared, and {key} is an axis; search on "
                f"one data set, and choose it with --set trial.data.name=..."
            )
