"""Write a run's page of figures and tables."""

import math
from collections.abc import Iterator
from pathlib import Path

import click

from results.command_options import over_option
from results.errors import ResultsError
from transtailor import cli
from transtailor.shell import command

runs_argument = cli.argument("runs", nargs=-1, required=True, type=cli.RUN, metavar="RUN...")
apart_option = cli.option(
    "--apart", type=click.Choice(["colour", "panel"]),
    help="tell several runs apart, by colours or by panels (default: arms of one name are one arm)",
)  # fmt: skip


@cli.command(example="runs/demo")
@runs_argument
@cli.option("--out", type=cli.FILE, metavar="FILE", help="the page's path (default: report.html in the first RUN)")
@cli.option(
    "--watch", type=float, is_flag=False, flag_value=30.0, metavar="SECONDS",
    help="write it again every SECONDS (default: 30) until the sweep has ended; the open page reloads itself",
)  # fmt: skip
@over_option
@apart_option
def report(
    runs: tuple[Path, ...], out: Path | None, watch: float | None, over: tuple[str, ...], apart: str | None
) -> Iterator[object]:
    """Write RUN/report.html and print its path; several runs become one page, where a trial in two counts once."""
    from results.report.page import write_report
    from results.report.watch import watch as write_repeatedly

    run = runs if len(runs) > 1 else runs[0]
    check_apart(runs, apart)
    if watch is None:
        yield write_report(run, apart=apart, over=over, out=out)
        return
    if over:
        raise ResultsError("--watch and --over: expected one of them; leave the other out")
    if len(runs) > 1:
        raise ResultsError(f"--watch: expected one run, given {len(runs)}; type: {command('serve', *runs)}")
    if not 0 < watch < math.inf:
        raise ResultsError(f"--watch {watch:g}: expected seconds above 0; type one such as --watch 30")
    yield from write_repeatedly(runs[0], watch, out=out)


def check_apart(runs: tuple[Path, ...], apart: str | None) -> None:
    """Raise ResultsError if one run should be told apart."""
    if apart and len(runs) == 1:
        raise ResultsError(f"--apart {apart}: expected several runs, given 1; leave it out, or name another run")
