"""Write a report, once or again and again while the sweep runs."""

import time
from collections.abc import Iterator
from pathlib import Path

from results.command_options import over_option
from results.report.page import write_report
from results.store.completeness import is_over
from results.store.reader import load
from transtailor import cli


@cli.command(example="runs/demo")
@cli.argument("runs", nargs=-1, required=True, type=cli.RUN, metavar="RUN...")
@cli.option("--out", type=cli.FILE, metavar="FILE", help="the page's path (default, of one run: RUN/report.html)")
@cli.option(
    "--every", "every_s", type=cli.COUNT, metavar="SECONDS",
    help="write it again so often, until the sweep has ended; in a browser the page loads itself again",
)  # fmt: skip
@over_option
def report(runs: tuple[Path, ...], out: Path | None, every_s: int | None, over: tuple[str, ...]) -> Iterator[Path]:
    """Write RUN/report.html and print its path; several runs become one page, where a trial in two counts once."""
    folders = runs if len(runs) > 1 else runs[0]
    if every_s is None or _are_over(runs):
        yield write_report(folders, over=over, out=out)
        return
    yield write_report(folders, over=over, out=out, every_s=every_s)
    is_last = False
    while not is_last:
        time.sleep(every_s)
        is_last = _are_over(runs)
        write_report(folders, over=over, out=out, every_s=None if is_last else every_s)


def _are_over(runs: tuple[Path, ...]) -> bool:
    for run in runs:
        with load(run) as tables:
            if not is_over(tables):
                return False
    return True
