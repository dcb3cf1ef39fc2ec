"""What all benchmarks share: their options, and the table with the machine, the versions, the command and the date."""

import argparse
import csv
import importlib.metadata
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from transtailor.machine import cpu_model

ROOT = Path(__file__).resolve().parent.parent
EVIDENCE = ROOT / "docs" / "results" / "evidence"
PACKAGES = ("torch", "ray")

Cell = str | int | float | None
Side = TypeVar("Side")
Row = Mapping[str, Cell]  # column -> cell


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A benchmark's result."""

    title: str
    columns: tuple[str, ...]  # their names contain units
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]  # what is compared, what is left out

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {len(row)} cells for {len(self.columns)} columns: {row}")


def table_of(title: str, rows: Sequence[Row], notes: Sequence[str]) -> Measured:
    """Return the table of these rows, of which each has the columns of the first.

    Raises:
        ValueError: a row has others.
    """
    columns = tuple(rows[0])
    for row in rows:
        if tuple(row) != columns:
            raise ValueError(f"{title}: a row has the columns {tuple(row)} and the first one {columns}")
    return Measured(title=title, columns=columns, rows=tuple(tuple(row.values()) for row in rows), notes=tuple(notes))


def parser_of(doc: str | None, name: str | None, *, quick: str | None = None) -> argparse.ArgumentParser:
    """Return a parser of the options that benchmarks have in common: `--out` and, with `quick`, `--quick`.

    Args:
        doc: the docstring of the script, which is its help.
        name: of its table in docs/results/evidence; None: it depends on other options.
        quick: how much `--quick` measures; None: there is no such option.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    if quick is not None:
        parser.add_argument("--quick", action="store_true", help=f"{quick}: for a look, not for a record")
    default = None if name is None else EVIDENCE / name
    parser.add_argument("--out", type=Path, default=default, help="path of the table, without suffix")
    return parser


def write(measured: Measured, out: Path, packages: Sequence[str] = PACKAGES) -> tuple[Path, Path]:
    """Prints the table and writes it as `out`.md and `out`.csv; returns both paths. Folders are made as needed.

    The CSV has every number in full and the circumstances in columns of their own; the Markdown rounds.
    """
    facts = circumstances(packages)
    text = "\n".join(markdown(measured, facts)) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    markdown_path, csv_path = (out.parent / f"{out.name}{suffix}" for suffix in (".md", ".csv"))
    markdown_path.write_text(text, encoding="utf-8")
    with csv_path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*measured.columns, *facts])
        lines.writerows([*row, *facts.values()] for row in measured.rows)
    print(text)
    print(f"{markdown_path}\n{csv_path}", flush=True)
    return markdown_path, csv_path


def read_rows(out: Path, columns: Sequence[str]) -> list[tuple[Cell, ...]]:
    """The rows of the table that `write` wrote as `out`.csv, without the circumstances; none if there is no file."""
    path = out.parent / f"{out.name}.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [tuple(_cell(row[name]) for name in columns) for row in csv.DictReader(file)]


def circumstances(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """When, where and with what this process measures; of these packages the versions."""
    arguments = [str(_relative_path(Path(sys.argv[0]))), *sys.argv[1:]]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", *arguments]),
        "cpu": cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "load_1_min_at_the_end": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    } | {package: importlib.metadata.version(package) for package in packages}


def show_to_ranks() -> None:
    """Let processes that this one starts import this folder: ranks have only what is installed on their path."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT) if not before else f"{ROOT}{os.pathsep}{before}"


def markdown(measured: Measured, facts: dict[str, str]) -> list[str]:
    """The lines of the Markdown table."""
    cells = [list(measured.columns), *([cell_text(cell) for cell in row] for row in measured.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(measured.columns))]
    lines = [_line(row, widths) for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = [f"- {note}" for note in measured.notes]
    where = [f"- {name.replace('_', ' ')}: `{value}`" for name, value in facts.items()]
    return [f"# {measured.title}", "", *lines, "", *notes, "", *where]


def cell_text(cell: Cell) -> str:
    """A cell in four digits."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return str(cell)


def in_turns(sides: Sequence[Side], rounds: int) -> Iterator[Side]:
    """Yield each side once a round, in every second round backwards, so that no side is always the first."""
    for number in range(rounds):
        yield from sides if number % 2 == 0 else reversed(sides)


def spread(values: Sequence[float]) -> str:
    """The first and third quartile, as text; twice the same if there is one value."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return f"{low:.4g} to {high:.4g}"


def verdict(is_met: bool) -> str:
    """Whether a goal was met."""
    return "met" if is_met else "missed"


def _cell(text: str) -> Cell:
    try:
        return float(text)
    except ValueError:
        return text or None


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


def _relative_path(script: Path) -> Path:
    """A script's path relative to the repository."""
    script = script.resolve()
    return script.relative_to(ROOT) if script.is_relative_to(ROOT) else Path(script.name)
