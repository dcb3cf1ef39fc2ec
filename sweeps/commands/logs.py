"""The logs of a trial, or of the jobs of a run."""

from collections.abc import Iterator
from pathlib import Path

from sweeps.command_options import complete_trials
from transtailor import cli


@cli.command(example="runs/demo 3f2a")
@cli.run_argument
@cli.argument("trial", required=False, shell_complete=complete_trials)
@cli.option("--lines", default=20, help="how many of each")
@cli.option("--follow", is_flag=True, help="print new lines until the sweep is no longer running")
def logs(run: Path, trial: str | None, lines: int, follow: bool) -> Iterator[str]:
    """Print stages and scores of a trial, by its id or the first digits.

    Without TRIAL, print the last lines of the logs of jobs and trials that were written last.
    """
    from sweeps.operations import control
    from sweeps.run.run_folder import RunFolder

    return control.logs(RunFolder(run), trial, lines, follow=follow)
