"""Launching an existing run again: what has changed, and whether the run may be resumed."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.text.settings import leaves
from sweeps.errors import RunFolderError
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.planned_rows import tuning_of
from sweeps.run.provenance import provenance
from sweeps.run.run_folder import (
    LaunchRecord,
    RunFolder,
    add_launch,
    add_trials,
    check_is_own,
    check_is_run,
    create_run,
    open_run,
    save_code,
    save_imports,
)
from sweeps.run.run_lock import RunLock
from transtailor.files import deny_others_writing, make_folder
from transtailor.garbage import pause_collection
from transtailor.sources import ROOT, code_digest, sources

SHOWN = 8  # lines of a difference; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the trials of a plan differ from those of a run."""

    added: tuple[PlannedTrial, ...]
    removed: tuple[str, ...]  # ids
    relabelled: tuple[str, ...]  # ids of trials that are in both under different labels

    @property
    def is_extension(self) -> bool:
        """Whether the plan still has all old trials, under their labels."""
        return not self.removed and not self.relabelled

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.relabelled)


def difference(record: LaunchRecord, plan: Plan) -> Difference:
    """Compare the trials of a run with those of a plan; resources do not count."""
    wanted = {trial.trial_id: trial for trial in plan.trials}
    added = tuple(trial for trial_id, trial in wanted.items() if trial_id not in record.trials)
    removed = tuple(trial_id for trial_id in record.trials if trial_id not in wanted)
    relabelled = tuple(
        trial_id
        for trial_id, old in record.trials.items()
        if trial_id in wanted and wanted[trial_id].label != old.label
    )
    return Difference(added=added, removed=removed, relabelled=relabelled)


def describe(changed: Difference, record: LaunchRecord, plan: Plan) -> list[str]:
    """A difference as lines: how many trials, then one line per setting, at most `SHOWN` of these."""
    counts = (len(changed.added), len(changed.removed), len(changed.relabelled))
    old_settings = [{**old.settings.values, "label": old.label} for old in record.trials.values()]
    new_settings = [{**trial.settings.values, "label": trial.label} for trial in plan.trials]
    lines = list(_changes(old_settings, new_settings))
    if not lines:
        lines = ["the same values of all settings, but in other combinations or with another version of the methods"]
    more = [f"... and {len(lines) - SHOWN} more settings"] if len(lines) > SHOWN else []
    return ["{} trials added, {} removed, {} renamed".format(*counts), *lines[:SHOWN], *more]


@pause_collection()  # the record of all trials is no garbage
def start(plan: Plan, runs: Path, *, extend: bool, update_code: bool) -> tuple[RunFolder, RunLock, str]:
    """Create or resume the run; returns its folder, its lock (held) and what was done, such as "resumed".

    Args:
        extend: add trials to a run that has all others already.
        update_code: resume although the code has changed since the run was created.

    Raises:
        RunFolderError: the run may not be resumed; the text shows the difference and names the option.
        OSError: the file system refuses.
    """
    from results.store.settle import complete_killed  # pyarrow takes 0.2 s

    run = RunFolder(runs / plan.name)
    files = sources()
    launch = provenance(files)
    if not run.path.exists():
        try:
            make_folder(runs)  # with the mode of the umask: it may be for several users
            with deny_others_writing():
                return run, create_run(plan, runs, launch, files), "created"
        except FileExistsError:
            pass  # another launch has just created it: resume that one
    check_is_run(run)  # before the lock, which would write a file into a folder that is no run
    check_is_own(run)
    lock = RunLock(run.lock)
    try:
        complete_killed(run.path)
        record = open_run(run)
        check_may_resume(run, record, plan, launch["code_digest"], extend=extend, update_code=update_code)
        with deny_others_writing():
            what = _resume(run, record, plan, launch, files)
    except BaseException:
        lock.release()
        raise
    return run, lock, what


def check_may_resume(
    run: RunFolder, record: LaunchRecord, plan: Plan, digest: str, *, extend: bool, update_code: bool
) -> None:
    """Raise RunFolderError, with the difference and what to type, unless `plan` may resume `run`."""
    if record.private_cache != plan.private_cache:
        kinds = {True: "without sharing", False: "with sharing"}
        raise RunFolderError(
            f"{run.path} is a run {kinds[record.private_cache]}, this launch is one {kinds[plan.private_cache]}; "
            "type another --name"
        )
    changed = difference(record, plan)
    if changed and not (extend and changed.is_extension) and not _is_earlier_or_later(changed, plan):
        shown = "\n".join(f"  {line}" for line in describe(changed, record, plan))
        advice = (
            "type --extend to add them to this run, or --name NAME for a new one"
            if changed.is_extension
            else "type --name NAME for a new run (finished stages are shared by way of the cache)"
        )
        also = "; --extend is not enough, because old trials are gone or renamed" if extend else ""
        raise RunFolderError(f"{run.path} is a run of another spec:\n{shown}\n{advice}{also}")
    if digest != record.code_digest and not update_code:
        raise RunFolderError(
            f"{run.path} was made with other code (digest {record.code_digest[:12]}, now {digest[:12]}; "
            f"to compare: {shlex.join(['diff', '-r', str(run.code_of(record.code_digest)), str(ROOT)])}); "
            "type --update-code to continue with the new code, or --name NAME for a new run"
        )


def _is_earlier_or_later(changed: Difference, plan: Plan) -> bool:
    """Whether a plan differs from the run only by when the proposals of the same search were read.

    A launch that proposes meanwhile has written more trials than the plan has, or has not written the last ones yet;
    other settings or methods do both. `RunSearch` refuses another [search].
    """
    return plan.searches is not None and not changed.relabelled and not (changed.added and changed.removed)


def is_other_spec(run: RunFolder, plan: Plan) -> bool:
    """Whether the spec of this launch has other text than the run's, such as other [resources] or [[printed]]."""
    return run.spec.read_text(encoding="utf-8") != plan.spec_text


def this_code_digest() -> str:
    """The digest of the code as it is on disk."""
    return code_digest(sources())


def _resume(
    run: RunFolder, record: LaunchRecord, plan: Plan, launch: Mapping[str, Any], files: Mapping[Path, bytes]
) -> str:
    digest = launch["code_digest"]
    added = difference(record, plan).added
    what = [f"extended by {len(added)} trials" if added else "resumed"]
    what += _renamed_arms(record, plan)
    if digest != record.code_digest:
        what.append(f"with new code {digest[:12]}")
    if plan.resources.model_dump() != record.resources:
        what.append("with other resources")
    save_code(run, digest, files)
    save_imports(run, plan)
    changed = [*added, *_described_otherwise(record, plan)]
    if changed or is_other_spec(run, plan) or list(record.imports) != [module.file for module in plan.imports]:
        add_trials(run, plan, changed, digest)
    add_launch(run, record, ", ".join(what), launch)
    return ", ".join(what)


def _described_otherwise(record: LaunchRecord, plan: Plan) -> list[PlannedTrial]:
    """Old trials whose arm has another name now, or whose order among the settings of [tuning] has changed.

    They are still the same trials, and of their rows in `planned` the last one counts.
    """
    return [
        trial
        for trial in plan.trials
        if (old := record.trials.get(trial.trial_id)) is not None
        and (old.arm, old.tuning) != (trial.arm, tuning_of(trial))
    ]


def _renamed_arms(record: LaunchRecord, plan: Plan) -> list[str]:
    """Say which arms have another name now, because a setting tells them apart from arms that were added."""
    renamed = {
        (old.arm, trial.arm): None
        for trial in plan.trials
        if (old := record.trials.get(trial.trial_id)) is not None and old.arm != trial.arm
    }
    texts = [f"{before!r} is now {after!r}" for before, after in renamed]
    more = [f"{len(texts) - SHOWN} more arms have new names"] if len(texts) > SHOWN else []
    return [f"the arm {text}" for text in texts[:SHOWN]] + more


def _changes(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each setting whose values over all trials have changed."""
    before, after = _values(old), _values(new)
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            yield f"{key}: {_list_text(before.get(key))} -> {_list_text(after.get(key))}"


def _values(trials: list[dict[str, Any]]) -> dict[str, dict[str, None]]:
    values: dict[str, dict[str, None]] = {}
    for trial in trials:
        for key, value in leaves(trial):
            values.setdefault(key, {})[json.dumps(value)] = None
    return {key: dict.fromkeys(sorted(texts)) for key, texts in values.items()}


def _list_text(values: Mapping[str, None] | None) -> str:
    if not values:
        return "(none)"
    texts = list(values)
    return ", ".join(texts[:SHOWN]) + (f", ... ({len(texts)} values)" if len(texts) > SHOWN else "")
