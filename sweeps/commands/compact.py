"""Bring the tables of a killed run to rest: each row once."""

from collections.abc import Iterator
from pathlib import Path

from transtailor import cli


@cli.command(example="runs/demo")
@cli.run_argument
def compact(run: Path) -> Iterator[str]:
    """Bring the tables of a run that is not running to rest, so that each row is there once."""
    from sweeps.operations.compact import compact as settle_tables
    from sweeps.run.run_folder import RunFolder

    return settle_tables(RunFolder(run))
