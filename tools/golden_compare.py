"""What two trees made of the same spec, value by value: tables, points.parquet and answers; for tools/golden.py.

Rows are matched by the settings and the seed of their trial, and by point, layer and the other columns of NAMES, never
by ids: another id of a trial is a changed value of the table `planned`.
"""

import json
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

RENAMED: dict[str, str] = {}
"""What has another name, or another place, in the tree at hand: a column of a table, of points or of an answer
("looks.z", "best: best.params"), a setting ("settings.pruning.residual"), or a whole table or answer: "power: power"
became part of "compare: compare"."""

NOT_COMPARED = {
    "code_digest": "another code", "written_at": "a time", "started_at": "a time", "ended_at": "a time",
    "happened_at": "a time", "last_row_at": "a time", "seconds": "measured", "compute_s": "measured",
    "rank_s": "measured", "done_fraction": "of what runs", "driver": "the id of a process", "host": "a machine",
    "node": "a machine", "nodes": "machines", "job": "an id of SLURM", "log_tail": "text of a log, with times",
    "detail": "text of a message, which promise 8 leaves free",
}  # fmt: skip
"""Columns of which only name and type are compared, and why."""

NOT_OF_ANOTHER_LAUNCH = {
    "attempts": "how often a trial was begun depends on the moment of the kill",
    "events": "what happened on the way",
    "stages.cached": "which trial computed a shared stage depends on which came first (promise 2)",
    "trials.attempts": "as the table attempts",
}
"""Tables, and columns, that may differ between two launches of one spec by one tree, and why."""

OF_TRIAL = (
    "metric", "network", "dataset", "train_images", "label", "arm", "asked_removed_macs_fraction", "against", "seed",
    "prediction",
)  # fmt: skip
NAMES = (
    "number", "attempt", "look", "comparison", "rung", "order", "epoch", "point", "layer", "split", "image_id",
    "sample_id", "class_name", "predicted_name", "donor", "rule", "row", "statistic", "paper", "place", "claim",
    "printed_in", "setting", "level", "effect", "workers", "set", "file",
)  # fmt: skip
"""Columns that say which row it is, beside its trial or, in rows of no trial, what a trial is of."""

METHOD = "settings.method.name"
ONLY_BASE, ONLY_TREE = "only in the base", "only in the tree"
WHOLE, MISSING, ADDED = "*", "rows missing", "rows added"
"""Instead of a column: the answer or table has gone; rows that only cb2cae13 has; rows that only the tree has."""


@dataclass(frozen=True)
class TypedRows:
    """Rows of any table, with a type for each column; lists are texts."""

    types: dict[str, str]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class GoldenDifference:
    """Rows of one table or answer that differ in one column."""

    where: str
    column: str
    rows: int
    example: str


@dataclass(frozen=True)
class LaunchTables:
    """What one launch left: its tables (points among them) and the tables of its answers, all by name.

    Attributes:
        settings: of each trial, by its id: the dotted names of all that `planned` says of it.
    """

    tables: dict[str, TypedRows]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_launch(run: Path, answers: Path) -> LaunchTables:
    """Read the tables of a run's folder, and a file of answers: by name, the exit code and the tables."""
    place = "/".join(["", *answers.parent.parts[-2:]])  # below which absolute paths lie, such as that of `data.root`
    files = {folder.name: sorted(folder.glob("[!.]*.parquet")) for folder in sorted(run.glob("tables/*"))}
    files["points"] = sorted(run.glob("points.parquet"))
    tables = {name: read_parquet(paths) for name, paths in files.items() if paths}
    for question, answer in json.loads(answers.read_text()).items():
        tables[f"{question}: exit code"] = of_records([{"code": answer["code"]}])
        tables |= {f"{question}: {name}": of_records(rows) for name, rows in answer["tables"].items()}
    for table in tables.values():
        for row in table.rows:
            row |= {name: re.sub(f'/[^"]*{re.escape(place)}(?=/)', "", of) for name, of in row.items()
                    if isinstance(of, str) and place in of}  # fmt: skip
    settings: dict[str, dict[str, Any]] = {}
    if "planned" in tables:
        tables["planned"], settings = with_settings(tables["planned"])
    return LaunchTables(tables, settings)


def read_parquet(paths: Sequence[Path]) -> TypedRows:
    """Read the files of one table with DuckDB, which says the types, too."""
    rows = duckdb.read_parquet([str(path) for path in paths], union_by_name=True)
    types = {name: str(kind) for name, kind in zip(rows.columns, rows.types, strict=True)}
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in types}
    shown = [f"{text}::VARCHAR AS {text}" if types[name].endswith("[]") else text for name, text in quoted.items()]
    values = rows.project(", ".join(shown)).fetchall()
    return TypedRows(types, [dict(zip(types, row, strict=True)) for row in values])


def of_records(rows: list[dict[str, Any]]) -> TypedRows:
    """Return the records of an answer as a table; a column without a value has no type."""
    types: dict[str, str] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        kinds = sorted({type(row[name]).__name__ for row in rows if row.get(name) is not None})
        types[name] = " or ".join(kinds)
    texts = [{name: json.dumps(of) if isinstance(of, list | dict) else of for name, of in row.items()} for row in rows]
    return TypedRows(types, texts)


def with_settings(planned: TypedRows) -> tuple[TypedRows, dict[str, dict[str, Any]]]:
    """Return `planned` with a column for each setting instead of `config_json`, and the settings by trial."""
    types = {name: kind for name, kind in planned.types.items() if name != "config_json"}
    rows, settings = [], {}
    for row in planned.rows:
        flat = dict(_flat("settings", json.loads(row["config_json"])))
        settings[row["trial_id"]] = flat | {"label": row["label"]}
        types |= {name: "" for name in flat}
        rows.append({name: row[name] for name in row if name != "config_json"} | flat)
    for row in rows:
        row |= {name: None for name in types.keys() - row.keys()}
    return TypedRows(types, rows), settings


def _flat(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield name, json.dumps(value)
        return
    for key, inner in value.items():
        yield from _flat(f"{name}.{key}", inner)


def compare_launches(
    base: LaunchTables, tree: LaunchTables, renamed: Mapping[str, str] | None = None, passed_over: Iterable[str] = ()
) -> list[GoldenDifference]:
    """Compare each table of two launches, where each has one; `passed_over` names tables, and columns of tables."""
    renamed = RENAMED if renamed is None else renamed
    of_base = {id_: {renamed.get(name, name): value for name, value in its.items()}
               for id_, its in base.settings.items()}  # fmt: skip
    known = [_known(settings) for settings in (of_base, tree.settings)]
    names = [_trial_names(settings, known) for settings in (of_base, tree.settings)]
    moved = {renamed[name] for name in renamed if name in base.tables}
    passed_over = set(passed_over)
    differences = []
    for name, table in base.tables.items():
        into = renamed.get(name, name)
        if name in passed_over:
            continue
        if into not in tree.tables:
            differences.append(GoldenDifference(name, WHOLE, len(table.rows), ONLY_BASE))
            continue
        sides = [_named(side, of) for side, of in zip((_renamed(table, name, renamed), tree.tables[into]), names,
                                                      strict=True)]  # fmt: skip
        # A table that took another one in has its columns and its rows, too.
        may_have_more = into in moved
        differences += [
            difference for difference in compare_tables(name, *sides)
            if f"{name}.{difference.column}" not in passed_over
            and not (may_have_more and (difference.column == ADDED or difference.example.startswith(ONLY_TREE)))
        ]  # fmt: skip
    came = tree.tables.keys() - {renamed.get(name, name) for name in base.tables} - passed_over
    return differences + [GoldenDifference(name, WHOLE, len(tree.tables[name].rows), ONLY_TREE) for name in
                          sorted(came)]  # fmt: skip


def compare_same_tree(serial: LaunchTables, other: LaunchTables, launch: str) -> list[GoldenDifference]:
    """Compare another launch of one spec by one tree, of which nothing was asked, with the serial one."""
    tables = {name: table for name, table in serial.tables.items() if name in other.tables or ": " not in name}
    found = compare_launches(LaunchTables(tables, serial.settings), other, {}, NOT_OF_ANOTHER_LAUNCH)
    return [replace(difference, where=f"{launch}: {difference.where}") for difference in found]


def _known(settings: Mapping[str, Mapping[str, Any]]) -> dict[Any, set[str]]:
    """Which settings the trials of each method have."""
    names: dict[Any, set[str]] = defaultdict(set)
    for its in settings.values():
        names[its.get(METHOD)] |= its.keys()
    return names


def _trial_names(settings: Mapping[str, Mapping[str, Any]], known: Sequence[Mapping[Any, set[str]]]) -> dict[str, str]:
    """A name for each trial by the settings that both trees know of its method; the second of a name is numbered."""
    counts: Counter[str] = Counter()
    names = {}
    for id_, its in settings.items():
        shared = set.intersection(*(names_of.get(its.get(METHOD), set()) for names_of in known))
        name = json.dumps({key: its[key] for key in sorted(shared & its.keys())})
        names[id_] = f"{name} {counts[name]}"
        counts[name] += 1
    return names


def _renamed(table: TypedRows, where: str, renamed: Mapping[str, str]) -> TypedRows:
    new = {name: renamed.get(f"{where}.{name}", renamed.get(name, name)) for name in table.types}
    new = {name: into.removeprefix(f"{renamed.get(where, where)}.") for name, into in new.items()}
    types = {new[name]: kind for name, kind in table.types.items()}
    return TypedRows(types, [{new.get(name, name): value for name, value in row.items()} for row in table.rows])


def _named(table: TypedRows, names: Mapping[str, str]) -> TypedRows:
    """The same with the column `trial`: the settings of the trial whose id it has."""
    if "trial_id" not in table.types or not names:
        return table
    rows = [row | {"trial": names.get(row["trial_id"], row["trial_id"])} for row in table.rows]
    return TypedRows(table.types | {"trial": "settings"}, rows)


def compare_tables(where: str, base: TypedRows, tree: TypedRows) -> list[GoldenDifference]:
    """Compare two tables row by row: columns, types, rows, then each value."""
    differences = _of_columns(where, base, tree)
    columns = [name for name in base.types if name in tree.types]
    of_base, of_tree = (_by_name(table.rows, columns) for table in (base, tree))
    for column, rows, others in ((MISSING, of_base, of_tree), (ADDED, of_tree, of_base)):
        if alone := [row for name, row in rows.items() if name not in others]:
            differences.append(GoldenDifference(where, column, len(alone), _shown(alone[0])))
    # Rows of another trial are missing; that its id changed, `planned` says once.
    passed_over = {*NOT_COMPARED, *(["trial_id"] if "trial" in columns and where != "planned" else [])}
    changed: dict[str, list[str]] = defaultdict(list)
    for name in of_base.keys() & of_tree.keys():
        for column in columns:
            before, after = of_base[name][column], of_tree[name][column]
            both_nan = before != before and after != after
            if before != after and not both_nan and column not in passed_over:
                changed[column].append(f"{_shown(of_base[name])}: {before!r} became {after!r}")
    return differences + [GoldenDifference(where, column, len(texts), min(texts)) for column, texts in changed.items()]


def _of_columns(where: str, base: TypedRows, tree: TypedRows) -> list[GoldenDifference]:
    """Columns that only one side has, where both have rows, and types that differ; a column of nulls has no type."""
    differences = []
    for name in dict.fromkeys([*base.types, *tree.types]):
        before, after = base.types.get(name), tree.types.get(name)
        if None in (before, after) and base.rows and tree.rows:
            rows, text = (base.rows, ONLY_BASE) if after is None else (tree.rows, ONLY_TREE)
            differences.append(GoldenDifference(where, name, len(rows), text))
        elif before and after and before != after:
            differences.append(GoldenDifference(where, name, len(tree.rows), f"type {before} became {after}"))
    return differences


def _by_name(rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows by what names them; those of one name are numbered in the order of their other values."""
    columns = list(columns)
    named_by = [name for name in (("trial",) if "trial" in columns else OF_TRIAL) + NAMES if name in columns]
    compared = [name for name in columns if name not in NOT_COMPARED and not name.endswith(("_id", "_key"))]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(name) for name in named_by)].append(row)
    by_name = {}
    for values, alike in groups.items():
        if len(alike) > 1:
            alike.sort(key=lambda row: [repr(row.get(column)) for column in compared])
        by_name.update({(*values, number): row for number, row in enumerate(alike)})
    return by_name


def _shown(row: Mapping[str, Any]) -> str:
    """What names a row, without its settings; its trial's id instead."""
    shown = [f"{name} {row[name]}" for name in ("trial_id", *OF_TRIAL, *NAMES) if row.get(name) is not None]
    return ", ".join(shown) or "the only row"


@dataclass(frozen=True)
class Deliberate:
    """A line of golden_differences.toml: so many rows of an answer or a table differ in a column, as an issue asks."""

    where: str
    column: str
    rows: int
    asked_by: str


def read_deliberate(path: Path) -> list[Deliberate]:
    """Read the lines of the file.

    Raises:
        TypeError: a line has another key, or lacks one.
    """
    return [Deliberate(**line) for line in tomllib.loads(path.read_text()).get("differences", [])]


def judge(
    differences: Mapping[str, Sequence[GoldenDifference]], deliberate: Iterable[Deliberate], *, all_parts: bool
) -> tuple[list[str], bool]:
    """Return the lines to print, and whether no difference is left that is not listed.

    A listed one has the rows of all parts together; of some parts, at most so many. Of what went as a whole any number
    is accepted: how many rows it had is a matter of cb2cae13 and the machine.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for found in differences.values():
        counts.update({(of.where, of.column): 0 for of in found})
        for of in found:
            counts[of.where, of.column] += of.rows
    lines, is_good, accepted = [], True, set()
    for line in deliberate:
        key, said = (line.where, line.column), f"{line.where}, {line.column}: {line.rows} rows ({line.asked_by})"
        if key not in counts:
            lines += [f"listed, but not there: {said}"] * all_parts
        elif line.column == WHOLE or counts[key] == line.rows or (not all_parts and counts[key] < line.rows):
            accepted.add(key)
            lines.append(f"deliberate: {said}")
        else:
            lines.append(f"listed with other rows, {counts[key]} are there: {said}")
    for part, found in differences.items():
        for of in found:
            if (of.where, of.column) not in accepted:
                is_good = False
                lines.append(f"{part}: {of.where}, {of.column}: {of.rows} rows, such as {of.example}")
    return lines, is_good
