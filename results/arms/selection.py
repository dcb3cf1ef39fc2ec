"""Select the arms to compare: the best setting of [tuning] by validation, at one budget or at all."""

import math
import shlex
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from results.arms.comparison import Arm, Point, arms_of, budget_order, environments_of, points_of
from results.arms.counts import failed_by_arm
from results.arms.looks import Comparison
from results.arms.names import arms_called
from results.arms.problem import Problem
from results.errors import ResultsError
from results.store.reader import Run
from results.text.number_format import percent
from transtailor.names import did_you_mean, nearest

ArmOrPoint = TypeVar("ArmOrPoint", Arm, Point)
SCORES = ("test_score", "validation_score")
"""What arms are compared by; the test score is read only after all choices are made."""
PLANNED_ARMS = "SELECT arm, label FROM planned UNION SELECT head_arm, head_arm FROM planned"


@dataclass(frozen=True)
class Selection:
    """Arms, and what is missing in their means."""

    arms: list[Arm]  # with their score in `test`, also if `score` is the validation score
    score: str  # one of `SCORES`
    without_score: list[str]  # a sentence that names arms of which no score is a finite number


def select_arms(run: Run, *, score: str = "test_score", asked: float | None = None) -> Selection:
    """Select the arms of a run that have the score: at one asked budget, or at all budgets.

    Arms that prune nothing are always included as they are; at one budget, those whose pruning was not asked as a share
    of the MACs (a rule decides, or milliseconds) are left out.

    Args:
        score: one of `SCORES`.
        asked: share of the MACs to remove; None takes all budgets.

    Raises:
        ResultsError: no such score, no arm at that budget, or no finite score.
    """
    check_score(score)
    points = points_of(run)
    if score == "validation_score":
        points = [replace(point, test=point.validation, test_images=point.validation_images) for point in points]
    of_all = arms_of(points, environments_of(run), failed_by_arm(run))
    arms = [arm for arm in _select_at_budget(of_all, asked) if arm.test.mean is not None]
    if not arms or not _has_budget(arms, asked):
        raise ResultsError(_explain_no_arm(run, points, score, asked))
    return Selection(arms, score, without_score(_select_at_budget(of_all, asked)))


def _select_at_budget(arms: Sequence[ArmOrPoint], asked: float | None) -> list[ArmOrPoint]:
    """Return the arms (or points) at a budget as `arms_at_budget` does, problem by problem."""
    selected: list[ArmOrPoint] = []
    for problem in sorted({arm.problem for arm in arms}):
        selected += arms_at_budget([arm for arm in arms if arm.problem == problem], asked)
    return selected


def arms_at_budget(arms: Sequence[ArmOrPoint], asked: float | None) -> list[ArmOrPoint]:
    """Return the arms (or points) of one problem that are at a budget, and those of arms that prune nothing.

    Args:
        arms: also those without a score: an arm may have none where it is pruned.
    """
    if asked is None:
        return list(arms)
    at_budget = [arm for arm in arms if is_at(arm, asked)]
    pruning = {_name(arm) for arm in arms if arm.asked or arm.removed > 0.0}
    return at_budget + [arm for arm in arms if _name(arm) not in pruning and not is_at(arm, asked)]


def not_at_budget(arms: Sequence[Arm], asked: float | None) -> list[str]:
    """Return a sentence that names the arms with points at other budgets only; empty if none are left out."""
    if asked is None:
        return []
    shown = {arm.name for arm in _select_at_budget(arms, asked)}
    budgets_of: dict[str, set[str]] = {}
    for arm in sorted(arms, key=lambda arm: budget_order(arm.asked)):
        if arm.name not in shown:
            budgets = budgets_of.setdefault(arm.name, set())
            if arm.asked != 0.0:
                budgets.add("not asked as a share of the MACs" if arm.asked is None else f"{percent(arm.asked, 1)}%")
    if not budgets_of:
        return []
    left_out = [f"{name} ({', '.join(sorted(budgets))})" for name, budgets in sorted(budgets_of.items())]
    return [f"Not shown, as without a point at {percent(asked, 1)}% fewer MACs: {'; '.join(left_out)}."]


def without_control(arms: Sequence[Arm], compared: Container[Problem], control: str) -> list[str]:
    """Return a sentence for each problem that is not compared, as the control has no score there, and its arms."""
    lines = []
    for problem in sorted({arm.problem for arm in arms}):
        if problem not in compared:
            names = "; ".join(sorted({arm.name for arm in arms if arm.problem == problem}))
            lines.append(f"Not compared: {names} of {problem}, where no score of {control} is shown.")
    return lines


def _name(arm: ArmOrPoint) -> str:
    """Return the name of an arm, or of the arm that a point belongs to."""
    return arm.name if isinstance(arm, Arm) else arm.arm


def check_budget(arms: Sequence[Arm], asked: float | None) -> None:
    """Raise ResultsError, with the budgets there are, unless a tested arm is at that budget."""
    if asked and not _has_budget(arms, asked):
        raise ResultsError(_explain_no_budget(arms, "test_score", asked))


def _has_budget(arms: Sequence[Arm], asked: float | None) -> bool:
    return not asked or any(is_at(arm, asked) for arm in arms)


def is_at(arm: Arm | Point | Comparison, asked: float) -> bool:
    """Whether an arm, a point or a comparison is at this budget."""
    return arm.asked is not None and math.isclose(arm.asked, asked, abs_tol=1e-6)


def check_score(score: str) -> None:
    """Raise ResultsError, with the nearest name, unless there is such a score."""
    if score not in SCORES:
        raise ResultsError(f"--by {score}: {did_you_mean(score, SCORES)}expected one of {', '.join(SCORES)}")


def arm_called(run: Run, arms: Sequence[Arm], text: str) -> str:
    """Return the name of the arm that is meant: that of this name, or the only one with this label.

    Raises:
        ResultsError: there is none, and the text names the nearest one, or says that it is only planned; or several
            have that label, and it lists them.
    """
    label_of_arm = {arm.name: arm.label for arm in arms}
    meant = arms_called(text, label_of_arm)
    if not meant and arms_called(text, {row["arm"]: row["label"] for row in run.rows(PLANNED_ARMS)}):
        others = nearest("", label_of_arm)
        how = run.to_type("status")
        raise ResultsError(f"{text!r} is planned, and has no point to compare{others}; to see its trials, type: {how}")
    if not meant:
        budgets = {str(arm): f"; type {shlex.quote(arm.name)} with --at {arm.asked:g}" for arm in arms if arm.asked}
        raise ResultsError(f"no tested arm is called {text!r}{budgets.get(text) or nearest(text, label_of_arm)}")
    if len(meant) > 1:
        raise ResultsError(
            f"{text!r} is the label of {len(meant)} arms; type the name of one of them:\n"
            + "\n".join(f"  {name}" for name in meant)
        )
    return meant[0]


def no_arm_typed(run: Run, or_type: str = "") -> ResultsError:
    """Return the error of a command without --against, which lists the arms; `or_type`: what may be typed instead."""
    arms = sorted({arm.name for arm in select_arms(run).arms})
    return ResultsError(f"type --against and one of the arms: {', '.join(map(shlex.quote, arms))}{or_type}")


def without_score(arms: Sequence[Arm]) -> list[str]:
    """Return a sentence that names the arms of which all scores are NaN or infinite; empty if there are none."""
    lost = [f"{arm}, {arm.problem}" for arm in arms if arm.test.mean is None and arm.failed]
    return [f"Not shown, as no score is a finite number: {'; '.join(lost)}."] if lost else []


def _explain_no_arm(run: Run, points: Sequence[Point], score: str, asked: float | None) -> str:
    """Explain why there is no arm."""
    if not points:
        (written,) = run.rows("SELECT count(*) AS points FROM operating_points")
        which = "but those of failed or unfinished trials, or of a search's proposals" if written["points"] else "yet"
        return f"no operating points {which}; to see its trials, type: {run.to_type('status')}"
    scores = [point.test for point in points if point.test is not None]
    if scores and len(scores) == len(points) and not any(map(math.isfinite, scores)):
        return f"no {score} is finite: all {len(points)} are NaN or infinite"
    if asked is not None:
        return _explain_no_budget(points, score, asked)
    return f"no arm has a {score} yet"


def _explain_no_budget(arms: Sequence[Arm] | Sequence[Point], score: str, asked: float) -> str:
    """Say that no arm is at the budget, and which budgets there are."""
    known = sorted({arm.asked for arm in arms if arm.asked})
    budgets = ", ".join(f"{budget:g}" for budget in known)
    return f"no arm has a {score} at {asked:g} of the MACs removed; budgets: {budgets or 'none'}"
