"""What was run, and on what: arms, the settings that vary, machines, code and provenance."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from results.arms.counts import trials_line
from results.arms.findings import Findings
from results.arms.trial_settings import TrialSettings
from results.columns import Column
from results.render.blocks import Section, TableBlock, Words, listing
from results.store.completeness import TRIAL_STATES, lost_rows
from results.store.launches import launches_of
from results.store.reader import Run
from results.text.number_format import NOTHING
from results.text.page import Table
from transtailor.documents import read_json
from transtailor.plural import counted

OF_ONE_MACHINE = ("folder", "host", "pid", "data")  # facts of provenance.json that a page to share leaves out
_MOST_VALUES = 12

COUNTS = f"""
SELECT count(*) AS planned,
    (SELECT count(*) FROM trials WHERE status = 'finished') AS finished,
    (SELECT count(*) FROM trials WHERE status = 'failed') AS failed,
    count(*) FILTER (state = 'missing') AS missing, count(*) FILTER (state = 'resting') AS resting,
    count(*) FILTER (state = 'stopped') AS stopped
FROM ({TRIAL_STATES})
"""
ARMS = """
SELECT network, dataset, arm, method, count(*) AS planned,
    count(*) FILTER (status = 'finished') AS finished, count(*) FILTER (status = 'failed') AS failed,
    count(DISTINCT seed) AS seeds
FROM planned LEFT JOIN trials USING (trial_id)
GROUP BY ALL ORDER BY ALL
"""
ENVIRONMENTS = """
SELECT device, ranks, torch_version, count(DISTINCT stage_key) AS stages, count(DISTINCT trial_id) AS trials
FROM stages GROUP BY ALL ORDER BY ALL
"""
CODES = "SELECT code_digest, count(*) AS points FROM operating_points GROUP BY ALL ORDER BY ALL"
PROTOCOLS = "SELECT protocol, count(*) AS points FROM operating_points GROUP BY ALL ORDER BY ALL"
CONFIGURATIONS = "SELECT trial_id, config_json FROM planned ORDER BY trial_id"


def section(findings: Findings) -> Section:
    """Build the section; long tables are folded."""
    arms = listing(findings.run, ARMS, "Arms")
    section_ran = Section("ran", "What was run", short="Provenance")
    section_ran.blocks.append(Words(_in_a_sentence(arms.table)))
    if findings.settings.varying:
        section_ran.blocks.append(_varying(findings.settings))
    section_ran.blocks.append(replace(arms, folded=len(arms.table.rows) > 16))
    section_ran.blocks.append(listing(findings.run, ENVIRONMENTS, "Computed on"))
    section_ran.blocks.append(Words(trials_line(findings.run)))
    return section_ran


def warnings(run: Run, counts: dict[str, int]) -> list[str]:
    """Return what a reader must know first."""
    texts = []
    lost = lost_rows(run)
    if lost:
        texts.append(f"Rows are lost: {lost}. The report covers the rest: put the missing files back from a copy.")
    if counts["missing"]:
        texts.append(
            f"Planned trials that have neither finished nor failed: {counts['missing']} of {counts['planned']}."
            " The sweep is still running or was stopped early; the report covers the points so far."
        )
    if counts["resting"]:
        texts.append(f"Trials that rest at a rung of a search: {counts['resting']}; the best of them continue.")
    if counts["failed"]:
        texts.append(f"Trials that failed: {counts['failed']}; see the last section.")
    machines = run.rows(ENVIRONMENTS)
    if len(machines) > 1:
        kinds = "; ".join(f"{row['device']}, ranks: {row['ranks']}, torch {row['torch_version']}" for row in machines)
        texts.append(
            f"The stages were computed on mixed hardware, ranks or torch versions ({kinds}), which can cause"
            " differences. Comparisons that mix them are marked."
        )
    codes = run.rows(CODES)
    if len(codes) > 1:
        which = ", ".join(f"{row['code_digest'][:12]} ({counted(row['points'], 'point')})" for row in codes)
        texts.append(f"The operating points were measured by different code: {which}.")
    for row in run.rows(PROTOCOLS):
        if row["protocol"] != "validation":
            texts.append(
                f"Operating points that follow the protocol {row['protocol']!r}: {row['points']};"
                " their trials decided by the training images, not by the validation split."
            )
    return [*texts, *_warnings_of_plans(run)]


def _warnings_of_plans(run: Run) -> Iterator[str]:
    """Yield what the plan of each run's last launch has warned of."""
    for name, folder in run.paths.items():
        for launch in launches_of(folder)[-1:]:
            for text in launch.get("warnings", []):
                yield f"The plan{f' of {name}' if len(run.paths) > 1 else ''} warned: {text}."


def provenance(run: Run) -> list[tuple[str, str]]:
    """Read the facts of provenance.json, line by line; none without this file. Of several runs, with their names.

    Raises:
        ValueError: it is not a JSON object.
        OSError: it cannot be read.
    """
    all_facts: dict[str, Any] = {}
    for name, folder in run.paths.items():
        path = folder / "provenance.json"
        if not path.is_file():
            continue
        facts = read_json(path)
        if not isinstance(facts, dict):
            raise ValueError("expected a JSON object")
        if len(run.paths) > 1:
            all_facts[name] = facts
        else:
            all_facts = facts
    return _flat(all_facts)


def _in_a_sentence(arms: Table) -> str:
    if not arms.records:
        return "No trial is planned yet."
    values = {}
    for column in ("network", "dataset", "arm", "method"):
        values[column] = sorted({record[column] for record in arms.records})
    return (
        f"{counted(len(values['arm']), 'arm')} of {counted(len(values['method']), 'method')}"
        f" ({', '.join(values['method'])}) on {', '.join(values['network'])}, with {', '.join(values['dataset'])}."
    )


def _varying(settings: TrialSettings) -> TableBlock:
    """List the settings that vary between trials: their values, and how many trials have each."""
    records = []
    for key, values in settings.counts():
        texts = [f"{text} ({count})" for text, count in values[:_MOST_VALUES]]
        more = len(values) - len(texts)
        if more:
            texts.append(f"and {more} more")
        records.append({"setting": key, "values": len(values), "which": ", ".join(texts)})
    note = f"{len(settings.common)} more settings are the same in all trials."
    columns = [
        Column("setting", "string"), Column("values", "int64"),
        Column("which", "string", heading="which, and in how many trials"),
    ]  # fmt: skip
    shown = [column.name for column in columns]
    table = Table(columns=columns, records=records, shown=shown, sql=CONFIGURATIONS, note=note)
    return TableBlock(table, "Settings that vary", derived=True, folded=len(records) > 16)


def _flat(facts: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Write a JSON object as lines of key and value; keys of nested objects are joined by dots."""
    lines: list[tuple[str, str]] = []
    for key, value in facts.items():
        if key in OF_ONE_MACHINE:
            continue
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, dict) and value:
            lines += _flat(value, f"{before}{key}.")
        else:
            lines.append((before + key, _text(value)))
    return lines


def _text(value: object) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
