"""Score against cost: every operating point, the means of the arms with their intervals, paths, and the front."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from results.analysis.pareto import DEVICE_HOURS, TIMED, FrontPoint, costs_of, fronts_among
from results.arms.comparison import TRANSTAILOR, Problem
from results.arms.findings import Findings
from results.plot.chart import Chart, Spec
from results.plot.costs import time_unit
from results.plot.style import GREY, WIDTH, arm_channels, quantity, score_domain, told
from results.statistics.gaps import above_widest_gap
from results.store.answers import Answer, answer
from results.store.reader import Run
from results.text.number_format import Scale, percent

POINTS = """
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


def means_of(found: Findings) -> Means:
    """The means of all arms with their place on the front, for each score and each cost that the run has."""
    means: Means = {}
    costs = {cost: costs_of(found.run, cost) for cost in ("macs", "params", DEVICE_HOURS, *TIMED)}
    by_validation = [replace(arm, test=arm.validation, test_by_seed=arm.validation_by_seed) for arm in found.arms]
    for cost, known in costs.items():
        if known or cost not in TIMED:
            for score, arms in zip(SCORES, (found.arms, by_validation), strict=True):
                means[score, cost] = fronts_among([arm for arm in arms if arm.test.mean is not None], known)
    return means


def front(
    found: Findings, means: Means, *, score: str = "test_score", cost: str = "macs", log: bool = False
) -> Chart | None:
    """One panel for each problem; None where nothing has been tested.

    Args:
        means: from `means_of`.
        score, cost: a key of `means`.
    """
    data = answer(found.run, POINTS)
    if not data.rows:
        return None
    costs = [one for one in _costs(found.run) if (score, one.column) in means]
    chosen = next(one for one in costs if one.column == cost)
    scales = [found.scales[problem] for problem in found.problems]
    views = {name: _views(found, means, name) for name in SCORES}
    places = {(one.network, one.dataset, one.train_images): n for n, one in enumerate(found.problems)}
    panel = [places[network, dataset, images or 0] for network, dataset, images, *_ in data.rows]
    ends = {one.column: _ends(data, panel, one, len(places)) for one in costs}
    panels = [
        _panel(
            found,
            place,
            chosen,
            views[score][place] | {"x": ends[cost][place]},
            log=log,
            score=score,
            arms=set(data.column("arm")),
        )
        for place in range(len(found.problems))
    ]
    spec = {
        "params": [
            {"name": "score", "value": score},
            {"name": "cost", "value": cost},
            {"name": "cost_factor", "value": chosen.factor},
            {"name": "isolated", "value": []},
            {"name": "picked", "select": {"type": "point", "fields": ["arm"]}, "bind": "legend", "views": ["dots0"]},
            {"name": "brush", "select": {"type": "interval"}, "views": [f"dots{n}" for n in range(len(panels))]},
        ],
        "columns": min(len(panels), 2),
        "concat": panels,
        # What the report's page offers: the other axes, which it puts into the same specification.
        "usermeta": {
            "costs": [{"column": one.column, "short": one.short, "title": one.title, "factor": one.factor,
                       "domains": ends[one.column]} for one in costs],
            "scores": [{"column": name, "short": short, "titles": [_title(name, scale) for scale in scales],
                        "views": views[name]} for name, short in SCORES.items()],
            "problems": [{"network": problem.network, "dataset": problem.dataset, "train_images": problem.train_images,
                          "factor": scale.factor}
                         for problem, scale in zip(found.problems, scales, strict=True)],
        },
    }  # fmt: skip
    rows = [_row(found, *key, place, point, costs) for key, of_key in means.items()
            for place, problem in enumerate(found.problems) for point in of_key.get(problem, [])]  # fmt: skip
    nouns = " or ".join(dict.fromkeys(scale.noun for scale in scales))
    title = f"{SCORES[score].capitalize()} {nouns} against {chosen.short}"
    extra: dict[str, list[Any]] = {"panel": panel}
    if len(found.run.paths) > 1:
        runs = {row["trial_id"]: row["run"] for row in found.run.rows("SELECT trial_id, run FROM compared_points")}
        extra["run"] = [runs[trial] for trial in data.column("trial_id")]
    return Chart(title, spec, data, extra, {"means": rows})


def _ends(data: Answer, panel: Sequence[int], cost: Cost, panels: int) -> list[list[float] | None]:
    """For each panel the least and the largest cost of its points, as drawn; None where no point has one."""
    values: list[list[float]] = [[] for _ in range(panels)]
    for place, value in zip(panel, data.column(cost.column), strict=True):
        if value:
            values[place].append(value * cost.factor)
    return [[min(several), max(several)] if several else None for several in values]


def _costs(run: Run) -> list[Cost]:
    factor, unit = time_unit(run)
    return [
        Cost("macs", "MACs", "multiply-accumulates for one image"),
        Cost("params", "parameters", "parameters"),
        Cost(DEVICE_HOURS, "rank-time", f"rank-{unit} of computing", factor),
        Cost("latency_ms", "latency", "median latency of a forward pass (ms)"),
        Cost("peak_memory_bytes", "memory", "peak memory of a forward pass (MiB)", 2.0**-20),
    ]


def _title(score: str, scale: Scale) -> str:
    return f"{SCORES[score]} {scale.noun}{scale.axis_unit}"


def _views(found: Findings, means: Means, score: str) -> list[dict[str, Any]]:
    """For each problem the ends of the axis of scores, and a text that names the means below it."""
    made = []
    for problem in found.problems:
        scale = found.scales[problem]
        points = means[score, "macs"].get(problem, [])
        ends = [value for one in points for value in (one.interval.low, one.interval.high) if value is not None]
        kept = above_widest_gap([one.score for one in points])
        below = [one for one in points if one.score < kept]
        inside = [one.score for one in points if one.score >= kept]
        low = min([end for end in ends if end >= kept] + inside, default=0.0)
        high = max(ends + inside, default=1.0)
        words = [f"{_name(one)} {scale.value(one.score)}" for one in sorted(below, key=lambda one: -one.score)]
        made.append({"domain": score_domain(scale, low, high), "below": f"{'; '.join(words)} ↓" if words else ""})
    return made


def _name(point: FrontPoint) -> str:
    if _is_head_fit(point):
        return f"{point.arm.name}'s head fit"
    return point.arm.name if point.arm.asked == 0 else str(point.arm)


def _is_head_fit(point: FrontPoint) -> bool:
    """TransTailor's path begins with the unpruned network of which only the head was trained."""
    return point.arm.method == TRANSTAILOR and point.arm.asked == 0


def _row(
    found: Findings, score: str, cost: str, panel: int, point: FrontPoint, costs: Sequence[Cost]
) -> dict[str, Any]:
    scale = found.scales[point.arm.problem]
    low, high = (None if end is None else scale.factor * end for end in (point.interval.low, point.interval.high))
    return {
        "panel": panel, "score": score, "cost": cost, "arm": point.arm.name, "asked": point.arm.asked,
        "name": _name(point), "x": point.cost * next(one.factor for one in costs if one.column == cost),
        "y": scale.factor * point.score, "low": low, "high": high, "seeds": point.seeds,
        "on_front": point.is_on_front, "on_path": not _is_head_fit(point),
        "share": "one seed" if point.share is None else f"{percent(point.share, 0)}% of resamples",
        "interval": f"{scale.interval(point.interval)}",
    }  # fmt: skip


def _panel(
    found: Findings, place: int, cost: Cost, view: dict[str, Any], *, log: bool, score: str,
    arms: set[str],
) -> Spec:  # fmt: skip
    problem = found.problems[place]
    scale = found.scales[problem]
    title = _title(score, scale)
    kind = {"type": "log"} if log else {"type": "linear", "zero": False}
    ends = {"domain": view["x"]} if view["x"] else {}
    x = quantity(
        "x", cost.title, axis={"format": "~s", "tickCount": 7}, scale={"padding": 14, "nice": False, **kind, **ends}
    )
    y = quantity("y", title, scale={"zero": False, "nice": False, "domain": view["domain"]})
    channels = arm_channels(found.methods, arms)
    is_lit = "!length(isolated) || indexof(isolated, datum.arm) >= 0"
    lit: dict[str, Any] = {"condition": {"test": is_lit, "value": 1}, "value": 0.06}
    faint: dict[str, Any] = {"condition": {"test": is_lit, "value": 0.4}, "value": 0.03}
    here = {"filter": f"datum.panel == {place}"}
    shown = [here, {"filter": "datum.cost == cost && datum.score == score"}]
    of_rows = [
        here,
        {"filter": "isValid(datum[cost]) && isValid(datum[score])"},
        {"calculate": "datum[cost] * cost_factor", "as": "x"},
        {"calculate": f"datum[score] * {scale.factor}", "as": "y"},
        {"calculate": "datum.removed_macs_fraction * 100", "as": "removed"},
    ]
    means: Spec = {"data": {"name": "means"}}
    where = {"color": channels["color"]}
    tip = told(name="arm", y=f"mean {title}|.{scale.digits}f", interval="95%", seeds="seeds", x=f"{cost.short}|,.4~r",
               share="on the front in")  # fmt: skip
    dot = told(arm="arm", seed="seed", removed="removed MACs (%)|.1f", y=f"{title}|.{scale.digits}f",
               x=f"{cost.short}|,.4~r", trial_id="trial", point="point")  # fmt: skip
    layers: list[Spec] = [
        means | {
            "transform": [*shown, {"filter": "datum.on_front"}],
            "mark": {"type": "line", "interpolate": "step-after", "strokeDash": [5, 3], "color": GREY, "clip": True},
        },
        means | {
            "transform": [*shown, {"filter": "datum.on_front"}],
            "mark": {"type": "point", "shape": "circle", "size": 260, "color": GREY, "strokeWidth": 1, "clip": True},
        },
        means | {
            "transform": [*shown, {"filter": "datum.on_path"}],
            "mark": {"type": "line", "strokeWidth": 1.7, "clip": True},
            "encoding": where | {"opacity": lit, "order": {"field": "asked"}},
        },
        means | {
            "transform": shown,
            "mark": {"type": "rule", "clip": True},
            "encoding": where | {"y": {"field": "low"}, "y2": {"field": "high"}, "opacity": faint},
        },
        {
            "name": f"dots{place}", "data": {"name": "rows"}, "transform": of_rows,
            "mark": {"type": "point", "filled": True, "size": 22, "clip": True},
            "encoding": channels | {"opacity": faint, "tooltip": dot},
        },
        means | {
            "transform": shown,
            "mark": {"type": "point", "filled": True, "size": 85, "stroke": "white", "strokeWidth": 1, "clip": True},
            "encoding": channels | {"opacity": lit, "tooltip": tip},
        },
    ]  # fmt: skip
    below: Spec = {
        "data": {"values": [{"text": view["below"]}]},
        "mark": {"type": "text", "align": "right", "baseline": "bottom", "fontSize": 11, "color": GREY,
                 "limit": WIDTH // 2 - 60},
        "encoding": {"x": {"value": "width"}, "y": {"value": "height"}, "text": {"field": "text"}},
    }  # fmt: skip
    images = f", {problem.train_images} training images" if problem.train_images else ""
    width = WIDTH / min(len(found.problems), 2) - 80
    return {
        "title": {"text": problem.network, "subtitle": f"{problem.dataset}{images}"},
        "width": width,
        "height": 280,
        "layer": [{"encoding": {"x": x, "y": y}, "layer": layers}, below],
    }
