"""The looks of a run whose spec has [settle]: what was decided, of which comparisons, after how many seeds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from results.arms.comparison import budget_order
from results.arms.problem import Problem
from results.errors import ResultsError
from results.statistics.sequential import Verdict
from results.store.completeness import settle_settings
from results.store.reader import Run
from results.text.names import at_budget

LOOKS = "SELECT * EXCLUDE (code_digest, written_at) FROM looks ORDER BY look, comparison"
SETTLED = ("better", "worse", "no difference that matters")

LookVerdict = Verdict | Literal["incomplete"]


@dataclass(frozen=True)
class Comparison:
    """An arm at a budget, and what it is compared with."""

    problem: Problem
    arm: str
    asked: float | None  # share of the MACs to remove; None: a rule decided, 0: nothing is removed
    against: str
    against_asked: float | None

    def __str__(self) -> str:
        return f"{at_budget(self.arm, self.asked)} against {at_budget(self.against, self.against_asked)}"

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key: by problem, budget and arm."""
        return self.problem, budget_order(self.asked), self.arm


@dataclass(frozen=True, kw_only=True)
class RecordedLook:
    """A comparison at one look, as the table `looks` has it; its columns explain the fields.

    The numbers are None if the comparison is incomplete.
    """

    comparison: Comparison
    number: int  # of the comparison, from 0
    look: int
    metric: str
    seeds: int
    scores: tuple[float, ...] | None = None
    against_scores: tuple[float, ...] | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    z: float | None = None
    limit: float | None = None
    p: float | None = None
    verdict: LookVerdict
    unbiased: float | None = None
    has_collapse: bool = False
    failed: tuple[str, ...] = ()
    family: int
    alpha: float
    matters: float
    seeds_at_most: int
    ended: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether more seeds could still settle it."""
        return self.verdict == "open"


def look_row(look: RecordedLook) -> dict[str, Any]:
    """Return the row of the table `looks`, without the digest of the code."""
    row = asdict(look)
    comparison = row.pop("comparison")
    problem = look.comparison.problem
    return row | {
        "comparison": row.pop("number"),
        "network": problem.network,
        "dataset": problem.dataset,
        "train_images": problem.train_images or None,
        "arm": comparison["arm"],
        "asked_removed_macs_fraction": comparison["asked"],
        "against": comparison["against"],
        "against_asked_removed_macs_fraction": comparison["against_asked"],
    }


def recorded_looks(run: Run) -> list[RecordedLook]:
    """Return the looks of a run in their order.

    Raises:
        ResultsError: several runs are open, and more than one of them has looks, whose verdicts are of their own.
    """
    if has_several_families(run):
        raise ResultsError(
            "several of these runs have [settle], and the verdicts of each are of its own looks; name one run at a time"
        )
    looks = []
    for row in run.rows(LOOKS):
        row.pop("run", None)  # of several runs, of which one has looks
        problem = Problem(row.pop("network"), row.pop("dataset"), row.pop("train_images") or 0)
        comparison = Comparison(
            problem=problem,
            arm=row.pop("arm"),
            asked=row.pop("asked_removed_macs_fraction"),
            against=row.pop("against"),
            against_asked=row.pop("against_asked_removed_macs_fraction"),
        )
        number = row.pop("comparison")
        lists_as_tuples = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
        looks.append(RecordedLook(comparison=comparison, number=number, **row | lists_as_tuples))
    return looks


def looks_by_comparison(looks: list[RecordedLook]) -> dict[Comparison, list[RecordedLook]]:
    """Group looks by what they compare, by problem, budget and arm; the last look of each has its verdict."""
    groups: dict[Comparison, list[RecordedLook]] = {}
    for look in sorted(looks, key=lambda look: (look.comparison.order, look.look)):
        groups.setdefault(look.comparison, []).append(look)
    return groups


def has_several_families(run: Run) -> bool:
    """Whether more than one of several runs has looks."""
    if len(run.paths) == 1:
        return False
    (row,) = run.rows("SELECT count(DISTINCT run) AS runs FROM looks")
    return bool(row["runs"] > 1)


def is_settled_run(run: Run) -> bool:
    """Whether seeds were added to a run, or to one of several, until its comparisons were settled."""
    return bool(settle_settings(run)) or bool(run.rows("SELECT look FROM looks LIMIT 1"))


def last_looks(run: Run) -> Mapping[Comparison, RecordedLook]:
    """Return the last look of each comparison."""
    return {comparison: looks[-1] for comparison, looks in looks_by_comparison(recorded_looks(run)).items()}
