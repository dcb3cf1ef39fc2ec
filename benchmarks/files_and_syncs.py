"""Files and fsync calls of a small serial sweep: for each stage in the cache, each operating point and each trial.

    python benchmarks/files_and_syncs.py

Each call of `os.fsync` by the driver and by the ranks is counted, with the folder that it is for
(`tests.faults.moments`).
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.record import Row, parser_of, table_of, write
from results.store.reader import load
from tests.faults.invariants import OF_TRIALS
from tests.faults.moments import moments_of
from tests.faults.tiny_sweep import TinySweep, warm_up

SEEDS = 16
CACHE = ("cache", "folders of the cache")
GOALS = {
    "stage": (1, 2), "operating point": (None, 2), "trial, without its stages": (3, 4), "trial, with them": (None, None)
}  # fmt: skip
"""What -> inodes at rest and syncs."""
NUMBERS = """
SELECT (SELECT count(DISTINCT stage_key) FROM stages) AS stages, (SELECT count(*) FROM operating_points) AS points,
    (SELECT count(*) FROM trials) AS trials
"""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What one launch left, and how often it synced."""

    stages: int  # distinct ones
    points: int
    trials: int
    inodes: Counter[str]  # part of the sweep's folder -> files and folders there
    at_rest: Counter[str]  # after the next launch, which finds all trials finished
    kilobytes: Counter[str]  # at rest
    syncs: Counter[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "files_and_syncs")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each of its two arms")
    options = parser.parse_args(arguments)
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        counts = measure(Path(folder) / "place", options.seeds)
    write(table_of("Files and syncs of a sweep", list(rows_of(counts)), NOTES), options.out)
    return 0


def measure(folder: Path, seeds: int) -> Counts:
    """Run the sweep, count, and launch it again.

    Raises:
        RuntimeError: a launch did not end with 0.
    """
    sweep = TinySweep.below(folder)
    spec = sweep.notes / "spec.toml"
    spec.write_text(spec.read_text().replace("[[variants]]", f"[axes]\nseed = {[*range(seeds)]}\n[[variants]]", 1))
    (inodes, _), (at_rest, kilobytes) = _count_files(sweep, 0), _count_files(sweep, 1)
    syncs = Counter(part_of(moment.place) for moment in moments_of(sweep.trace(0)) if moment.event == "fsync")
    with load(sweep.run) as tables:
        (numbers,) = tables.rows(NUMBERS)
    return Counts(**numbers, inodes=inodes, at_rest=at_rest, kilobytes=kilobytes, syncs=syncs)


def _count_files(sweep: TinySweep, number: int) -> tuple[Counter[str], Counter[str]]:
    """Inodes and kilobytes after a launch."""
    launch = sweep.launch(number)
    if launch.code:
        raise RuntimeError(f"the sweep ended with {launch.code}: {launch.said}")
    inodes, kilobytes = Counter[str](), Counter[str]()
    for path in sweep.folder.rglob("*"):
        part = part_of(path.relative_to(sweep.folder).as_posix())
        inodes[part] += 1
        kilobytes[part] += path.stat().st_size / 1e3 if path.is_file() else 0
    return inodes, kilobytes


def part_of(path: str) -> str:
    """The part of a sweep's folder that a path is in.

    >>> part_of("cache/ab/abcd"), part_of("runs/tiny/tables/epochs/1.parquet"), part_of("runs/tiny/trials/t/checkpoint")
    ('cache', 'tables/epochs', 'checkpoints')
    """
    parts = path.split("/")
    if parts[0] == "cache":
        return "folders of the cache" if len(parts) <= 2 and parts[-1] != "*" else "cache"
    if "checkpoint" in parts:
        return "checkpoints"
    if len(parts) > 3 and parts[2] in ("tables", ".writing"):
        return f"tables/{parts[3]}"
    return parts[2] if len(parts) > 3 and parts[2] == "trials" else "run"


def rows_of(counts: Counts) -> Iterator[Row]:
    """The goals first, then each part of the folder."""
    whole = [part for part in counts.syncs | counts.inodes if part not in ("run", "checkpoints")]
    of_points = [f"tables/{table}" for table in OF_TRIALS]
    in_parts = (["cache"], of_points, [part for part in whole if part not in CACHE], whole)
    numbers = (counts.stages, counts.points, counts.trials, counts.trials)
    for name, number, parts in zip(GOALS, numbers, in_parts, strict=True):
        yield row_of(name, number, counts, parts, GOALS[name])
    for part in sorted(counts.syncs | counts.inodes):
        yield row_of(f"trial: {part}", counts.trials, counts, [part], (None, None))


def row_of(name: str, number: int, counts: Counts, parts: Sequence[str], goals: tuple[int | None, int | None]) -> Row:
    """One line of the table."""
    counters = (counts.inodes, counts.at_rest, counts.syncs, counts.kilobytes)
    inodes, at_rest, syncs, kilobytes = (sum(counter[part] for part in parts) / number for counter in counters)
    return {
        "of": name,
        "number": number,
        "inodes of each": inodes,
        "at rest": at_rest,
        "goal": goals[0],
        "syncs of each": syncs,
        "goal (syncs)": goals[1],
        "kB of each at rest": kilobytes,
    }


NOTES = (
    "Inodes: files and folders that are there after the launch, and at rest: after the next one, which removes what "
    "tables/ was before the first had settled it. A cache has at most 256 folders of stages, a run one of each table; "
    "small sweeps show a large share of them. Checkpoints are written at each step here, so no sum has them.",
    "An operating point's: of all rows that its trial writes itself. A trial's: of the driver's rows (attempts, "
    "trials), of its own rows, of its file `holder`, and of the stages that it computed.",
)


if __name__ == "__main__":
    sys.exit(main())
