"""The papers' printed numbers beside the measured ones, and whether they agree."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.arms.comparison import POINTS_OF_ARMS
from results.arms.counts import trials_line
from results.arms.findings import Findings, findings_of
from results.arms.flags import flag_lines
from results.arms.printed_verdicts import ROWS, judge, rows_in_words
from results.command_options import refuse_points
from results.errors import ResultsError
from results.question import question
from results.render.blocks import Figure, Section, TableBlock, Words
from results.render.chart import Chart
from results.render.marks import dots
from results.render.style import score_domain
from results.statistics.equivalence import ALPHA, MARGIN
from results.store.reader import Run
from results.text.names import problem_text
from results.text.number_format import SCALES
from results.text.page import Part, Shown, Table, TableRecord, answer_table, notes
from results.text.scales import scaled
from results.text.shown import FLAGS, PROBLEM, interval
from transtailor import cli

_NAMED = (
    "paper", "place", "label", "arm", "network", "dataset", "train_images", "asked_removed_macs_fraction", "metric",
)  # fmt: skip


def printed_numbers(numbers: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Draw a figure of each metric, a panel for each source; no printed differences. `numbers` are from `judge`."""
    charts = []
    scores = [number for number in numbers if number["against"] is None]
    for metric in sorted({number["metric"] for number in scores}):
        scale = SCALES[metric]
        records = []
        names: dict[str, list[str]] = {}
        extra: dict[str, list[Any]] = {
            name: [] for name in ("where", "name", "x", "low", "high", "beside", "is_settled")
        }
        for number in scores:
            if number["metric"] != metric:
                continue
            printed, measured, deviation = number["printed"], number["measured"], number["deviation"]
            where, name = f"{number['paper']}, {number['place']}", _row_name(number)
            names.setdefault(where, []).append(name)
            ends = [measured, None, None]
            if measured is not None and deviation is not None:
                ends = [measured, measured - deviation, measured + deviation]
            shown = [None if end is None else scale.factor * end for end in (*ends, printed)]
            for column, value in zip(extra.values(), (where, name, *shown, True), strict=True):
                column.append(value)
            named = {column: number[column] for column in (*_NAMED, "deviation", "seeds", "note")}
            records.append({**named, "printed_value": printed, "measured_test_score": measured})
        values = [value for name in ("low", "high", "beside") for value in extra[name] if value is not None]
        form = f"|.{scale.digits}f"
        spec = dots(
            names,
            by="where",
            title=f"{scale.noun}{scale.axis_unit}",
            tip={"name": "arm", "paper": "paper", "place": "in", "beside": f"printed{form}", "x": f"measured{form}",
                 "seeds": "seeds", "note": "note"},
            domain=score_domain(scale, min(values) / scale.factor, max(values) / scale.factor),
        )  # fmt: skip
        charts.append(
            Chart(
                f"Printed and measured {scale.noun}",
                spec,
                Table(records=records, sql=f"{ROWS};\n{POINTS_OF_ARMS.strip()}"),
                extra,
                note="Rings: printed. Full dots: measured, with one standard deviation.",
                derived=True,
            )
        )
    return charts


def _row_name(record: Mapping[str, Any]) -> str:
    asked = record["asked_removed_macs_fraction"]
    at = "" if asked is None else f", {100 * asked:g}%"
    problem = problem_text(record["network"], record["dataset"], record["train_images"])
    return f"{record['arm'] or record['label']}, {problem}{at}"


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
    interval("off_low", "difference", "interval"), VERDICT, FLAGS,
)  # fmt: skip
USUAL = ("place", "arm", "problem", "asked_removed_macs_fraction", "printed", "measured", "verdict")
CLAIMS = (
    "place", "label", Shown("against", "is ahead of"), "network", "datasets", "difference",
    interval("difference_low", "difference", "interval"), "seeds", VERDICT, FLAGS,
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
    flagged = [*numbers.records, *claims.records]
    yield from notes([*_reading(margin), *flag_lines(flagged), trials_line(run)])


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
