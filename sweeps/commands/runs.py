"""The runs below a folder, and their state."""

from collections.abc import Iterator
from pathlib import Path

from results.command_output import prints_page
from results.text.page import Part
from transtailor import cli


@cli.command(example="")
@cli.argument("folder", type=cli.FOLDER, default="runs")
@prints_page
def runs(folder: Path) -> Iterator[Part]:
    """List the runs in a folder with their state; the one that was written last is the first."""
    from sweeps.operations.runs import runs_page

    return runs_page(folder)
