"""What results read in the specs of runs: whether seeds were added until comparisons were settled."""

from collections.abc import Mapping
from typing import Any

from results.store.reader import Run
from transtailor.documents import DocumentError, read_toml


def settle_settings(run: Run) -> dict[str, Mapping[str, Any]]:
    """Return the table [settle] of each run whose spec has one, by the run's name.

    A folder without a spec that can be read has none: only its rows count.
    """
    tables: dict[str, Mapping[str, Any]] = {}
    for name, folder in run.paths.items():
        try:
            table = read_toml(folder / "spec.toml").get("settle")
        except (OSError, DocumentError):
            continue
        if isinstance(table, Mapping):
            tables[name] = table
    return tables
