"""The tables of a page in docs/results/evidence, as texts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.compared_pages import EVIDENCE


@dataclass(frozen=True)
class EvidenceTable:
    """One table of a page, below a heading ("" above the first)."""

    heading: str
    rows: tuple[Mapping[str, str], ...]  # column -> text


def tables_of(page: str) -> list[EvidenceTable]:
    """Return the tables of `docs/results/evidence/PAGE.md`, in order. Code blocks and lists are left out."""
    found: list[EvidenceTable] = []
    heading = ""
    lines: list[str] = []
    for line in [*(EVIDENCE / f"{page}.md").read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            lines.append(line)
            continue
        if lines:
            found.append(EvidenceTable(heading, _rows(lines)))
            lines = []
        if line.startswith("##"):
            heading = line.lstrip("# ")
    return found


def row_of(page: str, where: Mapping[str, str], under: str = "") -> Mapping[str, str]:
    """Return the one row with these texts, of the tables below a heading that begins with `under`.

    Raises:
        ValueError: there is no such row, or there are several.
    """
    rows: list[Mapping[str, str]] = []
    for table in tables_of(page):
        if table.heading.startswith(under):
            rows += [row for row in table.rows if where.items() <= row.items()]
    if len(rows) != 1:
        raise ValueError(f"{page}.md has {len(rows)} rows with {dict(where)} under {under!r}; expected one")
    return rows[0]


def _rows(lines: Sequence[str]) -> tuple[Mapping[str, str], ...]:
    names, _rule, *rows = (_cells(line) for line in lines)
    return tuple(dict(zip(names, row, strict=True)) for row in rows)


def _cells(line: str) -> list[str]:
    """Split a row at its bars; `\\|` is a bar in a text."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
