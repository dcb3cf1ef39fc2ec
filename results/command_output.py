"""The options of every command that prints tables: `--format`, `--wide`, `--limit`."""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from results.errors import ResultsError
from results.text.page import Page, limit_rows
from transtailor import cli

FORMATS = ("terminal", "markdown", "csv", "json", "latex", "parquet")


@dataclass(frozen=True)
class Output:
    """How a page is printed.

    Attributes:
        format: one of `FORMATS`; None: for this terminal, or Markdown into a file.
        wide: on a terminal, whether all columns are shown, and none of them cut.
        limit: most rows of each table; None: all.
    """

    format: str | None = None
    wide: bool = False
    limit: int | None = None


def output_options(function: cli.Function) -> cli.Function:
    """Give a command the three options, which become the arguments of `Output`."""
    limit_option = cli.option("--limit", type=int, metavar="ROWS", help="at most this many rows of each table")
    wide_option = cli.option("--wide", is_flag=True, help="on a terminal: all columns, none of them cut")
    format_option = cli.option(
        "--format", type=click.Choice(FORMATS, case_sensitive=False),
        help="how tables are written (default: for this terminal; Markdown into a file)",
    )  # fmt: skip
    return format_option(wide_option(limit_option(function)))


def prints_page(function: Callable[..., Page]) -> Callable[..., Iterator[str]]:
    """Make a command of a function that returns a page: with the three options, it yields the lines to print."""

    @wraps(function)
    def lines(*, format: str | None, wide: bool, limit: int | None, **options: Any) -> Iterator[str]:  # noqa: A002
        return write(function(**options), Output(format, wide, limit))

    return output_options(lines)


def write(page: Page, output: Output) -> Iterator[str]:
    """Yield the lines to print; Parquet is written to the standard output directly.

    Raises:
        ResultsError: a limit below 1, or Parquet for a terminal.
    """
    from results.text.formats import TEXTS, parquet_bytes, terminal_lines

    if output.limit is not None:
        if output.limit < 1:
            raise ResultsError(f"--limit {output.limit}: expected 1 row or more; type one such as --limit 20")
        page = limit_rows(page, output.limit)
    name = output.format or ("terminal" if sys.stdout.isatty() else "markdown")
    if name == "terminal":
        yield from terminal_lines(page, shutil.get_terminal_size().columns, wide=output.wide)
    elif name in TEXTS:
        yield from TEXTS[name](page)
    elif sys.stdout.isatty():
        raise ResultsError("--format parquet is not for a terminal: add > FILE.parquet")
    else:
        sys.stdout.buffer.write(parquet_bytes(page))
