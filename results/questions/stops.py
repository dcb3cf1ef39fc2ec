"""What each stop rule would have chosen.

Every trial ran its whole path, so a rule can be applied to the rows afterwards. All rules but the last read only the
validation split. The last is an oracle: it reads the test split, and shows the most that a rule could gain.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from results.arms.comparison import (
    POINTS_OF_PATHS,
    Arm,
    EnvironmentsByTrial,
    Pairing,
    Point,
    Setting,
    arm_of,
    compare,
    environments_of,
    paths_of,
)
from results.arms.findings import Findings
from results.arms.problem import Problem
from results.arms.shared_training import support_lines
from results.arms.tuning import Tried, best_settings, ended_settings
from results.arms.verdict import comparison_record
from results.errors import ResultsError
from results.render.blocks import Figure, Section, TableBlock
from results.render.chart import Chart, Spec
from results.render.style import PALETTE, WIDTH, names_width, quantity, row_axis, score_channel, tooltip
from results.statistics.paths import best_stop_rule, patience_rule, stop_rule
from results.store.reader import Run
from results.text.page import Heading, Note, Part, Table, answer_table
from results.text.shown import DIFFERENCE_INTERVAL, PROBLEM, SCORE_INTERVAL

PAPER_TOLERANCE = 0.003
"""TransTailor's printed tau, 0.3 percentage points of accuracy. For R squared, the same number is our choice."""
TOLERANCES = (PAPER_TOLERANCE, 0.0, 0.01, 0.02)
PAPER = f"paper's, tolerance {PAPER_TOLERANCE:g}"
ORACLE = "oracle: best by test"
SHOWN = (
    "rule", "seeds", "removed_macs_fraction", "validation_score", "score", SCORE_INTERVAL, "difference",
    DIFFERENCE_INTERVAL, "p", "smallest_p",
)  # fmt: skip

Choose = Callable[[Sequence[Point]], Point]


@dataclass(frozen=True)
class RuleOutcome:
    """What one rule chose for one arm in one problem, over its seeds; `against` compares it with the paper's."""

    rule: str
    arm: Arm
    against: Pairing | None


def rules_for(budgets: Sequence[float]) -> dict[str, Choose]:
    """Return the rules by name, among them one that stops at each of these budgets (asked shares of removed MACs)."""
    rules: dict[str, Choose] = {}
    for tolerance in TOLERANCES:
        rules[f"paper's, tolerance {tolerance:g}"] = _choose_by(partial(stop_rule, tolerance=tolerance))
    for tolerance in (0.003, 0.01):
        name = f"below the best so far, tolerance {tolerance:g}"
        rules[name] = _choose_by(partial(best_stop_rule, tolerance=tolerance))
    for points in (1, 2):
        rules[f"patience {points}"] = _choose_by(partial(patience_rule, patience=points))
    for budget in budgets:
        rules[f"fixed budget {100 * budget:g}%"] = _choose_within(budget)
    rules["end of the path"] = lambda path: path[-1]
    rules["best by validation"] = lambda path: _best(path, lambda point: point.validation)
    rules[ORACLE] = lambda path: _best(path, lambda point: math.nan if point.test is None else point.test)
    return rules


def rule_outcomes(
    points: Sequence[Point], ended: Mapping[Tried, set[Setting]], environments: EnvironmentsByTrial
) -> dict[tuple[Problem, str], list[RuleOutcome]]:
    """Return what each rule chose, for each problem and arm whose trials have several points.

    With [tuning], the rules choose on the paths of the best setting: settings are compared at the ends of their paths,
    all as one budget; `ended` is from `ended_settings`.
    """
    last_points = {point.trial_id: point for point in points}
    ends = [replace(point, asked=None) for point in last_points.values()]
    best = {point.trial_id for point in best_settings(ends, ended)}
    paths: dict[tuple[Problem, str], dict[str, list[Point]]] = {}
    for point in points:
        if point.trial_id in best:
            paths.setdefault((point.problem, point.arm), {}).setdefault(point.trial_id, []).append(point)
    outcomes = {}
    for key, path_by_trial in sorted(paths.items(), key=lambda item: item[0]):
        ordered = [sorted(path, key=lambda point: point.point) for path in path_by_trial.values()]
        if max(map(len, ordered)) > 1:
            outcomes[key] = _outcomes(ordered, environments)
    return outcomes


def _outcomes(paths: Sequence[Sequence[Point]], environments: EnvironmentsByTrial) -> list[RuleOutcome]:
    """Return what each rule chose on the paths of one arm, one path for each trial."""
    budgets: set[float] = set()
    for path in paths:
        budgets.update(point.asked for point in path if point.asked)
    arm_of_choice: dict[tuple[int, ...], Arm] = {}  # most rules choose what another one has chosen
    arm_of_rule: dict[str, Arm] = {}
    for name, choose in rules_for(sorted(budgets)).items():
        chosen = [choose(path) for path in paths]
        choice = tuple(id(point) for point in chosen)
        if choice not in arm_of_choice:
            arm_of_choice[choice] = replace(arm_of(chosen, environments), asked=None)
        arm_of_rule[name] = arm_of_choice[choice]
    paper = arm_of_rule[PAPER]
    against_paper = {id(arm): compare([(arm, paper)]) for arm in arm_of_choice.values()}
    outcomes = []
    for name, arm in arm_of_rule.items():
        outcomes.append(RuleOutcome(name, arm, None if name == PAPER else against_paper[id(arm)]))
    return outcomes


def _choose_by(rule: Callable[[Sequence[float]], int]) -> Choose:
    """Return how to choose the point whose index a rule finds by the validation scores of a path."""
    return lambda path: path[rule([point.validation for point in path])]


def _choose_within(budget: float) -> Choose:
    """Return how to choose the last point whose asked budget is not above this one; else the first point."""

    def choose(path: Sequence[Point]) -> Point:
        within = [point for point in path if (point.asked or 0.0) <= budget + 1e-9]
        return within[-1] if within else path[0]

    return choose


def _best(path: Sequence[Point], score: Callable[[Point], float]) -> Point:
    """Return the point with the largest finite score (ties: fewer MACs); the first point if no score is finite."""
    finite = [point for point in path if math.isfinite(score(point))]
    return max(finite, key=lambda point: (score(point), point.removed), default=path[0])


def stops_page(run: Run, label: str | None = None) -> Iterator[Part]:
    """Yield one table per problem and arm. Raises ResultsError: no trial (with that label) has several points.

    Args:
        label: only arms with this label, or the arm of this name; None: all.
    """
    points = paths_of(run)
    outcomes = rule_outcomes(points, ended_settings(run), environments_of(run))
    meant = {point.arm for point in points if label in (None, point.label, point.arm)}
    shown = {key: of_arm for key, of_arm in outcomes.items() if key[1] in meant}
    if not shown:
        raise ResultsError(
            f"no trial{'' if label is None else f' of {label!r}'} has several operating points;"
            f" arms that have several: {'; '.join(sorted({name for _, name in outcomes})) or 'none'}"
        )
    for (problem, name), of_arm in shown.items():
        yield Heading(f"{name}, {problem}")
        yield ""
        yield answer_table("compare --stops", _records(of_arm), "stops", shown=SHOWN)
        yield ""
    problems = {problem for problem, _ in shown}
    yield Note(
        f"Rules read the validation split; {ORACLE!r} reads the test split and is no usable rule. Tolerances are"
        " fractions (0.003: 0.3 points). Differences are paired by seed and not corrected for their number."
    )
    yield from map(Note, _marks(shown))
    yield from map(Note, support_lines(run, problems))


def _records(outcomes: Sequence[RuleOutcome]) -> list[dict[str, Any]]:
    """Return the columns of the answer `stops` for each rule."""
    records = []
    for outcome in outcomes:
        arm = outcome.arm
        compared = dict.fromkeys(("difference", "difference_low", "difference_high", "p", "smallest_p"))
        if outcome.against is not None:
            compared |= comparison_record(outcome.against)
        records.append({**compared, **arm.record, "rule": outcome.rule})
    return records


def _marks(shown: Mapping[tuple[Problem, str], Sequence[RuleOutcome]]) -> list[str]:
    notes = []
    for (problem, name), outcomes in shown.items():
        arm = outcomes[0].arm
        if arm.test.n == 1:
            notes.append(f"{name}, {problem}: only one seed, so no interval can be given.")
        not_finite = {
            "validation": max(outcome.arm.not_finite for outcome in outcomes),
            "test": max(outcome.arm.failed for outcome in outcomes),
        }
        for split, lost in not_finite.items():
            if lost:
                notes.append(f"{name}, {problem}: up to {lost} trials end with a {split} score that is not a number.")
        if arm.is_mixed:
            notes.append(f"{name}, {problem}: computed on mixed hardware, ranks or torch versions.")
    return notes


_PAPER_RULES = [f"paper's, tolerance {tolerance:g}" for tolerance in sorted(TOLERANCES)]
_RULES = (*_PAPER_RULES, "best by validation", "end of the path")
"""The rules that the figure shows, in this order."""
_MOST_ARMS = 20

Outcomes = Mapping[str, Sequence[RuleOutcome]]
"""By arm."""


def outcomes_of(findings: Findings, problem: Problem) -> Outcomes:
    """Return what every rule chooses for each arm of a problem whose trials have several points."""
    points = [point for point in findings.paths if point.problem == problem]
    outcomes = rule_outcomes(points, findings.ended, findings.environments)
    return {arm: of_arm for (_, arm), of_arm in outcomes.items()}


def chart(findings: Findings, problem: Problem, outcomes: Outcomes) -> Chart | None:
    """Draw means over seeds of what some rules would have chosen; None where no path has two points.

    Args:
        outcomes: from `outcomes_of`.
    """
    if not outcomes:
        return None
    scale = findings.scales[problem]
    arms = sorted(outcomes)
    shown = arms[:_MOST_ARMS]
    records = []
    scores = []
    for name, of_arm in outcomes.items():
        drawn = [outcome for outcome in of_arm if outcome.rule in _RULES]
        for outcome in sorted(drawn, key=lambda outcome: _RULES.index(outcome.rule)):
            arm = outcome.arm
            records.append({
                "arm": name, "rule": outcome.rule, "seeds": arm.test.n, "removed_macs_fraction": arm.removed,
                "validation_score": arm.validation.mean, "test_score": arm.test.mean,
            })  # fmt: skip
            if name in shown:
                scores.append(arm.test.mean)
    left = names_width(shown)
    removed_title = "removed MACs (%)"
    score_title = f"test {scale.noun}{scale.axis_unit}"
    tip = tooltip(
        arm="arm",
        rule="rule",
        seeds="seeds",
        removed=f"{removed_title}|.1f",
        score=f"{score_title}|.{scale.digits}f",
    )
    rule = {"field": "rule", "type": "nominal", "sort": list(_RULES)}
    ticks = {"tickCount": 6}
    removed = quantity("removed", removed_title, axis=ticks)
    score = score_channel("score", score_title, scale, scores, axis=ticks)
    panels = []
    for x, with_names in ((removed, True), (score, False)):
        panels.append(
            {
                "width": (WIDTH - left) / 2 - 24,
                "height": {"step": 9, "for": "offset"},
                "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": {"field": "arm", "type": "nominal", "axis": row_axis(labels=with_names)},
                    "yOffset": rule,
                    "color": rule | {"title": None, "scale": {"domain": _RULES, "range": PALETTE[: len(_RULES)]}},
                    "tooltip": tip,
                },
            }
        )
    spec: Spec = {
        "data": {"name": "rows"},
        "transform": [
            {"filter": {"field": "arm", "oneOf": shown}},
            {"calculate": "datum.removed_macs_fraction * 100", "as": "removed"},
            {"calculate": f"datum.test_score * {scale.factor}", "as": "score"},
        ],
        "columns": 2,
        "resolve": {"scale": {"y": "shared"}},
        "usermeta": {"left": left},
        "concat": panels,
    }
    hidden = len(arms) - len(shown)
    note = f"{hidden} more arms are in the table." if hidden else ""
    title = f"{problem}: what each rule would have chosen, means over seeds"
    return Chart(title, spec, Table(records=records, sql=POINTS_OF_PATHS.strip()), note=note, derived=True)


def section(findings: Findings) -> Section:
    """Compare the rules for each problem, and arm by arm."""
    section_stop = Section(
        "stop",
        "What stop rules would have chosen",
        "Every trial runs its whole path, so stop rules are applied afterwards, to the validation score only."
        f" The paper's Algorithm 1 stops at the first point more than {100 * PAPER_TOLERANCE:g} percentage points (of"
        f" R²: {PAPER_TOLERANCE:g}) below the one before. “Best point” is the best by validation on the whole path.",
        empty="No path has two operating points yet.",
        short="Stop rules",
    )
    records = []
    for number, problem in enumerate(findings.problems):
        outcomes = outcomes_of(findings, problem)
        drawn = chart(findings, problem, outcomes)
        if drawn is not None:
            section_stop.blocks.append(Figure(f"stop{number}", drawn))
        for of_arm in outcomes.values():
            records += _records(of_arm)
    if records:
        shown = (PROBLEM, "arm", *SHOWN[:-1])
        table = answer_table("compare --stops", records, "stops", shown=shown, sql=POINTS_OF_PATHS)
        section_stop.blocks.append(TableBlock(table, "All rules, arm by arm", derived=True, folded=len(records) > 8))
    return section_stop
