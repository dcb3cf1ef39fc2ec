"""The tables `[search]` and `[confirm]` of a spec: how settings are chosen, and how the best are tried again."""

import math
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sweeps.errors import SpecError
from tailor.common.settings import Count

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)


class HalvingSettings(BaseModel):
    """All settings run to the first rung; of those at a rung, the best continue to the next, and at last to the end."""

    model_config = _STRICT
    eta: int = Field(default=3, ge=1)
    """One of this many is continued, rounded up; with 1 all are, and rungs are only recorded."""
    epochs: tuple[Count, ...] = Field(default=(), strict=False)
    """Rungs in epochs of the last fine-tuning, ascending; either these or `points`."""
    points: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(), strict=False)
    """Rungs at operating points of the path, by their numbers from 0, ascending."""
    asynchronous: bool = False
    """Continue the best so far as soon as `eta` trials have reached a rung, without waiting for the others; which
    settings continue then depends on the order in which trials end."""

    def counts(self, settings: int, *, at_most: bool = False) -> list[int]:
        """Return how many settings run to each rung, and at last to the end, if none fails.

        Asynchronously at least as many do, and all but the first `eta - 1` if each is better than those before.

        >>> HalvingSettings(eta=3, epochs=(2, 6)).counts(24)
        [24, 8, 3]
        """
        counts = [settings]
        for _rung in (*self.epochs, *self.points):
            reaching_before = counts[-1]
            reaching = math.ceil(reaching_before / self.eta)
            if at_most and self.asynchronous:
                reaching = max(reaching, reaching_before - self.eta + 1)
            counts.append(reaching)
        return counts


class SearchSettings(BaseModel):
    """Settings are proposed in batches; each batch reads the scores of all batches before it."""

    model_config = _STRICT
    sampler: Literal["grid", "random", "tpe"] = "grid"
    """How the next settings are chosen: `grid`, `random`, or `tpe`, which reads the scores of those before."""
    trials: int | None = Field(default=None, ge=1)
    """The most settings that are tried, each with all seeds of the axis `seed`; None: as many as the grid has."""
    batch: int = Field(default=4, ge=1)
    """Settings that are proposed from the same scores, and can run at the same time; `grid` and `random` read none, so
    they propose all at once, and `batch` is read only if halving is asynchronous: this many run at the same time."""
    seed: int = Field(default=0, ge=0)
    """Of the samplers."""
    halving: HalvingSettings | None = None
    """When a setting is stopped; None: never."""
    hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """After this many hours, over all launches, no more settings are proposed; those that began are not cut off."""
    gpu_hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The same in hours of the GPUs that trials have had."""

    @property
    def is_asynchronous(self) -> bool:
        """Whether decisions depend on the order in which trials end."""
        return self.halving is not None and self.halving.asynchronous

    @property
    def reads_scores(self) -> bool:
        """Whether a proposal depends on scores; if not, all are made in one batch."""
        return self.sampler not in ("grid", "random")


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
    if search.halving is not None:
        _check_halving(search.halving, f"{where} [search] halving")


def _check_halving(halving: HalvingSettings, where: str) -> None:
    if bool(halving.epochs) == bool(halving.points):
        raise SpecError(f"{where}: rungs are in epochs or at points; type halving = {{ eta = 3, epochs = [2, 6] }}")
    rungs = halving.epochs or halving.points
    if list(rungs) != sorted(set(rungs)):
        raise SpecError(f"{where}: the rungs {list(rungs)} are not in ascending order; sort them")
