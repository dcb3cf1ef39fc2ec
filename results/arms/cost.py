"""What sharing saves: the seconds of all computed stages, compared with each operating point computed alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from results.store.reader import Run


@dataclass(frozen=True)
class SharingSavings:
    """Stage-seconds of a set of operating points.

    Attributes:
        shared_s: each stage once, however many trials needed it.
        separate_s: each distinct operating point as a trial of its own, from the start.
        ratio: separate_s / shared_s; None if nothing was computed.
        stages: distinct stages.
        points: distinct operating points.
        unrecorded: stages that are a parent or a point and have no row: they count as 0 seconds.
    """

    shared_s: float
    separate_s: float
    ratio: float | None
    stages: int
    points: int
    unrecorded: int


@dataclass(frozen=True)
class StageRow:
    """The time that a stage took, and the keys of its parents."""

    compute_s: float
    parents: tuple[str, ...]


STAGES = """
SELECT stage_key, arg_min(compute_s, (cached, written_at)) AS compute_s, any_value(parents) AS parents
FROM stages GROUP BY stage_key
"""
"""Each stage once, with the time of the trial that computed it (the first, if two did so at once)."""

STAGES_OF_LABELS = """
SELECT DISTINCT label, stage_key
FROM stages JOIN (SELECT trial_id, label FROM planned UNION SELECT trial_id, label FROM operating_points)
    USING (trial_id)
ORDER BY label, stage_key
"""

POINTS_OF_LABELS = "SELECT DISTINCT label, stage_key FROM operating_points ORDER BY label, stage_key"


def cost_of_run(run: Run) -> tuple[SharingSavings, dict[str, SharingSavings]]:
    """Compute the cost of the whole run, and of each label on its own.

    Labels share stages, so their shared seconds add up to more than those of the run.
    """
    stages = {row["stage_key"]: StageRow(row["compute_s"], tuple(row["parents"])) for row in run.rows(STAGES)}
    totals = Totals(stages)
    of_labels = _by_label(run.rows(STAGES_OF_LABELS))
    points_of_labels = _by_label(run.rows(POINTS_OF_LABELS))
    points = set().union(*points_of_labels.values())
    labels = sorted(of_labels.keys() | points_of_labels.keys())
    return cost(totals, stages, points), {
        label: cost(totals, of_labels.get(label, set()), points_of_labels.get(label, set())) for label in labels
    }


def cost(totals: "Totals", stages: Iterable[str], points: Iterable[str]) -> SharingSavings:
    """Compute the cost of these stages, and of these operating points one by one (both are keys of stages)."""
    keys, ends = set(stages), set(points)
    shared = sum(totals.stages[key].compute_s for key in sorted(keys) if key in totals.stages)
    separate = sum(totals.seconds_from_start(key) for key in sorted(ends))
    named = keys | ends | {parent for key in keys if key in totals.stages for parent in totals.stages[key].parents}
    unrecorded = len(named - totals.stages.keys())
    return SharingSavings(shared, separate, separate / shared if shared else None, len(keys), len(ends), unrecorded)


class Totals:
    """Seconds from the start to the end of any stage; results are kept for the next call."""

    def __init__(self, stages: Mapping[str, StageRow]) -> None:
        self.stages = stages
        self._known: dict[str, float] = {}

    def seconds_from_start(self, key: str) -> float:
        """Sum the seconds of a stage and all its ancestors, each once; a stage without a row counts 0.

        Chains are followed in a loop, so they may be long. The ancestors of a stage with several parents are
        collected as a set, since they may overlap.
        """
        chain: list[str] = []
        seen: set[str] = set()
        total = 0.0
        while key in self.stages and key not in self._known and key not in seen:
            parents = set(self.stages[key].parents)
            if len(parents) > 1:
                total = self._collected(key)
                break
            chain.append(key)
            seen.add(key)
            if not parents:
                break
            (key,) = parents
        else:
            total = self._known.get(key, 0.0)
        for link in reversed(chain):
            total += self.stages[link].compute_s
            self._known[link] = total
        return total

    def _collected(self, key: str) -> float:
        if key not in self._known:
            ancestors = {key}
            waiting = [key]
            while waiting:
                for parent in self.stages[waiting.pop()].parents:
                    if parent in self.stages and parent not in ancestors:
                        ancestors.add(parent)
                        waiting.append(parent)
            self._known[key] = sum(self.stages[ancestor].compute_s for ancestor in sorted(ancestors))
        return self._known[key]


def _by_label(rows: list[dict[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["label"], set()).add(row["stage_key"])
    return found
