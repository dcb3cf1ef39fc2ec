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
from results.arms.counts import failed_trials
from results.arms.findings import Findings
from results.arms.verdict import verdict
from results.render.blocks import Figure, Section, TableBlock
from results.render.chart import Chart, Spec
from results.render.style import PALETTE, WIDTH, quantity, score_domain, tooltip, whole_axis
from results.render.tables import HtmlTable, TableRow
from results.statistics.fronts import on_front
from results.store.answers import Answer, answer
from results.store.reader import Run, load
from results.text.number_format import SCALES, Scale, number

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
WEAK, FEWEST = 0.6, 4  # a rank correlation; different scores for one


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
        return self.correlation is not None and self.correlation < WEAK

    def __str__(self) -> str:
        if self.later is None:
            return f"{self.rung}: too few trials were continued to see what it predicts"
        weak = "; this is weak: leave this rung out, or choose a later one" if self.is_weak else ""
        over = f"{self.correlation:.2f} over {self.trials} trials"
        return f"{self.rung}: rank correlation with {self.later} {over}{weak}"


def rung_predictions(run: Run) -> Iterator[RungPrediction]:
    """Yield what each rung of one run predicts, from the lowest; a trial's score at its end is its last point's."""
    from scipy.stats import spearmanr

    scores: dict[int | None, dict[str, float]] = {None: {}}
    names: dict[int | None, str] = {None: "the end"}
    for row in run.rows(RUNG_SCORES):
        number = row["rung"]
        scores.setdefault(number, {})[row["trial_id"]] = row["score"]
        names[number] = row["place"] if number is None else f"rung {number} ({row['place']})"
    numbers = sorted(number for number in scores if number is not None)
    for number in numbers:
        higher = [other for other in reversed(numbers) if other > number]
        for later in (None, *higher):
            both = [trial for trial in scores[number] if trial in scores[later]]
            first_scores = [scores[number][trial] for trial in both]
            later_scores = [scores[later][trial] for trial in both]
            if min(len(set(first_scores)), len(set(later_scores))) >= FEWEST:
                correlation = float(spearmanr(first_scores, later_scores).statistic)
                yield RungPrediction(rung=names[number], later=names[later], trials=len(both), correlation=correlation)
                break
        else:
            ended = scores[number].keys() & scores[None].keys()
            yield RungPrediction(rung=names[number], later=None, trials=len(ended))


_ENDS = """
WITH ends AS (
    SELECT trial_id, arg_max(validation_score, point) AS score, any_value(metric) AS metric,
        arg_max(macs, point) AS macs, arg_max(pruning_latency_ms, point) AS latency_ms
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
    avg(macs) / 1e6 AS million_macs, avg(latency_ms) AS latency_ms
FROM settings JOIN ends USING (trial_id) GROUP BY number HAVING count(*) = any_value(trials) ORDER BY number
"""
_REACHED = f"""{_ENDS}, reached AS (
    SELECT trial_id, rung AS place, validation_score AS score, metric, {RUNG_NAME} AS rung
    FROM rungs WHERE isfinite(validation_score)
    UNION ALL SELECT trial_id, 1000, score, metric, 'end' FROM ends
)
"""
RUNGS = f"""{_REACHED}
SELECT trial_id, number, setting, place, rung, metric, score, max(place) OVER (PARTITION BY trial_id) = 1000 AS ended
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
COSTS = {"macs": ("million_macs", "million MACs"), "latency_ms": ("latency_ms", "latency (ms)")}
_MOST_AXES, _MOST_LEVELS = 7, 9


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


def history(run: Run) -> Chart | None:
    """The score of each setting at its end, by proposal, and the best so far; None where none has ended."""
    data = answer(run, HISTORY)
    if not data.rows:
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
    """The score of each trial at each rung that it reached; None without rungs."""
    data = answer(run, RUNGS)
    if not any(place < 1000 for place in data.column("place")):
        return None
    scale = _scale(data)
    names = list(dict(sorted(zip(data.column("place"), data.column("rung"), strict=True))).values())
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
    """Each setting as a line through its values, coloured by its score; None where none has one, or none varies."""
    data = answer(run, SETTINGS)
    records = [json.loads(row["setting"]) | {"arm": row["arm"]} for row in data.records()]
    levels = {
        axis: _levels([one.get(axis) for one in records]) for axis in dict.fromkeys(k for r in records for k in r)
    }
    places = {axis: {text: place for place, text in enumerate(findings)} for axis, findings in levels.items()}
    varying = [axis for axis, findings in levels.items() if len(findings) > 1]
    axes = varying[:_MOST_AXES]
    if not axes:
        return None

    def height(axis: str, text: str) -> float:
        return places[axis][text] / (len(levels[axis]) - 1)

    scale, (rung, *_) = _scale(data), data.column("rung")
    title = f"{_noun(scale)} {'at the end' if rung == 'end' else f'after {rung}' if 'epoch' in rung else f'at {rung}'}"
    lines = [
        {"axis": axis, "order": order, "place": height(axis, _text(values.get(axis))),
         "number": row["number"], "trial_id": row["trial_id"], "setting": row["setting"],
         "shown": scale.factor * row["score"], "ended": row["end_score"] is not None,
         "end_shown": None if row["end_score"] is None else scale.factor * row["end_score"]}
        for row, values in zip(data.records(), records, strict=True)
        for order, axis in enumerate(axes)
    ]  # fmt: skip
    marks = [
        {"axis": axis, "place": height(axis, text), "text": text}
        for axis in axes
        for text in (levels[axis] if len(levels[axis]) <= _MOST_LEVELS else (levels[axis][0], levels[axis][-1]))
    ]
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


def search_front(run: Run, *, cost: str = "macs") -> Chart | None:
    """The settings by score and cost, and the front; None where fewer than two have ended and measured the cost.

    Args:
        cost: a key of `COSTS`.
    """
    data = answer(run, HISTORY)
    column, words = COSTS[cost]
    pairs = [pair for pair in zip(data.column(column), data.column("score"), strict=True) if pair[0] is not None]
    if len(set(pairs)) < 2:
        return None
    front, scale = _front(pairs), _scale(data)
    x, y = quantity(column, words), _score("shown", scale, data.column("score"))
    tip = _score_tooltip(scale, number="proposal", setting="setting", shown="") + tooltip(**{column: f"{words}|.4~g"})
    line = {"type": "line", "interpolate": "step-after", "color": PALETTE[0]}
    spec = _layers(
        scale,
        {"data": {"name": "front"}, "mark": line, "encoding": {"x": x, "y": y}},
        {"mark": _dot(PALETTE[1]), "encoding": {"x": x, "y": y, "tooltip": tip}},
    )
    share = f"The front has {100 * hypervolume(pairs):.1f}% of the hypervolume between the worst and the best values."
    tables = {"front": [{column: cost, "score": score} for cost, score in front]}
    return Chart(f"Score against {words} of all settings that ended", spec, data, tables=tables, note=share)


def _front(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The pairs of cost and score that are on the front, each once, by cost."""
    keep = on_front(*np.array(pairs, dtype=float).T)
    return sorted({pair for pair, kept in zip(pairs, keep, strict=True) if kept})


def hypervolume(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the share of the box of all pairs that the front dominates: 0 to 1; 1 where the box has no area.

    >>> hypervolume([(1.0, 0.0), (2.0, 0.5), (3.0, 1.0)])
    0.25
    """
    scores = [score for _, score in pairs]
    low = min(scores)
    most, _ = max(pairs)
    front = _front(pairs)
    box = (most - front[0][0]) * (max(scores) - low)
    if not box:
        return 1.0
    ends = [cost for cost, _ in front[1:]] + [most]  # of each step of the front
    return sum((end - cost) * (score - low) for (cost, score), end in zip(front, ends, strict=True)) / box


def _dot(colour: str) -> Spec:
    return {"type": "point", "filled": True, "size": 45, "opacity": 0.8, "color": colour}


def _layers(scale: Scale, *layers: Spec) -> Spec:
    shown = {"transform": [_shown(scale, "score", "shown"), _shown(scale, "best", "best_shown")]}
    # In each layer: one with data of its own would not have the transforms of the figure.
    shown_layers = [layer | shown for layer in layers]
    return {"data": {"name": "rows"}, "width": WIDTH / 2, "height": 260, "layer": shown_layers}


def _scale(data: Answer) -> Scale:
    return SCALES[data.column("metric")[0]]


def _noun(scale: Scale) -> str:
    return f"validation {scale.noun}"


def _shown(scale: Scale, column: str, name: str) -> Spec:
    return {"calculate": f"datum.{column} * {scale.factor}", "as": name}


def _score(field: str, scale: Scale, scores: Sequence[float]) -> Spec:
    """The axis of scores, in their unit."""
    kept = {"zero": False, "nice": False, "domain": score_domain(scale, min(scores), max(scores))}
    return quantity(field, f"{_noun(scale)}{scale.axis_unit}", scale=kept)


def _score_tooltip(scale: Scale, **fields: str) -> list[dict[str, Any]]:
    """As `tooltip`; a field whose name ends with "shown" is a score."""
    titles = {}
    for field, title in fields.items():
        titles[field] = title or _noun(scale)
        if field.endswith("shown"):
            titles[field] += f"{scale.axis_unit}|.{scale.digits}f"
    return tooltip(**titles)


def _levels(values: Sequence[object]) -> list[str]:
    """Return the different values of an axis, from its foot: numbers by size, names in order."""
    texts = {_text(value) for value in values}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return sorted(texts, key=float)
    return sorted(texts)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


WEAK_RUNG = (
    "This rung hardly predicts the scores that came later: halving there stops good settings. Leave it out, or choose a"
    " later one."
)
PREDICTIONS_NOTE = (
    "Spearman's rank correlation of the validation scores of the trials that reached both. Halving has chosen these by"
    " the first score, which tends to lower it; with eta = 1, which stops nothing, it is that of all settings."
)
PROPOSALS = """
SELECT count(*) FILTER (purpose = 'search') AS searched, count(*) FILTER (purpose = 'confirm') AS confirmed,
    min(number) FILTER (purpose = 'promote') < max(number) FILTER (purpose = 'search') AS is_asynchronous
FROM proposals
"""
NOT_FINITE = """
SELECT count(DISTINCT trial_id) AS trials FROM (
    SELECT trial_id, validation_score FROM rungs UNION ALL SELECT trial_id, validation_score FROM operating_points
) WHERE NOT isfinite(validation_score)
    AND trial_id IN (SELECT unnest(trial_ids) FROM proposals WHERE purpose = 'search')
"""
Predictions = Mapping[str, Sequence[RungPrediction]]
"""Of each run that searches, by its name: what its rungs predict."""


def headline(findings: Findings) -> str:
    """Write the verdict; empty if the run is no search. Only rows of confirmed settings are in `findings.points`."""
    (row,) = findings.run.rows(PROPOSALS)
    if not row["searched"]:
        return ""
    ends = {point.trial_id: replace(point, asked=None) for point in findings.points if point.test is not None}
    arms = arms_of(ends.values(), findings.environments, failed_trials(findings.run))
    arms = [arm for arm in arms if arm.rank is not None]  # with a score, and without failed trials
    if not arms:
        why = (
            "none of those chosen has ended yet" if row["confirmed"] else "none is confirmed with new seeds ([confirm])"
        )
        return f"Of {row['searched']} settings searched, {why}: nothing can be compared."
    best, *others = (arm for arm in arms if arm.problem == arms[0].problem)
    scale = findings.scales[best.problem]
    runs = len(searching(findings.run))
    of = f"Of {row['searched']} settings searched" + (f" in {runs} runs" if runs > 1 else "")
    text = (
        f"{of} and {row['confirmed']} confirmed with new seeds, {best.name} is best"
        f" by validation: test {scale.noun} {scale.value(best.test.mean)}{scale.unit} [{scale.interval(best.test)}],"
        f" n = {best.test.n}, on {best.problem}."
    )
    return f"{text} Against the next, {others[0].name}: {verdict(compare([(best, others[0])]))}" if others else text


def predictions_of(run: Run) -> Predictions:
    """Return what the rungs of each run that searches predict, in the order of the runs; empty if none searches."""
    predictions = {}
    for name in searching(run):
        with alone(run, name) as single_run:
            predictions[name] = list(rung_predictions(single_run))
    return predictions


def warnings(run: Run) -> list[str]:
    """Return what a reader must know first: the rungs that hardly predict the end."""
    lines = []
    for name, predictions in predictions_of(run).items():
        where = f"Run {name}" if len(run.paths) > 1 else "Search"
        lines += [f"{where}, {prediction}." for prediction in predictions if prediction.is_weak]
    return lines


def section(findings: Findings) -> Section | None:
    """Draw how the search went, or each of several; None if the run is no search."""
    run = findings.run
    predictions = predictions_of(run)
    if not predictions:
        return None
    (row,) = run.rows(PROPOSALS)
    (lost,) = run.rows(NOT_FINITE)
    order = (
        " Settings were continued without waiting for a whole rung, so the order in which trials ended decided, too."
    )
    section_search = Section(
        "search",
        "How the search went" if len(predictions) == 1 else "How the searches went",
        "Validation scores, which choose; those of the best are too good, and only confirmed settings are compared."
        + (order if row["is_asynchronous"] else "")
        + (f" Scores that are not numbers are left out: of {lost['trials']} trials." if lost["trials"] else ""),
        empty="No setting has ended yet.",
        short="Search",
    )
    for index, (name, predictions_of_run) in enumerate(predictions.items()):
        is_one_of_several = len(predictions) > 1
        before = f"{name}: " if is_one_of_several else ""
        after = str(index) if is_one_of_several else ""
        with alone(run, name) as single_run:
            charts = {
                "history": history(single_run),
                "rungs": rungs(single_run),
                "settings": settings(single_run),
                "front": search_front(single_run, cost="macs"),
                "latency-front": search_front(single_run, cost="latency_ms"),
            }
        for figure, chart in charts.items():
            if chart is not None:
                shown = replace(chart, title=before + chart.title)
                section_search.blocks.append(Figure(f"search-{figure}{after}", shown))
            if figure == "rungs" and predictions_of_run:
                section_search.blocks.append(_predictions_table(predictions_of_run, before))
    return section_search


def _predictions_table(predictions: Sequence[RungPrediction], before: str) -> TableBlock:
    rows = []
    for prediction in predictions:
        cells = (
            prediction.rung,
            prediction.later or "too few trials were continued",
            number(prediction.correlation),
            str(prediction.trials),
        )
        rows.append(TableRow(cells, (WEAK_RUNG,) if prediction.is_weak else ()))
    columns = ("rung", "compared with", "rank correlation", "trials")
    table = HtmlTable(columns, (False, False, True, True), rows, RUNG_SCORES, PREDICTIONS_NOTE)
    return TableBlock(table, f"{before}What each rung predicts", derived=True)
