"""The stages of one trial; runs nothing."""

from collections.abc import Iterator
from pathlib import Path

from tailor.execution.dry_run import dry_run
from tailor.trial_file import imports_option, read_trial, trial_argument
from transtailor import cli
from transtailor.plural import counted


@cli.command(example="trial.toml")
@trial_argument
@imports_option
def plan(trial: Path, imports: tuple[Path, ...]) -> Iterator[str]:
    """Print the id and the stages of the trial that the TOML file TRIAL describes, without running it."""
    planned = dry_run(read_trial(trial, imports))
    yield f"trial {planned.trial_id}: {counted(len(planned.stages), 'stage')}"
    for number, stage in enumerate(planned.stages):
        point = "" if stage.point is None else f"  operating point {stage.point}"
        yield f"{number:3}  {stage.key[:12]}  {stage.kind}{point}"
