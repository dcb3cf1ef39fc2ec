"""Build the report's page and write it."""

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from results.arms.averaging import average_over, notes_on_runs
from results.arms.findings import Findings, findings_of
from results.errors import ResultsError
from results.questions import (
    classes,
    compare,
    costs,
    effects,
    front,
    layers,
    learning,
    printed,
    search,
    settled,
)
from results.render.blocks import Section, TableBlock
from results.render.figures import bundle
from results.report import failures, now, overview, what_ran
from results.sharing import ONE_SCRIPT
from results.store.reader import Run, load
from transtailor.files import write_file

_HELD = ("planned", "trials", "attempts", "stages", "operating_points", "layers", "printed")
_SEARCHES_APART = """arm = run || ': ' || arm WHERE (SELECT count(DISTINCT run) FROM proposals) > 1
    AND trial_id IN (SELECT unnest(trial_ids) FROM proposals WHERE purpose = 'confirm')"""
"""Two searches number their proposals alike, so what they confirm is named by its run."""

SECTIONS: tuple[Callable[[Findings], Section | None], ...] = (
    now.section,
    search.section,
    settled.section,
    overview.named_section,
    overview.tuning_section,
    compare.section,
    effects.section,
    learning.section,
    layers.widths_section,
    layers.kept_filters_section,
    classes.section,
    costs.section,
    printed.section,
    what_ran.section,
    failures.section,
)
"""The sections below the first screen, in this order; one without anything to show may be None."""

HELD_ROWS: Mapping[str, tuple[Callable[[Findings], str], ...]] = MappingProxyType(
    {"kept_filters": (layers.compared_filters,), "predictions": (classes.compared_predictions,)}
)
"""Of the two largest tables few rows are shown: the functions say in SQL which ones the sections read."""

_SCRIPTS = ("state.js", "page.js", "figures.js", "dots.js", "points.js", "front.js", "start.js")
"""One program, in this order."""

_WRITTEN_TABLES = ("planned", "trials", "attempts", "operating_points")
_NEWEST = [f"SELECT max(written_at) AS written_at FROM {table}" for table in _WRITTEN_TABLES]
LAST_ROW = f"SELECT strftime(max(written_at), '%Y-%m-%d %H:%M:%S UTC') AS at FROM ({' UNION ALL '.join(_NEWEST)})"
"""When the last row of the run was written."""


@dataclass
class Page:
    """The data of the template.

    Attributes:
        main: score against cost, on the first screen; `arms` are beside it, with the `verdict` above.
    """

    name: str
    last_row: str
    tiles: list[tuple[str, str]] = field(default_factory=list)  # the large numbers, each with what it counts
    warnings: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)  # of provenance.json
    main: Section = field(default_factory=lambda: Section("pareto", ""))
    arms: list[TableBlock] = field(default_factory=list)
    verdict: str = ""
    sections: list[Section] = field(default_factory=list)


Runs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def write_report(
    run: Runs,
    *,
    over: Sequence[str] = (),
    out: Path | None = None,
    every_s: int | None = None,
) -> Path:
    """Write the report and return its path; an older one is replaced atomically.

    Works at any moment of a sweep, with the rows that are there.

    Args:
        run: folder of the run; or several, which become one page. A trial that is in two of them counts once.
        over: settings to average over, such as "optimisation.learning_rate", instead of telling arms apart by them.
        out: path of the page; None: `report.html` in the folder of the one run.
        every_s: the page loads itself again after so many seconds; None: never.

    Raises:
        ResultsError: a folder is no run, a part of it cannot be read, no arms differ in a setting of `over`, `out`
            is a folder, or there is none for several runs; then none is written.

    Writes:
        The page, atomically. The same rows give the same bytes.
    """
    if out is not None and (not out.name or out.is_dir()):
        raise ResultsError(f"the page cannot be {str(out)!r}, a folder: name a file, such as {out / 'report.html'}")
    with load(run) as loaded:
        if out is None and len(loaded.paths) > 1:
            raise ResultsError("several runs: name their page with --out FILE; RUN/report.html is of that run alone")
        with ThreadPoolExecutor(1) as ahead:
            ahead.submit(bundle)  # a process of its own makes Vega's scripts meanwhile; `render` gets the error
            page = page_of(loaded, over=over)
        text = _render(page, every_s)
        path = out or loaded.path / "report.html"
    try:
        return write_file(path, text.encode(errors="replace"))
    except OSError as error:
        why = f"the report cannot be written to {str(path)!r}: {error.strerror}"
        raise ResultsError(f"{why}; type --out FILE, in a folder that is there and can be written to") from error


def _render(page: Page, every_s: int | None) -> str:
    """Return the page as HTML; all texts are escaped, and no script runs but Vega and the page's own, by their hashes.

    Args:
        every_s: as for `write_report`.
    """
    sources = _sources()
    style, vega, script = map(_hashed, sources)
    policy = f"default-src 'none'; style-src {style}; script-src {vega} {script}; base-uri 'none'; form-action 'none'"
    style_text, *scripts = map(Markup, sources)
    return _template().render(page=page, style=style_text, scripts=scripts, policy=Markup(policy), every_s=every_s)


def _hashed(text: str) -> str:
    """Return the name of a script or a style in a policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def _template() -> Template:
    templates = Templates(
        loader=PackageLoader("results"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("report.html.j2")


@cache
def _sources() -> tuple[str, str, str]:
    """Return the page's style, Vega, and the page's own script."""
    folder = resources.files("results") / "templates"
    style = (folder / "report.css").read_text(encoding="utf-8")
    parts = [(folder / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    return style, bundle(), f"(function () {{\n{''.join(parts)}}})();"


def page_of(run: Run, *, over: Sequence[str] = ()) -> Page:
    """Compute everything that the report shows of a run, or of several: `over` as for `write_report`."""
    about_runs = notes_on_runs(run)
    run.count_once()
    run.hold(*_HELD)
    if len(run.paths) > 1:
        for table in ("planned", "operating_points"):
            run.connection.execute(f"UPDATE {table} SET {_SEARCHES_APART}")
    averaged = average_over(run, over)
    run.hold("measured_points", "computed_stages", "unshared_costs")
    counts: dict[str, int] = run.rows(what_ran.COUNTS)[0]
    warnings_of_run = what_ran.warnings(run, counts)  # before rows are left out
    findings = findings_of(run)
    for table, conditions in HELD_ROWS.items():
        run.hold(table, where=" OR ".join(f"({condition(findings)})" for condition in conditions))
    name = ", ".join(path.resolve().name for path in run.paths.values())
    page = Page(name, run.rows(LAST_ROW)[0]["at"] or "")
    page.tiles = _tiles(run, counts)
    page.warnings = averaged + about_runs + warnings_of_run + search.warnings(run) + overview.warnings(findings)
    try:
        page.facts = what_ran.provenance(run)
    except (ValueError, OSError) as error:
        page.warnings.append(f"provenance.json cannot be read: {error}")
    page.verdict = search.headline(findings) or overview.headline(findings)
    page.main = front.section(findings)
    page.arms = overview.overview(findings)
    sections = [section(findings) for section in SECTIONS]
    page.sections = [section for section in sections if section is not None]
    return page


def _tiles(run: Run, counts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the numbers on top of the page, each with what it counts; searches alone have the states in between."""
    tiles = []
    for state in ("planned", "finished", "stopped", "resting", "failed", "missing"):
        is_of_searches = state in ("stopped", "resting")
        if counts[state] or not is_of_searches:
            tiles.append((f"{counts[state]:,}", f"trial{'' if counts[state] == 1 else 's'} {state}"))
    spent, saved = costs.hours(run)
    unit = costs.time_unit(run)
    for hours, what in ((spent, "taken by stages"), (saved, f"saved over {ONE_SCRIPT}")):
        amount, name = costs.hours_text(hours, unit, "rank-").rsplit(" ", 1)
        tiles.append((amount, f"{name} {what}"))
    return tiles
