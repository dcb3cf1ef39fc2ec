"""The command line: `python -m results report RUN` and `python -m results query RUN "SELECT ..."`."""

import argparse
import sys
import unicodedata
from collections.abc import Sequence
from numbers import Number

from results.errors import ResultsError


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 where the user can mend it; the reason then stands on standard error."""
    parser = argparse.ArgumentParser(prog="python -m results", description="Reads what a sweep wrote.")
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser("report", help="write RUN/report.html and print its path")
    report.add_argument("run", metavar="RUN", help="folder of the run, such as runs/demo")
    query = commands.add_parser("query", help="print the answer to a query on the run's tables")
    query.add_argument("run", metavar="RUN", help="folder of the run")
    query.add_argument("sql", metavar="SQL", help='such as "SELECT status, count(*) FROM trials GROUP BY ALL"')
    given = parser.parse_args(arguments)
    try:
        if given.command == "report":
            from results.report import write_report

            print(write_report(given.run))
        else:
            from results.reader import load

            with load(given.run) as run:
                answer = run.arrow(given.sql)
            print(aligned(answer.column_names, [list(row.values()) for row in answer.to_pylist()]))
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def aligned(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as text: numbers right, all else left, one line per row whatever the values hold."""
    right = [all(isinstance(row[place], Number | None) for row in rows) for place in range(len(columns))]
    lines = [[_printable(name) for name in columns], *([_printable(value) for value in row] for row in rows)]
    widths = [max(_width(line[place]) for line in lines) for place in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(_padded(cell, widths[place], right=right[place]) for place, cell in enumerate(line)).rstrip()
        for line in lines
    )


def _printable(value: object) -> str:
    """A value in one line; what could move the terminal's cursor is written as its code."""
    if value is None:
        return ""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(value))


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


if __name__ == "__main__":
    sys.exit(main())
