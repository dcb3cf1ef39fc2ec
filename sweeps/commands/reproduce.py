"""Run one trial again and save its sub-model."""

from collections.abc import Iterator
from pathlib import Path

from sweeps.command_options import cache_option, complete_trials
from transtailor import cli


@cli.command(example="runs/demo 3f2a --save models")
@cli.run_argument
@cli.argument("trial", shell_complete=complete_trials)
@cli.option("--point", type=int, metavar="N", help="end with operating point N (default: the last)")
@cli.option("--save", type=cli.FOLDER, metavar="FOLDER", help="save the sub-model of that point here")
@cli.option("--licence", metavar="TEXT", help="the line on the licence in its card")
@cache_option
def reproduce(
    run: Path, trial: str, point: int | None, save: Path | None, licence: str | None, cache: Path
) -> Iterator[str]:
    """Run one trial again, by its id or the first digits, and compare it with the rows; perhaps save its sub-model.

    An empty cache recomputes all.
    """
    from sweeps.operations.explain import find_trial
    from sweeps.operations.reproduce import Saving
    from sweeps.operations.reproduce import reproduce as run_again
    from tailor.deploy.card import refuse_unsavable

    refuse_unsavable(save, licence)
    saving = None if save is None else Saving(folder=save, command=cli.typed(), licence=licence)
    return run_again(find_trial(trial, [run]), cache=cache, point=point, saving=saving)
