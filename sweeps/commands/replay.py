"""Make every decision of a search, or every look, again."""

from collections.abc import Iterator
from pathlib import Path

from transtailor import cli


@cli.command(example="runs/search")
@cli.run_argument
def replay(run: Path) -> Iterator[str]:
    """Make every decision of a search, or every look, again from the rows that it read; nothing is written."""
    from sweeps.operations.replay import replay_lines
    from sweeps.run.run_folder import RunFolder

    return replay_lines(RunFolder(run))
