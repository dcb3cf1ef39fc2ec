"""The state of a run."""

from collections.abc import Iterator
from pathlib import Path

from results.command_output import prints_page
from results.text.page import Part
from transtailor import cli


@cli.command(example="runs/demo")
@cli.run_argument
@prints_page
def status(run: Path) -> Iterator[Part]:
    """Print the trials of a run by state, who runs it, and the best so far by validation; changes nothing."""
    from sweeps.operations.status import status as status_page
    from sweeps.run.run_folder import RunFolder

    return status_page(RunFolder(run))
