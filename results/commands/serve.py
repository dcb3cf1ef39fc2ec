"""The page in your browser, live while the sweep runs."""

from collections.abc import Iterator
from pathlib import Path

from results.commands.report import apart_option, check_apart, runs_argument
from transtailor import cli


@cli.command(example="runs/demo")
@runs_argument
@cli.option("--port", default=0, help="to listen on", show_default="any that is free")
@apart_option
def serve(runs: tuple[Path, ...], port: int, apart: str | None) -> Iterator[str]:
    """Serve the report of RUN to this machine's browser; it follows the sweep."""
    from results.report.serve import serve_lines

    check_apart(runs, apart)
    yield from serve_lines(runs, port, apart)
