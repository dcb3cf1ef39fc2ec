"""The differences of two trials: setting by setting, the stages that they share, their points side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.diff import run_lines
from results.store.reader import load
from results.text.settings import setting_lines
from sweeps.errors import RunFolderError
from sweeps.run.relaunch import prepared_again
from sweeps.run.run_folder import RunFolder, modules_of, open_run
from sweeps.spec.json_settings import JsonSettings
from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.execution.dry_run import DryRun, dry_run
from tailor.execution.plugins import load_copy
from transtailor import cli
from transtailor.names import nearest
from transtailor.shell import command

MEASURED = """
SELECT point, removed_macs_fraction, validation_score, test_score FROM measured_points WHERE trial_id = ? ORDER BY point
"""


@dataclass(frozen=True, kw_only=True)
class KnownTrial:
    """A trial of some run."""

    trial_id: str
    run: Path
    arm: str
    settings: JsonSettings
    imports: tuple[Path, ...]  # the user modules of its run


def find_trial(prefix: str, runs: Sequence[Path]) -> KnownTrial:
    """Find the one trial of these runs whose id begins with `prefix`; of a trial in several runs, the first.

    Raises:
        RunFolderError: no trial or several have such an id, or a run cannot be read.
    """
    matching: dict[str, KnownTrial] = {}
    all_ids: list[str] = []
    for path in runs:
        record = open_run(RunFolder(path))
        all_ids += record.trials
        for trial_id, trial in record.trials.items():
            if trial_id.startswith(prefix) and trial_id not in matching:
                matching[trial_id] = KnownTrial(
                    trial_id=trial_id,
                    run=path,
                    arm=trial.arm,
                    settings=trial.settings,
                    imports=record.imports,
                )
    if not runs:
        raise RunFolderError("the folder runs has no run; name the folder of one with --run RUN")
    where = ", ".join(str(path) for path in runs)
    if not matching:
        raise RunFolderError(
            f"no trial whose id begins with {prefix!r} in {where}{nearest(prefix, all_ids)}; to see the ids, type: "
            f"{command('query', runs[0], 'SELECT trial_id, arm, dataset, seed FROM planned')}"
        )
    if len(matching) > 1:
        raise RunFolderError(
            f"{len(matching)} trials begin with {prefix!r} in {where}; type more digits{nearest(prefix, matching)}"
        )
    (trial_of_prefix,) = matching.values()
    return trial_of_prefix


def explain(first: KnownTrial, second: KnownTrial, *, imports: bool = False) -> Iterator[str]:
    """Yield lines to print: the settings in which two trials differ, the stages that they share, their points.

    `imports`: import, and so execute, the user modules in the folders of their runs.
    """
    for trial in (first, second):
        yield f"{trial.trial_id}  {trial.arm}  ({trial.run})"
    if first.trial_id == second.trial_id:
        yield "one and the same trial"
        return
    yield from setting_lines(first.settings.values, second.settings.values)
    yield from _shared_stages(first, second, imports=imports)
    yield from _side_by_side(_points(first), _points(second))


def _shared_stages(first: KnownTrial, second: KnownTrial, *, imports: bool) -> Iterator[str]:
    dry_runs: list[DryRun] = []
    for trial in (first, second):
        try:
            if imports:
                for module in modules_of(RunFolder(trial.run), trial.imports):
                    load_copy(module)
            dry_runs.append(dry_run(parse_trial(trial.settings.values, f"trial {trial.trial_id}")))
        except ConfigError as error:
            if trial.imports and not imports:
                yield f"{trial.run} has user modules; to import them and compare stages, add --imports"
                return
            yield f"this code, with the data here, cannot read its settings, so stages are not compared: {error}"
            return
        if dry_runs[-1].trial_id != trial.trial_id:
            yield (
                f"{why_another(trial)}; with this code and these data the same settings have the id "
                f"{dry_runs[-1].trial_id}"
            )
    first_stages = dry_runs[0].stages
    second_stages = dry_runs[1].stages
    first_keys = {stage.key for stage in first_stages}
    shared = [stage for stage in second_stages if stage.key in first_keys]
    kinds = ", ".join(stage.kind for stage in shared) or "none"
    yield f"stages in common: {len(shared)} of {len(first_stages)} and {len(second_stages)}: {kinds}"


def why_another(trial: KnownTrial) -> str:
    """Say why the settings of a trial now make another one: its data set or the code has changed."""
    again = "; ".join(prepared_again(open_run(RunFolder(trial.run)), [trial.settings]))
    return again or f"trial {trial.trial_id} was made by another version of its method or stages"


def _points(trial: KnownTrial) -> dict[int, dict[str, Any]]:
    """Return the operating points of a trial, by their numbers."""
    with load(trial.run) as run:
        return {row["point"]: row for row in run.rows(MEASURED, [trial.trial_id])}


def _side_by_side(first: Mapping[int, dict[str, Any]], second: Mapping[int, dict[str, Any]]) -> Iterator[str]:
    if not first and not second:
        yield "neither has an operating point yet"
        return
    yield "operating points (share of the MACs gone, validation, test):"
    for point in sorted({*first, *second}):
        yield f"  {point}  {_point(first.get(point))}  |  {_point(second.get(point))}"


def _point(row: dict[str, Any] | None) -> str:
    if row is None:
        return "(does not have it)"
    test = "-" if row["test_score"] is None else f"{row['test_score']:.4f}"
    return f"{row['removed_macs_fraction']:.4f}  {row['validation_score']:.4f}  {test}"


@cli.command(example="runs/demo runs/more_seeds")
@cli.argument("first", metavar="RUN|TRIAL")
@cli.argument("second", metavar="RUN|TRIAL")
@cli.option(
    "--run", "runs", type=cli.RUN, multiple=True, metavar="RUN",
    help="for trials: folder of the run that they are in (repeatable; default: every run in runs/)",
)  # fmt: skip
@cli.option("--imports", is_flag=True, help="for trials: also import your own modules, from the runs")
def diff(first: str, second: str, runs: tuple[Path, ...], imports: bool) -> Iterator[str]:
    """Print the differences of two runs, or of two trials: setting by setting, stages, results.

    A trial is named by its id, or the first digits.
    """
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
