"""Try failed trials of a run again."""

from collections.abc import Iterator
from pathlib import Path

import click

from sweeps.command_options import complete_trials
from transtailor import cli


@cli.command(example="runs/demo --failed")
@cli.run_argument
@cli.option("--failed", is_flag=True, help="do nothing unless one of its trials has failed")
@cli.argument("trials", nargs=-1, metavar="[TRIAL]...", shell_complete=complete_trials)
def retry(run: Path, failed: bool, trials: tuple[str, ...]) -> Iterator[str]:
    """Launch a run again with its last options: trials that failed or never ended are tried again.

    With TRIAL, an id or its first digits, only these.
    """
    from sweeps.operations import control
    from sweeps.run.run_folder import RunFolder

    if failed and trials:
        raise click.UsageError("--failed and TRIAL: expected one of them; leave the other out")
    return control.retry(RunFolder(run), failed=failed, trials=trials)
