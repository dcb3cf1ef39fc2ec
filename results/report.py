"""Writes a run's report: one HTML page that needs nothing else, every number in it computed from the run's tables."""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined
from markupsafe import Markup

from results import comparison, cost, figures, tables, tuning
from results.comparison import Arm, EnvironmentsByTrial, Pairing, Point, Problem, Setting
from results.errors import ResultsError
from results.reader import FAILED, MISSING, Run, load
from results.scale import NOTHING, number
from results.tables import Row, Table
from results.tuning import Tried
from results.verdict import verdict

OF_ONE_MACHINE = ("folder", "host", "pid")  # facts of provenance.json that a page to be shown around leaves out
BUDGET = 0.20
"""The budget of the named comparison: so much of the MACs is removed."""
TOLERANCE = 0.003
"""TransTailor's printed tau, 0.3 percentage points of accuracy; the same number for R squared is our choice."""
_HELD = ("planned", "trials", "attempts", "stages", "operating_points", "measured_points")

COUNTS = """
SELECT (SELECT count(*) FROM planned) AS planned,
    (SELECT count(*) FROM trials WHERE status = 'finished') AS finished,
    (SELECT count(*) FROM trials WHERE status = 'failed') AS failed,
    (SELECT count(*) FROM planned WHERE trial_id NOT IN (SELECT trial_id FROM trials)) AS missing
"""
ARMS = """
SELECT network, dataset, label, method, count(*) AS planned,
    count(*) FILTER (status = 'finished') AS finished, count(*) FILTER (status = 'failed') AS failed,
    list(DISTINCT seed ORDER BY seed) AS seeds
FROM planned LEFT JOIN trials USING (trial_id)
GROUP BY ALL ORDER BY ALL
"""
ENVIRONMENTS = """
SELECT device, ranks, torch_version, count(DISTINCT stage_key) AS stages, count(DISTINCT trial_id) AS trials
FROM stages GROUP BY ALL ORDER BY ALL
"""
CODES = "SELECT code_digest, count(*) AS points FROM operating_points GROUP BY ALL ORDER BY ALL"
PROTOCOLS = "SELECT protocol, count(*) AS points FROM operating_points GROUP BY ALL ORDER BY ALL"
LAST_ROW = "SELECT strftime(max(written_at), '%Y-%m-%d %H:%M:%S UTC') AS at FROM (" + (
    " UNION ALL ".join(
        f"SELECT max(written_at) AS written_at FROM {name}"
        for name in ("planned", "trials", "attempts", "operating_points")
    )
    + ")"
)


@dataclass(frozen=True)
class Drawing:
    """A figure, its legend (label, colour, letter), and the numbers that it draws; `open` shows them at once."""

    title: str
    svg: Markup
    legend: list[tuple[str, str, str]]
    table: Table
    open: bool = False


@dataclass
class Page:
    """What the template prints."""

    name: str
    last_row: str
    counts: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    what_ran: Table | None = None
    environments: Table | None = None
    verdicts: list[tuple[str, str]] = field(default_factory=list)
    named: Table | None = None
    methods: list[tuple[str, Table]] = field(default_factory=list)
    tuned: str = ""
    settings: Table | None = None
    untuned: list[tuple[str, Table]] = field(default_factory=list)
    against: list[Drawing] = field(default_factory=list)
    comparisons: int = 0
    drawings: list[Drawing] = field(default_factory=list)
    choices: Table | None = None
    chosen: Table | None = None
    cost: Table | None = None
    saved: str = ""
    missing: Table | None = None
    failed: Table | None = None
    budget_percent: float = 100 * BUDGET
    tolerance_points: float = 100 * TOLERANCE


def write_report(run: str | os.PathLike[str]) -> Path:
    """The path of the report, `report.html` in the run's folder; it replaces an older one at once.

    Works at any moment of a sweep, with whatever rows there are.

    Raises:
        ResultsError: the folder is no run, or a part of it cannot be read; nothing is written then.

    Writes:
        `<run>/report.html`, by a temporary file and a rename, so a reader never sees half of it. The same rows give
        the same bytes.
    """
    with load(run) as loaded:
        text = render(page_of(loaded))
    path = Path(run) / "report.html"
    temporary = path.with_name(f".report-{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", errors="replace")
        temporary.replace(path)
    except OSError as error:
        raise ResultsError(f"the report cannot be written to {str(path)!r}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def render(page: Page) -> str:
    """The page as HTML; all texts are escaped."""
    templates = Templates(
        loader=PackageLoader("results"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("report.html.j2").render(page=page)


def page_of(run: Run) -> Page:
    """All that the report says about a run."""
    run.hold(*_HELD)
    counts = run.rows(COUNTS)[0]
    page = Page(run.path.resolve().name, run.rows(LAST_ROW)[0]["at"] or "", counts)
    _what_ran(page, run)
    points = comparison.points_of(run)
    environments = comparison.environments_of(run)
    ended = tuning.ended_settings(run)
    best = tuning.best_settings(points, ended)
    arms = comparison.arms_of(best, environments)
    _tune(page, best, tuning.first_setting(points), environments)
    _compare(page, arms)
    _named(page, arms)
    _draw(page, points, arms)
    _choose(page, run, points, ended, environments)
    whole, labels = cost.cost_of_run(run)
    page.cost = tables.cost_table(whole, labels, f"{cost.STAGES.strip()};\n{cost.POINTS_OF_LABELS}")
    if whole.ratio is not None:
        page.saved = (
            f"{number(whole.shared_s, 1)} stage-seconds were computed; trial by trial, without sharing, the"
            f" {whole.points} distinct operating points would have taken {number(whole.separate_s, 1)},"
            f" {whole.ratio:.2f} times as many."
        )
    page.missing = _listing(run, MISSING)
    page.failed = _listing(run, FAILED)
    return page


def _what_ran(page: Page, run: Run) -> None:
    page.what_ran = _listing(run, ARMS)
    page.environments = _listing(run, ENVIRONMENTS)
    missing, planned = page.counts["missing"], page.counts["planned"]
    if missing:
        page.warnings.append(
            f"Planned trials that have neither finished nor failed: {missing} of {planned}."
            " The sweep is not over, or was ended early; what follows holds for the points written so far."
        )
    if page.counts["failed"]:
        page.warnings.append(f"Trials that failed: {page.counts['failed']}; see the last section.")
    if len(page.environments.rows) > 1:
        kinds = "; ".join(
            f"{row.cells[0]}, ranks: {row.cells[1]}, torch {row.cells[2]}" for row in page.environments.rows
        )
        page.warnings.append(
            f"The stages were computed on mixed hardware, ranks or torch versions ({kinds}). Comparisons that mix them"
            " are marked: a difference may come from there."
        )
    codes = run.rows(CODES)
    if len(codes) > 1:
        which = ", ".join(f"{row['code_digest'][:12]} ({row['points']} points)" for row in codes)
        page.warnings.append(f"The operating points were measured by different code: {which}.")
    for row in run.rows(PROTOCOLS):
        if row["protocol"] != "validation":
            page.warnings.append(
                f"Operating points that follow the protocol {row['protocol']!r}: {row['points']};"
                " their trials decided by the training images, not by the validation split."
            )
    _read_provenance(page, run)


def _read_provenance(page: Page, run: Run) -> None:
    provenance = run.path / "provenance.json"
    if provenance.is_file():
        try:
            facts = json.loads(provenance.read_text(encoding="utf-8"))
            if not isinstance(facts, dict):
                raise ValueError("expected a JSON object")
            page.facts = _flat(facts)
        except (ValueError, OSError, RecursionError) as error:
            page.warnings.append(f"provenance.json cannot be read: {error}")


def _tune(page: Page, best: Sequence[Point], first: Sequence[Point], environments: EnvironmentsByTrial) -> None:
    """What was chosen from the settings of [tuning], and what the first of them alone would say."""
    counts = tuning.counts_of(best)
    if not counts:
        return
    page.settings = tables.settings_table(counts, tuning.CHOSEN_SETTINGS)
    numbers = sorted({point.best_of for point in best})
    if len(numbers) == 1:
        page.tuned = (
            f"Every arm stands with the best of {numbers[0]} settings by validation, chosen for each seed and asked"
            " budget anew: all arms have the same tuning budget."
        )
    else:
        page.tuned = (
            f"The arms stand with the best of {', '.join(map(str, numbers))} settings by validation: their tuning"
            " budgets are not equal."
        )
        page.warnings.append(f"{page.tuned} Comparisons of such arms are marked and settle nothing.")
    untuned = ", ".join(sorted({tuning.in_words(point.setting) for point in first if point.setting is not None}))
    pairs = comparison.against_baseline(comparison.arms_of(first, environments))
    pairings = [comparison.compare([pair]) for pair in pairs]
    for problem in sorted({pairing.problem for pairing in pairings if pairing.problem}):
        of_problem = [pairing for pairing in pairings if pairing.problem == problem]
        table = tables.pairings_table(of_problem, comparison.POINTS, where=False)
        page.untuned.append((f"{problem}, all at the first setting: {untuned}", table))


def _compare(page: Page, arms: Sequence[Arm]) -> None:
    """The tables of methods, and all arms against full fine-tuning."""
    problems = sorted({arm.problem for arm in arms})
    for problem in problems:
        its_arms = [arm for arm in arms if arm.problem == problem]
        page.methods.append((str(problem), tables.methods_table(its_arms, comparison.POINTS)))
    if lost := sum(arm.not_finite for arm in arms):
        page.warnings.append(
            f"Operating points whose validation score is not a number: {lost}; the means leave them out, so their"
            " arms look better than they are."
        )
    pairings = [comparison.compare([pair]) for pair in comparison.against_baseline(arms)]
    page.comparisons = len(pairings)
    for place, problem in enumerate(problems):
        of_problem = [pairing for pairing in pairings if pairing.problem == problem]
        shown = [pairing for pairing in of_problem if pairing.result.difference.mean is not None]
        if shown:
            svg = figures.differences(f"against{place}", shown)
            table = tables.pairings_table(of_problem, comparison.POINTS, where=False)
            title = f"{problem}: difference to {shown[0].second}"
            page.against.append(Drawing(title, Markup(svg), [], table, open=True))


def _named(page: Page, arms: Sequence[Arm]) -> None:
    """TransTailor at the budget against each arm of full fine-tuning, in each problem and pooled."""
    pairs_by_labels: dict[tuple[str, str, str], list[tuple[Arm, Arm]]] = {}
    for arm in comparison.transtailor_at(arms, BUDGET):
        for baseline in comparison.baselines_of(arms, arm.problem):
            pairs_by_labels.setdefault((arm.label, baseline.label, arm.metric), []).append((arm, baseline))
    pairings: list[Pairing] = []
    for pairs in pairs_by_labels.values():
        pairings += [comparison.compare([pair]) for pair in pairs]
        if len(pairs) > 1:
            pairings.append(comparison.compare(pairs))
    for pairing in pairings:
        where = str(pairing.problem) if pairing.problem else "Pooled over networks and seeds"
        words = verdict(pairing)
        if pairing.shares_models:
            words += " Several pairs rest on one model, so n is smaller than it looks."
        page.verdicts.append((f"{where}, against {pairing.second}", words))
    page.named = tables.pairings_table(pairings, comparison.POINTS, where=True)


def _draw(page: Page, points: Sequence[Point], arms: Sequence[Arm]) -> None:
    """One figure of the score against MACs per problem that has been tested."""
    styles = figures.styles_of(arm.label for arm in arms)
    tested: list[Problem] = sorted({point.problem for point in points if point.test is not None})
    for place, problem in enumerate(tested):
        of_problem = [point for point in points if point.problem == problem]
        its_arms = [arm for arm in arms if arm.problem == problem]
        svg = figures.score_against_macs(f"macs{place}", of_problem, its_arms, styles)
        labels = sorted({arm.label for arm in its_arms})
        legend = [(label, styles[label].colour, styles[label].letter) for label in labels]
        table = tables.points_table(of_problem, comparison.POINTS)
        page.drawings.append(Drawing(str(problem), Markup(svg), legend, table))


def _choose(
    page: Page,
    run: Run,
    points: Sequence[Point],
    ended: Mapping[Tried, set[Setting]],
    environments: EnvironmentsByTrial,
) -> None:
    """What the stop rule chose on each path; with [tuning], on the paths of the best setting."""
    done = {row["trial_id"] for row in run.rows("SELECT trial_id FROM trials WHERE status = 'finished'")}
    unfinished = {point.trial_id for point in points} - done
    choices = comparison.choices_of(points, TOLERANCE)
    best = tuning.best_settings(comparison.chosen_points(choices), ended)
    trials = {point.trial_id for point in best}
    shown = [choice for choice in choices if choice.chosen.trial_id in trials]
    arms = sorted(comparison.arms_of(best, environments), key=lambda arm: (arm.problem, arm.label))
    page.choices = tables.choices_table(shown, TOLERANCE, unfinished, comparison.POINTS)
    page.chosen = tables.chosen_table(arms, comparison.POINTS)


def _listing(run: Run, sql: str) -> Table:
    """The answer to a query as it is."""
    answer = run.arrow(sql)
    kinds = [str(kind) for kind in answer.schema.types]
    numeric = tuple(kind.startswith(("int", "double", "decimal")) for kind in kinds)
    rows = [Row(tuple(_cell(value) for value in row.values())) for row in answer.to_pylist()]
    return Table(tuple(name.replace("_", " ") for name in answer.column_names), numeric, rows, sql)


def _cell(value: object) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)


def _flat(facts: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """A JSON object as lines of key and value; the keys of objects inside it are joined by dots."""
    lines: list[tuple[str, str]] = []
    for key, value in facts.items():
        if key in OF_ONE_MACHINE:
            continue
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, dict) and value:
            lines += _flat(value, f"{before}{key}.")
        else:
            lines.append((before + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return lines
