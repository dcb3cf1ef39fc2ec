"""Which of the promises of docs/promises.md a run breaks: read from its folder, its cache and the list of processes.

It goes by the files and takes none of the product's readers, so that a fault of theirs cannot hide one of a writer.
Of the product it knows the names of folders and the natural keys alone.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
VOLATILE = frozenset({"written_at", "cached", "compute_s", "seconds", "code_digest", "sweep"})
"""What may differ between two rows of one key that say the same: when, how long, by whom, under which name."""
OF_TRIALS = ("stages", "epochs", "layers", "kept_filters", "operating_points", "predictions", "estimates", "rungs")
PART = "fine_tune_part"  # a stage that is not planned: of a trial that rests
MADE_OF_PARTS = ("-merged-", "-settled-")  # in the names of files with the rows of parts, of which some are still there
OF_POINTS = ("layers", "predictions", "estimates")
AT_ONCE = 100  # trials whose rows are in memory together


@dataclass(frozen=True, order=True)
class Violation:
    """A promise, by its number, and what breaks it."""

    promise: int
    what: str


class Parts:
    """The files of a run's tables: what is wrong with them as such, and of which trials those are that are whole."""

    def __init__(self, run: Path, *, at_rest: bool = False) -> None:
        """Reads every file in full, one after the other.

        Args:
            at_rest: each reader of all files in tables/ should find each row that counts once, and no replaced one.
        """
        self.wrong: list[str] = []
        self.whole: list[tuple[str, Path, frozenset[str]]] = []
        for table in TABLES:
            everywhere, plainly = set[tuple[Any, ...]](), Counter[tuple[Any, ...]]()
            for part in files_of(run, table):
                written = self._look(table, part)
                everywhere |= {key for _, key in written}
                if part.parent.parent == run / "tables":
                    plainly.update(key if at_rest else (moment, key) for moment, key in written)
            self.wrong += [f"{table}: {row} is twice in tables/" for row, n in plainly.items() if n > 1]
            there = set(plainly) if at_rest else {key for _, key in plainly}
            if (run / "tables").exists():  # it is absent for a moment while it is replaced: an error for its readers
                self.wrong += [f"{table}: {key} is not in tables/" for key in everywhere - there]

    @property
    def trial_ids(self) -> list[str]:
        """All trials that have a row somewhere."""
        return sorted(frozenset[str]().union(*(trial_ids for _, _, trial_ids in self.whole)))

    def _look(self, table: str, part: Path) -> list[tuple[Any, tuple[Any, ...]]]:
        """The moment and the key of each row."""
        names = TABLES[table].key
        try:
            columns = read_table(part)
            keys = list(zip(*(columns.column(name).to_pylist() for name in names), strict=True))
            moments = columns.column("written_at").to_pylist()
        except (pa.ArrowException, OSError, KeyError) as error:
            self.wrong.append(f"{table}/{part.name} is torn: {error}")
            return []
        if len(set(keys)) < len(keys) and not is_made_of_parts(part):
            self.wrong += [f"{table}: {key} twice in one part" for key, n in Counter(keys).items() if n > 1]
        place = names.index("trial_id") if "trial_id" in names else None
        self.whole.append((table, part, frozenset() if place is None else frozenset(key[place] for key in keys)))
        return list(zip(moments, keys, strict=True))


class Written:
    """Rows as they were written, also those that later ones replace: of all trials, or of some."""

    def __init__(self, parts: Parts, trial_ids: frozenset[str] | None = None) -> None:
        """Reads the files that have such rows: of what is made of parts, the rows whose part is gone."""
        self.rows: dict[str, list[Row]] = {table: [] for table in TABLES}
        known, names = set[tuple[Any, ...]](), set[tuple[str, str]]()
        for table, part, there in sorted(parts.whole, key=lambda found: is_made_of_parts(found[1])):
            if (trial_ids is not None and not there & trial_ids) or (table, part.name) in names:
                continue
            names.add((table, part.name))  # what came late into a folder that was replaced has its name in both
            columns = read_table(part)
            if trial_ids is not None:  # a file that is made of parts has the rows of all trials
                columns = columns.filter(pc.is_in(columns["trial_id"], value_set=pa.array(sorted(trial_ids))))
            rows = {(table, row["written_at"], *key_of(table, row)): row for row in columns.to_pylist()}
            self.rows[table] += [row for name, row in rows.items() if not (is_made_of_parts(part) and name in known)]
            known.update(rows)

    @cached_property
    def last(self) -> dict[str, dict[tuple[Any, ...], Row]]:
        """Table -> key -> the row that was written last: what counts."""
        return {
            table: {key_of(table, row): row for row in sorted(rows, key=lambda row: row["written_at"])}
            for table, rows in self.rows.items()
        }

    @cached_property
    def _by_trial(self) -> dict[tuple[str, str], list[Row]]:
        found: dict[tuple[str, str], list[Row]] = {}
        for table in OF_TRIALS:
            for row in self.last[table].values():
                found.setdefault((table, row["trial_id"]), []).append(row)
        return found

    def of_trial(self, table: str, trial_id: str) -> list[Row]:
        """The rows that count of one trial."""
        return self._by_trial.get((table, trial_id), [])


def read_table(part: Path) -> pa.Table:
    """All of a part; threads cost more than a small one."""
    return pq.ParquetFile(part, pre_buffer=False).read(use_threads=False)


def files_of(run: Path, table: str) -> list[Path]:
    """All files with rows of a table, wherever a reader may look; with a dot in front they are not whole.

    Those in tables/ come last: while a launch runs, they have all rows that the others have.
    """
    places = (*sorted(run.glob(".superseded/*")), run / "merged", run / "tables")
    return [path for place in places for path in sorted(place.glob(f"{table}/[!.]*"))]


def is_made_of_parts(file: Path) -> bool:
    """Whether it has the rows of parts that a writer wrote."""
    return any(name in file.name for name in MADE_OF_PARTS)


def count_parts(run: Path, table: str = "*") -> int:
    """How many parts of a table, or of all, there are or were until the last launch ended."""
    there = {(part.parent.name, part.name) for part in files_of(run, table)}
    for record in run.glob("tables/.settled.json"):
        superseded = json.loads(record.read_text())["superseded"]
        there |= {(name, part) for name in superseded if table in ("*", name) for part in superseded[name]}
    return sum(not is_made_of_parts(Path(name)) for _, name in there)


def key_of(table: str, row: Row) -> tuple[Any, ...]:
    """What tells a row from others of its table."""
    return tuple(row[name] for name in TABLES[table].key)


def violations(run: Path, cache: Path, *, ended: bool, at_rest: bool | None = None) -> list[Violation]:
    """The promises 1, 3 and 4 that are broken, in order; empty where all are kept.

    Args:
        run: folder of the run.
        cache: folder of its stages.
        ended: nothing runs any more and all trials should have ended; otherwise a launch was just cut off.
        at_rest: the last launch has brought the tables to rest; None: as `ended`.
    """
    parts = Parts(run, at_rest=ended if at_rest is None else at_rest)
    found = [Violation(1, what) for what in (*parts.wrong, *damaged_stages(cache))]
    trial_ids = parts.trial_ids
    for first in range(0, len(trial_ids), AT_ONCE):
        found += broken_of_trials(Written(parts, frozenset(trial_ids[first : first + AT_ONCE])), cache, ended=ended)
    if ended:
        found += [Violation(4, f"process left: {what}") for what in processes_of(run)]
    return sorted(found)


def broken_of_trials(written: Written, cache: Path, *, ended: bool) -> Iterator[Violation]:
    """What is broken of these trials; a trial's rows say nothing of another's."""
    yield from (Violation(1, what) for what in _doubled(written))
    for row in written.last["trials"].values():
        if row["status"] == "finished":
            yield from (Violation(1, what) for what in _lost(written, row["trial_id"], cache))
    yield from (Violation(3, what) for what in _untold(written, ended=ended))
    if ended:
        over = {row["trial_id"] for row in written.last["trials"].values()}
        planned = {row["trial_id"] for row in written.last["planned"].values()}
        yield from (Violation(1, f"trial {trial_id} has no row that says how it ended") for trial_id in planned - over)


def differences(run: Path, undisturbed: Path) -> list[Violation]:
    """Where the rows that count of two runs of one sweep differ (promise 2), but for what cannot be equal."""
    return compared(Written(Parts(run)), Written(Parts(undisturbed)))


def compared(ours: Written, theirs: Written) -> list[Violation]:
    """As `differences`, of what was read."""
    found = []
    for table in ("planned", *OF_TRIALS, "proposals", "looks"):
        mine, other = ({key: _said(row) for key, row in read.last[table].items()} for read in (ours, theirs))
        missing = mine.keys() ^ other.keys()
        unequal = [key for key in mine.keys() & other.keys() if mine[key] != other[key]]
        found += [Violation(2, f"{table}: {key} is in one of the runs alone") for key in missing]
        found += [Violation(2, f"{table}: {key} differs") for key in unequal]
    ends = [{row["trial_id"]: row["status"] for row in read.last["trials"].values()} for read in (ours, theirs)]
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


def _doubled(written: Written) -> Iterator[str]:
    """Ends that were counted twice; rows that were written oftener than their trial was tried, or disagree."""
    finished = Counter(row["trial_id"] for row in written.rows["trials"] if row["status"] == "finished")
    yield from (f"trial {trial_id} finished {n} times" for trial_id, n in finished.items() if n > 1)
    tries = Counter(trial_id for trial_id, _ in written.last["attempts"])
    for table in OF_TRIALS:
        said: dict[tuple[Any, ...], list[Row]] = {}
        for row in written.rows[table]:
            said.setdefault(key_of(table, row), []).append(row)
        for key, rows in said.items():
            if len(rows) > tries[key[0]]:
                yield f"{table}: {key} was written {len(rows)} times in {tries[key[0]]} attempts"
            if any(_said(row) != _said(rows[0]) for row in rows[1:]):
                yield f"{table}: rows of {key} disagree"


def _lost(written: Written, trial_id: str, cache: Path) -> Iterator[str]:
    """Rows and stages that a finished trial should have and has not."""
    planned = next((row for row in written.last["planned"].values() if row["trial_id"] == trial_id), None)
    if planned is None:
        yield f"trial {trial_id} finished and was never planned"
        return
    stages = {row["stage_key"]: row for row in written.of_trial("stages", trial_id)}
    points = {row["point"] for row in written.of_trial("operating_points", trial_id)}
    if points != set(range(planned["points_planned"])):
        yield f"trial {trial_id} has the points {sorted(points)} of {planned['points_planned']}"
    whole = {key for key, row in stages.items() if row["kind"] != PART}
    for key in set(planned["stage_keys"]) ^ whole:
        yield f"trial {trial_id}: stage {key[:12]} was planned or run, and not both"
    for key in stages:
        yield from _lost_of_stage(written, trial_id, key, cache)
    for table in OF_POINTS:
        yield from _uneven(table, trial_id, points, written.of_trial(table, trial_id))
    thinned: set[str] = set()
    for point in sorted(points):  # what lost filters stays without them
        there = {row["layer"] for row in written.of_trial("kept_filters", trial_id) if row["point"] == point}
        if thinned - there:
            yield f"trial {trial_id}: point {point} has no kept_filters of {', '.join(sorted(thinned - there))}"
        thinned |= there
    if not any(written.of_trial(table, trial_id) for table in ("predictions", "estimates")):
        yield f"trial {trial_id} predicted nothing"


def _lost_of_stage(written: Written, trial_id: str, key: str, cache: Path) -> Iterator[str]:
    path = cache / key[:2] / f"{key}.stage"
    try:
        trained = json.loads(path.read_bytes().partition(b"\n")[0])["description"]["info"].get("epochs", [])
    except FileNotFoundError:
        yield f"trial {trial_id}: stage {key[:12]} is not in the cache"
        return
    except (ValueError, KeyError, TypeError, AttributeError):  # damaged, which is told of the stage itself
        return
    there = [row["epoch"] for row in written.of_trial("epochs", trial_id) if row["stage_key"] == key]
    if len(there) != len(trained):
        yield f"trial {trial_id}: {len(there)} rows of {len(trained)} epochs of stage {key[:12]}"


def _uneven(table: str, trial_id: str, points: set[int], rows: Iterable[Row]) -> Iterator[str]:
    """A point that lacks a row which another point of the trial has: all have the same images and layers."""
    sets: dict[int, set[tuple[Any, ...]]] = {point: set() for point in points}
    for row in rows:
        sets.setdefault(row["point"], set()).add(key_of(table, row)[2:])
    whole = set[tuple[Any, ...]]().union(*sets.values())
    for point, there in sets.items():
        if there != whole:
            yield f"{table}: point {point} of trial {trial_id} has {len(there)} rows of {len(whole)}"


def _untold(written: Written, *, ended: bool) -> Iterator[str]:
    """Attempts that are missing, have no end or no cause; failed trials without an error."""
    numbers: dict[str, set[int]] = {}
    for (trial_id, number), row in written.last["attempts"].items():
        numbers.setdefault(trial_id, set()).add(number)
        if ended and row["status"] == "running":
            yield f"attempt {number} of trial {trial_id} has no end"
        if row["status"] in ("failed", "died", "interrupted") and not row["cause"]:
            yield f"attempt {number} of trial {trial_id} {row['status']} without a cause"
    for trial_id, there in numbers.items():
        if there != set(range(1, len(there) + 1)):
            yield f"trial {trial_id} has the attempts {sorted(there)}"
    for row in written.last["trials"].values():
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
