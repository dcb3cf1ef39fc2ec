"""Build the report's page and write it."""

import base64
import hashlib
import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined
from markupsafe import Markup

from results.errors import ResultsError
from results.report.elements.blocks import Section, script_json
from results.report.elements.findings import findings_of
from results.report.sections import (
    comparing,
    costs,
    effects,
    failures,
    kept_filters,
    learning,
    pareto,
    printed,
    stopping,
    time_line,
    trials,
    what_ran,
    widths,
)
from results.store.reader import Run, load
from transtailor.files import write_file

_HELD = ("planned", "trials", "attempts", "stages", "operating_points", "measured_points", "layers", "kept_filters")

LAST_ROW = "SELECT strftime(max(written_at), '%Y-%m-%d %H:%M:%S UTC') AS at FROM (" + (
    " UNION ALL ".join(
        f"SELECT max(written_at) AS written_at FROM {name}"
        for name in ("planned", "trials", "attempts", "operating_points")
    )
    + ")"
)


@dataclass
class Page:
    """The data of the template.

    Attributes:
        tiles: the large numbers on top, each with what it counts.
        facts: of provenance.json.
        trials: what the script needs to show a trial.
        renew_s: seconds after which the page reloads itself; None: never.
    """

    name: str
    last_row: str
    tiles: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    trials: Markup = Markup("{}")
    renew_s: float | None = None


def write_report(run: str | os.PathLike[str], renew_s: float | None = None) -> Path:
    """Write the report, `report.html` in the run's folder, and return its path; an older one is replaced atomically.

    Works at any moment of a sweep, with the rows that are there.

    Args:
        run: folder of the run.
        renew_s: seconds after which the page reloads itself, if it is written repeatedly.

    Raises:
        ResultsError: the folder is no run, or a part of it cannot be read; then no report is written.

    Writes:
        `<run>/report.html`, atomically. The same rows give the same bytes.
    """
    with load(run) as loaded:
        text = render(page_of(loaded, renew_s))
    path = Path(run) / "report.html"
    try:
        return write_file(path, text.encode(errors="replace"))
    except OSError as error:
        raise ResultsError(f"the report cannot be written to {str(path)!r}: {error}") from error


def render(page: Page) -> str:
    """Return the page as HTML; all texts are escaped, and only the page's own script, known by its hash, may run."""
    templates = Templates(
        loader=PackageLoader("results"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = resources.files("results") / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates.get_template("report.html.j2").render(
        page=page, style=Markup(style), script=Markup(script), script_hash=digest
    )


def page_of(run: Run, renew_s: float | None = None) -> Page:
    """Compute everything that the report shows of a run."""
    run.hold(*_HELD)
    counts: dict[str, int] = run.rows(what_ran.COUNTS)[0]
    found = findings_of(run)
    planned = trials.trial_rows(run)
    settings = trials.settings_of(planned)
    page = Page(run.path.resolve().name, run.rows(LAST_ROW)[0]["at"] or "", renew_s=renew_s)
    page.tiles = _tiles(run, counts)
    page.warnings = [*what_ran.warnings(run, counts), *comparing.warnings(found)]
    try:
        page.facts = what_ran.provenance(run)
    except (ValueError, OSError) as error:
        page.warnings.append(f"provenance.json cannot be read: {error}")
    page.trials = script_json(trials.script_data(planned, settings))
    made = [
        what_ran.section(run, settings),
        comparing.named_section(found),
        comparing.methods_section(found),
        comparing.tuning_section(found),
        comparing.baseline_section(found),
        pareto.section(found),
        effects.section(found, settings),
        learning.section(found),
        widths.section(found),
        kept_filters.section(found),
        stopping.section(found),
        time_line.section(run),
        costs.section(run),
        printed.section(run),
        failures.section(run),
    ]
    page.sections = [section for section in made if section is not None]
    return page


def _tiles(run: Run, counts: dict[str, Any]) -> list[tuple[str, str]]:
    tiles = [(f"{counts[name]:,}", f"trials {name}") for name in ("planned", "finished", "failed", "missing")]
    spent, saved = costs.hours(run)
    for hours, what in ((spent, "computed"), (saved, "saved by sharing")):
        amount, unit = costs.hours_text(hours, "rank-").split(" ")
        tiles.append((amount, f"{unit} {what}"))
    return tiles
