"""What a search found: its verdict, its best so far, its rungs, its settings, its front.

Figures show validation scores only.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from results.arms.comparison import arms_of, compare
from results.arms.counts import failed_by_arm
from results.arms.findings import Findings
from results.arms.verdict import verdict
from results.columns import Column
from results.render.blocks import Figure, Section, TableBlock
from results.render.chart import Chart, Spec
from results.render.style import PALETTE, WIDTH, quantity, score_domain, tooltip, whole_axis
from results.statistics.fronts import on_front
from results.store.query_table import query_table
from results.store.reader import Run, load
from results.text.number_format import SCALES, Scale
from results.text.page import Table

RUNG_NAME = "coalesce(epochs || if(epochs = 1, ' epoch', ' epochs'), 'point ' || point)"
"""How a row of `rungs` is called."""
RUNG_SCORES = f"""
SELECT trial_id, rung, {RUNG_NAME} AS place, validation_score AS score
FROM rungs WHERE isfinite(validation_score)
UNION ALL SELECT trial_id, NULL, 'the end', arg_max(validation_score, point)
FROM operating_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY trial_id
HAVING isfinite(arg_max(validation_score, point))
ORDER BY rung, trial_id
"""
PROPOSALS = """
SELECT count(*) FILTER (purpose = 'search') AS searched, count(*) FILTER (purpose = 'confirm') AS confirmed,
    min(number) FILTER (purpose = 'promote') < max(number) FILTER (purpose = 'search') AS is_asynchronous
FROM proposals
"""
WEAK_CORRELATION = 0.6
"""A rung whose rank correlation is below this predicts badly."""
FEWEST_SCORES = 4
"""A rank correlation needs this many different scores on both sides."""


@dataclass(frozen=True, kw_only=True)
class RungPrediction:
    """How well a rung predicts what came later: the end or, where too few trials reached that, a later rung.

    Attributes:
        trials: how many reached both; without `later`, how many reached the rung and the end.
        correlation: Spearman's; None without `later`.
    """

    rung: str
    later: str | None  # None: too few trials were continued
    trials: int
    correlation: float | None = None

    @property
    def is_weak(self) -> bool:
        """Whether it predicts so badly that halving there stops good settings."""
        return self.correlation is not None and self.correlation < WEAK_CORRELATION

    def __str__(self) -> str:
        if self.later is None:
            return f"{self.rung}: too few trials were continued to see what it predicts"
        weak = "; this is weak: leave this rung out, or choose a later one" if self.is_weak else ""
        over = f"{self.correlation:.2f} over {self.trials} trials"
        return f"{self.rung}: rank correlation with {self.later} {over}{weak}"


Predictions = Mapping[str, Sequence[RungPrediction]]
"""Of each run that searches, by its name: what its rungs predict."""


def searching(run: Run) -> list[str]:
    """Return the names of the runs that search, in the order in which they were given."""
    if len(run.paths) == 1:
        rows = run.rows("SELECT number FROM proposals WHERE purpose = 'search' LIMIT 1")
        return list(run.paths) if rows else []
    rows = run.rows("SELECT DISTINCT run FROM proposals WHERE purpose = 'search'")
    names = {row["run"] for row in rows}
    return [name for name in run.paths if name in names]


@contextmanager
def alone(run: Run, name: str) -> Iterator[Run]:
    """Yield one of several runs with all of its rows, also those of trials that count in another run."""
    if len(run.paths) == 1:
        yield run
    else:
        with load(run.paths[name], ("planned", "proposals", "rungs", "trials", "operating_points")) as single_run:
            yield single_run


def predictions_of(run: Run) -> Predictions:
    """Return what the rungs of each run that searches predict, in the order of the runs; empty if none searches."""
    predictions = {}
    for name in searching(run):
        with alone(run, name) as single_run:
            predictions[name] = list(rung_predictions(single_run))
    return predictions


def rung_predictions(run: Run) -> Iterator[RungPrediction]:
    """Yield what each rung of one run predicts, from the lowest; a trial's score at its end is its last point's."""
    from scipy.stats import spearmanr

    scores: dict[int | None, dict[str, float]] = {None: {}}
    names: dict[int | None, str] = {None: "the end"}
    for row in run.rows(RUNG_SCORES):
        rung = row["rung"]
        scores.setdefault(rung, {})[row["trial_id"]] = row["score"]
        names[rung] = row["place"] if rung is None else f"rung {rung} ({row['place']})"
    rungs_with_scores = sorted(rung for rung in scores if rung is not None)
    for rung in rungs_with_scores:
        higher = [other for other in reversed(rungs_with_scores) if other > rung]
        for later in (None, *higher):
            both = [trial for trial in scores[rung] if trial in scores[later]]
            first_scores = [scores[rung][trial] for trial in both]
            later_scores = [scores[later][trial] for trial in both]
            if min(len(set(first_scores)), len(set(later_scores))) >= FEWEST_SCORES:
                correlation = float(spearmanr(first_scores, later_scores).statistic)
                yield RungPrediction(rung=names[rung], later=names[later], trials=len(both), correlation=correlation)
                break
        else:
            ended = scores[rung].keys() & scores[None].keys()
            yield RungPrediction(rung=names[rung], later=None, trials=len(ended))


def hypervolume(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the share of the box of all pairs that the front dominates: 0 to 1; 1 where the box has no area.

    Args:
        pairs: cost and score of each setting.

    >>> hypervolume([(1.0, 0.0), (2.0, 0.5), (3.0, 1.0)])
    0.25
    """
    scores = [score for _, score in pairs]
    lowest_score = min(scores)
    largest_cost, _ = max(pairs)
    front = _front(pairs)
    least_cost, _ = front[0]
    box = (largest_cost - least_cost) * (max(scores) - lowest_score)
    if not box:
        return 1.0
    areas = []
    # A step of the front reaches to the cost of the next one, and the last step to the edge of the box.
    step_ends = [cost for cost, _ in front[1:]] + [largest_cost]
    for (cost, score), step_end in zip(front, step_ends, strict=True):
        areas.append((step_end - cost) * (score - lowest_score))
    return sum(areas) / box


def _front(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the pairs of cost and score that are on the front, each once, by cost."""
    costs, scores = np.array(pairs, dtype=float).T
    is_on_front = on_front(costs, scores)
    return sorted({pair for pair, is_kept in zip(pairs, is_on_front, strict=True) if is_kept})


def headline(findings: Findings) -> str:
    """Write the verdict; empty if the run is no search. Only rows of confirmed settings are in `findings.points`."""
    (row,) = findings.run.rows(PROPOSALS)
    if not row["searched"]:
        return ""
    ends = {}
    for point in findings.points:
        if point.test is not None:
            ends[point.trial_id] = replace(point, asked=None)
    arms = arms_of(ends.values(), findings.environments, failed_by_arm(findings.run))
    arms = [arm for arm in arms if arm.rank is not None]  # with a score, and without failed trials
    if not arms:
        why = "none is confirmed with new seeds ([confirm])"
        if row["confirmed"]:
            why = "none of those chosen has ended yet"
        return f"Of {row['searched']} settings searched, {why}: nothing can be compared."
    best, *others = [arm for arm in arms if arm.problem == arms[0].problem]
    scale = findings.scales[best.problem]
    runs = len(searching(findings.run))
    in_runs = f" in {runs} runs" if runs > 1 else ""
    text = (
        f"Of {row['searched']} settings searched{in_runs} and {row['confirmed']} confirmed with new seeds,"
        f" {best.name} is best by validation:"
        f" test {scale.noun} {scale.value(best.test.mean)}{scale.unit} [{scale.interval(best.test)}],"
        f" n = {best.test.n}, on {best.problem}."
    )
    if others:
        text += f" Against the next, {others[0].name}: {verdict(compare([(best, others[0])]))}"
    return text


def warnings(run: Run) -> list[str]:
    """Return what a reader must know first: the rungs that hardly predict the end."""
    lines = []
    for name, predictions in predictions_of(run).items():
        where = f"Run {name}" if len(run.paths) > 1 else "Search"
        lines += [f"{where}, {prediction}." for prediction in predictions if prediction.is_weak]
    return lines


_END = 1000
"""The place of a trial's end, behind all rungs."""
_ENDS = """
WITH ends AS (
    SELECT trial_id, arg_max(validation_score, point) AS score, any_value(metric) AS metric,
        arg_max(macs, point) AS macs, arg_max(pruning_latency_ms, point) AS pruning_latency_ms
    FROM operating_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY trial_id
    HAVING isfinite(arg_max(validation_score, point))
), settings AS (
    SELECT number, drawn_by, values_json AS setting, len(trial_ids) AS trials, unnest(trial_ids) AS trial_id
    FROM proposals WHERE purpose = 'search'
)
"""
HISTORY = f"""{_ENDS}
SELECT number, any_value(drawn_by) AS drawn_by, any_value(setting) AS setting, min(trial_id) AS trial_id,
    any_value(metric) AS metric, avg(score) AS score, max(avg(score)) OVER (ORDER BY number) AS best,
    avg(macs) / 1e6 AS million_macs, avg(pruning_latency_ms) AS pruning_latency_ms
FROM settings JOIN ends USING (trial_id) GROUP BY number HAVING count(*) = any_value(trials) ORDER BY number
"""
_REACHED = f"""{_ENDS}, reached AS (
    SELECT trial_id, rung AS place, validation_score AS score, metric, {RUNG_NAME} AS rung
    FROM rungs WHERE isfinite(validation_score)
    UNION ALL SELECT trial_id, {_END}, score, metric, 'end' FROM ends
)
"""
RUNGS = f"""{_REACHED}
SELECT trial_id, number, setting, place, rung, metric, score, max(place) OVER (PARTITION BY trial_id) = {_END} AS ended
FROM reached JOIN settings USING (trial_id) ORDER BY trial_id, place
"""
SETTINGS = f"""{_REACHED}, lowest AS (
    SELECT number, trials, setting, arm, reached.* FROM reached JOIN settings USING (trial_id)
    JOIN planned USING (trial_id) QUALIFY place = min(place) OVER ()
)
SELECT number, any_value(arm) AS arm, any_value(setting) AS setting, min(trial_id) AS trial_id,
    any_value(rung) AS rung, any_value(lowest.metric) AS metric, avg(lowest.score) AS score,
    avg(ends.score) AS end_score
FROM lowest LEFT JOIN ends USING (trial_id) GROUP BY number HAVING count(*) = any_value(trials) ORDER BY number
"""
"""The scores at the lowest rung, which all settings reach, or at the end where there are no rungs."""
COSTS = {"macs": ("million_macs", "million MACs"), "pruning_latency_ms": ("pruning_latency_ms", "latency (ms)")}
"""Cost -> its column in `HISTORY`, and the title of its axis."""
_MOST_AXES = 7
_MOST_LEVELS = 9


def history(run: Run) -> Chart | None:
    """Draw the score of each setting at its end, by proposal, and the best so far; None where none has ended."""
    data = query_table(run, HISTORY)
    if not data.records:
        return None
    scale = _scale(data)
    x = quantity("number", "proposal", axis=whole_axis(data.column("number")))
    tip = _score_tooltip(
        scale, number="proposal", drawn_by="drawn by", setting="setting", shown="", best_shown="best so far"
    )
    line = {"type": "line", "interpolate": "step-after", "color": PALETTE[0]}
    spec = _layers(
        scale,
        {"mark": line, "encoding": {"x": x, "y": _score("best_shown", scale, data.column("score"))}},
        {
            "mark": _dot(PALETTE[1]),
            "encoding": {"x": x, "y": _score("shown", scale, data.column("score")), "tooltip": tip},
        },
    )
    return Chart("The best setting so far (line), and each at its end", spec, data)


def rungs(run: Run) -> Chart | None:
    """Draw the score of each trial at each rung that it reached; None without rungs."""
    data = query_table(run, RUNGS)
    if not any(place < _END for place in data.column("place")):
        return None
    scale = _scale(data)
    name_at: dict[int, str] = {}  # place of a rung, or of the end -> its name
    for place_of_rung, name in sorted(zip(data.column("place"), data.column("rung"), strict=True)):
        name_at[place_of_rung] = name
    names = list(name_at.values())
    spec: Spec = {
        "data": {"name": "rows"},
        "transform": [_shown(scale, "score", "shown")],
        "width": WIDTH / 2,
        "height": 260,
        "mark": {"type": "line", "point": {"size": 25}, "opacity": 0.7},
        "encoding": {
            "x": {"field": "rung", "type": "ordinal", "sort": names, "title": "rung", "axis": {"labelAngle": 0}},
            "y": _score("shown", scale, data.column("score")),
            "detail": {"field": "trial_id"},
            "color": {"field": "ended", "type": "nominal", "title": "reached its end",
                      "scale": {"domain": [True, False], "range": [PALETTE[0], PALETTE[1]]}},
            "tooltip": _score_tooltip(scale, number="proposal", setting="setting", rung="rung", shown=""),
        },
    }  # fmt: skip
    return Chart("The scores of all trials at the rungs that they reached", spec, data)


def settings(run: Run) -> Chart | None:
    """Draw each setting as a line through its values, coloured by its score; None where none has one, or none varies.

    There is an axis for each key of the settings that varies, and one for the arm. The different values of a key are
    its levels, which are spread evenly over its axis.
    """
    data = query_table(run, SETTINGS)
    records = data.records
    values_of_settings: list[dict[str, Any]] = []
    for record in records:
        values_of_settings.append(json.loads(record["setting"]) | {"arm": record["arm"]})
    levels = _levels_by_axis(values_of_settings)
    varying = [axis for axis in levels if len(levels[axis]) > 1]
    axes = varying[:_MOST_AXES]
    if not axes:
        return None
    heights: dict[str, dict[str, float]] = {}  # axis -> level -> its height, from 0 at the foot to 1 at the top
    for axis in axes:
        last = len(levels[axis]) - 1
        heights[axis] = {level: number_of_level / last for number_of_level, level in enumerate(levels[axis])}
    scale = _scale(data)
    title = f"{_noun(scale)} {_when(records[0]['rung'])}"
    lines: list[dict[str, Any]] = []
    for record, values in zip(records, values_of_settings, strict=True):
        lines += _line_of_setting(record, values, heights, scale)
    marks: list[dict[str, Any]] = []
    for axis in axes:
        named = levels[axis]
        if len(named) > _MOST_LEVELS:
            named = [named[0], named[-1]]
        marks += [{"axis": axis, "place": heights[axis][level], "text": level} for level in named]
    tip = _score_tooltip(scale, number="proposal", setting="setting", shown=title, end_shown="at the end")
    top = {"labelAngle": 0, "grid": True, "domain": False, "orient": "top", "labelLimit": 200}
    x = {"field": "axis", "type": "ordinal", "sort": axes, "title": None, "axis": top}
    y = {"field": "place", "type": "quantitative", "axis": None}
    spec: Spec = {
        "width": WIDTH,
        "height": 260,
        "layer": [
            {
                "data": {"name": "lines"},
                "mark": {"type": "line", "opacity": 0.8},
                "encoding": {
                    "x": x, "y": y, "detail": {"field": "number"}, "order": {"field": "order", "type": "quantitative"},
                    "color": {"field": "shown", "type": "quantitative", "title": f"{scale.noun}{scale.axis_unit}",
                              "scale": {"scheme": "viridis", "zero": False}},
                    "strokeWidth": {"condition": {"test": "datum.ended", "value": 3}, "value": 1},
                    "tooltip": tip,
                },
            },
            {
                "data": {"name": "marks"},
                "mark": {"type": "text", "dx": 5, "align": "left", "fontSize": 11},
                "encoding": {"x": x, "y": y, "text": {"field": "text"}},
            },
        ],
    }  # fmt: skip
    note = "Each line is a setting; the thick ones reached their end."
    if len(varying) > _MOST_AXES:
        note += f" {len(varying) - _MOST_AXES} more settings vary; the table has them."
    return Chart(f"All settings, coloured by their {title}", spec, data, tables={"lines": lines, "marks": marks},
                 note=note)  # fmt: skip


def _levels_by_axis(values_of_settings: Sequence[Mapping[str, object]]) -> dict[str, list[str]]:
    """Return the levels of each key, from the foot of its axis; a setting without a key has the value None there."""
    levels: dict[str, list[str]] = {}
    for values in values_of_settings:
        for key in values:
            if key not in levels:
                levels[key] = _levels([other_values.get(key) for other_values in values_of_settings])
    return levels


def _levels(values: Sequence[object]) -> list[str]:
    """Return the different values of a key as texts: numbers by size, names in order."""
    texts = {_text(value) for value in values}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return sorted(texts, key=float)
    return sorted(texts)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _line_of_setting(
    record: Mapping[str, Any], values: Mapping[str, object], heights: Mapping[str, Mapping[str, float]], scale: Scale
) -> list[dict[str, Any]]:
    """Return the points of a setting's line, one on each axis, with what its tooltip shows."""
    end_score = record["end_score"]
    points = []
    for order, axis in enumerate(heights):
        points.append(
            {
                "axis": axis,
                "order": order,
                "place": heights[axis][_text(values.get(axis))],
                "number": record["number"],
                "trial_id": record["trial_id"],
                "setting": record["setting"],
                "shown": scale.factor * record["score"],
                "ended": end_score is not None,
                "end_shown": None if end_score is None else scale.factor * end_score,
            }
        )
    return points


def _when(rung: str) -> str:
    if rung == "end":
        return "at the end"
    return f"after {rung}" if "epoch" in rung else f"at {rung}"


def search_front(run: Run, *, cost: str = "macs") -> Chart | None:
    """Draw the settings by score and cost, and the front; None where fewer than two have ended and measured the cost.

    Args:
        cost: a key of `COSTS`.
    """
    data = query_table(run, HISTORY)
    column, words = COSTS[cost]
    pairs = [pair for pair in zip(data.column(column), data.column("score"), strict=True) if pair[0] is not None]
    if len(set(pairs)) < 2:
        return None
    front = _front(pairs)
    scale = _scale(data)
    x = quantity(column, words)
    y = _score("shown", scale, data.column("score"))
    tip = _score_tooltip(scale, number="proposal", setting="setting", shown="") + tooltip(**{column: f"{words}|.4~g"})
    line = {"type": "line", "interpolate": "step-after", "color": PALETTE[0]}
    spec = _layers(
        scale,
        {"data": {"name": "front"}, "mark": line, "encoding": {"x": x, "y": y}},
        {"mark": _dot(PALETTE[1]), "encoding": {"x": x, "y": y, "tooltip": tip}},
    )
    share = f"The front has {100 * hypervolume(pairs):.1f}% of the hypervolume between the worst and the best values."
    tables = {"front": [{column: cost_on_front, "score": score} for cost_on_front, score in front]}
    return Chart(f"Score against {words} of all settings that ended", spec, data, tables=tables, note=share)


def _dot(colour: str) -> Spec:
    return {"type": "point", "filled": True, "size": 45, "opacity": 0.8, "color": colour}


def _layers(scale: Scale, *layers: Spec) -> Spec:
    shown = {"transform": [_shown(scale, "score", "shown"), _shown(scale, "best", "best_shown")]}
    # In each layer: one with data of its own would not have the transforms of the figure.
    shown_layers = [layer | shown for layer in layers]
    return {"data": {"name": "rows"}, "width": WIDTH / 2, "height": 260, "layer": shown_layers}


def _scale(data: Table) -> Scale:
    return SCALES[data.column("metric")[0]]


def _noun(scale: Scale) -> str:
    return f"validation {scale.noun}"


def _shown(scale: Scale, column: str, name: str) -> Spec:
    return {"calculate": f"datum.{column} * {scale.factor}", "as": name}


def _score(field: str, scale: Scale, scores: Sequence[float]) -> Spec:
    """Return the axis of scores, in their unit."""
    axis_scale = {"zero": False, "nice": False, "domain": score_domain(scale, min(scores), max(scores))}
    return quantity(field, f"{_noun(scale)}{scale.axis_unit}", scale=axis_scale)


def _score_tooltip(scale: Scale, **fields: str) -> list[dict[str, Any]]:
    """As `tooltip`; a field whose name ends with "shown" is a score."""
    titles = {}
    for field, title in fields.items():
        titles[field] = title or _noun(scale)
        if field.endswith("shown"):
            titles[field] += f"{scale.axis_unit}|.{scale.digits}f"
    return tooltip(**titles)


NOT_FINITE = """
SELECT count(DISTINCT trial_id) AS trials FROM (
    SELECT trial_id, validation_score FROM rungs UNION ALL SELECT trial_id, validation_score FROM operating_points
) WHERE NOT isfinite(validation_score)
    AND trial_id IN (SELECT unnest(trial_ids) FROM proposals WHERE purpose = 'search')
"""
WEAK_RUNG_MARK = (
    "This rung hardly predicts the scores that came later: halving there stops good settings. Leave it out, or choose a"
    " later one."
)
PREDICTIONS_NOTE = (
    "Spearman's rank correlation of the validation scores of the trials that reached both. Halving has chosen these by"
    " the first score, which tends to lower it; with eta = 1, which stops nothing, it is that of all settings."
)


def section(findings: Findings) -> Section | None:
    """Draw how the search went, or each of several; None if the run is no search."""
    run = findings.run
    predictions = predictions_of(run)
    if not predictions:
        return None
    is_one_of_several = len(predictions) > 1
    section_search = Section(
        "search",
        "How the searches went" if is_one_of_several else "How the search went",
        _introduction(run),
        empty="No setting has ended yet.",
        short="Search",
    )
    for index, (name, predictions_of_run) in enumerate(predictions.items()):
        before = f"{name}: " if is_one_of_several else ""
        after = str(index) if is_one_of_several else ""
        with alone(run, name) as single_run:
            charts = {
                "history": history(single_run),
                "rungs": rungs(single_run),
                "settings": settings(single_run),
                "front": search_front(single_run, cost="macs"),
                "latency-front": search_front(single_run, cost="pruning_latency_ms"),
            }
        for figure, chart in charts.items():
            if chart is not None:
                titled = replace(chart, title=before + chart.title)
                section_search.blocks.append(Figure(f"search-{figure}{after}", titled))
            if figure == "rungs" and predictions_of_run:
                section_search.blocks.append(_predictions_table(predictions_of_run, before))
    return section_search


def _introduction(run: Run) -> str:
    """Say what the figures show, and what was left out of them or decided otherwise."""
    (row,) = run.rows(PROPOSALS)
    (not_finite,) = run.rows(NOT_FINITE)
    text = "Validation scores choose, so the best ones are optimistic; only confirmed settings are compared."
    if row["is_asynchronous"]:
        text += " Settings were continued without waiting for a whole rung,"
        text += " so the order in which trials ended decided, too."
    if not_finite["trials"]:
        text += f" Scores that are not numbers are left out: of {not_finite['trials']} trials."
    return text


def _predictions_table(predictions: Sequence[RungPrediction], before: str) -> TableBlock:
    columns = [
        Column("rung", "string"), Column("later", "string", heading="compared with"),
        Column("correlation", "double", heading="rank correlation", scale="number:2"), Column("trials", "int64"),
    ]  # fmt: skip
    records = [{**vars(each), "later": each.later or "too few trials were continued"} for each in predictions]
    marks = [[WEAK_RUNG_MARK] if prediction.is_weak else [] for prediction in predictions]
    shown = [column.name for column in columns]
    table = Table(columns=columns, records=records, shown=shown, marks=marks, sql=RUNG_SCORES, note=PREDICTIONS_NOTE)
    return TableBlock(table, f"{before}What each rung predicts", derived=True)
