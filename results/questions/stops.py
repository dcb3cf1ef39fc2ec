"""What each stop rule would have chosen.

Every trial ran its whole path, so a rule can be applied to the rows afterwards. All rules but the last read only the
validation split. The last is an oracle: it reads the test split, and shows the most that a rule could gain.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from results.arms import comparison
from results.arms.comparison import (
    POINTS,
    Arm,
    EnvironmentsByTrial,
    Pairing,
    Point,
    Problem,
    Setting,
    arm_of,
    compare,
    environments_of,
    points_of,
)
from results.arms.findings import Findings
from results.arms.shared_training import support_lines
from results.arms.tuning import Tried, best_settings, ended_settings
from results.command_options import complete_arms
from results.errors import ResultsError
from results.question import question
from results.render.blocks import Figure, Section, TableBlock
from results.render.chart import Chart, Spec
from results.render.style import PALETTE, WIDTH, names_width, quantity, row_axis, score_channel, told
from results.render.tables import HtmlTable, TableRow
from results.statistics.paths import best_stop_rule, patience_rule, stop_rule
from results.store.answers import Answer
from results.store.reader import Run
from results.text.number_format import NOTHING, SCALES, p_text, percent
from results.text.page import Heading, Note, PageTable, Part
from transtailor import cli

TOLERANCES = (0.003, 0.0, 0.01, 0.02)
"""Fractions; the first is the paper's."""
PAPER = "paper's, tolerance 0.003"
ORACLE = "oracle: best by test"
COLUMNS = ("rule", "seeds", "removed %", "validation", "test", "95%", "to the paper's", "95%", "p", "smallest p")

Choose = Callable[[Sequence[Point]], Point]


@dataclass(frozen=True)
class RuleOutcome:
    """What one rule chose for one arm in one problem, over its seeds; `against` compares it with the paper's."""

    rule: str
    arm: Arm
    against: Pairing | None


def rules_for(budgets: Sequence[float]) -> dict[str, Choose]:
    """Return the rules by name, among them one that stops at each of these budgets (asked shares of removed MACs)."""
    rules = {f"paper's, tolerance {one:g}": _choose_by(partial(stop_rule, tolerance=one)) for one in TOLERANCES}
    for one in (0.003, 0.01):
        rules[f"below the best so far, tolerance {one:g}"] = _choose_by(partial(best_stop_rule, tolerance=one))
    rules |= {f"patience {points}": _choose_by(partial(patience_rule, patience=points)) for points in (1, 2)}
    rules |= {f"fixed budget {100 * budget:g}%": _choose_within(budget) for budget in budgets}
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
    ends = [replace(point, asked=None) for point in {point.trial_id: point for point in points}.values()]
    best = {point.trial_id for point in best_settings(ends, ended)}
    paths: dict[tuple[Problem, str], dict[str, list[Point]]] = {}
    for point in points:
        if point.trial_id in best:
            paths.setdefault((point.problem, point.arm), {}).setdefault(point.trial_id, []).append(point)
    found = {}
    for key, by_trial in sorted(paths.items(), key=lambda item: item[0]):
        several = [sorted(path, key=lambda point: point.point) for path in by_trial.values()]
        if max(map(len, several)) > 1:
            found[key] = _outcomes(several, environments)
    return found


def stops_page(run: Run, label: str | None = None) -> Iterator[Part]:
    """Yield one table per problem and arm. Raises ResultsError: no trial (with that label) has several points.

    Args:
        label: only arms with this label, or the arm of this name; None: all.
    """
    points = points_of(run)
    outcomes = rule_outcomes(points, ended_settings(run), environments_of(run))
    meant = {point.arm for point in points if label in (None, point.label, point.arm)}
    shown = {key: several for key, several in outcomes.items() if key[1] in meant}
    if not shown:
        raise ResultsError(
            f"no trial{'' if label is None else f' of {label!r}'} has several operating points;"
            f" arms that have several: {'; '.join(sorted({name for _, name in outcomes})) or 'none'}"
        )
    for (problem, name), several in shown.items():
        yield Heading(f"{name}, {problem}")
        yield ""
        yield PageTable(columns=COLUMNS, rows=[outcome_row(one) for one in several])
        yield ""
    problems = {problem for problem, _ in shown}
    yield from map(
        Note,
        [
            f"Rules read the validation split; {ORACLE!r} reads the test split and is no usable rule. Tolerances are"
            " fractions (0.003: 0.3 points). Differences are paired by seed and not corrected for their number.",
            *_marks(shown),
            *support_lines(run, problems),
        ],
    )


def _outcomes(paths: Sequence[Sequence[Point]], environments: EnvironmentsByTrial) -> list[RuleOutcome]:
    budgets = sorted({point.asked for path in paths for point in path if point.asked})
    of_choice: dict[tuple[int, ...], Arm] = {}  # most rules choose what another one has chosen

    def arm(choose: Choose) -> Arm:
        chosen = [choose(path) for path in paths]
        numbers = tuple(map(id, chosen))
        if numbers not in of_choice:
            of_choice[numbers] = replace(arm_of(chosen, environments), asked=None)
        return of_choice[numbers]

    arms = {name: arm(choose) for name, choose in rules_for(budgets).items()}
    paper = arms[PAPER]
    against = {id(one): compare([(one, paper)]) for one in of_choice.values()}
    return [RuleOutcome(name, one, None if name == PAPER else against[id(one)]) for name, one in arms.items()]


def _choose_by(rule: Callable[[Sequence[float]], int]) -> Choose:
    """The point whose place a rule chooses by the validation scores of a path."""
    return lambda path: path[rule([point.validation for point in path])]


def _choose_within(budget: float) -> Choose:
    """The last point whose asked budget is not above this one; else the first point."""
    return lambda path: [path[0], *(point for point in path if (point.asked or 0.0) <= budget + 1e-9)][-1]


def _best(path: Sequence[Point], score: Callable[[Point], float]) -> Point:
    """Return the point with the largest finite score (ties: fewer MACs); the first point if no score is finite."""
    finite = [point for point in path if math.isfinite(score(point))]
    return max(finite, key=lambda point: (score(point), point.removed), default=path[0])


def outcome_row(one: RuleOutcome) -> tuple[str, ...]:
    """Write the cells of the columns `COLUMNS`."""
    arm, scale = one.arm, SCALES[one.arm.metric]
    cells = (
        one.rule,
        str(len(arm.models_by_seed)),
        percent(arm.removed, 1),
        scale.value(arm.validation.mean),
        scale.value(arm.test.mean),
        scale.interval(arm.test),
    )
    if one.against is None:
        return (*cells, *[NOTHING] * 4)
    found = one.against.result
    return (
        *cells,
        scale.difference(found.difference.mean),
        scale.interval(found.difference, signed=True),
        p_text(found.p),
        p_text(found.smallest_p),
    )


def _marks(shown: Mapping[tuple[Problem, str], Sequence[RuleOutcome]]) -> list[str]:
    notes = []
    for (problem, name), several in shown.items():
        arm = several[0].arm
        if arm.test.n == 1:
            notes.append(f"{name}, {problem}: only one seed, so no interval can be given.")
        if lost := max(one.arm.not_finite for one in several):
            notes.append(f"{name}, {problem}: up to {lost} trials end with a validation score that is not a number.")
        if len(arm.environments) > 1:
            notes.append(f"{name}, {problem}: computed on mixed hardware, ranks or torch versions.")
    return notes


_RULES = (*(f"paper's, tolerance {one:g}" for one in sorted(TOLERANCES)), "best by validation", "end of the path")
_COLUMNS = ("arm", "rule", "seeds", "removed_macs_fraction", "validation_score", "test_score")
_MOST_ARMS = 20

Outcomes = Mapping[str, Sequence[RuleOutcome]]
"""By arm."""


def outcomes_of(found: Findings, problem: Problem) -> Outcomes:
    """What every rule chooses for each arm of a problem whose trials have several points."""
    points = [point for point in found.points if point.problem == problem]
    return {arm: several for (_, arm), several in
            rule_outcomes(points, found.ended, found.environments).items()}  # fmt: skip


def chart(found: Findings, problem: Problem, outcomes: Outcomes) -> Chart | None:
    """Means over seeds of what some rules would have chosen; None where no path has two points.

    Args:
        outcomes: from `outcomes_of`.
    """
    if not outcomes:
        return None
    scale = found.scales[problem]
    rows = [
        (arm, one.rule, len(one.arm.models_by_seed), one.arm.removed, one.arm.validation.mean, one.arm.test.mean)
        for arm, several in outcomes.items()
        for one in sorted((one for one in several if one.rule in _RULES), key=lambda one: _RULES.index(one.rule))
    ]
    arms = sorted(outcomes)
    shown = arms[:_MOST_ARMS]
    left = names_width(shown)
    axes = {"removed": "removed MACs (%)", "score": f"test {scale.noun}{scale.axis_unit}"}
    forms = {"removed": ".1f", "score": f".{scale.digits}f"}
    tip = told(arm="arm", rule="rule", seeds="seeds", **{name: f"{axes[name]}|{forms[name]}" for name in axes})
    rule = {"field": "rule", "type": "nominal", "sort": list(_RULES)}
    ticks = {"tickCount": 6}
    removed = quantity("removed", axes["removed"], axis=ticks)
    score = score_channel("score", axes["score"], scale, [row[-1] for row in rows if row[0] in shown], axis=ticks)
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
        "concat": [
            {
                "width": (WIDTH - left) / 2 - 24,
                "height": {"step": 9, "for": "offset"},
                "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": {"field": "arm", "type": "nominal", "axis": row_axis(labels=x is removed)},
                    "yOffset": rule,
                    "color": rule | {"title": None, "scale": {"domain": _RULES, "range": PALETTE[: len(_RULES)]}},
                    "tooltip": tip,
                },
            }
            for x in (removed, score)
        ],
    }
    note = f"{len(arms) - len(shown)} more arms are in the table." if len(arms) > len(shown) else ""
    title = f"{problem}: what each rule would have chosen, means over seeds"
    return Chart(title, spec, Answer(_COLUMNS, rows, POINTS.strip()), note=note, derived=True)


TOLERANCE = 0.003
"""TransTailor's printed tau, 0.3 percentage points of accuracy. For R squared, the same number is our choice."""


def section(found: Findings) -> Section:
    """Compare the rules for each problem, and arm by arm."""
    made = Section(
        "stop",
        "What stop rules would have chosen",
        "Every trial runs its whole path, so stop rules are applied afterwards, to the validation score only."
        f" The paper's Algorithm 1 stops at the first point more than {100 * TOLERANCE:g} percentage points (of"
        f" R²: {TOLERANCE:g}) below the one before. “Best point” is the best by validation on the whole path.",
        empty="No path has two operating points yet.",
        short="Stop rules",
    )
    rows = []
    for place, problem in enumerate(found.problems):
        outcomes = outcomes_of(found, problem)
        if drawn := chart(found, problem, outcomes):
            made.blocks.append(Figure(f"stop{place}", drawn))
        for name, several in outcomes.items():
            rows += [TableRow((str(problem), name, *outcome_row(one)[:-1])) for one in several]
    if rows:
        columns, numeric = ("where", "arm", *COLUMNS[:-1]), (False, False, False, *[True] * 8)
        table = HtmlTable(columns, numeric, rows, comparison.POINTS)
        made.blocks.append(TableBlock(table, "All rules, arm by arm", derived=True, folded=len(rows) > 8))
    return made


@question(example="runs/demo")
@cli.option(
    "--label", metavar="LABEL", shell_complete=complete_arms,
    help="only arms with this label, or the arm of this name",
)  # fmt: skip
def stops(run: Run, label: str | None = None) -> Iterator[Part]:
    """What each stop rule would have chosen on the recorded paths."""
    return stops_page(run, label)
