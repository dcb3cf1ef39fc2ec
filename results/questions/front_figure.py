"""The figure of the Pareto front: score against cost, one panel for each problem."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from results.arms.findings import Findings
from results.arms.fronts import DEVICE_HOURS, TIMED, FrontPoint, costs_of, fronts_among
from results.arms.problem import Problem
from results.circumstances import LATENCY, Circumstance, circumstances_of
from results.questions.costs import time_unit
from results.render.chart import Chart, Spec
from results.render.style import GREY, WIDTH, arm_channels, quantity, score_domain, tooltip
from results.store.query_table import query_table
from results.store.reader import Run
from results.text.number_format import Scale, percent
from results.text.page import Table
from transtailor.plural import counted

POINTS_WITH_COSTS = """
SELECT network, dataset, train_images, arm, seed, trial_id, point,
    round(asked_removed_macs_fraction, 9) AS asked_removed_macs_fraction, removed_macs_fraction, macs, params,
    device_hours, latency_ms, peak_memory_bytes, validation_score, test_score, test_images
FROM compared_points LEFT JOIN unshared_costs USING (stage_key)
WHERE test_score IS NOT NULL
ORDER BY network, dataset, train_images, arm, seed, trial_id, point
"""
"""`device_hours`: of all ranks, for all stages that led to the point, without sharing."""

SCORES = {"test_score": "test", "validation_score": "validation"}


@dataclass(frozen=True)
class Cost:
    """What the figure can show across: its column, its short name, its axis, and the factor to the axis' unit."""

    column: str
    short: str
    title: str
    factor: float = 1.0


Means = dict[tuple[str, str], dict[Problem, list[FrontPoint]]]
"""By score and cost."""


def means_of(findings: Findings) -> Means:
    """Return the means of all arms, and whether they are on the front, for each score and cost that the run has."""
    by_validation = [replace(arm, test=arm.validation, test_by_seed=arm.validation_by_seed) for arm in findings.arms]
    means: Means = {}
    always = {cost: costs_of(findings.run, cost) for cost in ("macs", "params", DEVICE_HOURS)}
    timed = {cost: costs_of(findings.run, cost) for cost in TIMED}
    for cost, costs in (always | {cost: costs for cost, costs in timed.items() if costs}).items():
        for score, arms in (("test_score", findings.arms), ("validation_score", by_validation)):
            arms_with_score = [arm for arm in arms if arm.test.mean is not None]
            means[score, cost] = fronts_among(arms_with_score, costs)
    return means


def front_chart(
    findings: Findings, means: Means, *, score: str = "test_score", cost: str = "macs", log: bool = False
) -> Chart | None:
    """Draw one panel for each problem; None where nothing has been tested.

    Args:
        means: from `means_of`.
        score, cost: a key of `means`.
    """
    data = query_table(findings.run, POINTS_WITH_COSTS)
    if not data.records:
        return None
    costs = [offered for offered in _costs(findings.run) if (score, offered.column) in means]
    (chosen,) = [offered for offered in costs if offered.column == cost]
    count = len(findings.problems)
    panel_of = {problem: index for index, problem in enumerate(findings.problems)}
    panel_of_rows = []
    for record in data.records:
        problem = Problem.of(record)
        panel_of_rows.append(panel_of[problem])
    views = {}
    for name in SCORES:
        point_scores = _scores_by_panel(data, panel_of_rows, name, count)
        views[name] = _views(findings, means, name, point_scores)
    extra: dict[str, list[Any]] = {"panel": panel_of_rows}
    ends = {}
    for offered in costs:
        values = data.column(offered.column)
        ends[offered.column] = _ends(values, panel_of_rows, offered, count)
    arms = set(data.column("arm"))
    panels = []
    for index in range(count):
        view = views[score][index] | {"x": ends[cost][index]}
        panels.append(_panel(findings, index, chosen, view, log=log, score=score, arms=arms))
    spec = {
        "params": [
            {"name": "score", "value": score},
            {"name": "cost", "value": cost},
            {"name": "cost_factor", "value": chosen.factor},
            {"name": "isolated", "value": []},
            {"name": "picked", "select": {"type": "point", "fields": ["arm"]}, "bind": "legend", "views": ["dots0"]},
        ],
        "columns": min(count, 2),
        "concat": panels,
        "usermeta": _offers(findings, costs, ends, views),
    }
    if len(findings.run.paths) > 1:
        run_of = {row["trial_id"]: row["run"] for row in findings.run.rows("SELECT trial_id, run FROM compared_points")}
        extra["run"] = [run_of[trial] for trial in data.column("trial_id")]
    tables = {"means": _mean_rows(findings, means, costs)}
    return Chart(_chart_title(findings, score, chosen), spec, data, extra, tables)


def _chart_title(findings: Findings, score: str, cost: Cost) -> str:
    nouns: list[str] = []
    for problem in findings.problems:
        noun = findings.scales[problem].noun
        if noun not in nouns:
            nouns.append(noun)
    return f"{SCORES[score].capitalize()} {' or '.join(nouns)} against {cost.short}"


def _offers(
    findings: Findings,
    costs: Sequence[Cost],
    ends: Mapping[str, Sequence[list[float] | None]],
    views: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return what the report's page offers: the other axes, which it puts into the same specification.

    Args:
        ends: column of a cost -> the ends of its axis in each panel, from `_ends`.
        views: score -> its axis in each panel, from `_views`.
    """
    scales = [findings.scales[problem] for problem in findings.problems]
    offered_costs = []
    for cost in costs:
        offered_costs.append(
            {
                "column": cost.column,
                "short": cost.short,
                "title": cost.title,
                "factor": cost.factor,
                "domains": ends[cost.column],
            }
        )
    offered_scores = []
    for score, short in SCORES.items():
        titles = [_title(score, scale) for scale in scales]
        offered_scores.append({"column": score, "short": short, "titles": titles, "views": views[score]})
    return {
        "costs": offered_costs,
        "scores": offered_scores,
        "problems": [{"factor": scale.factor} for scale in scales],
    }


def _scores_by_panel(data: Table, panel_of_rows: Sequence[int], score: str, panels: int) -> list[list[float]]:
    """Return for each panel the scores of its points, without those that are missing or not finite."""
    scores: list[list[float]] = [[] for _ in range(panels)]
    for index, value in zip(panel_of_rows, data.column(score), strict=True):
        if value is not None and math.isfinite(value):
            scores[index].append(value)
    return scores


def _ends(
    values: Sequence[float | None], panel_of_rows: Sequence[int], cost: Cost, panels: int
) -> list[list[float] | None]:
    """Return for each panel the least and the largest cost of its points, as drawn; None where no point has one."""
    costs: list[list[float]] = [[] for _ in range(panels)]
    for index, value in zip(panel_of_rows, values, strict=True):
        if value:
            costs[index].append(value * cost.factor)
    return [[min(of_panel), max(of_panel)] if of_panel else None for of_panel in costs]


def _costs(run: Run) -> list[Cost]:
    per_hour, unit = time_unit(run)
    return [
        Cost("macs", "MACs", "multiply-accumulates for one image"),
        Cost("params", "parameters", "parameters"),
        Cost(DEVICE_HOURS, "rank-time", f"rank-{unit} of computing", per_hour),
        *(Cost(LATENCY, "latency", _latency_axis(circumstance)) for circumstance in circumstances_of(run)[:1]),
        Cost("peak_memory_bytes", "memory", "peak memory of a forward pass (MiB)", 2.0**-20),
    ]


def _latency_axis(circumstance: Circumstance) -> str:
    images = counted(circumstance["batch"], "image")
    threads = counted(circumstance["threads"], "thread")
    where = f"{circumstance['runtime']}, {circumstance['device_name']}, {threads}"
    return f"median latency of a forward pass of {images} (ms; {where})"


def _title(score: str, scale: Scale) -> str:
    return f"{SCORES[score]} {scale.noun}{scale.axis_unit}"


def _views(findings: Findings, means: Means, score: str, scores: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Return for each problem the ends of the axis of scores, which has all points, means and intervals.

    Args:
        scores: of all points of each problem.
    """
    views = []
    for problem, point_scores in zip(findings.problems, scores, strict=True):
        drawn = list(point_scores)
        for point in means[score, "macs"].get(problem, []):
            drawn += [end for end in (point.score, point.interval.low, point.interval.high) if end is not None]
        low, high = min(drawn, default=0.0), max(drawn, default=1.0)
        views.append({"domain": score_domain(findings.scales[problem], low, high)})
    return views


def _mean_rows(findings: Findings, means: Means, costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """Return a row for each mean that the figure can show: each arm by each score and each cost."""
    factors = {cost.column: cost.factor for cost in costs}
    rows = []
    for (score, cost), fronts in means.items():
        for panel, problem in enumerate(findings.problems):
            axes = {"panel": panel, "score": score, "cost": cost}
            for point in fronts.get(problem, []):
                rows.append(axes | _mean_row(point, findings.scales[problem], factors[cost]))
    return rows


def _mean_row(point: FrontPoint, scale: Scale, cost_factor: float) -> dict[str, Any]:
    low = point.interval.low
    high = point.interval.high
    return {
        "arm": point.arm.name, "asked": point.arm.asked,
        "name": str(point.arm), "x": point.cost * cost_factor,
        "y": scale.factor * point.score, "low": None if low is None else scale.factor * low,
        "high": None if high is None else scale.factor * high, "seeds": point.seeds,
        "on_front": point.is_on_front,
        "share": "one seed" if point.share is None else f"{percent(point.share, 0)}% of resamples",
        "interval": f"{scale.interval(point.interval)}",
    }  # fmt: skip


def _panel(
    findings: Findings, panel: int, cost: Cost, view: dict[str, Any], *, log: bool, score: str, arms: set[str]
) -> Spec:
    """Draw the panel of one problem.

    Args:
        panel: number of the problem.
        view: from `_views`; "x" has the ends of the axis of costs.
        arms: of all panels.
    """
    problem = findings.problems[panel]
    scale = findings.scales[problem]
    title = _title(score, scale)
    x_scale: dict[str, Any] = {"padding": 14, "nice": False}
    x_scale |= {"type": "log"} if log else {"type": "linear", "zero": False}
    if view["x"]:
        x_scale["domain"] = view["x"]
    x = quantity("x", cost.title, axis={"format": "~s", "tickCount": 7}, scale=x_scale)
    y = quantity("y", title, scale={"zero": False, "nice": False, "domain": view["domain"]})
    layers = _layers(panel, cost, scale, title, arm_channels(findings.methods, arms))
    images = f", {problem.train_images} training images" if problem.train_images else ""
    width = WIDTH / min(len(findings.problems), 2) - 80
    return {
        "title": {"text": problem.network, "subtitle": f"{problem.dataset}{images}"},
        "width": width,
        "height": 280,
        "layer": [{"encoding": {"x": x, "y": y}, "layer": layers}],
    }


def _layers(panel: int, cost: Cost, scale: Scale, title: str, channels: dict[str, Any]) -> list[Spec]:
    """Return the marks of a panel, the lowest first: front, paths, intervals, operating points, means.

    Args:
        title: of the axis of scores.
        channels: the colour and shape of each arm.
    """
    is_lit = "!length(isolated) || indexof(isolated, datum.arm) >= 0"
    lit: dict[str, Any] = {"condition": {"test": is_lit, "value": 1}, "value": 0.06}
    faint: dict[str, Any] = {"condition": {"test": is_lit, "value": 0.4}, "value": 0.03}
    of_panel = {"filter": f"datum.panel == {panel}"}
    shown_means = [of_panel, {"filter": "datum.cost == cost && datum.score == score"}]
    front_means = [*shown_means, {"filter": "datum.on_front"}]
    shown_points = [
        of_panel,
        {"filter": "isValid(datum[cost]) && isValid(datum[score])"},
        {"calculate": "datum[cost] * cost_factor", "as": "x"},
        {"calculate": f"datum[score] * {scale.factor}", "as": "y"},
        {"calculate": "datum.removed_macs_fraction * 100", "as": "removed"},
    ]
    means: Spec = {"data": {"name": "means"}}
    colour = {"color": channels["color"]}
    mean_tip = tooltip(
        name="arm",
        y=f"mean {title}|.{scale.digits}f",
        interval="95%",
        seeds="seeds",
        x=f"{cost.short}|,.4~r",
        share="on the front in",
    )
    point_tip = tooltip(
        arm="arm",
        seed="seed",
        removed="removed MACs (%)|.1f",
        y=f"{title}|.{scale.digits}f",
        x=f"{cost.short}|,.4~r",
        trial_id="trial",
        point="point",
    )
    return [
        means | {
            "transform": front_means,
            "mark": {"type": "line", "interpolate": "step-after", "strokeDash": [5, 3], "color": GREY, "clip": True},
        },
        means | {
            "transform": front_means,
            "mark": {"type": "point", "shape": "circle", "size": 260, "color": GREY, "strokeWidth": 1, "clip": True},
        },
        means | {
            "transform": shown_means,
            "mark": {"type": "line", "strokeWidth": 1.7, "clip": True},
            "encoding": colour | {"opacity": lit, "order": {"field": "asked"}},
        },
        means | {
            "transform": shown_means,
            "mark": {"type": "rule", "clip": True},
            "encoding": colour | {"y": {"field": "low"}, "y2": {"field": "high"}, "opacity": faint},
        },
        {
            "name": f"dots{panel}", "data": {"name": "rows"}, "transform": shown_points,
            "mark": {"type": "point", "filled": True, "size": 22, "clip": True},
            "encoding": channels | {"opacity": faint, "tooltip": point_tip},
        },
        means | {
            "transform": shown_means,
            "mark": {"type": "point", "filled": True, "size": 85, "stroke": "white", "strokeWidth": 1, "clip": True},
            "encoding": channels | {"opacity": lit, "tooltip": mean_tip},
        },
    ]  # fmt: skip
