"""End a run cleanly."""

from collections.abc import Iterator
from pathlib import Path

from transtailor import cli


@cli.command(example="runs/demo")
@cli.run_argument
def stop(run: Path) -> Iterator[str]:
    """End a run cleanly, wherever it runs; launching it again resumes it."""
    from sweeps.operations import control
    from sweeps.run.run_folder import RunFolder

    return control.stop(RunFolder(run))
