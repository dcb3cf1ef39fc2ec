"""Merge the tables of a killed run: each row stored once."""

from collections.abc import Iterator
from pathlib import Path

from transtailor import cli


@cli.command(example="runs/demo")
@cli.run_argument
def compact(run: Path) -> Iterator[str]:
    """Merge the tables of a run that is not running, so that each row is stored once."""
    from sweeps.operations.compact import compact as settle_tables
    from sweeps.run.run_folder import RunFolder

    return settle_tables(RunFolder(run))
