"""What sharing stages saves, against three baselines by name; for plans, reports and benchmarks. No numpy."""

from collections.abc import Iterable
from dataclasses import dataclass

ONE_SCRIPT = "one script per trial, its source's training included"
SOURCE_GIVEN = "one script per trial, the source's weights given"
EACH_POINT_ALONE = "each operating point alone, its source's training included"
SOURCE_KIND = "train_source"
"""The kind of the stages that nobody computes whose source's weights are given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageUse:
    """A distinct stage, or several that equally many trials have, whose costs are then sums."""

    cost: float  # of computing it once: work, or seconds
    trials: int  # that have it
    trains_source: bool
    from_start: float = 0.0  # of an operating point: the cost of it and of all stages before it; others: 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """What the same operating points cost without sharing, in one of three ways, and with it."""

    name: str
    separate: float  # without sharing
    shared: float  # each distinct stage once; without the sources' training where their weights are given

    @property
    def factor(self) -> float | None:
        """Return separate / shared; None if nothing is computed, or if no trial has an operating point yet."""
        return self.separate / self.shared if self.shared and self.separate else None

    @property
    def factor_text(self) -> str:
        """Return the factor with two digits behind the point; a dash without one."""
        return "–" if self.factor is None else f"{self.factor:.2f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Baselines:
    """A set of trials with shared stages, against each baseline."""

    one_script: Baseline  # each trial computes its own stages, each once: it follows its own path
    source_given: Baseline  # the same, and no source is trained on either side
    each_point_alone: Baseline  # each distinct operating point from the start; nobody works so

    def leading_first(self) -> tuple[Baseline, ...]:
        """Return those that differ, the one that a user would else have first: scripts, as the sources are given."""
        if self.one_script.separate == self.source_given.separate:
            return self.source_given, self.each_point_alone
        return self.one_script, self.source_given, self.each_point_alone


def baselines_of(stages: Iterable[StageUse]) -> Baselines:
    """Compute what sharing saves from the distinct stages of some trials.

    Two trials train one source (8). Then one has two points on its path (3 each), the other has one (3):

    >>> source = StageUse(cost=8, trials=2, trains_source=True)
    >>> costs_from_start = (8 + 3, 8 + 3 + 3, 8 + 3)
    >>> points = [StageUse(cost=3, trials=1, trains_source=False, from_start=cost) for cost in costs_from_start]
    >>> [(each.separate, each.shared) for each in baselines_of([source, *points]).leading_first()]
    [(25.0, 17.0), (9.0, 9.0), (36.0, 17.0)]
    """
    once = scripts = sources_once = sources_in_scripts = points = 0.0
    for stage in stages:
        if stage.trains_source:
            sources_once += stage.cost
            sources_in_scripts += stage.cost * stage.trials
        else:
            once += stage.cost
            scripts += stage.cost * stage.trials
        points += stage.from_start
    shared = sources_once + once
    return Baselines(
        one_script=Baseline(name=ONE_SCRIPT, separate=sources_in_scripts + scripts, shared=shared),
        source_given=Baseline(name=SOURCE_GIVEN, separate=scripts, shared=once),
        each_point_alone=Baseline(name=EACH_POINT_ALONE, separate=points, shared=shared),
    )
