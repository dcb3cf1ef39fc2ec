"""Which of the promises of docs/promises.md a run breaks: read from its folder, its cache and the list of processes.

It goes by the files and takes none of the product's readers, so that a fault of theirs cannot hide one of a writer.
Of the product it knows the names of folders and the natural keys alone.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.store.schema import TABLES
from tests.slurm.disturbances import processes

Row = Mapping[str, Any]
Key = tuple[Any, ...]
VOLATILE = frozenset({"written_at", "cached", "compute_s", "seconds", "code_digest", "sweep"})
"""What may differ between two runs of one sweep: when, how long, by whom, under which name."""
OF_TRIALS = (
    "stages",
    "epochs",
    "layers",
    "kept_filters",
    "operating_points",
    "predictions",
    "test_scores",
    "estimates",
    "rungs",
)
"""Their rows come from stages; the first two columns of a key tell which unit of writing a row is of."""
PART = "fine_tune_part"  # a stage that is not planned: of a trial that rests
POINT = "operating_point"
NUMBERED = re.compile(r"(\d{6})-(\d{6})\.parquet")
AT_ONCE = 100  # trials whose rows are in memory together


@dataclass(frozen=True, order=True)
class Violation:
    """A promise, by its number, and what breaks it."""

    promise: int
    what: str


class Files:
    """The files of a run's tables: what is wrong with them as such, and of which trials those are that are whole."""

    def __init__(self, run: Path) -> None:
        """Reads every file in full, one after the other."""
        self.wrong = list(misplaced(run))
        self.whole: list[tuple[str, Path, frozenset[str]]] = []
        for table in TABLES:
            self._look(table, files_of(run, table))

    @property
    def trial_ids(self) -> list[str]:
        """All trials that have a row somewhere."""
        return sorted(frozenset[str]().union(*(trial_ids for _, _, trial_ids in self.whole)))

    def _look(self, table: str, files: list[Path]) -> None:
        names = TABLES[table].key
        rows = Counter[Key]()
        units = Counter[Key]()  # in how many files each is
        for file in files:
            keys = self._keys(table, file)
            rows.update(keys)
            if table in OF_TRIALS:
                units.update({key[:2] for key in keys})
            place = names.index("trial_id") if "trial_id" in names else None
            trial_ids = frozenset() if place is None else frozenset(key[place] for key in keys)
            self.whole.append((table, file, trial_ids))
        self.wrong += [f"{table}: {key} stands {n} times in its files" for key, n in rows.items() if n > 1]
        self.wrong += [f"{table}: the rows of {unit} are in {n} files" for unit, n in units.items() if n > 1]

    def _keys(self, table: str, file: Path) -> list[Key]:
        try:
            return keys_in(table, file)
        except (pa.ArrowException, OSError, KeyError) as error:
            self.wrong.append(f"{table}/{file.name} is torn: {error}")
            return []


class Rows:
    """The rows of all trials, or of some: table -> key -> row."""

    def __init__(self, files: Files, trial_ids: frozenset[str] | None = None) -> None:
        """Reads the files that have such rows."""
        self.by_key: dict[str, dict[Key, Row]] = {table: {} for table in TABLES}
        for table, file, there in files.whole:
            if trial_ids is not None and not there & trial_ids:
                continue
            columns = read_table(file)
            if trial_ids is not None:
                columns = columns.filter(pc.is_in(columns["trial_id"], value_set=pa.array(sorted(trial_ids))))
            self.by_key[table] |= {key_of(table, row): row for row in columns.to_pylist()}

    @cached_property
    def _by_trial(self) -> dict[tuple[str, str], list[Row]]:
        found: dict[tuple[str, str], list[Row]] = {}
        for table in OF_TRIALS:
            for row in self.by_key[table].values():
                found.setdefault((table, row["trial_id"]), []).append(row)
        return found

    def of_trial(self, table: str, trial_id: str) -> list[Row]:
        """The rows of one trial."""
        return self._by_trial.get((table, trial_id), [])


def read_table(file: Path) -> pa.Table:
    """All of a file; threads cost more than a small one."""
    return pq.ParquetFile(file, pre_buffer=False).read(use_threads=False)


def keys_in(table: str, file: Path) -> list[Key]:
    """The keys of all rows of a file."""
    columns = read_table(file)
    return list(zip(*(columns.column(name).to_pylist() for name in TABLES[table].key), strict=True))


def files_of(run: Path, table: str) -> list[Path]:
    """All files with rows of a table."""
    return sorted((run / "tables" / table).glob("*.parquet"))


def misplaced(run: Path) -> Iterator[str]:
    """What stands below tables/ and is no file of a table, such as a temporary one; and files that are missing."""
    tables = run / "tables"
    last = dict[tuple[Path, str], int]()  # of the files of one process
    for folder, folders, files in sorted(os.walk(tables)):
        place = Path(folder)
        if place == tables:
            yield from (f"{name} is no table" for name in folders if name not in TABLES)
        for name in sorted(files):
            numbers = NUMBERED.fullmatch(name)
            if place.parent != tables or not (numbers or name == f"{place.name}.parquet"):
                yield f"{(place / name).relative_to(run)} is no file of a table"
            elif numbers:
                expected = last.get((place, numbers[1]), 0) + 1
                last[place, numbers[1]] = int(numbers[2])
                if int(numbers[2]) != expected:
                    yield f"{place.name}: file {expected} of the process {numbers[1]} is missing"


def count_rows(run: Path, table: str) -> int:
    """How many rows a table has."""
    return sum(pq.ParquetFile(file).metadata.num_rows for file in files_of(run, table))


def count_stages(cache: Path) -> int:
    """How many stages are finished."""
    return sum(1 for _ in cache.glob("??/[!.]*.stage"))


def key_of(table: str, row: Row) -> Key:
    """What tells a row from others of its table."""
    return tuple(row[name] for name in TABLES[table].key)


def violations(run: Path, cache: Path, *, ended: bool) -> list[Violation]:
    """The promises 1, 3 and 4 that are broken, in order; empty where all are kept.

    Args:
        run: folder of the run.
        cache: folder of its stages.
        ended: nothing runs any more and all trials should have ended; otherwise a launch was just cut off.
    """
    files = Files(run)
    found = [Violation(1, what) for what in (*files.wrong, *damaged_stages(cache))]
    trial_ids = files.trial_ids
    for first in range(0, len(trial_ids), AT_ONCE):
        found += broken_of_trials(Rows(files, frozenset(trial_ids[first : first + AT_ONCE])), cache, ended=ended)
    if ended:
        found += [Violation(4, f"process left: {what}") for what in processes_of(run)]
    return sorted(found)


def broken_of_trials(rows: Rows, cache: Path | None, *, ended: bool) -> Iterator[Violation]:
    """What is broken of these trials; a trial's rows say nothing of another's.

    Args:
        cache: None: each trial had its own, which is gone.
        ended: see `violations`.
    """
    if cache is not None:
        yield from (
            Violation(1, what) for row in rows.by_key["stages"].values() for what in _lost_of_stage(rows, row, cache)
        )
    for row in rows.by_key["trials"].values():
        if row["status"] == "finished":
            yield from (Violation(1, what) for what in _lost(rows, row["trial_id"]))
    yield from (Violation(3, what) for what in _untold(rows, ended=ended))
    if ended:
        over = {row["trial_id"] for row in rows.by_key["trials"].values()}
        planned = {row["trial_id"] for row in rows.by_key["planned"].values()}
        yield from (Violation(1, f"trial {trial_id} has no row that says how it ended") for trial_id in planned - over)


def differences(run: Path, undisturbed: Path) -> list[Violation]:
    """Where the rows of two runs of one sweep differ (promise 2), but for what cannot be equal."""
    return compared(Rows(Files(run)), Rows(Files(undisturbed)))


def compared(ours: Rows, theirs: Rows) -> list[Violation]:
    """As `differences`, of what was read."""
    found = []
    for table in ("planned", *OF_TRIALS, "proposals", "looks"):
        mine, other = ({key: _said(row) for key, row in rows.by_key[table].items()} for rows in (ours, theirs))
        missing = mine.keys() ^ other.keys()
        unequal = [key for key in mine.keys() & other.keys() if mine[key] != other[key]]
        found += [Violation(2, f"{table}: {key} is in one of the runs alone") for key in missing]
        found += [Violation(2, f"{table}: {key} differs") for key in unequal]
    ends = [{row["trial_id"]: row["status"] for row in rows.by_key["trials"].values()} for rows in (ours, theirs)]
    if ends[0] != ends[1]:
        found.append(Violation(2, f"trials ended as {ends[0]}, undisturbed as {ends[1]}"))
    return sorted(found)


def processes_of(folder: Path) -> list[str]:
    """Other processes that name a folder in their words or environment, or stand below it: their ids and words."""
    mark = str(folder.resolve())
    return [
        f"{number} {command}"
        for number, arguments, environment in processes()
        if number != os.getpid()
        and (mark in (command := " ".join(arguments)) or mark.encode() in environment or _stands_in(number, mark))
    ]


def temporaries(*folders: Path) -> list[Path]:
    """Files and folders by which something is made whole before it gets its name, that were never finished."""
    patterns = (".*.tmp", ".*.creating", "??/.[0-9a-f]*")
    return sorted(path for folder in folders for pattern in patterns for path in folder.rglob(pattern))


def damaged_stages(cache: Path) -> Iterator[str]:
    """Stages under their final name that are not whole, by their checksum and their own key."""
    for path in sorted(cache.glob("??/[!.]*")):
        key = path.name.removesuffix(".stage")
        try:
            described, _, tensors = path.read_bytes().partition(b"\n")
            stored = json.loads(described)
            if (stored["key"], stored["tensors_sha256"]) != (key, hashlib.sha256(tensors).hexdigest()):
                yield f"stage {key[:12]} in the cache is not what was written"
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield f"stage {key[:12]} in the cache is not whole: {error!r}"


def _lost(rows: Rows, trial_id: str) -> Iterator[str]:
    """Rows that a finished trial should have and has not."""
    planned = rows.by_key["planned"].get((trial_id,))
    if planned is None:
        yield f"trial {trial_id} finished and was never planned"
        return
    points = {row["point"] for row in rows.of_trial("operating_points", trial_id)}
    if points != set(range(planned["points_planned"])):
        yield f"trial {trial_id} has the points {sorted(points)} of {planned['points_planned']}"
    whole = {row["stage_key"] for row in rows.of_trial("stages", trial_id) if row["kind"] != PART}
    for key in set(planned["stage_keys"]) ^ whole:
        yield f"trial {trial_id}: stage {key[:12]} was planned or run, and not both"


def _lost_of_stage(rows: Rows, row: Row, cache: Path) -> Iterator[str]:
    """What is missing of a stage that has a row in `stages`, which comes after all others of it."""
    trial_id, key = row["trial_id"], row["stage_key"]
    stage = f"trial {trial_id}: stage {key[:12]}"
    try:
        first_line, _, tensors = (cache / key[:2] / f"{key}.stage").read_bytes().partition(b"\n")
        stored = json.loads(first_line)
        trained = stored["description"]["info"].get("epochs", [])
        stored_sha256 = stored["tensors_sha256"]
        measured = _measured(tensors) if row["kind"] == POINT else None
    except FileNotFoundError:
        yield f"{stage} is not in the cache"
        return
    except (ValueError, KeyError, TypeError, AttributeError):  # damaged, which is told of the stage itself
        return
    if row["tensors_sha256"] != stored_sha256:
        yield f"{stage} has rows of another result than the one in the cache"
    there = [epoch for epoch in rows.of_trial("epochs", trial_id) if epoch["stage_key"] == key]
    if len(there) != len(trained):
        yield f"{stage} has {len(there)} rows of {len(trained)} epochs"
    if row["kind"] == PART and not any(rung["stage_key"] == key for rung in rows.of_trial("rungs", trial_id)):
        yield f"{stage} has no row of its rung"
    if measured is not None:
        yield from _lost_of_point(
            rows, trial_id, key, measured | {"layers": len(stored["description"]["info"]["layers"])}
        )


def _lost_of_point(rows: Rows, trial_id: str, key: str, expected: Mapping[str, int]) -> Iterator[str]:
    points = [row["point"] for row in rows.of_trial("operating_points", trial_id) if row["stage_key"] == key]
    if len(points) != 1:
        yield f"trial {trial_id}: stage {key[:12]} is the points {points}, expected one"
        return
    for table, count in expected.items():
        tables = ("predictions", "estimates") if table == "predictions" else (table,)
        there = sum(row["point"] == points[0] for name in tables for row in rows.of_trial(name, trial_id))
        if there != count:
            yield f"trial {trial_id}: point {points[0]} has {there} rows of {count} in {table}"


def _measured(tensors: bytes) -> dict[str, int]:
    """How many rows an operating point has of what it keeps and says, by the header of its tensors (safetensors)."""
    header = json.loads(tensors[8 : 8 + int.from_bytes(tensors[:8], "little")])
    images = [header[f"{split}/image_id"]["shape"][0] for split in ("validation", "test")]
    has_scores = any(name.startswith("scores/") for name in header)
    kept_layers = sum(name.startswith("kept/") for name in header)
    return {"kept_filters": kept_layers, "predictions": sum(images), "test_scores": int(has_scores)}


def _untold(rows: Rows, *, ended: bool) -> Iterator[str]:
    """Attempts that are missing, have no end or no cause; failed trials without an error."""
    numbers: dict[str, set[int]] = {}
    for (trial_id, number), row in rows.by_key["attempts"].items():
        numbers.setdefault(trial_id, set()).add(number)
        if ended and row["status"] == "running":
            yield f"attempt {number} of trial {trial_id} has no end"
        if row["status"] in ("failed", "died", "interrupted") and not row["cause"]:
            yield f"attempt {number} of trial {trial_id} {row['status']} without a cause"
    for trial_id, there in numbers.items():
        if there != set(range(1, len(there) + 1)):
            yield f"trial {trial_id} has the attempts {sorted(there)}"
    for row in rows.by_key["trials"].values():
        if row["attempts"] not in numbers.get(row["trial_id"], set()):
            yield f"trial {row['trial_id']} ended with attempt {row['attempts']}, of which there is no row"
        if row["status"] == "failed" and not row["error"]:
            yield f"trial {row['trial_id']} failed without an error"


def _said(row: Row) -> Row:
    """A row without what may differ between two that say the same."""
    return {name: value for name, value in row.items() if name not in VOLATILE}


def _stands_in(number: int, folder: str) -> bool:
    """Whether a process has its working folder there; what was forked shows its ancestor's words and environment."""
    try:
        place = str(Path(f"/proc/{number}/cwd").readlink())
    except OSError:  # it ended meanwhile, or is somebody else's
        return False
    return place == folder or place.startswith(f"{folder}/")
