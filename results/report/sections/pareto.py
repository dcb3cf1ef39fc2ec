"""Score against cost: every operating point against MACs, parameters, hours and, if timed, latency and memory."""

from collections.abc import Mapping

from results.analysis.pareto import DEVICE_HOURS, TIMED, FrontPoint, circumstance_lines, costs_of, fronts_among
from results.arms.comparison import POINTS as ROWS
from results.arms.comparison import Problem, last_points
from results.figures.scatter import ArmMean, CostAxis, Series, scatter
from results.report.elements.blocks import Answer, Figure, Section, TableBlock, Words, answer
from results.report.elements.findings import Findings
from results.report.elements.problems import problem_condition, scale_of
from results.report.elements.tables import HtmlTable, TableRow
from results.report.sections.costs import unit_of
from results.text.number_format import NOTHING, number, percent

COSTS = {"macs": "MACs", "params": "parameters", DEVICE_HOURS: "rank-time"}
"""The costs that every point has, with short names."""
OF_TIMED = dict(zip(TIMED, ("latency", "memory"), strict=True))
POINTS = """
WITH RECURSIVE each AS (
    SELECT stage_key, arg_min(compute_s, (cached, written_at)) * arg_min(ranks, (cached, written_at)) AS rank_s,
        any_value(parents) AS parents
    FROM stages GROUP BY stage_key
), behind AS (
    SELECT DISTINCT stage_key AS point_key, stage_key FROM operating_points WHERE {problem}
    UNION
    SELECT point_key, unnest(parents) AS stage_key FROM behind JOIN each USING (stage_key)
), hours AS (
    SELECT point_key AS stage_key, sum(rank_s) / 3600 AS device_hours
    FROM behind JOIN each USING (stage_key) GROUP BY ALL
)
SELECT label, seed, trial_id, point, round(asked_removed_macs_fraction, 9) AS asked_removed_macs_fraction,
    removed_macs_fraction, macs, params, device_hours, latency_ms, peak_memory_bytes, validation_score, test_score,
    test_images
FROM compared_points LEFT JOIN hours USING (stage_key)
WHERE {problem}
ORDER BY label, seed, trial_id, point
"""
"""`device_hours`: of all ranks, for all stages that led to the point, without sharing."""
_SETTLED_NOT = 0.02
"""Arms that are on the front in a smaller share of the resamples are left out of the table."""

Fronts = Mapping[str, Mapping[Problem, list[FrontPoint]]]


def section(found: Findings) -> Section:
    """Draw one figure for each problem with test scores, and list the arms that may be on its fronts."""
    made = Section(
        "pareto",
        "Score against cost",
        "Faint: every operating point. Full: the mean of each label at each asked budget; the line joins those means"
        " that no other beats in both cost and score. Rank-time is the time of all stages that led to the point, times"
        " their ranks, without sharing. Point at a dot to read it, click to see its trial; a name in the legend brings"
        " its label to the front.",
        empty="No test predictions yet.",
    )
    fronts = _fronts(found)
    for place, problem in enumerate(found.problems):
        data = answer(found.run, POINTS.format(problem=problem_condition(problem)))
        made.blocks.append(_figure(found, f"pareto{place}", problem, data, _only(COSTS, fronts)))
        if timed := {cost: of_cost for cost, of_cost in _only(OF_TIMED, fronts).items() if problem in of_cost}:
            made.blocks.append(_figure(found, f"timed{place}", problem, data, timed))
        made.blocks.append(_table(problem, fronts))
    if _only(OF_TIMED, fronts):
        made.blocks += [Words(line) for line in circumstance_lines(found.run)]
    return made


def _fronts(found: Findings) -> Fronts:
    points, arms = last_points(found.best), [arm for arm in found.arms if arm.test.mean is not None]
    fronts = {cost: fronts_among(points, arms, costs_of(found.run, cost)) for cost in (*COSTS, *OF_TIMED)}
    return {cost: of_cost for cost, of_cost in fronts.items() if of_cost or cost in COSTS}


def _only(costs: Mapping[str, str], fronts: Fronts) -> Fronts:
    return {cost: of_cost for cost, of_cost in fronts.items() if cost in costs}


def _figure(found: Findings, name: str, problem: Problem, data: Answer, fronts: Fronts) -> Figure:
    scale = scale_of(found.points, problem)
    rows_of: dict[str, list[int]] = {}
    for row, label in enumerate(data.column("label")):
        rows_of.setdefault(label, []).append(row)
    labels = [label for label in found.labels.colours if label in rows_of]
    series = [Series(found.labels.number(label), found.labels.colours[label], rows_of[label]) for label in labels]
    hours = [value for value in data.column("device_hours") if value is not None]
    factor, unit = unit_of(max(hours, default=0.0))
    axes = {
        "macs": ("multiply-accumulates for one image", 1.0),
        "params": ("parameters", 1.0),
        DEVICE_HOURS: (f"rank-{unit} of computing", factor),
        "latency_ms": ("median latency of a forward pass (ms)", 1.0),
        "peak_memory_bytes": ("peak memory of a forward pass (MiB)", 2.0**-20),
    }
    costs = [
        CostAxis(
            axes[cost][0],
            [None if value is None else axes[cost][1] * value for value in data.column(cost)],
            [_mean(found, point, axes[cost][1]) for point in of_cost.get(problem, [])],
        )
        for cost, of_cost in fronts.items()
    ]
    scores = [None if value is None else scale.factor * value for value in data.column("test_score")]
    title = f"{problem}: test {scale.noun} against {'latency and memory' if set(fronts) & set(TIMED) else 'cost'}"
    drawing = scatter(title, f"test {scale.noun}{scale.axis_unit}", scores, series, costs)
    return Figure(name, title, drawing, data, found.labels.legend(labels))


def _mean(found: Findings, point: FrontPoint, times: float) -> ArmMean:
    scale = scale_of(found.points, point.arm.problem)
    interval = "" if point.interval.low is None else f" [{scale.interval(point.interval)}]"
    share = "" if point.share is None else f"; on the front in {percent(point.share, 0)}% of resamples of the seeds"
    return ArmMean(
        series=found.labels.number(point.arm.label),
        cost=times * point.cost,
        score=scale.factor * point.score,
        is_on_front=point.is_on_front,
        words=f"{point.arm}: mean {scale.value(point.score)}{scale.unit}{interval} over {point.seeds} seeds{share}",
    )


def _table(problem: Problem, fronts: Fronts) -> TableBlock:
    """List the arms that are, or may be, on the front of any cost; "yes" or "no", and the share of resamples."""
    rows: dict[str, dict[str, str]] = {}
    for cost, by_problem in fronts.items():
        for point in by_problem.get(problem, []):
            if point.is_on_front or (point.share or 0.0) >= _SETTLED_NOT:
                share = "one seed" if point.share is None else number(point.share, 2)
                rows.setdefault(str(point.arm), {})[cost] = f"{'yes' if point.is_on_front else 'no'}, {share}"
    names = ("arm", *(f"front of {(COSTS | OF_TIMED)[cost]}, share" for cost in fronts))
    lines = [TableRow((arm, *(by_cost.get(cost, NOTHING) for cost in fronts))) for arm, by_cost in sorted(rows.items())]
    note = (
        "The share of 1000 resamples of the seeds in which no other arm is as cheap and as good: near 1 or 0 it is"
        f" settled, in between it is not. Arms below {_SETTLED_NOT:g} everywhere are left out."
    )
    table = HtmlTable(names, (False,) * len(names), lines, ROWS, note)
    return TableBlock(table, f"{problem}: which arms are on the front", derived=True, folded=True)
