"""Export each table, `points` and `measured_points` to a CSV file with its present rows."""

from pathlib import Path

from results.store.reader import Run
from results.store.schema import TABLES
from transtailor.files import make_folder, name_file

_MEASURED = frozenset({"operating_points", "predictions", "estimates", "timings"})
TABLES_OF_VIEWS = {"points": _MEASURED | {"planned", "trials", "stages", "proposals"}, "measured_points": _MEASURED}
"""View -> the tables that it is made of."""


class CsvFiles:
    """A folder of CSV files; each is replaced atomically when its rows have changed."""

    unit = "rows"

    def __init__(self, folder: Path) -> None:
        """Take the folder, which is made with the first file."""
        self._folder = folder
        self._versions: dict[str, list[tuple[object, ...]]] = {}  # table -> that of which its CSV file has the rows

    def update(self, run: Run) -> int:
        """Write the tables that have changed; return their number of rows."""
        make_folder(self._folder)
        written = 0
        changed = set()
        for name, table in TABLES.items():
            version = [of_run[name] for of_run in run.versions.values()]
            if self._versions.get(name) != version:
                written += self._write(run, name, table.key)
                self._versions[name] = version
                changed.add(name)
        for view, tables in TABLES_OF_VIEWS.items():
            if tables & changed:
                written += self._write(run, view, TABLES["operating_points"].key)
        return written

    def _write(self, run: Run, view: str, key: tuple[str, ...]) -> int:
        temporary = self._folder / f".{view}.tmp"
        order = ", ".join(f'"{column}"' for column in key)
        rows = run.write_csv(f"FROM {view} ORDER BY {order}", temporary)
        name_file(temporary, self._folder / f"{view}.csv")
        return rows
