"""Run one trial of a run again, with or without the cache; compare it with the run's rows, save its sub-model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.store.reader import load
from results.text.number_format import SCALES
from sweeps.command_options import cache_option
from sweeps.errors import RunFolderError
from sweeps.operations.known_trials import KnownTrial, find_trial, why_another
from sweeps.run.run_folder import RunFolder, modules_of, open_run
from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution import plugins
from tailor.execution.dry_run import dry_run
from tailor.stages import PointFacts
from transtailor import cli
from transtailor.files import existing_above
from transtailor.plural import counted

if TYPE_CHECKING:
    from tailor.execution.runner import StageEvent

RECORDED = """
SELECT point, macs, metric, validation_score FROM operating_points WHERE trial_id = ? ORDER BY point
"""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Where a sub-model is saved, and what its card adds to the known facts."""

    folder: Path
    command: str  # that was typed
    licence: str | None = None  # the user's line; None: not given


def reproduce(
    trial: KnownTrial, *, cache: Path, point: int | None = None, saving: Saving | None = None
) -> Iterator[str]:
    """Yield lines to print: each operating point's score compared with that of the run; last, how many are equal.

    Args:
        trial: to run again, on one rank of this process.
        cache: of its stages; missing ones are computed and stored. With an empty folder the trial runs from the start.
        point: number of the operating point to end with; None for the whole path.
        saving: of the sub-model of `point`, or of the last point; None saves none.

    Raises:
        RunFolderError: this code cannot read its settings, or makes another trial of them; it has no such point; or
            the cache is a file.
        TrainingError: training diverged.

    Writes:
        the missing stages, and what `tailor.deploy.card.save_with_card` writes in the folder of `saving`.
    """
    refuse_file(cache)
    config = _config(trial)
    points = sum(stage.point is not None for stage in dry_run(config).stages)
    if point is not None and not 0 <= point < points:
        raise _no_point_error(trial, point, points)
    if saving is not None:
        from tailor.deploy.card import refuse_other_model  # imports torch

        refuse_other_model(saving.folder, trial.trial_id, points - 1 if point is None else point)
    with load(trial.run) as run:
        rows = {row["point"]: row for row in run.rows(RECORDED, [trial.trial_id])}
    equal = reached = stages = cached = 0
    threads = open_run(RunFolder(trial.run)).resources.get("threads_per_rank", 1)
    for event in _events(config, cache, point, saving, threads):
        stages += 1
        cached += event.result.cached
        if event.point is None:
            continue
        facts = event.result.point_facts()
        reached += 1
        row = rows.get(event.point)
        if row is not None and _is_equal(facts, row):
            equal += 1
        yield _line(event.point, facts, row)
    if point is not None and reached <= point:  # its path ends early
        raise _no_point_error(trial, point, reached)
    computed = f"{stages - cached} of its {counted(stages, 'stage')} were computed now"
    if cached:
        computed += f", {cached} read from the cache; another --cache, without stages, computes all"
    yield f"{equal} of {reached} points are exactly those in {trial.run}; {computed}"
    if saving is not None:
        from tailor.deploy.card import saved_text

        yield saved_text(saving.folder, config.network)


def refuse_file(cache: Path) -> None:
    """Raise RunFolderError if the folder of finished stages, or one above it, is a file."""
    existing = existing_above(cache)
    if not existing.is_dir():
        raise RunFolderError(f"--cache {cache}: {existing} is a file; name the folder of finished stages")


def _no_point_error(trial: KnownTrial, point: int, points: int) -> RunFolderError:
    return RunFolderError(f"trial {trial.trial_id} has no point {point}, only {points}, counted from 0")


def _config(trial: KnownTrial) -> TrialConfig:
    """Parse the trial's settings, and check that they are the same trial with this code."""
    run = RunFolder(trial.run)
    code = f"the code that ran it is in {run.code_copy(open_run(run).code_digest)}, and its commit in {run.provenance}"
    for module in modules_of(run, trial.imports):
        plugins.load_copy(module)
    try:
        config = parse_trial(trial.settings.values, f"trial {trial.trial_id}")
    except ConfigError as error:
        raise RunFolderError(f"this code, with the data here, cannot read its settings: {error}\n{code}") from error
    id_with_this_code = dry_run(config).trial_id
    if id_with_this_code != trial.trial_id:
        raise RunFolderError(
            f"{why_another(trial)}: with this code and these data the settings of trial {trial.trial_id} are trial "
            f"{id_with_this_code}; {code}"
        )
    return config


def _events(
    config: TrialConfig, cache: Path, last: int | None, saving: Saving | None, threads: int
) -> "Iterator[StageEvent]":
    """Yield each stage up to the last operating point, whose sub-model is saved."""
    from tailor.deploy.card import save_point
    from tailor.execution.cache import Cache
    from tailor.execution.runner import run_trial
    from tailor.parallel.process_group import join, leave

    ranks = join("cpu", threads=threads)
    last_event = None
    try:
        for event in run_trial(config, cache=Cache(cache), ranks=ranks, checkpoint_folder=cache / "checkpoints"):
            yield event
            if event.point is not None:
                last_event = event
                if event.point == last:
                    break
        if saving is not None and last_event is not None and last in (None, last_event.point):
            state = last_event.result.model_state()
            save_point(config, last_event, state, saving.folder, command=saving.command, licence=saving.licence)
    finally:
        leave()


def _is_equal(facts: PointFacts, row: dict[str, Any]) -> bool:
    return (row["macs"], row["validation_score"]) == (facts.macs, facts.validation_score)


def _line(number: int, facts: PointFacts, row: dict[str, Any] | None) -> str:
    """Compare an operating point with the run's row of it."""
    text = f"point {number}: {facts.macs:,} MACs, validation {SCALES[facts.metric].noun} "
    text += f"{facts.validation_score:.6f}"
    if row is None:
        return f"{text}; the run has no row of it"
    if _is_equal(facts, row):
        return f"{text}, as in the run"
    return f"{text}; the run has {row['macs']:,} MACs and {row['validation_score']:.6f}"


@cli.command(example="runs/demo 3f2a --save models")
@cli.run_argument
@cli.argument("trial")
@cli.option("--point", type=int, metavar="N", help="end with operating point N (default: the last)")
@cli.option("--save", type=cli.FOLDER, metavar="FOLDER", help="save the sub-model of that point here")
@cli.option("--licence", metavar="TEXT", help="the line on the licence in its card")
@cache_option
def reproduce_command(
    run: Path, trial: str, point: int | None, save: Path | None, licence: str | None, cache: Path
) -> Iterator[str]:
    """Run one trial again, by its id or the first digits, and compare it with the rows; perhaps save its sub-model.

    An empty cache recomputes all.
    """
    from tailor.deploy.card import refuse_unsavable

    refuse_unsavable(save, licence)
    saving = None if save is None else Saving(folder=save, command=cli.typed(), licence=licence)
    return reproduce(find_trial(trial, run), cache=cache, point=point, saving=saving)
