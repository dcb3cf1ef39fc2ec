"""How much of what a sweep on SLURM holds is spent in stages, while a worker is lost every two minutes.

    python benchmarks/utilisation.py                    # half an hour; root, and the packages of tests/slurm
    python benchmarks/utilisation.py --minutes 6        # a shorter one

Three workers of one rank each on a SLURM of three nodes (tests/slurm/testbed.py); every two minutes the job of one is
cancelled without a warning. The sweep has more work than time; at the end it is stopped.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import random
import time
from collections.abc import Mapping, Sequence

from benchmarks.record import Cell, Measured, parser_of, verdict, write
from benchmarks.slurm_bed import events, slurm_bed
from tailor.execution.cache import Cache
from tests.slurm.disturbances import Disturber
from tests.slurm.sweep import Sweep, make_sweep, until

SPEC = """
[trial]
source.epochs = 40
optimisation.epochs = 200
optimisation.head_epochs = 20
[axes]
seed = {seeds}
[[variants]]
method = {{ name = "transtailor", steps = 3 }}
"""
WORKERS = 3
GOAL_FRACTION = 0.95
GOAL_LOST_S = 20.0  # rank-seconds that a lost worker costs
LOST = "rank-seconds held outside of finished stages, for each worker cancelled"
LOOK_EVERY_S = 1.0
START_LIMIT_S = 300.0

Spans = Mapping[str, tuple[float, float]]
"""From when to when, in seconds since 1970."""


class Held:
    """When the jobs of workers ran, as SLURM says: looked at every second, in seconds since 1970."""

    def __init__(self, sweep: Sweep) -> None:
        self._run = sweep.place
        self.spans: dict[str, tuple[float, float]] = {}  # by the job's id

    def sample(self) -> None:
        """Notes the jobs that run now."""
        now_s = time.time()
        for job in self._run.jobs():
            if not self._run.is_controller(job) and job.state.state != "PENDING":
                self.spans[job.id] = (self.spans.get(job.id, (now_s, now_s))[0], now_s)


def overlap(spans: Spans, from_s: float, until_s: float) -> float:
    """The seconds of all spans between two moments."""
    return sum(max(0.0, min(end, until_s) - max(begin, from_s)) for begin, end in spans.values())


def stage_spans(sweep: Sweep) -> Spans:
    """The begin and the end of the computation of each finished stage, by its key.

    For a stage that was cut off and resumed from its checkpoint, only the useful seconds count.
    """
    cache = Cache(sweep.folder / "cache")
    spans = {}
    for key in cache.stored_keys():
        stored = cache.read(key)
        assert stored is not None
        made_s = cache.path(key).stat().st_mtime
        spans[stored.key] = (made_s - stored.description.made_by.compute_s, made_s)
    return spans


def usable(sweep: Sweep, until_s: float) -> Spans:
    """From when to when each worker could be used: from its joining to its loss, or that moment."""
    ends = {job: at for kind in ("worker_lost", "worker_ended") for at, job in events(sweep, kind)}
    return {job: (at, ends.get(job, until_s)) for at, job in events(sweep, "worker_joined")}


def measure(minutes: float, lose_every_s: float, seed: int) -> Measured:
    """Runs the sweep, disturbs it, stops it, and reads what was computed and what was held."""
    with slurm_bed() as (testbed, folder):
        spec = SPEC.format(seeds=list(range(1_000)))
        sweep = make_sweep(
            testbed, folder, "utilisation", spec, walltime_min=60, controller_min=60, max_jobs=WORKERS + 1
        )
        launched = sweep.launch("--detach")
        if launched.returncode:
            raise RuntimeError(launched.stderr)
        held, disturber = Held(sweep), Disturber(testbed, sweep.run, random.Random(seed))
        until(lambda: len(events(sweep, "worker_joined")) >= WORKERS, START_LIMIT_S, "all workers")
        began_s = time.time()
        lost, next_s = 0, began_s + lose_every_s
        while time.time() < began_s + minutes * 60:
            held.sample()
            if time.time() > next_s and disturber.worker_cancelled() is not None:
                lost, next_s = lost + 1, next_s + lose_every_s
            time.sleep(LOOK_EVERY_S)
        ended_s = time.time()
        sweep.command("stop", str(sweep.run.path))
        return _table(sweep, held, began_s, ended_s, lost)


def _table(sweep: Sweep, held: Held, began_s: float, ended_s: float, lost: int) -> Measured:
    in_stages, by_jobs, joined = (
        overlap(spans, began_s, ended_s) for spans in (stage_spans(sweep), held.spans, usable(sweep, ended_s))
    )
    of_jobs = in_stages / by_jobs
    return Measured(
        title="What a sweep on SLURM holds, and what it uses",
        columns=("what", "value", "goal", "verdict"),
        rows=(
            ("minutes", (ended_s - began_s) / 60, None, None),
            ("workers", WORKERS, None, None),
            ("workers cancelled", lost, None, None),
            ("rank-seconds in finished stages", in_stages, None, None),
            ("rank-seconds held: workers' jobs running in SLURM", by_jobs, None, None),
            ("... of these after the worker had joined", joined, None, None),
            ("utilisation of the jobs", of_jobs, GOAL_FRACTION, verdict(of_jobs >= GOAL_FRACTION)),
            ("utilisation of the workers that had joined", in_stages / joined, None, None),
            lost_row(by_jobs - in_stages, lost),
        ),
        notes=(
            "One rank per worker, one CPU each; the nodes of the test bed share the cores of one machine with SLURM, "
            "head and driver. Counting begins when all workers have joined, and ends before the sweep is stopped.",
            "In finished stages: seconds of computing, without what was lost with a worker since its last checkpoint, "
            "reading and writing the cache, rows, and the way from stage to stage; nor what was running at the end.",
        ),
    )


def lost_row(outside_s: float, lost: int) -> tuple[Cell, ...]:
    """What each lost worker cost, if all rank-seconds outside of finished stages are because of these."""
    each_s = outside_s / lost if lost else None
    return LOST, each_s, GOAL_LOST_S, None if each_s is None else verdict(each_s <= GOAL_LOST_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the table."""
    parser = parser_of(__doc__, "utilisation")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long is counted")
    parser.add_argument("--lose-every-s", type=float, default=120.0, help="seconds from one lost worker to the next")
    parser.add_argument("--seed", type=int, default=0, help="of the victims")
    options = parser.parse_args(arguments)
    write(measure(options.minutes, options.lose_every_s, options.seed), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
