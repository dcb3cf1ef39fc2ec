"""What differs between two runs, or why two trials differ."""

from collections.abc import Iterator
from pathlib import Path

from sweeps.command_options import complete_runs_and_trials
from transtailor import cli


@cli.command(example="runs/demo runs/more_seeds")
@cli.argument("first", metavar="RUN|TRIAL", shell_complete=complete_runs_and_trials)
@cli.argument("second", metavar="RUN|TRIAL", shell_complete=complete_runs_and_trials)
@cli.option(
    "--run", "runs", type=cli.RUN, multiple=True, metavar="RUN",
    help="for trials: folder of the run that they are in (repeatable; default: every run in runs/)",
)  # fmt: skip
@cli.option("--imports", is_flag=True, help="for trials: also import your own modules, from the runs")
def diff(first: str, second: str, runs: tuple[Path, ...], imports: bool) -> Iterator[str]:
    """Print the differences of two runs, or of two trials: setting by setting, stages, results.

    A trial is named by its id, or the first digits.
    """
    from results.diff import run_lines
    from sweeps.errors import RunFolderError
    from sweeps.operations.explain import explain, find_trial
    from sweeps.run.run_folder import RunFolder

    first_folder = cli.RUN.convert(first, None, None)
    second_folder = cli.RUN.convert(second, None, None)
    first_is_run = bool(first) and first_folder.is_dir()
    second_is_run = bool(second) and second_folder.is_dir()
    if first_is_run and second_is_run:
        return run_lines(first_folder, second_folder)
    if first_is_run or second_is_run:
        run, other = (first, second) if first_is_run else (second, first)
        raise RunFolderError(f"{run} is the folder of a run, {other} is none: expected two runs or two trials")
    searched_runs = list(runs)
    if not searched_runs:
        searched_runs = sorted(path.parent for path in Path("runs").glob(f"[!.]*/{RunFolder(Path()).plan}"))
    return explain(find_trial(first, searched_runs), find_trial(second, searched_runs), imports=imports)
