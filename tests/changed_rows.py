"""Other rows in a table that only grows: what no writer does, for runs that are to have other numbers."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from results.store.rows import WRITTEN_AT
from results.store.schema import TABLES
from results.store.writer import Writer


def change_rows(run: Path, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Puts these rows in the place of those with their keys, and writes the whole table again."""
    folder = run / "tables" / table
    stored = pq.read_table(folder).drop_columns([WRITTEN_AT]).to_pylist() if folder.is_dir() else []
    by_key = {tuple(row[name] for name in TABLES[table].key): row for row in [*stored, *rows]}
    shutil.rmtree(folder, ignore_errors=True)
    Writer(run / "tables").write(table, list(by_key.values()))
