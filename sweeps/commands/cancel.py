"""End the SLURM jobs of a run at once."""

from collections.abc import Iterator
from pathlib import Path

from transtailor import cli


@cli.command(example="runs/demo")
@cli.run_argument
def cancel(run: Path) -> Iterator[str]:
    """End all SLURM jobs of a run at once; launching it again resumes it."""
    from sweeps.operations import control
    from sweeps.run.run_folder import RunFolder

    return control.cancel(RunFolder(run))
