"""The verdict of each comparison of a run with [settle], and the path of each interval.

Such a run has only these verdicts. Its numbers of seeds depend on its scores, so tests that suppose a number fixed in
advance would err more often than they say.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy import special

from results.arms.comparison import Arm, budget_order, is_shorter
from results.arms.counts import trials_line
from results.arms.findings import Findings, findings_of
from results.arms.flags import Facts, flag_lines, flags_of
from results.arms.looks import (
    SETTLED,
    Comparison,
    RecordedLook,
    has_several_families,
    is_settled_run,
    last_looks,
    looks_by_comparison,
    recorded_looks,
)
from results.arms.problem import Problem
from results.arms.selection import arm_called, is_at, not_at_budget
from results.errors import ResultsError
from results.render.blocks import Figure, Section, TableBlock, Words
from results.render.chart import Chart, Spec
from results.render.style import WIDTH, arm_channels, quantity, tooltip
from results.statistics.pairs import compare_pairs
from results.store.query_table import query_table
from results.store.reader import Run
from results.text.number_format import SCALES
from results.text.page import Heading, Part, Shown, Table, TableRecord, answer_table, notes
from results.text.scales import scaled
from results.text.shown import VERDICT, interval, verdict_text
from transtailor.plural import counted

LOOKS = """
SELECT network, dataset, train_images, arm, asked_removed_macs_fraction, against, metric, seeds, mean, low, high,
    deviation, z, "limit", p, verdict, unbiased, matters
FROM looks ORDER BY network, dataset, asked_removed_macs_fraction, arm, look
"""


def _estimate_text(record: TableRecord) -> str:
    return scaled(record["unbiased"], "difference", record["metric"])


SHOWN = (
    "asked_removed_macs_fraction", "arm", Shown("pairs", "seeds"), "difference",
    interval("difference_low", "difference", "interval"), Shown("unbiased", "estimate", _estimate_text), VERDICT,
)  # fmt: skip
USUAL = ("arm", "asked_removed_macs_fraction", "verdict", "difference", "pairs", "difference_low")

LooksByComparison = Mapping[Comparison, list[RecordedLook]]


def looks_page(run: Run, against: str, asked: float | None) -> Iterator[Part]:
    """Yield the comparisons of a run with [settle]: for each problem its last looks.

    Raises:
        ResultsError: it was settled against another arm, or has no look, or none at this budget.
    """
    looks = looks_by_comparison(recorded_looks(run))
    known = {comparison.against for comparison in looks}
    if not looks:
        raise ResultsError(
            "no look yet: the sweep takes the first one when its seeds have run; to see how far it is, type:"
            f" {run.to_type('status')}"
        )
    findings = findings_of(run)
    tested = findings.tested
    if against not in known and arm_called(run, tested, against) not in known:
        names = ", ".join(sorted(known))
        raise ResultsError(
            f"this run added seeds until its comparisons with {names} were settled, so a test against {against!r} would"
            f" err more often than it says; type --against {names!r}, or --anytime for intervals that hold at any time"
        )
    shown = looks
    if asked is not None:
        shown = {key: looks[key] for key in looks if key.asked == 0.0 or is_at(key, asked)}
        if not any(key.asked for key in shown):
            budgets = ", ".join(f"{budget:g}" for budget in sorted({key.asked for key in looks if key.asked})) or "none"
            raise ResultsError(f"no comparison at {asked:g} of the MACs removed was looked at; budgets: {budgets}")
    problems = sorted({key.problem for key in shown})
    flagged: list[Mapping[str, Any]] = []
    for problem in problems:
        yield Heading(str(problem))
        yield ""
        yield f"Compared with {', '.join(sorted(known))}, while seeds were added."
        yield ""
        table = _table(tested, {key: shown[key] for key in shown if key.problem == problem}, findings.facts)
        flagged += table.records
        yield table
        yield ""
    yield from notes([*explanations(shown), *flag_lines(flagged)])
    yield from notes([*not_at_budget([arm for arm in tested if arm.problem in problems], asked), trials_line(run)])
    yield answer_table("compare", [], "pooled")


def settled_verdicts(run: Run) -> dict[tuple[Problem, str, float | None], RecordedLook]:
    """Return the last look of each comparison, by problem, arm and budget."""
    return {(key.problem, key.arm, key.asked): look for key, look in last_looks(run).items()}


def _arms_of(tested: Sequence[Arm], comparison: Comparison) -> tuple[Arm | None, Arm | None]:
    """Return the arm of a comparison and its control; None without a tested point."""
    arms = {(arm.name, arm.asked): arm for arm in tested if arm.problem == comparison.problem}
    return (
        arms.get((comparison.arm, comparison.asked)),
        arms.get((comparison.against, comparison.against_asked)),
    )


def _has_trained_longer(tested: Sequence[Arm], comparison: Comparison) -> bool:
    arm, control = _arms_of(tested, comparison)
    return arm is not None and control is not None and is_shorter(control, arm)


def _table(tested: Sequence[Arm], looks: LooksByComparison, facts: Facts) -> Table:
    """Return the last look of each comparison, in the columns of `compare`; null what supposes a number of seeds."""
    records: list[dict[str, Any]] = []
    for comparison, several in looks.items():
        look = several[-1]
        arm, control = _arms_of(tested, comparison)
        paired = compare_pairs(dict(enumerate(look.scores or ())), dict(enumerate(look.against_scores or ())))
        records.append({
            **look_record(look), "label": comparison.arm if arm is None else arm.label,
            "removed_macs_fraction": None if arm is None else arm.removed,
            "score": None if arm is None else arm.test.mean,
            "against_score": None if control is None else control.test.mean,
            "wins": paired.wins, "losses": paired.losses, "ties": paired.ties, "ahead_fraction": paired.improvement,
            **dict.fromkeys(("smallest_p", "p_holm", "pairs_needed", "detectable_difference")),
            "trained_longer": _has_trained_longer(tested, comparison),
            "flags": [] if arm is None else flags_of([(arm, control)], facts),
        })  # fmt: skip
    return answer_table("compare", records, shown=SHOWN, usual=USUAL, sql=LOOKS.strip())


def look_record(look: RecordedLook) -> dict[str, Any]:
    """Return the columns of a look that tables show."""
    comparison = look.comparison
    return {
        **comparison.problem.record, "metric": look.metric, "arm": comparison.arm,
        "asked_removed_macs_fraction": comparison.asked, "against": comparison.against,
        "pairs": look.seeds, "difference": look.mean, "difference_low": look.low, "difference_high": look.high,
        "unbiased": look.unbiased, "p": look.p, "verdict": look.verdict, "has_collapse": look.has_collapse,
        "failed_trials": len(look.failed), "trained_longer": False,
    }  # fmt: skip


def explanations(looks: LooksByComparison) -> list[str]:
    """Explain the columns, and say what to read with care."""
    last = [several[-1] for several in looks.values()]
    first = last[0]
    scale = SCALES[first.metric]
    lines = [
        f"{counted(first.family, 'comparison')} with one alpha = {first.alpha:g} over all looks; the smallest"
        f" difference that matters is {scale.value(first.matters)}{scale.difference_unit}. Interval: holds at all"
        " looks of all of them at once; a verdict may use alpha that others have handed on. Estimate: median-unbiased;"
        " a plain mean that stopped its comparison is too extreme.",
        seeds_saved(looks),
    ]
    if any(look.verdict == "no difference that matters" for look in last):
        lines.append("No difference that matters: up to 3/n of the seeds may still be outliers not seen yet.")
    collapses = sum(look.has_collapse for look in last)
    if collapses:
        lines.append(
            f"{counted(collapses, 'comparison')} with a collapse, a difference of more than ten times the median one:"
            " never called equal, and no test keeps its level there. Look at its seeds."
        )
    incomplete = sum(look.verdict == "incomplete" for look in last)
    if incomplete:
        lines.append(f"{counted(incomplete, 'comparison')} lost trials: no verdict, and no more seeds.")
    lines += [f"No more seeds are added: {reason}." for reason in sorted({look.ended for look in last if look.ended})]
    return lines


def seeds_saved(looks: LooksByComparison) -> str:
    """Say how many seeds the comparisons took, of those at most."""
    last = [several[-1] for several in looks.values()]
    took = sum(look.seeds for look in last)
    most = sum(look.seeds_at_most for look in last)
    return f"Seeds: {took / len(last):.1f} a comparison, of {most / len(last):g} at most ({1 - took / most:.0%} saved)."


def headline(findings: Findings) -> str:
    """Count the verdicts in a sentence; empty if the run has no looks."""
    if has_several_families(findings.run):
        return "Several of these runs have [settle]: their verdicts are in the report of each."
    looks = looks_by_comparison(recorded_looks(findings.run))
    if not looks:
        return ""
    last = [several[-1] for several in looks.values()]
    counts = [(word, sum(look.verdict == word for look in last)) for word in (*SETTLED, "open", "incomplete")]
    text = ", ".join(f"{count} {word}" for word, count in counts if count)
    against = ", ".join(sorted({comparison.against for comparison in looks}))
    return f"{counted(len(last), 'comparison')} with {against}: {text}. {seeds_saved(looks)}"


def chart(findings: Findings, problem: Problem) -> Chart | None:
    """Draw the path of each interval over the looks, with the boundary; None if the problem has no looks."""
    looks = looks_by_comparison(recorded_looks(findings.run))
    shown = {key: several for key, several in looks.items() if key.problem == problem and several[0].mean is not None}
    if not shown:
        return None
    scale = SCALES[next(iter(shown.values()))[0].metric]
    paths: list[dict[str, Any]] = []
    for comparison, several in shown.items():
        paths += [_drawn(comparison, look, scale.factor) for look in several if look.mean is not None]
    budgets = sorted({comparison.asked for comparison in shown}, key=budget_order)
    panels = [
        _panel(findings, paths, budget, len(budgets), f"difference{scale.difference_axis_unit}") for budget in budgets
    ]
    spec: Spec = {"columns": 2, "concat": panels, "resolve": {"scale": {"color": "shared"}}}
    against = next(iter(shown)).against
    return Chart(
        f"{problem}: differences to {against} while seeds were added",
        spec,
        query_table(findings.run, LOOKS.strip()),
        tables={"paths": paths},
        note="Bars: intervals that hold at all looks. Dashed: what the mean has to cross. Grey: negligible.",
        derived=True,
    )


def _drawn(comparison: Comparison, look: RecordedLook, factor: float) -> dict[str, Any]:
    """Return a look as the figure has it: mean, interval and boundary in the unit of the axis."""
    assert look.mean is not None and look.low is not None and look.high is not None
    assert look.limit is not None and look.deviation is not None
    tail = special.ndtr(-look.limit)
    boundary = float(special.stdtrit(look.seeds - 1, 1 - tail)) * look.deviation / math.sqrt(look.seeds)
    return {
        "budget": -1.0 if comparison.asked is None else comparison.asked,
        "arm": comparison.arm,
        "seeds": look.seeds,
        "mean": factor * look.mean,
        "low": factor * look.low,
        "high": factor * look.high,
        "boundary": factor * math.copysign(boundary, look.mean),
        "matters": factor * look.matters,
        "verdict": verdict_text(look_record(look)),
    }


def _panel(
    findings: Findings, paths: Sequence[Mapping[str, Any]], budget: float | None, panels: int, title: str
) -> Spec:
    """Draw the comparisons at one budget."""
    value = -1.0 if budget is None else budget
    matters = paths[0]["matters"]
    # The panels share one scale of colours, so each has all arms.
    colour = arm_channels(findings.methods, sorted({str(path["arm"]) for path in paths}), with_shape=False)
    tip = tooltip(arm="arm", seeds="seeds", mean=f"{title}|+.2f", low="from|+.2f", high="to|+.2f", verdict="verdict")
    x = quantity("seeds", "seeds")
    return {
        "title": at_title(budget),
        "width": WIDTH / min(panels, 2) - 80,
        "height": 260,
        "data": {"name": "paths"},
        "transform": [{"filter": f"datum.budget == {value}"}],
        "layer": [
            {"data": {"values": [{"low": -matters, "high": matters}]},
             "mark": {"type": "rect", "color": "#888", "opacity": 0.12},
             "encoding": {"y": quantity("low", title), "y2": {"field": "high"}}},
            {"mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
             "encoding": {"x": x, "y": quantity("low", title), "y2": {"field": "high"}, **colour}},
            {"mark": {"type": "line", "strokeDash": [4, 3], "opacity": 0.6},
             "encoding": {"x": x, "y": quantity("boundary", title), **colour}},
            {"mark": {"type": "line", "point": True},
             "encoding": {"x": x, "y": quantity("mean", title), "tooltip": tip, **colour}},
        ],
    }  # fmt: skip


def at_title(asked: float | None) -> str:
    """Write the title of the panel of a budget.

    >>> at_title(0.199), at_title(0.2)
    ('19.9% removed', '20% removed')
    """
    if asked is None:
        return "decided by a rule"
    return "nothing removed" if asked == 0 else f"{100 * asked:g}% removed"


def section(findings: Findings) -> Section | None:
    """Show what is settled and what is open, with the path of each interval; None if seeds were not added so."""
    if not is_settled_run(findings.run):
        return None
    if has_several_families(findings.run):
        return Section("settled", "What is settled", headline(findings), empty="", short="Settled")
    part = Section(
        "settled",
        "What is settled",
        "Seeds were added, look by look, until each comparison was settled. These verdicts count all looks: this run"
        " has no others.",
        empty="No look yet: the seeds of the first one are still running.",
        short="Settled",
    )
    looks = looks_by_comparison(recorded_looks(findings.run))
    if not looks:
        return part
    part.blocks += [Words(line) for line in explanations(looks)]
    for number, problem in enumerate(sorted({comparison.problem for comparison in looks})):
        drawn = chart(findings, problem)
        if drawn is not None:
            part.blocks.append(Figure(f"settled{number}", drawn))
        of_problem = {key: several for key, several in looks.items() if key.problem == problem}
        part.blocks.append(TableBlock(_table(findings.tested, of_problem, findings.facts), str(problem), derived=True))
    return part
