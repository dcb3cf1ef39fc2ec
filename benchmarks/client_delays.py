"""How soon a node notices what another one did, and whose fault its loss is, where each is a client of its own (NFS).

    python benchmarks/client_delays.py                  # 20 minutes; root, the packages of tests/slurm and FUSE
    python benchmarks/client_delays.py --rows outcome   # only those; the others stay in the table

On a SLURM of three nodes (tests/slurm/testbed.py), which see the shared folder by clients with NFS's default times
(tests/clients/client.c): a node believes for 30 to 60 s that a name is absent. A sweep waits inside a stage meanwhile.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import io
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks.record import Measured, parser_of, read_rows, verdict, write
from benchmarks.slurm_bed import events, slurm_bed
from sweeps.driver.display import PlainDisplay
from sweeps.operations.attach import follow
from sweeps.slurm.cluster_run import RunOutcome
from tests.slurm.disturbances import Disturber, processes
from tests.slurm.sweep import Sweep, held, make_sweep, until
from tests.slurm.testbed import Testbed

SPEC = """
imports = ["held.py"]
[trial]
source.epochs = 2
optimisation = { epochs = 2, head_epochs = 1 }
[axes]
seed = [0]
[[variants]]
method = { name = "prune", criterion = "waits", asked_removed_macs_fraction = 0.3 }
"""
LIMIT_S = 200.0
QUIET_S = 120.0
SEEN_EVERY_S = 0.1
CUTS = 3
COLUMNS = ("what", "unit", "times", "most", "goal", "verdict", "load_1_min")
seldom = partial(until, limit_s=LIMIT_S, every_s=3.0)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A sweep on clients of their own that waits inside its only trial's stage as long as `hold` is there."""

    testbed: Testbed
    sweep: Sweep
    hold: Path

    def launch(self) -> None:
        """Submit it."""
        launched = self.sweep.launch("--detach")
        if launched.returncode:
            raise RuntimeError(launched.stderr)

    def runs(self, attempt: int = 1) -> None:
        """Return when that attempt of the trial is on a node."""
        query = f"SELECT * FROM attempts WHERE status = 'running' AND nodes IS NOT NULL AND attempt = {attempt}"
        seldom(lambda: self.sweep.rows(query), what=f"attempt {attempt} of the trial")


@contextmanager
def waiting(testbed: Testbed, folder: Path, name: str) -> Iterator[Waiting]:
    """Make a sweep whose jobs are gone afterwards."""
    own = folder.parent / name  # of this machine: no client's belief is measured by it
    own.mkdir()
    sweep = make_sweep(testbed, testbed.shared / name, "waiting", SPEC, cpus=2, max_jobs=3)
    hold = held(own)
    shutil.copy(own / "held.py", sweep.folder)
    try:
        yield Waiting(testbed=testbed, sweep=sweep, hold=hold)
    finally:
        hold.unlink(missing_ok=True)
        sweep.command("stop", str(sweep.run.path), "--now")


def stop_while_the_head_starts(waits: Waiting) -> float:
    """Seconds from a stop's being asked for until the controller, whose head was starting, has ended."""
    waits.launch()
    ours = str(waits.testbed.folder).encode()
    until(
        lambda: any("gcs_server" in words[0] and ours in environment for _, words, environment in processes()),
        LIMIT_S, "the head to start", SEEN_EVERY_S,
    )  # fmt: skip
    waits.sweep.place.stop_file.touch()  # as `transtailor stop` does, whose own start takes as long as a head's
    began_s = time.time()
    until(lambda: not waits.sweep.place.jobs(), LIMIT_S, "the last job to end", SEEN_EVERY_S)
    ended_s = time.time()
    why = "a stop was requested while the Ray head started"  # in the job's log, written out once that is closed
    errors = waits.sweep.place.folder.logs
    seldom(lambda: why in "".join(path.read_text() for path in errors.glob("*_log.err")), what=why)
    return ended_s - began_s


def stop_after_quiet(waits: Waiting) -> float:
    """Seconds from `transtailor stop`, which has the first news for two minutes, until the driver noticed it."""
    waits.launch()
    waits.runs()
    time.sleep(QUIET_S)
    began_s = time.time()
    stopped = waits.sweep.command("stop", str(waits.sweep.run.path))
    if stopped.returncode:
        raise RuntimeError(stopped.stderr)
    (noticed,) = events(waits.sweep, "stopping")
    return noticed[0] - began_s


def outcome_after_quiet(waits: Waiting) -> float:
    """Seconds from the outcome's being written, the first news for two minutes, until a launch that waits sees it."""
    waits.launch()
    waits.runs()

    def followed() -> tuple[RunOutcome, float]:
        return follow(waits.sweep.place, PlainDisplay(io.StringIO())), time.time()

    with ThreadPoolExecutor(1) as beside:
        following = beside.submit(followed)
        time.sleep(QUIET_S)
        waits.hold.unlink()
        outcome, seen_s = following.result()
    if outcome.code:
        raise RuntimeError(outcome.text)
    return seen_s - waits.sweep.run.outcome.stat().st_mtime


def counted_power_cuts(waits: Waiting) -> float:
    """Attempts that count against a trial whose node loses its power, and what its client had not written, each time.

    Its attempts are as many as make a trial fail if they count.
    """
    disturber = Disturber(waits.testbed, waits.sweep.run, random.Random(0))
    waits.launch()
    for cut in range(CUTS):
        waits.runs(attempt=cut + 1)
        (row,) = waits.sweep.rows("SELECT nodes FROM attempts WHERE status = 'running'")
        node = disturber.worker_node_killed()
        if [node] != list(row["nodes"]):  # type: ignore[call-overload]
            raise RuntimeError(f"{node} was cut off, and the trial ran on {row['nodes']}")
        until(lambda node=node: waits.testbed.state_of(node).startswith("down"), LIMIT_S, f"SLURM to miss {node}")
        waits.testbed.start_node(node)
    waits.runs(attempt=CUTS + 1)
    waits.hold.unlink()
    seldom(lambda: waits.sweep.place.outcome, what="the end of the sweep")
    statuses = [row["status"] for row in waits.sweep.rows("SELECT status FROM attempts ORDER BY attempt")]
    print(statuses, flush=True)
    if len(statuses) != CUTS + 1 or statuses[-1] != "finished":
        raise RuntimeError(f"its attempts ended as {statuses}")
    return CUTS - statuses.count("interrupted")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is measured, how often, and what it may be."""

    measure: Callable[[Waiting], float]
    times: int
    goal: float
    unit: str = "s"


ROWS = {
    "a stop while the head starts: until the last job has ended": Row(
        measure=stop_while_the_head_starts, times=5, goal=10.0
    ),
    "a stop after two quiet minutes: until the driver notices it": Row(measure=stop_after_quiet, times=2, goal=10.0),
    "the outcome after two quiet minutes: until the launch sees it": Row(
        measure=outcome_after_quiet, times=2, goal=5.0
    ),
    f"{CUTS} power cuts in a row: attempts that count": Row(
        measure=counted_power_cuts, times=1, goal=0.0, unit="attempts"
    ),
}
NOTES = (
    "The most of so many times. A stop counts from the call of `transtailor stop`, whose own start is in it, "
    "but while the head starts from the file that it makes.",
    "Attributes of files are believed for 3 to 60 s, those of folders and absent names for 30 to 60 s; what is "
    "written and not synced reaches the server after 30 s. Opening a folder asks the server.",
    "A power cut kills all processes of the trial's node, its client among them, with what that had not written.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the table after each row; return 1 if a goal was missed."""
    parser = parser_of(__doc__, "client_delays")
    parser.add_argument("--rows", default="", help="those whose name has this in it")
    options = parser.parse_args(arguments)
    rows = {str(row[0]): row for row in read_rows(options.out, COLUMNS)}
    for number, (what, row) in enumerate(ROWS.items()):
        if options.rows not in what:
            continue
        values = measured_of(row, number)
        most = max(values)
        load = round(os.getloadavg()[0], 1)
        rows[what] = (what, row.unit, row.times, most, row.goal, verdict(most <= row.goal), load)
        known = tuple(rows[name] for name in ROWS if name in rows)
        title = "How soon a node notices another one, where each is a client of its own"
        write(Measured(title=title, columns=COLUMNS, rows=known, notes=NOTES), options.out)
    return 1 if any("missed" in row for row in rows.values()) else 0


def measured_of(row: Row, number: int) -> list[float]:
    """Measure a row so many times, each time with a new sweep."""
    values = []
    with slurm_bed(clients=True) as (testbed, folder):
        for time_ in range(row.times):
            with waiting(testbed, folder, f"{number}-{time_}") as waits:
                values.append(row.measure(waits))
            print(f"{row.measure.__name__}: {values[-1]:.1f} {row.unit}", flush=True)
    return values


if __name__ == "__main__":
    sys.exit(main())
