"""Remove what a run or a cache no longer needs."""

from collections.abc import Iterator
from pathlib import Path

from transtailor import cli


@cli.command(example="runs/demo --dry-run")
@cli.argument("folder", type=cli.RUN, metavar="RUN|CACHE")
@cli.option("--dry-run", is_flag=True, help="print what would be removed; remove nothing")
@cli.option("--runs", type=cli.FOLDER, metavar="RUNS", help="for a cache: folder of all runs that may need its stages")
def clean(folder: Path, dry_run: bool, runs: Path | None) -> Iterator[str]:
    """Remove files that a run, or a cache of finished stages, no longer needs."""
    from sweeps.operations.clean import clean as remove_waste

    return remove_waste(folder, runs, dry_run=dry_run)
