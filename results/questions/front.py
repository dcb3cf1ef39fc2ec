"""Which arms are worth their cost.

The Pareto front of score against MACs, parameters, latency or hours.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.arms.comparison import Arm
from results.arms.counts import trials_line
from results.arms.findings import Findings
from results.arms.flags import Facts, flag_lines, flags_of
from results.arms.fronts import DEVICE_HOURS, TIMED, FrontPoint, fronts_of
from results.arms.problem import Problem
from results.arms.selection import select_arms
from results.circumstances import circumstance_lines, circumstance_text, circumstances_of
from results.command_options import over_option
from results.question import question
from results.questions.front_figure import front_chart, means_of
from results.render.blocks import Figure, Section, Words
from results.statistics.fronts import FRONT_DRAWS
from results.store.reader import Run
from results.text.number_format import SCALES, number
from results.text.page import Heading, Note, Part, Shown, TableRecord, answer_table
from results.text.shown import ARM_AT_BUDGET, SCORE_INTERVAL
from transtailor import cli
from transtailor.plural import counted


def front_page(run: Run, cost: str, score: str = "test_score") -> Iterator[Part]:
    """Yield one table per problem, sorted by cost. Raises as `fronts_of`."""
    fronts = fronts_of(run, cost, score)
    chosen = select_arms(run, score=score)
    shown = (
        ARM_AT_BUDGET, Shown("cost", cost), Shown("score", "{mark}"), SCORE_INTERVAL, "seeds", "is_on_front",
        Shown("share_on_front", text=_share_text),
    )  # fmt: skip
    circumstance = circumstance_text(circumstances_of(run)[0]) if cost in TIMED else None
    of_all = {"scored_by": score, "cost_column": cost, "circumstance": circumstance}
    facts = Facts(run)
    records = {
        problem: [_record(point) | of_all | {"flags": flags_of([(point.arm, None)], facts)} for point in front]
        for problem, front in fronts.items()
    }
    for problem, front in fronts.items():
        where = f", {circumstance}" if circumstance else ""
        yield Heading(f"{problem}: {score.split('_')[0]} {SCALES[front[0].arm.metric].mark} against {cost}{where}")
        yield ""
        yield answer_table("front", records[problem], shown=shown)
        yield ""
    yield Note(
        "On the front: no other arm is at least as cheap and at least as good, and better in one of the two (means"
        f" over seeds). The share of {FRONT_DRAWS} resamples of the seeds in which this holds is no p-value: of two"
        " equal arms, one reaches 0.95 in 21% of all cases with 5 seeds, in 14% with 10."
    )
    yield from map(
        Note,
        [
            *flag_lines(record for of_problem in records.values() for record in of_problem),
            *chosen.without_score,
            *_without_cost(run, fronts, chosen.arms, cost),
        ],
    )
    if cost == DEVICE_HOURS:
        devices = sorted({one.device for arm in chosen.arms for one in arm.environments})
        yield Note(f"{cost}: hours x ranks of all stages of a point, without sharing, on {', '.join(devices)}.")
    if cost in TIMED:
        yield from map(Note, circumstance_lines(run))
    yield Note(trials_line(run))


def _record(point: FrontPoint) -> dict[str, Any]:
    return {
        **point.arm.record, "cost": point.cost, "score": point.score, "score_low": point.interval.low,
        "score_high": point.interval.high, "seeds": point.seeds, "is_on_front": point.is_on_front,
        "share_on_front": point.share,
    }  # fmt: skip


def _share_text(record: TableRecord) -> str:
    return "one seed" if record["share_on_front"] is None else number(record["share_on_front"], 2)


def _without_cost(
    run: Run, fronts: Mapping[Problem, Sequence[FrontPoint]], arms: Sequence[Arm], cost: str
) -> list[str]:
    """Say which arms are left out of the front, or some of their seeds."""
    with_cost = {(problem, str(point.arm)): point.seeds for problem, front in fronts.items() for point in front}
    texts = []
    for arm in arms:
        lost = len(arm.test_by_seed) - with_cost.get((arm.problem, str(arm)), 0)
        if lost:
            texts.append(f"{lost} of {counted(len(arm.test_by_seed), 'seed')} of {arm}, {arm.problem}")
    how = f"; to time the others, type: {run.to_type('time')}" if cost in TIMED else "."
    return [f"Left out, as without a {cost}: {'; '.join(texts)}{how}"] if texts else []


def section(findings: Findings) -> Section:
    """Draw one figure with a panel for each problem that has test scores."""
    section_front = Section(
        "pareto",
        "Score against cost",
        "MACs are multiply-accumulate operations of one forward pass of one image; an operating point is a sub-model"
        " that was measured. Small marks: every operating point. Large:"
        " the mean of each arm at each asked budget, with its 95% t interval."
        " Lines join the budgets of an arm; the dashed line is the front: no other mean beats these in both cost and"
        " score. Rank-time is the time of all stages that led to the point, times their ranks, without sharing. Point"
        " at a mark to read it, click on it to see its trial; click on an arm to isolate it (with Shift, several);"
        " drag a rectangle to select points for the table below. Ranks are by the score on the validation split; the"
        " test score is shown but not used for ranking.",
        empty="No test predictions yet.",
        short="Score and cost",
    )
    means = means_of(findings)
    drawn = front_chart(findings, means)
    if drawn is None:
        return section_front
    section_front.blocks.append(Figure("pareto-figure", drawn))
    if any(cost in TIMED for _, cost in means):
        section_front.blocks += [Words(line) for line in circumstance_lines(findings.run)]
    return section_front


@question(example="runs/demo --cost params")
@cli.option(
    "--cost", default="macs", metavar="COLUMN",
    help="macs, params, latency_ms, peak_memory_bytes, device_hours, ...",
)  # fmt: skip
@cli.option("--by", default="test_score", metavar="SCORE", help="test_score or validation_score")
@over_option
def front(run: Run, cost: str = "macs", by: str = "test_score") -> Iterator[Part]:
    """Which arms are worth their cost, and how certain that is."""
    return front_page(run, cost, by)
