"""Removes what is not needed any more of a run or of a cache, and says what, and how many bytes.

Of a run: parts that `python -m results compact` has merged, checkpoints and private caches of finished trials.
Of a cache: stages that no run below a given folder has planned or run.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from results.store.compact import only_one, superfluous_files
from results.store.reader import finished_trial_ids, load
from sweeps.errors import RunFolderError
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.run.run_lock import RunLock, holder_of
from transtailor.documents import read_json
from transtailor.ownership import refuse_outside

CUT_OFF = "left by a command that was cut off"
ABANDONED_AFTER_S = 24 * 3600.0
"""Since when nobody has written into a half-made stage; another run may be making it, which takes minutes at most."""

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
        """Bytes of all its files; those that are gone already count as nothing."""
        files = _below(self.path) if self.path.is_dir() else [self.path]
        return sum(_size_bytes(path) for path in files)

    def remove(self) -> None:
        """Removes it; a folder disappears at once, so that nobody finds half of it."""
        if not self.path.is_dir():
            self.path.unlink(missing_ok=True)
            return
        doomed = self.path.with_name(f".removed-{secrets.token_hex(8)}")
        try:
            self.path.rename(doomed)
        except FileNotFoundError:
            return  # somebody else removed it
        shutil.rmtree(doomed)


def clean(folder: Path, runs: Path | None, *, dry_run: bool) -> Iterator[str]:
    """Lines to print: how much of what is removed, or would be with `dry_run`, which changes nothing at all.

    Args:
        folder: of a run that nobody runs, or a cache.
        runs: for a cache, the folder of all runs that use it: what these have planned or run stays.
        dry_run: remove nothing.

    Raises:
        RunFolderError: the folder is neither; or somebody runs what would be cleaned; or `runs` does not fit.
        ResultsError: rows cannot be read, so that it is not known what is needed; nothing is removed.
    """
    with ExitStack() as held:
        if RunFolder(folder).plan.is_file():
            if runs is not None:
                raise RunFolderError(f"{folder} is a run: leave --runs {runs} out, or type the folder of a cache")
            found = _of_run(RunFolder(folder), held, dry_run=dry_run)
        elif _is_cache(folder):
            found = _of_cache(folder, runs)
        else:
            raise RunFolderError(
                f"{folder} is neither the folder of a run (it has no {RunFolder(folder).plan.name}) nor a cache with "
                "finished stages"
            )
        yield from _removed(found, dry_run=dry_run)


def _of_run(run: RunFolder, held: ExitStack, *, dry_run: bool) -> list[Waste]:
    open_run(run)
    if not dry_run:  # looking takes no lock: that would write
        held.enter_context(RunLock(run.lock))
        held.enter_context(only_one(run.path))
    finished = finished_trial_ids(run.path)
    found = [Waste(_kind_of(path, run), path) for path in superfluous_files(run.path)]
    for trial_id in sorted(finished):
        folders = (run.checkpoint(trial_id), run.private_cache(trial_id))  # of use only until it has finished
        found += [Waste(f"{path.name} of finished trials", path) for path in folders if path.is_dir()]
    halves = [path for place in (".", "tables/*", "trials/*") for path in run.path.glob(f"{place}/.*.tmp")]
    found += [Waste(CUT_OFF, path) for path in sorted([*halves, *run.trials.glob("*/.removed-*")])]
    refuse_outside(run.path, (waste.path for waste in found), RunFolderError)  # ids and links may be a stranger's
    return found


def _kind_of(path: Path, run: RunFolder) -> str:
    if path.is_relative_to(run.tables):
        return f"merged parts of {path.parent.name}"
    return CUT_OFF


def _of_cache(cache: Path, runs: Path | None) -> list[Waste]:
    if runs is None:
        raise RunFolderError(
            f"{cache} is a cache: type --runs FOLDER, such as --runs runs, with all runs that may need its stages"
        )
    reached, stages = _reached(runs), list(_stages(cache))
    found = [Waste(f"{_stage_kind(path)} stages", path) for path in stages if path.name not in reached]
    if len(found) == len(stages):
        raise RunFolderError(
            f"no run below {runs} needs any stage of {cache}: is it the cache of other runs? To remove it all, "
            f"remove the folder {cache} yourself"
        )
    halves = [path for path in cache.glob("??/.[0-9a-f]*") if _age_s(path) > ABANDONED_AFTER_S]
    return found + [Waste(CUT_OFF, path) for path in sorted([*halves, *cache.glob("*/.removed-*")])]


def _age_s(path: Path) -> float:
    """Since when a folder was not written to; 0 for one that has just got its name."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _reached(runs: Path) -> set[str]:
    """Keys of all stages that a run below a folder, at any depth, has planned or run.

    Raises:
        RunFolderError: there is no run, or one is being made or run.
        ResultsError: a run cannot be read.
    """
    below = sorted(_below(runs))
    if making := [path for path in below if path.match(".*.creating")]:
        raise RunFolderError(f"a run is being made in {making[0]}; wait for it")
    names = (RunFolder(runs).plan.name, RunFolder(runs).tables.name)
    found = {path.parent for path in below if path.name in names}
    if not found:
        raise RunFolderError(f"there is no run below {runs}, so every stage would go; type the folder of your runs")
    keys: set[str] = set()
    for path in sorted(found):
        if holder_of(RunFolder(path).lock) is not None:
            raise RunFolderError(f"{path} is being run; wait for it, or stop it with Ctrl-C")
        with load(path) as run:
            keys |= {row["key"] for row in run.rows(REACHED)}
    return keys


def _below(folder: Path) -> Iterator[Path]:
    """Files and folders at any depth; a folder that a sweep removes meanwhile is passed over (`rglob` raises)."""
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *files))


def _is_cache(folder: Path) -> bool:
    return next(_stages(folder), None) is not None


def _stages(cache: Path) -> Iterator[Path]:
    """The folders of finished stages; what is being written, or was set aside as damaged, has another name."""
    digits = "[0-9a-f]"
    for path in cache.glob(f"{2 * digits}/{64 * digits}"):
        if path.parent.name == path.name[:2] and (path / "stage.json").is_file():
            yield path


def _stage_kind(path: Path) -> str:
    try:
        return str(read_json(path / "stage.json")["description"]["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged"


def _removed(found: Iterable[Waste], *, dry_run: bool) -> Iterator[str]:
    """Removes what was found and says how much of each kind it was."""
    totals: dict[str, tuple[int, int]] = {}
    for waste in found:
        count, size_bytes = totals.get(waste.what, (0, 0))
        totals[waste.what] = (count + 1, size_bytes + waste.size_bytes)
        if not dry_run:
            waste.remove()
    if not totals:
        yield "nothing to remove"
        return
    did = "would be removed" if dry_run else "removed"
    width = max(map(len, totals))
    for what, (count, size_bytes) in sorted(totals.items()):
        yield f"{what.ljust(width)}  {count:>7,}  {size_bytes:>15,} bytes"
    whole = sum(size_bytes for _, size_bytes in totals.values())
    yield f"{sum(count for count, _ in totals.values()):,} {did}, {whole:,} bytes"


def _size_bytes(path: Path) -> int:
    try:
        return 0 if path.is_symlink() or path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0
