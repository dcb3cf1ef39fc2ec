"""The folder of a run: the name of every file in it, its creation (whole or not at all), and its reading.

runs/<sweep>/spec.toml            the spec with `extends` and `--set` applied
             plan.json            trial id -> label, arm and settings; a relaunch is compared with it
             provenance.json      command, machine, packages, commit; one entry per launch
             code/<digest>.zip    the sources that ran, one copy for each digest in the rows
             code/<digest>/       the same as a folder, where jobs import them
             code/imports/        the user's modules that ran, <SHA-256>/<name>.py, and what they import beside them
             tables/<table>/      the rows
             .writing/<number>/   rows that are being written: see `results.store.writer`
             trials/<id>/         log, checkpoint and other files of a trial
             launch.lock          held by the launching process
             cluster/             on SLURM: where its jobs meet (`hpc.cluster.cluster_folder`), and
                 launch.json      what was submitted
                 progress.json    how far the sweep is
                 outcome.json     how it ended; absent while it runs
             report.html
"""

import json
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from zipfile import ZipFile

from hpc.cluster.cluster_folder import ClusterFolder
from results.errors import ResultsError
from sweeps.errors import RunFolderError
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.abandoned import remove_abandoned, temporary_name
from sweeps.run.planned_rows import tuning_of, write_planned
from sweeps.run.run_lock import LOCK_FILE, RunLock
from sweeps.spec.json_settings import JsonSettings
from tailor.common.neighbours import COPIES, ORIGIN
from transtailor.documents import read_json
from transtailor.errors import is_of_the_machine
from transtailor.files import is_there, list_there, make_folder, name_folder, write_file, write_folder
from transtailor.names import nearest_folder
from transtailor.ownership import refuse_shared
from transtailor.plural import counted

if TYPE_CHECKING:
    from results.store.writer import Writer

FORMAT = 4  # of plan.json and provenance.json
FORMATS = (3, FORMAT)  # that are read; runs of format 3, version 0.2's, are not launched again
_ID = re.compile(r"[0-9A-Za-z_-]+")
_MODULE = re.compile(r"[0-9a-f]{64}/[^/]+\.py")


class _Below:
    """An attribute of `RunFolder` that is a path below its folder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: "RunFolder", _owner: type) -> Path:
        return run.path / self._name


@dataclass(frozen=True)
class RunFolder:
    """The file names of one run; the constructor reads and writes no file."""

    path: Path

    spec = _Below("spec.toml")  # resolved
    plan = _Below("plan.json")
    provenance = _Below("provenance.json")
    code = _Below("code")  # copies of the sources, one for each digest
    imports = _Below("code/imports")  # copies of the user's modules
    tables = _Below("tables")  # one folder per table
    trials = _Below("trials")  # one folder per trial
    lock = _Below(LOCK_FILE)
    report = _Below("report.html")
    cluster = _Below("cluster")  # where the jobs of a run on SLURM meet (0700)
    submission = _Below("cluster/launch.json")  # what the last launch has submitted
    progress = _Below("cluster/progress.json")
    outcome = _Below("cluster/outcome.json")

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.name

    def trial(self, trial_id: str) -> Path:
        """Return the folder of one trial; its first writer creates it."""
        return self.trials / trial_id

    def begin_log(self, trial_id: str) -> Path:
        """Make the next file of a trial's log, one JSON object per line, and return it.

        Each file has one writer: two machines that append to one file overwrite each other's lines on NFS.
        """
        folder = self.trial(trial_id)
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(len(self.logs(trial_id)) + 1):
            path = folder / f"log-{number:04}.jsonl"
            with suppress(FileExistsError):
                path.open("x").close()
                return path
        raise AssertionError("numbers do not end")

    def logs(self, trial_id: str) -> list[Path]:
        """Return the files of a trial's log in the order in which they were begun."""
        return [path for path in list_there(self.trial(trial_id), "log-*.jsonl") if path.is_file()]

    def trial_logs(self) -> list[Path]:
        """Return the logs of all trials that were started."""
        return list_there(self.trials, "*/log-*.jsonl")

    def checkpoint(self, trial_id: str) -> Path:
        """Return the folder for the checkpoints of a trial's stages."""
        return self.trial(trial_id) / "checkpoint"

    def private_cache(self, trial_id: str) -> Path:
        """Return the cache of a trial that shares no stages."""
        return self.trial(trial_id) / "private_cache"

    def code_of(self, digest: str) -> Path:
        """Return the folder from which jobs import the sources with a digest, which rows have in `code_digest`."""
        return self.code / digest[:12]

    def code_copy(self, digest: str) -> Path:
        """Return the copy of the sources with a digest: that folder if the run has it, else a ZIP archive."""
        folder = self.code_of(digest)
        return folder if is_there(folder) else folder.with_suffix(".zip")


@dataclass(frozen=True, kw_only=True)
class RecordedTrial:
    """A trial of a run, as plan.json has it."""

    label: str
    arm: str
    head_arm: str | None  # as in `PlannedTrial`
    settings: JsonSettings
    tuning: Mapping[str, Any]  # the columns of `tuning_of`


@dataclass(frozen=True, kw_only=True)
class LaunchRecord:
    """The content of plan.json and provenance.json of a run."""

    trials: Mapping[str, RecordedTrial]  # by id
    imports: tuple[Path, ...]  # paths of the user's modules below the folder of imports
    resources: Mapping[str, Any]
    private_cache: bool
    code_digest: str  # of the code that may resume the run
    run_id: str  # of this run alone: stages that it computes name it
    provenance: Mapping[str, Any]
    last_launch: Mapping[str, Any]  # of the whole run: those of chosen trials alone (`--again`) are passed over


def create_run(
    plan: Plan, runs: Path, launch: Mapping[str, Any], sources: Mapping[Path, bytes], *, for_jobs: bool = False
) -> RunLock:
    """Create `runs/<name>` and return its lock, held.

    Args:
        runs: the folder of all runs; created if it is missing.
        launch: `provenance.provenance()` of this launch.
        sources: relative path -> content of the code.
        for_jobs: jobs will import the run's copy of the code.

    Raises:
        FileExistsError: the run exists already; open that one.
        OSError: the file system refuses; no file is left behind.

    Writes:
        all files of a new run under a temporary name next to it, synced and then renamed: no reader sees half of it.
    """
    make_folder(runs)
    remove_abandoned(runs)
    name = temporary_name(plan.name)
    temporary = RunFolder(runs / name)
    final = runs / plan.name
    temporary.path.mkdir()
    try:
        lock = RunLock(temporary.lock)  # held from the start, so that no other launch resumes the run first
        try:
            from results.store.writer import Writer  # pyarrow takes 0.2 s: not for `--plan` and `--help`

            digest = launch["code_digest"]
            temporary.code.mkdir()
            temporary.trials.mkdir()
            save_code(temporary, digest, sources, for_jobs=for_jobs)
            save_imports(temporary, plan)
            writer = Writer(temporary.tables)
            writer.begin()
            write_planned(writer, plan, plan.trials, digest)
            write_file(temporary.spec, plan.spec_text)
            history = [_entry(f"created with {counted(len(plan.trials), 'trial')}", launch, launch)]
            provenance = {
                "format": FORMAT,
                "name": plan.name,
                "run_id": uuid.uuid4().hex[:16],
                "code_digest": digest,
                "created": launch,
                "history": history,
            }
            write_file(temporary.provenance, _json_text(provenance))
            write_file(temporary.plan, _plan_text(plan))
            if is_there(final):  # an empty folder would be replaced without a message
                raise FileExistsError(f"{final} exists already")
            name_folder(temporary.path, final)
        except BaseException:
            lock.release()
            raise
    except BaseException:
        if temporary.path.exists():  # else it is renamed already, and a whole run
            shutil.rmtree(temporary.path)
        raise
    return lock


def check_is_run(run: RunFolder) -> None:
    """Raise RunFolderError, with what to do, unless a folder has all files of a run; their content is not read."""
    if not is_there(run.path):
        raise RunFolderError(
            f"there is no run {run.path}; type the folder of a run, such as runs/demo{nearest_folder(run.path)}"
        )
    if not run.path.is_dir():
        raise RunFolderError(
            f"{run.path} is a file; type the folder of a run, such as runs/demo, or for a new run another --name"
        )
    if not is_there(run.plan):
        example = next((path.parent for path in list_there(run.path, "[!.]*/plan.json")), Path("runs/demo"))
        raise RunFolderError(
            f"{run.path} is not the folder of a run: it has no {run.plan.name}; type one, such as {example}, or for a "
            "new run another --name"
        )
    missing = [path.name for path in (run.spec, run.provenance) if not is_there(path)]
    if not is_there(run.tables / "planned"):
        missing.append("planned")
    if missing:
        raise _damage_error(run, f"it has no {' and no '.join(missing)}")


def open_run(run: RunFolder) -> LaunchRecord:
    """Read what an existing run was created with.

    Raises:
        RunFolderError: the folder is no run, or is damaged; the text says what to do.
        OSError: the disk fails.
    """
    check_is_run(run)
    plan = _read_json(run, run.plan)
    provenance = _read_json(run, run.provenance)
    try:
        history = list(provenance["history"])
        whole = [launch for launch in history if not launch.get("options", {}).get("again")]
        record = LaunchRecord(
            trials={key: _known_trial(run, key, value) for key, value in plan["trials"].items()},
            imports=tuple(Path(name) for name in plan["imports"]),
            resources=dict(plan["resources"]),
            private_cache=plan["private_cache"],
            code_digest=str(provenance["code_digest"]),
            run_id=str(provenance["run_id"]),
            provenance={**provenance, "history": history, "created": dict(provenance["created"])},
            last_launch=dict(whole[-1] if whole else history[0]),
        )
        # Look up the facts of launches that commands read, so that a missing one raises here
        str(record.provenance["created"]["packages"])
        str(history[-1]["command"])
        str(record.last_launch["folder"])
    except RunFolderError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise _damage_error(run, f"{run.plan.name} or {run.provenance.name} lacks an entry: {error!r}") from None
    _check_planned(run)
    return record


def refuse_version_0_2(run: RunFolder, record: LaunchRecord) -> None:
    """Raise RunFolderError if version 0.2 began the run: its rows are read, and it is not launched again."""
    if record.provenance["format"] != FORMAT:
        raise RunFolderError(
            f"{run.path} was begun by version 0.2: finish it with the version that began it, or type --name NAME for a "
            "new run"
        )


def check_is_own(run: RunFolder) -> None:
    """Raise RunFolderError, with what to type, if another user owns or may write what a launch of the run executes."""
    code_paths = [path for path in (run.code, *run.code.rglob("*")) if path.name != "__pycache__"]
    refuse_shared((run.path, run.spec, run.plan, run.provenance, run.cluster, *code_paths), RunFolderError)
    refuse_shared((ClusterFolder(run.cluster).token,), RunFolderError, secret=True)


def modules_of(run: RunFolder, imports: Sequence[Path]) -> tuple[Path, ...]:
    """Return the run's copies of the user's modules, each in a folder named by its SHA-256: for `plugins.load_copy`.

    Raises:
        RunFolderError: the plan names another file, or other users may change the copies.
    """
    for name in imports:
        if not _MODULE.fullmatch(name.as_posix()):
            raise RunFolderError(
                f"{run.plan} names the module {str(name)!r}, expected <64 digits of its SHA-256>/NAME.py below "
                f"{run.imports}: it is not imported; launch the run again from its spec, which copies its modules again"
            )
    if imports:
        check_is_own(run)
    return tuple(run.imports / name for name in imports)


def add_trials(run: RunFolder, plan: Plan, trials: Iterable[PlannedTrial], code_digest: str, writer: "Writer") -> None:
    """Extend a run by trials of `plan`, which also has the old ones; the caller holds the lock.

    Writes:
        the rows, then spec.toml, then plan.json, each whole; if it is killed in between, the same call completes it.
    """
    write_planned(writer, plan, trials, code_digest)
    write_file(run.spec, plan.spec_text)
    write_file(run.plan, _plan_text(plan))


def add_launch(run: RunFolder, record: LaunchRecord, what: str, launch: Mapping[str, Any]) -> None:
    """Write a launch into the run's provenance; the caller holds the lock.

    Args:
        record: from `open_run`.
        what: the kind of launch: "resumed", "extended by 18 trials", ...
        launch: `provenance.provenance()` of this launch; its code digest becomes the run's.
    """
    history = [*record.provenance["history"], _entry(what, launch, record.provenance["created"])]
    provenance = {**record.provenance, "code_digest": launch["code_digest"], "history": history}
    write_file(run.provenance, _json_text(provenance))


def save_code(run: RunFolder, digest: str, sources: Mapping[Path, bytes], *, for_jobs: bool) -> None:
    """Store a copy of the sources under their digest, unless the run has one: a folder if jobs will import it.

    Otherwise it is one archive: some hundred files would each be synced.
    """
    copy = run.code_copy(digest)
    if for_jobs and copy != run.code_of(digest):
        write_folder(run.code_of(digest), sources)
    elif not is_there(copy):
        write_file(copy, partial(_write_archive, sources))


def save_imports(run: RunFolder, plan: Plan) -> None:
    """Store copies of the user's modules for the ranks to import, unless the run has them."""
    for module in plan.imports:
        run.imports.mkdir(exist_ok=True)
        folder = run.imports / module.copy.parent
        if not is_there(folder):
            user_file = module.user_file
            copies = {f"{COPIES}/{name}": content for name, content in user_file.neighbours.items()}
            origin = str(user_file.origin).encode()
            write_folder(folder, {module.copy.name: user_file.content, ORIGIN: origin, **copies})


def log_line(at: datetime, level: str, text: str) -> str:
    """Return a line of a trial's log, without the line break."""
    return json.dumps({"at": at.isoformat(), "level": level, "text": text})


def _write_archive(sources: Mapping[Path, bytes], stream: BinaryIO) -> None:
    with ZipFile(stream, "w") as archive:
        for path, content in sources.items():
            archive.writestr(path.as_posix(), content)


def _entry(what: str, launch: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """Return a launch for the history: its facts, with only the packages that differ from the first launch's."""
    first_packages = first["packages"]
    packages = launch["packages"]
    other_packages = {}
    for name in sorted({*first_packages, *packages}):
        if packages.get(name) != first_packages.get(name):
            other_packages[name] = packages.get(name)
    facts = {key: value for key, value in launch.items() if key != "packages"}
    return {"what": what, **facts, "other_packages": other_packages}


def _plan_text(plan: Plan) -> str:
    trials = {}
    for trial in plan.trials:
        entry = {"label": trial.label, "arm": trial.arm, "head_arm": trial.head_arm, "config": trial.settings.values}
        trials[trial.trial_id] = entry | tuning_of(trial)
    return _json_text(
        {
            "format": FORMAT,
            "name": plan.name,
            "resources": plan.resources.model_dump(),
            "private_cache": plan.private_cache,
            "imports": [module.copy.as_posix() for module in plan.imports],
            "trials": trials,
        }
    )


def _known_trial(run: RunFolder, trial_id: str, value: Mapping[str, Any]) -> RecordedTrial:
    if not _ID.fullmatch(trial_id):  # it names a folder
        raise _damage_error(run, f"{run.plan.name} names a trial {trial_id!r}, expected letters and digits")
    label = str(value["label"])
    arm = str(value["arm"])
    head_arm = None if value.get("head_arm") is None else str(value["head_arm"])
    for name in (label, arm, head_arm or arm):
        if not name.isprintable():  # a line break in it could look like a line of ours
            raise _damage_error(run, f"{run.plan.name}: expected a name in one line, given {name!r}")
    tuning = {name: value[name] for name in ("tuning_json", "tuning_order")}
    return RecordedTrial(
        label=label, arm=arm, head_arm=head_arm, settings=JsonSettings(dict(value["config"])), tuning=tuning
    )


def _read_json(run: RunFolder, path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (ValueError, OSError) as error:
        raise _damage_or_disk(run, f"{path.name} cannot be read: ", error) from None
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise _damage_error(run, f"{path.name} has no format number")
    if content["format"] not in FORMATS:
        raise RunFolderError(
            f"{run.path} was made by another version of this program ({path.name} has format {content['format']}, this "
            f"program reads {FORMAT}); update the program, or type another --name"
        )
    return content


def _check_planned(run: RunFolder) -> None:
    from results.store.files import check_files  # pyarrow takes 0.2 s

    try:
        check_files(run.path, "planned")
    except (ResultsError, OSError) as error:
        raise _damage_or_disk(run, "", error) from None


def _damage_or_disk(run: RunFolder, what: str, error: Exception) -> Exception:
    """Return an error that calls the run damaged, but the given one if the disk fails: the file may be whole."""
    if isinstance(error, OSError) and is_of_the_machine(error):
        return error
    return _damage_error(run, f"{what}{error}")


def _damage_error(run: RunFolder, why: str) -> RunFolderError:
    return RunFolderError(
        f"{run.path} is damaged: {why}; put that file back from a copy, or move the folder away and launch again "
        "(finished stages stay in the cache)"
    )


def _json_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
