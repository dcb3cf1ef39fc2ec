"""What each stop rule would have chosen on the recorded paths: a row for each arm, a mark for each rule."""

from collections.abc import Mapping, Sequence

from results.analysis.stopping import TOLERANCES, RuleOutcome, rule_outcomes
from results.arms.comparison import POINTS, Problem
from results.arms.findings import Findings
from results.plot.chart import Chart, Spec
from results.plot.style import PALETTE, WIDTH, names_width, quantity, row_axis, told
from results.store.answers import Answer

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


def stop_rules(found: Findings, problem: Problem, outcomes: Outcomes) -> Chart | None:
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
                    "x": quantity(name, title),
                    "y": {"field": "arm", "type": "nominal", "axis": row_axis(labels=name == "removed")},
                    "yOffset": rule,
                    "color": rule | {"title": None, "scale": {"domain": _RULES, "range": PALETTE[: len(_RULES)]}},
                    "tooltip": tip,
                },
            }
            for name, title in axes.items()
        ],
    }
    note = f"{len(arms) - len(shown)} more arms are in the table." if len(arms) > len(shown) else ""
    title = f"{problem}: what each rule would have chosen, means over seeds"
    return Chart(title, spec, Answer(_COLUMNS, rows, POINTS.strip()), note=note, derived=True)
