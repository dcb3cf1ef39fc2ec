"""The options of every command that prints tables: `--format`, `--wide`, `--limit`."""

import argparse
import shutil
import sys
from collections.abc import Iterator

from results.errors import ResultsError
from results.text.page import Page, limit_rows

FORMATS = ("terminal", "markdown", "csv", "json", "latex", "parquet")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add these options to a command."""
    parser.add_argument(
        "--format",
        type=str.lower,
        choices=FORMATS,
        help="how tables are written (default: for this terminal; Markdown into a file)",
    )
    parser.add_argument("--wide", action="store_true", help="on a terminal: all columns, none of them cut")
    parser.add_argument("--limit", type=int, metavar="ROWS", help="at most this many rows of each table")


def write(page: Page, given: argparse.Namespace) -> Iterator[str]:
    """Yield the lines to print; Parquet is written to the standard output directly.

    Raises:
        ResultsError: a limit below 1, or Parquet for a terminal.
    """
    from results.text.formats import TEXTS, parquet_bytes, terminal_lines

    if given.limit is not None:
        if given.limit < 1:
            raise ResultsError(f"--limit {given.limit}: expected 1 row or more; type one such as --limit 20")
        page = limit_rows(page, given.limit)
    name = given.format or ("terminal" if sys.stdout.isatty() else "markdown")
    if name == "terminal":
        yield from terminal_lines(page, shutil.get_terminal_size().columns, wide=given.wide)
    elif name in TEXTS:
        yield from TEXTS[name](page)
    elif sys.stdout.isatty():
        raise ResultsError("--format parquet is not for a terminal: add > FILE.parquet")
    else:
        sys.stdout.buffer.write(parquet_bytes(page))
