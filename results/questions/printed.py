"""The papers' printed numbers beside the measured ones."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from results.arms.findings import Findings
from results.render.blocks import Figure, Section
from results.render.chart import Chart, Spec
from results.render.style import PALETTE, WIDTH, names_width, row_axis, score_channel, tooltip
from results.store.query_table import query_table
from results.store.reader import Run
from results.text.number_format import SCALES

PRINTED = """
SELECT paper, place, printed.label, arm, printed.network, printed.dataset,
    printed.asked_removed_macs_fraction, printed.metric, any_value(value) AS printed_value,
    avg(test_score) AS measured_test_score, stddev_samp(test_score) AS deviation, count(test_score) AS trials,
    any_value(note) AS note
FROM printed LEFT JOIN (
    SELECT *, row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1 AS is_end FROM compared_points
    QUALIFY row_number() OVER (PARTITION BY trial_id, asked_removed_macs_fraction ORDER BY point DESC) = 1
) AS point ON point.label = printed.label AND point.network = printed.network AND point.dataset = printed.dataset
    AND point.metric = printed.metric AND isfinite(point.test_score)
    AND (printed.asked_removed_macs_fraction IS NULL AND is_end
        OR abs(point.asked_removed_macs_fraction - printed.asked_removed_macs_fraction) < 1e-6)
GROUP BY ALL ORDER BY ALL
"""
"""A row for each arm that has the number's label. Beside a number without a budget are the ends of the trials' paths,
so that each trial counts once."""


_COLUMNS = {"printed": "printed_value", "measured": "measured_test_score"}
"""Mark of the figure -> its column."""


def printed_numbers(run: Run) -> list[Chart]:
    """Draw a figure for each metric; none where the run has no printed numbers."""
    data = query_table(run, PRINTED)
    records = data.records
    names = [_row_name(record) for record in records]
    sources = [_source(record) for record in records]
    charts = []
    for metric in sorted({record["metric"] for record in records}):
        of_metric = [record for record in records if record["metric"] == metric]
        spec = _spec(of_metric, metric, names_width(names))
        title = f"Printed and measured {SCALES[metric].noun}"
        charts.append(Chart(title, spec, data, {"name": names, "where": sources}))
    return charts


def _row_name(record: Mapping[str, Any]) -> str:
    asked = record["asked_removed_macs_fraction"]
    at = "" if asked is None else f", {100 * asked:g}%"
    return f"{record['arm'] or record['label']}, {record['network']}, {record['dataset']}{at}"


def _source(record: Mapping[str, Any]) -> str:
    """Return the paper and the place in it that print the number."""
    return f"{record['paper']}, {record['place']}"


def _spec(records: Sequence[Mapping[str, Any]], metric: str, left: float) -> Spec:
    """Specify the figure of one metric: a panel for each source.

    Args:
        records: the numbers of this metric.
        left: pixels of the names of all rows.
    """
    scale = SCALES[metric]
    title = f"{scale.noun}{scale.axis_unit}"
    ends = _ends(records)
    form = f"|.{scale.digits}f"
    tip = tooltip(name="arm", paper="paper", place="in", printed=f"printed{form}", measured=f"measured{form}",
                  trials="trials", note="note")  # fmt: skip
    deviation: Spec = {
        "mark": {"type": "rule", "strokeWidth": 2, "color": PALETTE[0], "clip": True},
        "encoding": {"x": score_channel("low", title, scale, ends), "x2": {"field": "high"}},
    }
    layers = [deviation]
    in_scores = []
    colours = {"domain": list(_COLUMNS), "range": [PALETTE[1], PALETTE[0]]}
    for name, column in _COLUMNS.items():
        in_scores.append({"calculate": f"datum.{column} === null ? null : datum.{column} * {scale.factor}", "as": name})
        colour = {"datum": name, "title": None, "scale": colours}
        layers.append(
            {
                "mark": {"type": "point", "filled": name == "measured", "size": 60, "opacity": 1},
                "encoding": {"x": score_channel(name, title, scale, ends), "tooltip": tip, "color": colour},
            }
        )
    sources: list[str] = []
    for record in records:
        if _source(record) not in sources:
            sources.append(_source(record))
    panels = []
    for source in sources:
        panels.append(
            {
                "title": {"text": source, "fontSize": 11},
                "transform": [{"filter": {"field": "where", "equal": source}}],
                "width": WIDTH - left,
                "height": {"step": 24},
                "encoding": {"y": {"field": "name", "type": "nominal", "sort": None, "axis": row_axis()}},
                "layer": layers,
            }
        )
    return {
        "data": {"name": "rows"},
        "transform": [
            {"filter": {"field": "metric", "equal": metric}},
            *in_scores,
            {"calculate": f"isValid(datum.deviation) ? datum.deviation * {scale.factor} : 0", "as": "half"},
            {"calculate": "datum.measured - datum.half", "as": "low"},
            {"calculate": "datum.measured + datum.half", "as": "high"},
        ],
        "columns": 1,
        "resolve": {"scale": {"x": "shared", "color": "shared"}},
        "usermeta": {"left": left},
        "concat": panels,
    }


def _ends(records: Iterable[Mapping[str, Any]]) -> list[float]:
    """List everything that is drawn of these records: printed numbers, measured means, and a deviation around them."""
    ends: list[float] = []
    for record in records:
        ends.append(record["printed_value"])
        measured = record["measured_test_score"]
        if measured is not None:
            deviation = record["deviation"] or 0.0
            ends += [measured - deviation, measured + deviation]
    return ends


def section(findings: Findings) -> Section | None:
    """Draw one row for each printed number; None if the run has none."""
    charts = printed_numbers(findings.run)
    if not charts:
        return None
    section_printed = Section(
        "printed",
        "What the papers print",
        "Rings: the number as printed. Full dots: the mean over this run's trials of an arm with that label on that"
        " data set, with one standard deviation. Unless a note says otherwise, the papers' data, weights and training"
        " differ from those of this run.",
        short="Papers",
    )
    section_printed.blocks += [Figure(f"printed{number}", chart) for number, chart in enumerate(charts)]
    return section_printed
