"""The rows of a run while a day is simulated, looked at whenever a file of a table is replaced."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.faults.invariants import Key, Row, files_of, key_of, read_table
from tests.simulation.machines import rung_of
from tests.simulation.world import Process

STAYS: Mapping[str, str] = {"attempts": "started_at", "proposals": "trial_ids"}
"""A table of which rows are replaced -> the column that says whether it is about something else then."""


class WatchedRows:
    """What the files had when they were replaced last.

    Attributes:
        broken: rows that were lost or doubled at some moment, and rows that stand for others now.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._rows: dict[str, dict[Key, Row]] = {}
        self._writers: list[Process] = []  # in their order
        self.broken: list[str] = []

    def rows_of(self, table: str) -> Iterable[Row]:
        """The rows of a table, since it was replaced last."""
        return self._rows.get(table, {}).values()

    def replaced(self, path: Path, writer: Process) -> None:
        """Look at a table of which a process has replaced a file."""
        table = path.parent.name
        if writer in self._writers[:-1]:
            self.broken.append(f"1: {writer.name} writes rows after {self._writers[-1].name} did")
        elif writer not in self._writers:
            self._writers.append(writer)
        before, now = self._rows.get(table, {}), self._read(table)
        self.broken += [f"1: {table}: {key} is gone" for key in before.keys() - now.keys()]
        column = STAYS.get(table)
        if column is not None:
            other = [key for key in before.keys() & now.keys() if before[key][column] != now[key][column]]
            self.broken += [f"1: {table}: {key} is another one" for key in other]

    def read_again(self) -> None:
        """After a loss of power there may be fewer."""
        for table in self._rows:
            self._read(table)

    def goals(self) -> set[str]:
        """The trials, and trials up to a rung, that are over by their rows."""
        over = {row["trial_id"] for row in self.rows_of("trials") if row["status"] == "finished"}
        stages = {(row["trial_id"], row["stage_key"]) for row in self.rows_of("stages")}
        tried = {row["trial_id"] for row in self.rows_of("attempts")}
        rested = [
            row
            for row in self.rows_of("rungs")
            if (row["trial_id"], row["stage_key"]) in stages and row["trial_id"] in tried
        ]
        return over | {rung_of(row["trial_id"], row["rung"]) for row in rested}

    def _read(self, table: str) -> dict[Key, Row]:
        rows = [row for file in files_of(self._run, table) for row in read_table(file).to_pylist()]
        self._rows[table] = {key_of(table, row): row for row in rows}
        if len(self._rows[table]) < len(rows):
            self.broken.append(f"1: {table}: {len(rows) - len(self._rows[table])} rows are there twice")
        return self._rows[table]
