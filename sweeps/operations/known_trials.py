"""A trial of a run, by the first digits of its id."""

from dataclasses import dataclass
from pathlib import Path

from sweeps.errors import RunFolderError
from sweeps.run.relaunch import prepared_again
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.spec.json_settings import JsonSettings
from transtailor.names import nearest
from transtailor.shell import command


@dataclass(frozen=True, kw_only=True)
class KnownTrial:
    """A trial of some run."""

    trial_id: str
    run: Path
    settings: JsonSettings
    imports: tuple[Path, ...]  # the user modules of its run


def find_trial(prefix: str, run: Path) -> KnownTrial:
    """Find the one trial of a run whose id begins with `prefix`.

    Raises:
        RunFolderError: no trial or several have such an id, or the run cannot be read.
    """
    record = open_run(RunFolder(run))
    matching = [trial_id for trial_id in record.trials if trial_id.startswith(prefix)]
    if not matching:
        raise RunFolderError(
            f"no trial whose id begins with {prefix!r} in {run}{nearest(prefix, record.trials)}; to see the ids, type: "
            f"{command('query', run, 'SELECT trial_id, arm, dataset, seed FROM planned')}"
        )
    if len(matching) > 1:
        raise RunFolderError(
            f"{len(matching)} trials begin with {prefix!r} in {run}; type more digits{nearest(prefix, matching)}"
        )
    (trial_id,) = matching
    trial = record.trials[trial_id]
    return KnownTrial(trial_id=trial_id, run=run, settings=trial.settings, imports=record.imports)


def why_another(trial: KnownTrial) -> str:
    """Say why the settings of a trial now make another one: its data set or the code has changed."""
    again = "; ".join(prepared_again(open_run(RunFolder(trial.run)), [trial.settings]))
    return again or f"trial {trial.trial_id} was made by another version of its method or stages"
