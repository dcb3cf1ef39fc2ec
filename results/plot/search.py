"""A search: its best so far, its rungs, its settings, and its front of score and cost. Validation scores only."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from results.analysis.rungs import RUNG_NAME
from results.plot.chart import Chart, Spec
from results.plot.style import PALETTE, WIDTH, quantity, score_domain, told
from results.statistics.fronts import on_front
from results.store.answers import Answer, answer
from results.store.reader import Run, load
from results.text.number_format import SCALES, Scale

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
    column = "run" if len(run.paths) > 1 else "true"
    found = {row["it"] for row in run.rows(f"SELECT DISTINCT {column} AS it FROM proposals WHERE purpose = 'search'")}
    return [name for name in run.paths if found & {name, True}]


@contextmanager
def alone(run: Run, name: str) -> Iterator[Run]:
    """Yield one of several runs with all of its rows, also those of trials that count in another run."""
    if len(run.paths) == 1:
        yield run
    else:
        with load(run.paths[name], ("planned", "proposals", "rungs", "trials", "operating_points")) as one:
            yield one


def history(run: Run) -> Chart | None:
    """The score of each setting at its end, by proposal, and the best so far; None where none has ended."""
    data = answer(run, HISTORY)
    if not data.rows:
        return None
    scale = _scale(data)
    x = quantity("number", "proposal", axis={"tickMinStep": 1, "format": "d"})
    tip = _told(scale, number="proposal", drawn_by="drawn by", setting="setting", shown="", best_shown="best so far")
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
            "tooltip": _told(scale, number="proposal", setting="setting", rung="rung", shown=""),
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
    places = {axis: {text: place for place, text in enumerate(found)} for axis, found in levels.items()}
    varying = [axis for axis, found in levels.items() if len(found) > 1]
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
                    "tooltip": _told(scale, number="proposal", setting="setting", shown=title, end_shown="at the end"),
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
    tip = _told(scale, number="proposal", setting="setting", shown="") + told(**{column: f"{words}|.4~g"})
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
    most, low, high = max(pairs)[0], min(score for _, score in pairs), max(score for _, score in pairs)
    front = _front(pairs)
    box = (most - front[0][0]) * (high - low)
    ends = [cost for cost, _ in front[1:]] + [most]
    return (
        sum((end - cost) * (score - low) for (cost, score), end in zip(front, ends, strict=True)) / box if box else 1.0
    )


def _dot(colour: str) -> Spec:
    return {"type": "point", "filled": True, "size": 45, "opacity": 0.8, "color": colour}


def _layers(scale: Scale, *layers: Spec) -> Spec:
    shown = {"transform": [_shown(scale, "score", "shown"), _shown(scale, "best", "best_shown")]}
    made = [layer | shown for layer in layers]  # one with data of its own would not have those of the figure
    return {"data": {"name": "rows"}, "width": WIDTH / 2, "height": 260, "layer": made}


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


def _told(scale: Scale, **fields: str) -> list[dict[str, Any]]:
    """As `told`; a field whose name ends with "shown" is a score."""
    words = {field: title or _noun(scale) for field, title in fields.items()}
    return told(**{
        field: f"{title}{scale.axis_unit}|.{scale.digits}f" if field.endswith("shown") else title
        for field, title in words.items()
    })  # fmt: skip


def _levels(values: Sequence[object]) -> list[str]:
    """The different values of an axis, from its foot: numbers by size, names in order."""
    found = {_text(value): value for value in values}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in found.values()):
        return sorted(found, key=lambda text: float(text))
    return sorted(found)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
