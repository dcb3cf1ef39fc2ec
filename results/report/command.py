"""Write a report."""

from collections.abc import Iterator
from pathlib import Path

import click

from results.command_options import over_option
from results.errors import ResultsError
from results.report.page import write_report
from transtailor import cli

runs_argument = cli.argument("runs", nargs=-1, required=True, type=cli.RUN, metavar="RUN...")
apart_option = cli.option(
    "--apart", type=click.Choice(["colour", "panel"]),
    help="tell several runs apart, by colours or by panels (default: arms of one name are one arm)",
)  # fmt: skip


@cli.command(example="runs/demo")
@runs_argument
@cli.option("--out", type=cli.FILE, metavar="FILE", help="the page's path (default, of one run: RUN/report.html)")
@over_option
@apart_option
def report(runs: tuple[Path, ...], out: Path | None, over: tuple[str, ...], apart: str | None) -> Iterator[Path]:
    """Write RUN/report.html and print its path; several runs become one page, where a trial in two counts once."""
    check_apart(runs, apart)
    yield write_report(runs if len(runs) > 1 else runs[0], apart=apart, over=over, out=out)


def check_apart(runs: tuple[Path, ...], apart: str | None) -> None:
    """Raise ResultsError if one run should be told apart."""
    if apart and len(runs) == 1:
        raise ResultsError(f"--apart {apart}: expected several runs, given 1; leave it out, or name another run")
