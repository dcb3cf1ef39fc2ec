"""The table of all benchmarks, with the machine, the versions, the command and the date."""

import csv
import importlib.metadata
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
PACKAGES = ("torch", "ray")

Cell = str | int | float | None


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


def cpu_model() -> str:
    """The processor's name from Linux; elsewhere the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


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
