"""Write a report, once or again and again while its sweep runs."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from results.command_options import over_option
from results.errors import ResultsError
from results.report.page import write_report
from results.store.completeness import is_over
from results.store.reader import load
from transtailor import cli
from transtailor.shell import command

STATE = "SELECT count(*) AS attempts, count(*) FILTER (status = 'running') AS running FROM attempts"


def watch(run: str | os.PathLike[str], period_s: float, *, out: Path | None = None) -> Iterator[Path]:
    """Write the report every `period_s` until the run has ended; yield its path each time.

    A run has ended when it is over, or when two checks in a row see no running attempt (an interrupted sweep). The page
    reloads itself with the same period; the last one no longer does.

    Raises:
        ResultsError: as `write_report`.
    """
    idle_checks = 0  # in a row
    while True:
        with load(run) as loaded:
            (state,) = loaded.rows(STATE)
            has_ended = is_over(loaded)
        is_idle = state["attempts"] > 0 and state["running"] == 0
        idle_checks = idle_checks + 1 if is_idle else 0
        has_ended = has_ended or idle_checks > 1
        yield write_report(run, None if has_ended else period_s, out=out)
        if has_ended:
            return
        time.sleep(period_s)


runs_argument = cli.argument("runs", nargs=-1, required=True, type=cli.RUN, metavar="RUN...")
apart_option = cli.option(
    "--apart", type=click.Choice(["colour", "panel"]),
    help="tell several runs apart, by colours or by panels (default: arms of one name are one arm)",
)  # fmt: skip


@cli.command(example="runs/demo")
@runs_argument
@cli.option("--out", type=cli.FILE, metavar="FILE", help="the page's path (default, of one run: RUN/report.html)")
@cli.option(
    "--watch", "every_s", type=float, is_flag=False, flag_value=30.0, metavar="SECONDS",
    help="write it again every SECONDS (default: 30) until the sweep has ended; the open page reloads itself",
)  # fmt: skip
@over_option
@apart_option
def report(
    runs: tuple[Path, ...], out: Path | None, every_s: float | None, over: tuple[str, ...], apart: str | None
) -> Iterator[object]:
    """Write RUN/report.html and print its path; several runs become one page, where a trial in two counts once."""
    run = runs if len(runs) > 1 else runs[0]
    check_apart(runs, apart)
    if every_s is None:
        yield write_report(run, apart=apart, over=over, out=out)
        return
    if over:
        raise ResultsError("--watch and --over: expected one of them; leave the other out")
    if len(runs) > 1:
        raise ResultsError(f"--watch: expected one run, given {len(runs)}; type: {command('serve', *runs)}")
    if not 0 < every_s < math.inf:
        raise ResultsError(f"--watch {every_s:g}: expected seconds above 0; type one such as --watch 30")
    yield from watch(runs[0], every_s, out=out)


def check_apart(runs: tuple[Path, ...], apart: str | None) -> None:
    """Raise ResultsError if one run should be told apart."""
    if apart and len(runs) == 1:
        raise ResultsError(f"--apart {apart}: expected several runs, given 1; leave it out, or name another run")
