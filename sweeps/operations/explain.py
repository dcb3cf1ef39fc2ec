"""The differences of two trials: setting by setting, the stages that they share, their points side by side."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.store.reader import load
from results.text.settings import setting_lines
from sweeps.errors import RunFolderError
from sweeps.run.run_folder import RunFolder, modules_of, open_run
from sweeps.spec.json_settings import JsonSettings
from tailor.config.parsing import parse_trial
from tailor.core.errors import ConfigError
from tailor.execution.dry_run import DryRun, dry_run
from tailor.execution.plugins import load_copy
from transtailor.names import nearest

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
    found: dict[str, KnownTrial] = {}
    ids: list[str] = []
    for path in runs:
        run = RunFolder(path)
        record = open_run(run)
        ids += record.trials
        for trial_id, trial in record.trials.items():
            if trial_id.startswith(prefix):
                known = KnownTrial(
                    trial_id=trial_id,
                    run=path,
                    arm=trial.arm,
                    settings=trial.settings,
                    imports=record.imports,
                )
                found.setdefault(trial_id, known)
    if not runs:
        raise RunFolderError("the folder runs has no run; name the folder of one with --run RUN")
    where = ", ".join(str(path) for path in runs)
    if not found:
        raise RunFolderError(
            f"no trial whose id begins with {prefix!r} in {where}{nearest(prefix, ids)}; "
            "the ids are in the table `planned` and in the output of --plan"
        )
    if len(found) > 1:
        raise RunFolderError(
            f"{len(found)} trials begin with {prefix!r} in {where}; type more digits{nearest(prefix, found)}"
        )
    return next(iter(found.values()))


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
    yield from _side_by_side(*_points(first, second))


def _shared_stages(first: KnownTrial, second: KnownTrial, *, imports: bool) -> Iterator[str]:
    walks: list[DryRun] = []
    for trial in (first, second):
        try:
            for module in modules_of(RunFolder(trial.run), trial.imports) if imports else ():
                load_copy(module)
            walks.append(dry_run(parse_trial(trial.settings.values, f"trial {trial.trial_id}")))
        except ConfigError as error:
            if trial.imports and not imports:
                yield f"{trial.run} has user modules; to import them and compare stages, add --imports"
                return
            yield f"this version of the code cannot read its settings, so stages are not compared: {error}"
            return
        if walks[-1].trial_id != trial.trial_id:
            yield (
                f"{trial.trial_id} was made by another version of its method or stages; "
                f"with this code the same settings have the id {walks[-1].trial_id}"
            )
    keys = {stage.key for stage in walks[0].stages}
    shared = [stage for stage in walks[1].stages if stage.key in keys]
    names = ", ".join(stage.kind for stage in shared) or "none"
    yield f"stages in common: {len(shared)} of {len(walks[0].stages)} and {len(walks[1].stages)}: {names}"


def _points(*trials: KnownTrial) -> Iterator[Mapping[int, dict[str, Any]]]:
    """The operating points of each trial, by their numbers; a run that several are in is opened once."""
    with ExitStack() as stack:
        runs = {run: stack.enter_context(load(run)) for run in dict.fromkeys(trial.run for trial in trials)}
        for trial in trials:
            yield {row["point"]: row for row in runs[trial.run].rows(MEASURED, [trial.trial_id])}


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
