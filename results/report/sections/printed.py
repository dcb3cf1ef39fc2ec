"""Numbers printed in papers, compared with the measured ones."""

from results.figures.rows import Line, Mark, rows_of_dots
from results.figures.svg import Key
from results.report.elements.blocks import Answer, Figure, Section, answer
from results.store.reader import Run
from results.text.number_format import SCALES

PRINTED = """
SELECT paper, place, printed.label, printed.network, printed.dataset,
    printed.asked_removed_macs_fraction, printed.metric, any_value(value) AS printed_value,
    avg(test_score) AS measured_test_score, stddev_samp(test_score) AS deviation, count(test_score) AS trials,
    any_value(note) AS note
FROM printed LEFT JOIN (
    FROM compared_points
    QUALIFY row_number() OVER (PARTITION BY trial_id, asked_removed_macs_fraction ORDER BY point DESC) = 1
) AS point ON point.label = printed.label AND point.network = printed.network AND point.dataset = printed.dataset
    AND point.metric = printed.metric AND isfinite(point.test_score)
    AND (printed.asked_removed_macs_fraction IS NULL
        OR abs(point.asked_removed_macs_fraction - printed.asked_removed_macs_fraction) < 1e-6)
GROUP BY ALL ORDER BY ALL
"""


def section(run: Run) -> Section | None:
    """Draw one row for each printed number; None if the run has none."""
    data = answer(run, PRINTED)
    if not data.rows:
        return None
    made = Section(
        "printed",
        "What the papers print",
        "Rings: the number as printed. Full dots: the mean over this run's trials of that label on that data set, with"
        " one standard deviation. Unless a note says otherwise, the papers' data, weights and training differ from"
        " those of this run.",
    )
    for place, metric in enumerate(sorted({record["metric"] for record in data.records()})):
        made.blocks.append(_figure(f"printed{place}", metric, data))
    return made


def _figure(name: str, metric: str, data: Answer) -> Figure:
    scale = SCALES[metric]
    lines: list[Line] = []
    above = ""
    for row, record in enumerate(data.records()):
        if record["metric"] != metric:
            continue
        heading = f"{record['paper']}, {record['place']}"
        if heading != above:
            lines.append(Line(heading))
            above = heading
        asked = record["asked_removed_macs_fraction"]
        at = "" if asked is None else f", {100 * asked:g}%"
        marks = [Mark(value=scale.factor * record["printed_value"], series=0, colour="c1", row=row, hollow=True)]
        if record["measured_test_score"] is not None:
            mean, deviation = record["measured_test_score"], record["deviation"]
            ends = (None, None) if deviation is None else (mean - deviation, mean + deviation)
            low, high = (None if end is None else scale.factor * end for end in ends)
            marks.append(Mark(value=scale.factor * mean, series=1, colour="c0", row=row, low=low, high=high))
        lines.append(Line(f"{record['label']}, {record['network']}, {record['dataset']}{at}", [marks]))
    title = f"Printed and measured {scale.noun}"
    legend = [Key(0, "printed", "c1", "ring"), Key(1, "measured", "c0")]
    drawing = rows_of_dots(title, [f"{scale.noun}{scale.axis_unit}"], lines)
    return Figure(name, title, drawing, data, legend, titled_by=("paper", "label"))
