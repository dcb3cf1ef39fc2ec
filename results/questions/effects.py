"""What each value of a setting changes: contrasts, in a table for all settings, donors of importance and whole arms."""

from collections.abc import Iterator, Sequence
from typing import Any

from results.arms.comparison import POINTS_OF_ARMS
from results.arms.contrasts import Contrasts, contrasts
from results.arms.counts import trials_line
from results.arms.findings import Findings
from results.arms.flags import flag_lines
from results.arms.problem import Problem
from results.command_options import at_option
from results.errors import ResultsError
from results.question import question
from results.questions.settled import at_title
from results.render.blocks import Figure, Section, TableBlock
from results.render.chart import Chart
from results.render.marks import dots
from results.store.reader import Run
from results.text.names import problem_text
from results.text.number_format import SCALES
from results.text.page import Heading, Part, Shown, Table, TableRecord, answer_table, notes
from results.text.shown import DIFFERENCE_INTERVAL, FLAGS, VERDICT, interval
from transtailor import cli


def _where(record: TableRecord) -> str:
    if record["dataset"] is None:
        return f"{record['network']}, over {record['datasets']} data sets"
    return problem_text(record["network"], record["dataset"], record["train_images"])


WHERE = Shown("dataset", "where", _where)
SHOWN = (
    "setting", "level", "reference", WHERE, "asked_removed_macs_fraction", "pairs", "reference_score", "difference",
    DIFFERENCE_INTERVAL, "p", "smallest_p", "p_holm", VERDICT, interval("new_set_low", "difference", "a new set"),
    FLAGS,
)  # fmt: skip
USUAL = ("level", "dataset", "asked_removed_macs_fraction", "difference", "difference_low", "p", "verdict")
READ = (
    "Difference: the test score with the value, less that with the one in `against`, over trials that differ in this"
    " setting alone, seed by seed; `of that` is the score of the latter. Settings that only one of both reads belong to"
    " it. A setting that no two trials differ in alone has no row.",
    "Over data sets, each is one observation: a t interval and test of their mean differences. A new set: where the"
    " difference on one more such set is expected in 95% of the cases.",
    "p (Holm) is corrected over the table; verdicts are not.",
)


def effects_table(found: Contrasts, **facts: str) -> Table:
    """Build the table of contrasts; `facts` are attributes of the table."""
    shown: Sequence[str | Shown] = SHOWN
    usual: Sequence[str] = USUAL
    if any(row["within"] is not None for row in found.records):
        shown, usual = (*SHOWN[:2], "within", *SHOWN[2:]), ("level", "within", *USUAL[1:])
    return answer_table("effects", found.records, shown=shown, usual=usual, **facts)


def effects_page(
    run: Run, asked: float | None = None, of: Sequence[str] = (), against: str | None = None, within: str | None = None
) -> Iterator[Part]:
    """Yield the table of contrasts, and notes.

    Raises:
        ResultsError: as `contrasts`.
    """
    found = contrasts(run, of, against, within, asked)
    metrics = {row["metric"] for row in found.records}
    yield Heading(f"What each value of a setting changes ({', '.join(sorted(SCALES[name].noun for name in metrics))})")
    yield ""
    yield effects_table(found)
    yield ""
    yield from notes([*tied_lines(found), *READ, *flag_lines(found.records), trials_line(run)])


def tied_lines(found: Contrasts) -> list[str]:
    """Name the settings that always change together with one of the table."""
    shown = {row["setting"] for row in found.records}
    return [
        f"{name} also stands for {', '.join(others)}, which change with it."
        for name, others in found.tied.items()
        if name in shown
    ]


_MOST_SETTINGS = 10


def at_usual_budget(findings: Findings) -> Contrasts:
    """Return the contrasts that are drawn: at the budget of the report, or at all where TransTailor has none."""
    return contrasts(findings.run, asked=findings.budget if findings.budgets else None)


def chart(findings: Findings, problem: Problem, found: Contrasts) -> Chart | None:
    """Draw the difference that each value makes, setting by setting; None where a problem has none."""
    of_problem = problem.record.items()
    records = [row for row in found.records if of_problem <= row.items()]
    if not records:
        return None
    scale = findings.scales[problem]
    budgets = {row["asked_removed_macs_fraction"] for row in records}
    rows_of: dict[str, list[str]] = {}
    extra: dict[str, list[Any]] = {name: [] for name in ("panel", "name", "x", "low", "high", "is_settled")}
    for row in records:
        panel = f"{row['setting']}, against {row['reference']}"
        name = row["level"]
        if len(budgets) > 1:
            name += f", {at_title(row['asked_removed_macs_fraction'])}"
        rows_of.setdefault(panel, []).append(name)
        low, mean, high = (
            None if row[end] is None else scale.factor * row[end]
            for end in ("difference_low", "difference", "difference_high")
        )
        is_settled = row["verdict"] in ("better", "worse")
        for column, value in zip(extra.values(), (panel, name, mean, low, high, is_settled), strict=True):
            column.append(value)
    shown = dict(list(rows_of.items())[:_MOST_SETTINGS])
    hidden = len(rows_of) - len(shown)
    at = f", {at_title(*budgets)}" if len(budgets) == 1 else ""
    return Chart(
        f"{problem}: what each value of a setting changes{at}",
        dots(
            shown,
            by="panel",
            title=f"difference in test {scale.noun}{scale.difference_axis_unit}",
            tip={"name": "value", "x": f"difference{scale.difference_unit}|+.{scale.digits}f", "verdict": "verdict"},
        ),
        Table(records=records, sql=POINTS_OF_ARMS.strip()),
        extra,
        note=f"{hidden} more settings are in the table." if hidden else "",
        derived=True,
    )


def section(findings: Findings) -> Section:
    """Show the contrasts at one budget, in a table and in a figure for each problem."""
    section_effects = Section(
        "effects", "Effects of the settings",
        "Trials that differ in one setting alone, paired by all else and by seed: mean differences with their 95%"
        " intervals. Full dots: better or worse. Rings: neither can be said.",
        short="Settings",
    )  # fmt: skip
    try:
        found = at_usual_budget(findings)
    except ResultsError as error:
        section_effects.empty = f"No effects: {error}."
        return section_effects
    for index, problem in enumerate(findings.problems):
        drawn = chart(findings, problem, found)
        if drawn is not None:
            section_effects.blocks.append(Figure(f"effects{index}", drawn))
    table = effects_table(
        found, sql=POINTS_OF_ARMS.strip(), note=" ".join([*tied_lines(found), *READ, *flag_lines(found.records)])
    )
    section_effects.blocks.append(TableBlock(table, "All differences", derived=True))
    return section_effects


@question(example="runs/demo")
@at_option
@cli.option(
    "--of", multiple=True, metavar="SETTING",
    help="such as optimisation.learning_rate, pruning.scores_from, or arm (repeatable; default: all that vary)",
)  # fmt: skip
@cli.option("--against", metavar="VALUE", help="the value of --of that others are compared with (default: most arms)")
@cli.option("--within", metavar="SETTING", help="a row for each value of this setting, too, or of label")
def effects(
    run: Run, at: float | None = None, of: Sequence[str] = (), against: str | None = None, within: str | None = None
) -> Iterator[Part]:
    """Which settings matter: trials that differ in one setting alone, paired by all else and by seed."""
    return effects_page(run, at, of, against, within)
