"""Remove files of a run or a cache that are no longer needed; print what was removed and its size.

Of a run: checkpoints and private caches of trials that are finished or stopped, replaced versions of tables, and
files that a killed process left half-written.
Of a cache: stages that no run below a given folder has planned or run.
"""

import os
import secrets
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from results.store.reader import finished_trial_ids, load, stopped_trial_ids
from results.store.writer import WRITING
from sweeps.errors import RunFolderError
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.run.run_lock import RunLock, holder_of
from tailor.execution.cache import Cache, DamagedStage
from transtailor import cli
from transtailor.ownership import refuse_outside

CUT_OFF = "left by an interrupted command"
ABANDONED_AFTER_S = 24 * 3600.0
"""A half-made stage is removed after this time without a write; another run may be making it, for some minutes."""

REACHED = """
SELECT DISTINCT unnest(stage_keys) AS key FROM planned
UNION SELECT stage_key FROM stages UNION SELECT unnest(parents) FROM stages
UNION SELECT stage_key FROM operating_points UNION SELECT model_key FROM operating_points
"""


@dataclass(frozen=True)
class Waste:
    """A file or folder to remove, and what it is."""

    what: str
    path: Path

    @property
    def size_bytes(self) -> int:
        """Bytes that become free: of all its files but those that are gone, or stay under another name."""
        files = _walk(self.path) if self.path.is_dir() else [self.path]
        return sum(_size_bytes(path) for path in files)

    def remove(self) -> None:
        """Remove it; a folder is renamed first, so that no process finds half of it."""
        if not self.path.is_dir():
            self.path.unlink(missing_ok=True)
            return
        doomed = self.path.with_name(f".removed-{secrets.token_hex(8)}")
        try:
            self.path.rename(doomed)
        except FileNotFoundError:
            return  # another process removed it
        shutil.rmtree(doomed)


def clean(folder: Path, runs: Path | None, *, dry_run: bool) -> Iterator[str]:
    """Remove what is not needed; yield lines on what was removed, or would be with `dry_run`.

    Args:
        folder: of a run that is not running, or a cache.
        runs: for a cache, the folder of all runs that use it: what these have planned or run stays.

    Raises:
        RunFolderError: the folder is neither; a run to clean is running; or `runs` does not fit.
        ResultsError: rows cannot be read, so it is not known what is needed; nothing is removed.
    """
    with ExitStack() as held:
        if RunFolder(folder).plan.is_file():
            if runs is not None:
                raise RunFolderError(f"{folder} is a run: leave out --runs {runs}, or type the folder of a cache")
            open_run(RunFolder(folder))
            if not dry_run:
                held.enter_context(RunLock(RunFolder(folder).lock))
            run = RunFolder(folder)
            with load(run.path, ["trials", "attempts"]) as tables:
                state_of_trial = [(trial_id, "finished") for trial_id in finished_trial_ids(run.path)]
                state_of_trial += [(trial_id, "stopped") for trial_id in stopped_trial_ids(tables)]
            waste: list[Waste] = []
            for trial_id, state in sorted(state_of_trial):
                folders = (run.checkpoint(trial_id), run.private_cache(trial_id))  # of use only while it may continue
                waste += [Waste(f"{path.name} of {state} trials", path) for path in folders if path.is_dir()]
            cut_off: list[Path] = []
            half_written = ("./.*.tmp", f"{WRITING}/*/.*.tmp", "trials/*/.*.tmp")
            half_removed = ("trials/*/.removed-*",)
            for pattern in (*half_written, *half_removed):
                cut_off += run.path.glob(pattern)
            waste += [Waste("replaced tables", path) for path in sorted(run.path.glob(f"{WRITING}/*/*.replaced"))]
            waste += [Waste(CUT_OFF, path) for path in sorted(cut_off)]
            # Ids and links may be another user's.
            refuse_outside(run.path, (item.path for item in waste), RunFolderError)
        elif next(Cache(folder).stored_keys(), None) is not None:
            waste = _waste_of_cache(folder, runs)
        else:
            raise RunFolderError(
                f"{folder} is neither the folder of a run (it has no {RunFolder(folder).plan.name}) nor a cache with "
                "finished stages"
            )
        yield from _remove(waste, dry_run=dry_run)


def _waste_of_cache(folder: Path, runs: Path | None) -> list[Waste]:
    if runs is None:
        raise RunFolderError(
            f"{folder} is a cache: type --runs FOLDER, such as --runs runs, with all runs that may need its stages"
        )
    cache = Cache(folder)
    # Stages that a run below the folder, at any depth, has planned or run are needed
    paths = sorted(_walk(runs))
    for path in paths:
        if path.match(".*.creating"):
            raise RunFolderError(f"a run is being made in {path}; wait for it")
    names_in_runs = (RunFolder(runs).plan.name, RunFolder(runs).tables.name)
    folders_of_runs = {path.parent for path in paths if path.name in names_in_runs}
    if not folders_of_runs:
        raise RunFolderError(f"no run below {runs}, so all stages would be removed; type the folder of your runs")
    needed_keys: set[str] = set()
    for path in sorted(folders_of_runs):
        if holder_of(RunFolder(path).lock) is not None:
            raise RunFolderError(f"{path} is running; wait for it, or stop it with Ctrl-C")
        with load(path) as run:
            needed_keys |= {row["key"] for row in run.rows(REACHED)}
    keys = sorted(cache.stored_keys())
    waste = [Waste(f"{_stage_kind(cache, key)} stages", cache.path(key)) for key in keys if key not in needed_keys]
    if len(waste) == len(keys):
        raise RunFolderError(
            f"no run below {runs} needs any stage of {folder}: is it the cache of other runs? To remove it all, "
            f"remove the folder {folder} yourself"
        )
    half_made = [path for path in folder.glob("??/.[0-9a-f]*") if _age_s(path) > ABANDONED_AFTER_S]
    half_removed = folder.glob("*/.removed-*")
    return waste + [Waste(CUT_OFF, path) for path in sorted([*half_made, *half_removed])]


def _age_s(path: Path) -> float:
    """Return the seconds since the last write to a folder; 0 for one that was just renamed."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _walk(folder: Path) -> Iterator[Path]:
    """Yield files and folders at any depth; folders that a sweep removes meanwhile are skipped (`rglob` raises)."""
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(path, name)


def _stage_kind(cache: Cache, key: str) -> str:
    try:
        stored = cache.read(key)
    except (OSError, DamagedStage):
        return "damaged"
    return stored.description.kind if stored else "removed"


def _remove(waste: Iterable[Waste], *, dry_run: bool) -> Iterator[str]:
    """Remove the waste; yield the number and size of each kind."""
    counts: Counter[str] = Counter()
    sizes_bytes: Counter[str] = Counter()
    for item in waste:
        counts[item.what] += 1
        sizes_bytes[item.what] += item.size_bytes
        if not dry_run:
            item.remove()
    if not counts:
        yield "nothing to remove"
        return
    width = max(len(what) for what in counts)
    for what in sorted(counts):
        yield f"{what.ljust(width)}  {counts[what]:>7,}  {sizes_bytes[what]:>15,} bytes"
    done = "would be removed" if dry_run else "removed"
    yield f"{counts.total():,} {done}, {sizes_bytes.total():,} bytes"


def _size_bytes(path: Path) -> int:
    """Return the size of a regular file that has no other name; else 0."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else 0


@cli.command(example="runs/demo --dry-run")
@cli.argument("folder", type=cli.RUN, metavar="RUN|CACHE")
@cli.option("--dry-run", is_flag=True, help="print what would be removed; remove nothing")
@cli.option("--runs", type=cli.FOLDER, metavar="RUNS", help="for a cache: folder of all runs that may need its stages")
def clean_command(folder: Path, dry_run: bool, runs: Path | None) -> Iterator[str]:
    """Remove files that a run, or a cache of finished stages, no longer needs."""
    return clean(folder, runs, dry_run=dry_run)
