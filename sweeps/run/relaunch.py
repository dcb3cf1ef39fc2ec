"""Launching an existing run again: what has changed, and whether the run may be resumed."""

import json
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from results.text.settings import leaves
from sweeps.errors import RunFolderError
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.planning.trial_data import digests_of_data, files_digests_of
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
    refuse_version_0_2,
    save_code,
    save_imports,
)
from sweeps.run.run_lock import RunLock
from sweeps.spec.json_settings import JsonSettings
from transtailor.files import deny_others_writing, is_there, make_folder
from transtailor.garbage import pause_collection
from transtailor.plural import counted, first_few
from transtailor.shell import command
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
    planned = {trial.trial_id: trial for trial in plan.trials}
    added = tuple(trial for trial_id, trial in planned.items() if trial_id not in record.trials)
    removed = []
    relabelled = []
    for trial_id, recorded in record.trials.items():
        if trial_id not in planned:
            removed.append(trial_id)
        elif planned[trial_id].label != recorded.label:
            relabelled.append(trial_id)
    return Difference(added=added, removed=tuple(removed), relabelled=tuple(relabelled))


def describe(changed: Difference, record: LaunchRecord, plan: Plan) -> list[str]:
    """Return a difference as lines: how many trials, then one line per setting, at most `SHOWN` of these."""
    added = counted(len(changed.added), "trial")
    counts = f"{added} added, {len(changed.removed)} removed, {len(changed.relabelled)} renamed"
    old_settings = [{**trial.settings.values, "label": trial.label} for trial in record.trials.values()]
    new_settings = [{**trial.settings.values, "label": trial.label} for trial in plan.trials]
    lines = [
        *_changed_modules(record, plan),
        *prepared_again(record, [trial.settings for trial in plan.trials]),
        *_changes(old_settings, new_settings),
    ]
    if not lines:
        lines = ["the same values of all settings, but in other combinations or with another version of the methods"]
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"... and {len(lines) - SHOWN} more settings"]
    return [counts, *lines]


def _changed_modules(record: LaunchRecord, plan: Plan) -> Iterator[str]:
    """Name the user's modules whose source has changed."""
    digests = {file.name: file.parent.name for file in record.imports}
    for module in plan.imports:
        before = digests.get(module.copy.name)
        digest = module.copy.parent.name
        if before not in (None, digest):
            what = ", or a file beside it that it imports," if module.user_file.neighbours else ""
            yield f"the module {module.copy.name}{what} was changed: SHA-256 {before[:12]} -> {digest[:12]}"


def prepared_again(record: LaunchRecord, settings: Iterable[JsonSettings]) -> Iterator[str]:
    """Name the data sets that had other images when the run was launched."""
    before: dict[str, str] = {}
    for launch in record.provenance["history"]:
        before |= launch.get("data", {})
    for folder, digest in digests_of_data(settings).items():
        if before.get(folder, digest) != digest:
            yield f"the data set {folder} was prepared again: digest {before[folder][:12]} -> {digest[:12]}"


@pause_collection()  # the record of all trials is no garbage
def start(
    plan: Plan,
    runs: Path,
    *,
    extend: bool,
    update_code: bool,
    options: Mapping[str, Any] = MappingProxyType({}),
    for_jobs: bool = False,
) -> tuple[RunFolder, RunLock, str]:
    """Create or resume the run; returns its folder, its lock (held) and what was done, such as "resumed".

    Args:
        extend: add trials to a run that has all others already.
        update_code: resume although the code has changed since the run was created.
        options: how this launch was typed, for the run's history: `LaunchOptions.recorded`.
        for_jobs: jobs will import the run's copy of the code.

    Raises:
        RunFolderError: the run may not be resumed; the text shows the difference and names the option.
        OSError: the file system refuses.
    """
    run = RunFolder(runs / plan.name)
    files = sources()
    settings = [trial.settings for trial in plan.trials]
    launch = {
        **provenance(files), "options": dict(options), "data": digests_of_data(settings),
        "data_files": files_digests_of(settings), "warnings": list(plan.warnings),
    }  # fmt: skip
    if not is_there(run.path):
        try:
            make_folder(runs)  # with the mode of the umask: it may be for several users
            with deny_others_writing():
                return run, create_run(plan, runs, launch, files, for_jobs=for_jobs), "created"
        except FileExistsError:
            pass  # another launch has just created it: resume that one
    check_is_run(run)  # before the lock, which would write a file into a folder that is no run
    check_is_own(run)
    lock = RunLock(run.lock)
    try:
        record = open_run(run)
        check_may_resume(run, record, plan, launch["code_digest"], extend=extend, update_code=update_code)
        with deny_others_writing():
            what_was_done = _resume(run, record, plan, launch, files, for_jobs=for_jobs)
    except BaseException:
        lock.release()
        raise
    return run, lock, what_was_done


def check_may_resume(
    run: RunFolder, record: LaunchRecord, plan: Plan, digest: str, *, extend: bool, update_code: bool
) -> None:
    """Raise RunFolderError, with the difference and what to type, unless `plan` may resume `run`."""
    refuse_version_0_2(run, record)
    if record.private_cache != plan.private_cache:
        of_run, of_launch = ("without", "with") if record.private_cache else ("with", "without")
        raise RunFolderError(
            f"{run.path} is a run {of_run} sharing, this launch is one {of_launch} sharing; type another --name"
        )
    changed = difference(record, plan)
    is_allowed = (extend and changed.is_extension) or _is_earlier_or_later(changed, plan)
    if changed and not is_allowed:
        description = "\n".join(f"  {line}" for line in describe(changed, record, plan))
        if changed.is_extension:
            advice = "type --extend to add them to this run, or --name NAME for a new one"
        else:
            advice = (
                "type --name NAME for a new run (the cache has its stages that are the same); --extend keeps all old"
                " trials, under their labels: to add values to an axis, list the old ones, too"
            )
        if changed.removed and not changed.added:
            advice += f"\nto go on with the whole run, type: {command('run', run.path, '--retry')}"
        raise RunFolderError(f"{run.path} is a run of another spec:\n{description}\n{advice}")
    if digest != record.code_digest and not update_code:
        raise RunFolderError(
            f"{run.path} was made with other code (digest {record.code_digest[:12]}, now {digest[:12]}; "
            f"to compare: {_comparison(run.code_copy(record.code_digest))}); "
            "type --update-code to continue with the new code, or --name NAME for a new run"
        )


def _comparison(copy: Path) -> str:
    """Return the command that shows how the code differs from a run's copy of it."""
    if copy.suffix != ".zip":
        return shlex.join(["diff", "-r", str(copy), str(ROOT)])
    unpack = [sys.executable, "-m", "zipfile", "-e", str(copy), copy.stem]
    return f"{shlex.join(unpack)} && {shlex.join(['diff', '-r', copy.stem, str(ROOT)])}"


def _is_earlier_or_later(changed: Difference, plan: Plan) -> bool:
    """Whether a plan differs from the run only by when the decisions of the same producer of trials were read.

    A launch that decides meanwhile has written more trials than the plan has, or has not written the last ones yet;
    other settings or methods do both. `RunSearch` refuses another [search], `RunSettle` another [settle].
    """
    return plan.grows is not None and not changed.relabelled and not (changed.added and changed.removed)


def is_other_spec(run: RunFolder, plan: Plan) -> bool:
    """Whether the spec of this launch has other text than the run's, such as other [resources] or [[printed]]."""
    return run.spec.read_text(encoding="utf-8") != plan.spec_text


def this_code_digest() -> str:
    """Return the digest of the code as it is on disk."""
    return code_digest(sources())


def _resume(
    run: RunFolder,
    record: LaunchRecord,
    plan: Plan,
    launch: Mapping[str, Any],
    files: Mapping[Path, bytes],
    *,
    for_jobs: bool,
) -> str:
    """Bring the folder of a run up to date with this launch; returns what was done, such as "resumed"."""
    digest = launch["code_digest"]
    added = difference(record, plan).added
    actions = [f"extended by {counted(len(added), 'trial')}" if added else "resumed"]
    # Old name -> new one, of arms that a setting tells apart now from arms that were added
    renamed_arms: dict[str, str] = {}
    for trial in plan.trials:
        recorded = record.trials.get(trial.trial_id)
        if recorded is not None and recorded.arm != trial.arm:
            renamed_arms.setdefault(recorded.arm, trial.arm)
    if renamed_arms:
        actions.append(first_few([f"the arm {old!r} is now {new!r}" for old, new in renamed_arms.items()], SHOWN))
    if digest != record.code_digest:
        actions.append(f"with new code {digest[:12]}")
    if plan.resources.model_dump() != record.resources:
        actions.append("with other resources")
    site, site_before = (one.get("options", {}).get("site") for one in (launch, record.provenance["history"][-1]))
    if None not in (site_before, site) and site_before != site:
        actions.append(f"on site {site}, before on {site_before}: the speed of trials may differ")
    save_code(run, digest, files, for_jobs=for_jobs)
    save_imports(run, plan)
    changed_trials = [*added, *_described_otherwise(record, plan)]
    has_other_imports = list(record.imports) != [module.copy for module in plan.imports]
    if changed_trials or is_other_spec(run, plan) or has_other_imports:
        from results.store.writer import Writer  # pyarrow takes 0.2 s

        add_trials(run, plan, changed_trials, digest, Writer(run.tables))
    what_was_done = ", ".join(actions)
    facts: dict[str, Any] = {"more_seeds": _more_seeds(record, plan), "renamed_arms": renamed_arms}
    added_facts = {name: fact for name, fact in facts.items() if fact}
    add_launch(run, record, what_was_done, {**launch, **added_facts})
    return what_was_done


def _more_seeds(record: LaunchRecord, plan: Plan) -> dict[str, list[int]]:
    """Return the seeds that this launch adds to arms which had others; none if the sweep adds its trials itself.

    Who compares these arms should know: each addition may have been decided by looking at the results.
    """
    if plan.grows is not None:
        return {}
    seeds_before: dict[str, set[int]] = {}
    for trial in plan.trials:
        if trial.trial_id in record.trials:
            seeds_before.setdefault(trial.arm, set()).add(trial.settings.seed)
    more: dict[str, set[int]] = {}
    for trial in plan.trials:
        had_others = trial.arm in seeds_before and trial.settings.seed not in seeds_before[trial.arm]
        if trial.trial_id not in record.trials and had_others:
            more.setdefault(trial.arm, set()).add(trial.settings.seed)
    return {arm: sorted(seeds) for arm, seeds in more.items()}


def _described_otherwise(record: LaunchRecord, plan: Plan) -> list[PlannedTrial]:
    """Return old trials whose arm has another name now, or whose order among the settings of [tuning] has changed.

    They are still the same trials, whose rows in `planned` are replaced.
    """
    changed_trials = []
    for trial in plan.trials:
        recorded = record.trials.get(trial.trial_id)
        if recorded is None:
            continue
        is_described = (recorded.arm, recorded.head_arm, recorded.tuning)
        if is_described != (trial.arm, trial.head_arm, tuning_of(trial)):
            changed_trials.append(trial)
    return changed_trials


def _changes(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    """Yield one line for each setting whose values over all trials have changed."""
    old_values = _values_of_settings(old)
    new_values = _values_of_settings(new)
    keys = [*old_values, *(key for key in new_values if key not in old_values)]
    for key in keys:
        before = old_values.get(key, set())
        after = new_values.get(key, set())
        if before != after:
            yield f"{key}: {_list_text(before)} -> {_list_text(after)}"


def _values_of_settings(trials: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return dotted key -> the values that these trials have, as JSON."""
    values: dict[str, set[str]] = {}
    for trial in trials:
        for key, value in leaves(trial):
            values.setdefault(key, set()).add(json.dumps(value))
    return values


def _list_text(values: Collection[str]) -> str:
    if not values:
        return "(none)"
    text = ", ".join(sorted(values)[:SHOWN])
    if len(values) > SHOWN:
        text += f", ... ({len(values)} values)"
    return text
