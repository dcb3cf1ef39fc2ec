"""A search: the history of its best setting, its rungs, and the front of score against MACs. Validation scores only."""

from collections.abc import Sequence

from results.plot.chart import Chart, Spec
from results.plot.style import PALETTE, WIDTH, quantity, told
from results.store.answers import answer
from results.store.reader import Run

_ENDS = """
WITH ends AS (
    SELECT trial_id, arg_max(validation_score, point) AS score, arg_max(macs, point) AS macs
    FROM operating_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY trial_id
), settings AS (
    SELECT number, drawn_by, values_json AS setting, unnest(trial_ids) AS trial_id FROM proposals
    WHERE purpose = 'search'
)
"""
HISTORY = f"""{_ENDS}
SELECT number, any_value(drawn_by) AS drawn_by, any_value(setting) AS setting, avg(score) AS score,
    max(avg(score)) OVER (ORDER BY number) AS best, avg(macs) / 1e6 AS million_macs
FROM settings JOIN ends USING (trial_id) GROUP BY number ORDER BY number
"""
RUNGS = f"""{_ENDS}, reached AS (
    SELECT trial_id, rung AS place, validation_score AS score,
        coalesce(epochs || if(epochs = 1, ' epoch', ' epochs'), 'point ' || point) AS rung
    FROM rungs UNION ALL SELECT trial_id, 1000, score, 'end' FROM ends
)
SELECT trial_id, number, setting, place, rung, score, max(place) OVER (PARTITION BY trial_id) = 1000 AS ended
FROM reached JOIN settings USING (trial_id) ORDER BY trial_id, place
"""


def history(run: Run) -> Chart | None:
    """The score of each setting at its end, by proposal, and the best so far; None where none has ended."""
    data = answer(run, HISTORY)
    if not data.rows:
        return None
    x, y = quantity("number", "proposal", axis={"tickMinStep": 1, "format": "d"}), "validation score"
    tip = told(number="proposal", drawn_by="drawn by", setting="setting", score=f"{y}|.4f", best="best so far|.4f")
    line = {"type": "line", "interpolate": "step-after", "color": PALETTE[0]}
    spec = _layers(
        {"mark": line, "encoding": {"x": x, "y": quantity("best", y)}},
        {"mark": _dot(PALETTE[1]), "encoding": {"x": x, "y": quantity("score", y), "tooltip": tip}},
    )
    return Chart("The best setting so far (line), and each at its end", spec, data)


def rungs(run: Run) -> Chart | None:
    """The score of each trial at each rung that it reached; None without rungs."""
    data = answer(run, RUNGS)
    if not any(place < 1000 for place in data.column("place")):
        return None
    names = list(dict(sorted(zip(data.column("place"), data.column("rung"), strict=True))).values())
    tip = told(number="proposal", setting="setting", rung="rung", score="validation score|.4f")
    spec: Spec = {
        "data": {"name": "rows"},
        "width": WIDTH / 2,
        "height": 260,
        "mark": {"type": "line", "point": {"size": 25}, "opacity": 0.7},
        "encoding": {
            "x": {"field": "rung", "type": "ordinal", "sort": names, "title": "rung", "axis": {"labelAngle": 0}},
            "y": quantity("score", "validation score"),
            "detail": {"field": "trial_id"},
            "color": {"field": "ended", "type": "nominal", "title": "reached its end",
                      "scale": {"domain": [True, False], "range": [PALETTE[0], PALETTE[1]]}},
            "tooltip": tip,
        },
    }  # fmt: skip
    return Chart("The scores of all trials at the rungs that they reached", spec, data)


def search_front(run: Run) -> Chart | None:
    """The settings by score and MACs, and the front; None where fewer than two have ended."""
    data = answer(run, HISTORY)
    pairs = list(zip(data.column("million_macs"), data.column("score"), strict=True))
    if len(set(pairs)) < 2:
        return None
    front = nondominated(pairs)
    x, y = quantity("million_macs", "million MACs"), "validation score"
    tip = told(number="proposal", setting="setting", million_macs="million MACs|.4~g", score=f"{y}|.4f")
    line = {"type": "line", "interpolate": "step-after", "color": PALETTE[0]}
    spec = _layers(
        {"data": {"name": "front"}, "mark": line, "encoding": {"x": x, "y": quantity("score", y)}},
        {"mark": _dot(PALETTE[1]), "encoding": {"x": x, "y": quantity("score", y), "tooltip": tip}},
    )
    share = f"The front has {100 * hypervolume(pairs):.1f}% of the hypervolume between the worst and the best values."
    tables = {"front": [{"million_macs": macs, "score": score} for macs, score in front]}
    return Chart("Score against MACs of all settings that ended", spec, data, tables=tables, note=share)


def nondominated(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the pairs of MACs and score to which none is better in both, by MACs.

    >>> nondominated([(3.0, 0.5), (1.0, 0.4), (2.0, 0.3)])
    [(1.0, 0.4), (3.0, 0.5)]
    """
    found: list[tuple[float, float]] = []
    for macs, score in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if not found or score > found[-1][1]:
            found.append((macs, score))
    return found


def hypervolume(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the share of the box of all pairs that the front dominates: 0 to 1; 1 where the box has no area.

    >>> hypervolume([(1.0, 0.0), (2.0, 0.5), (3.0, 1.0)])
    0.25
    """
    most, low, high = max(pairs)[0], min(score for _, score in pairs), max(score for _, score in pairs)
    front = nondominated(pairs)
    box = (most - front[0][0]) * (high - low)
    ends = [macs for macs, _ in front[1:]] + [most]
    return (
        sum((end - macs) * (score - low) for (macs, score), end in zip(front, ends, strict=True)) / box if box else 1.0
    )


def _dot(colour: str) -> Spec:
    return {"type": "point", "filled": True, "size": 45, "opacity": 0.8, "color": colour}


def _layers(*layers: Spec) -> Spec:
    return {"data": {"name": "rows"}, "width": WIDTH / 2, "height": 260, "layer": list(layers)}
