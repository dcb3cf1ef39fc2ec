"""The papers' printed numbers beside the measured ones, and whether they agree."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from results.arms.comparison import POINTS_OF_ARMS
from results.arms.findings import Findings, findings_of
from results.arms.printed_verdicts import ROWS, judge, rows_in_words
from results.arms.shared_training import support_lines
from results.command_options import refuse_points
from results.errors import ResultsError
from results.question import question
from results.render.blocks import Figure, Section, TableBlock, Words
from results.render.chart import Chart, Spec
from results.render.style import PALETTE, WIDTH, names_width, row_axis, score_channel, tooltip
from results.statistics.equivalence import ALPHA, MARGIN
from results.store.reader import Run
from results.text.names import problem_text
from results.text.number_format import SCALES
from results.text.page import Note, Part, Shown, Table, TableRecord, answer_table
from results.text.scales import scaled
from results.text.shown import PROBLEM, interval
from transtailor import cli

_NAMED = (
    "paper", "place", "label", "arm", "network", "dataset", "train_images", "asked_removed_macs_fraction", "metric",
)  # fmt: skip
_COLUMNS = {"printed": "printed_value", "measured": "measured_test_score"}
"""Mark of the figure -> its column."""


def printed_numbers(numbers: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Draw a figure of each metric, without printed differences. `numbers` are from `judge`."""
    drawn = (*_NAMED, "deviation", "seeds", "note")
    records = [
        {name: number[name] for name in drawn}
        | {"printed_value": number["printed"], "measured_test_score": number["measured"]}
        for number in numbers if number["against"] is None
    ]  # fmt: skip
    data = Table(records=records, sql=f"{ROWS};\n{POINTS_OF_ARMS.strip()}")
    names = [_row_name(record) for record in records]
    sources = [_source(record) for record in records]
    charts = []
    for metric in sorted({record["metric"] for record in records}):
        of_metric = [record for record in records if record["metric"] == metric]
        spec = _spec(of_metric, metric, names_width(names))
        title = f"Printed and measured {SCALES[metric].noun}"
        charts.append(Chart(title, spec, data, {"name": names, "where": sources}, derived=True))
    return charts


def _row_name(record: Mapping[str, Any]) -> str:
    asked = record["asked_removed_macs_fraction"]
    at = "" if asked is None else f", {100 * asked:g}%"
    problem = problem_text(record["network"], record["dataset"], record["train_images"])
    return f"{record['arm'] or record['label']}, {problem}{at}"


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
                  seeds="seeds", note="note")  # fmt: skip
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


def _verdict(record: TableRecord) -> str:
    verdict: str = record["verdict"]
    if verdict != "cannot say yet":
        return verdict
    needed = record["seeds_needed"]
    return f"{verdict}: {'no number of seeds is enough' if needed is None else f'{needed:,} seeds needed'}"


def _printed_text(record: TableRecord) -> str:
    scale = "score" if record["against"] is None else "difference"
    return scaled(record["printed"], scale, record["metric"])


def _measured_text(record: TableRecord) -> str:
    scale = "score" if record["against"] is None else "difference"
    return scaled(record["measured"], scale, record["metric"])


def _arm_text(record: TableRecord) -> str:
    name = record["arm"] or f"{record['label']} (no such arm)"
    return name if record["against"] is None else f"{name} - {record['against']}"


VERDICT = Shown("verdict", text=_verdict, is_text=True)
NUMBERS = (
    "place", Shown("arm", text=_arm_text, is_text=True), PROBLEM, "asked_removed_macs_fraction",
    Shown("printed", text=_printed_text), Shown("measured", text=_measured_text), "seeds", "off",
    interval("off_low", "difference", "interval"), VERDICT,
)  # fmt: skip
USUAL = ("place", "arm", "problem", "asked_removed_macs_fraction", "printed", "measured", "verdict")
CLAIMS = (
    "place", "label", Shown("against", "is ahead of"), "network", "datasets", "difference",
    interval("difference_low", "difference", "interval"), "seeds", VERDICT,
)  # fmt: skip


def _tables(findings: Findings, margin: float) -> tuple[Table, Table]:
    """Return the table of numbers and that of claims."""
    of_numbers, of_claims = judge(findings, margin)
    numbers = answer_table("printed", of_numbers, shown=NUMBERS if of_numbers else (), usual=USUAL)
    return numbers, answer_table("printed", of_claims, "claims", shown=CLAIMS if of_claims else ())


def _reading(margin: float) -> list[str]:
    """Say how to read the verdicts."""
    return [
        f"within: the mean of such seeds is within {margin:g} of the printed number, by two one-sided t tests; not"
        " within: it is not. The chance of any false verdict in a paper's table is at most"
        f" {ALPHA:.0%}: each test is at {ALPHA:g} over the table's numbers. A number that the paper calls a mean of n"
        " runs errs itself. incomplete: trials failed, and may have scored badly.",
        "A claim is about the mean paired difference over its data sets and budgets: holds, if that is above 0.",
        "Seeds needed: for a verdict in 80% of the cases, if mean and deviation are as measured. Other data, weights or"
        " training than the paper's make another number without any error of either.",
    ]


@question(example="runs/transtailor_vgg16")
@cli.option(
    "--margin", type=float, default=MARGIN, show_default=True, metavar="SCORE",
    help="how far off a number still counts as the same, such as 0.01 for a point of accuracy",
)  # fmt: skip
def printed(run: Run, margin: float = MARGIN) -> Iterator[Part]:
    """Whether the papers' printed numbers and claims are reproduced, or how many seeds it takes to say."""
    if not 0.0 < margin < math.inf:
        raise ResultsError(f"--margin {margin:g}: expected a number above 0, such as 0.01")
    refuse_points("--margin", margin)
    findings = findings_of(run)
    numbers, claims = _tables(findings, margin)
    if not numbers.records and not claims.records:
        raise ResultsError("the run has no printed numbers, which its spec gives in [[printed]]")
    yield numbers
    yield ""
    yield claims
    yield ""
    yield from rows_in_words(numbers.records)
    yield ""
    yield from map(Note, [*_reading(margin), *support_lines(run, findings.problems)])


def section(findings: Findings) -> Section | None:
    """Draw one row for each printed number; None if the run has none."""
    numbers, claims = _tables(findings, MARGIN)
    if not numbers.records and not claims.records:
        return None
    section_printed = Section(
        "printed",
        "What the papers print",
        "Rings: the number as printed. Full dots: the mean over this run's seeds of an arm with that label on that"
        " data set, with one standard deviation. Unless a note says otherwise, the papers' data, weights and training"
        " differ from those of this run.",
        short="Papers",
    )
    section_printed.blocks += [
        Figure(f"printed{number}", chart) for number, chart in enumerate(printed_numbers(numbers.records))
    ]
    for table, title in ((numbers, "Reproduced?"), (claims, "Claims")):
        if table.records:
            section_printed.blocks.append(TableBlock(table, title, derived=True))
    section_printed.blocks += [Words(text) for text in _reading(MARGIN)]
    return section_printed
