"""Recompute the decisions of a search or a run with [settle]."""

from collections.abc import Iterator
from pathlib import Path

from transtailor import cli


@cli.command(example="runs/search")
@cli.run_argument
def replay(run: Path) -> Iterator[str]:
    """Recompute each decision of a search or at a look from the rows that it read; nothing is written."""
    from sweeps.operations.replay import replay_lines
    from sweeps.run.run_folder import RunFolder

    return replay_lines(RunFolder(run))
