"""How long a sweep on SLURM takes to begin and to replace lost workers, without SLURM's own wait; its calls to SLURM.

    python benchmarks/cluster_start.py                  # root, and the packages of tests/slurm
    python benchmarks/cluster_start.py --quick          # each once

A sweep is submitted on an idle SLURM of three nodes (tests/slurm/testbed.py): when its controller is ready, its workers
have joined, and its first stage trains. Then one of its workers is cancelled, which Ray sees, and the worker that was
submitted in its place before it can join, which only SLURM sees. Then nothing happens, and calls to SLURM are counted.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.record import Row, parser_of, spread, table_of, verdict, write
from benchmarks.slurm_bed import events, job_times, slurm_bed, stage_spans
from hpc.slurm.jobs import cancel
from tests.slurm.sweep import Sweep, make_sweep, until
from tests.slurm.testbed import Testbed
from tests.slurm.unreliable import bad_day, calls

SPEC = """
[trial]
optimisation.epochs = 100_000
[axes]
source.epochs = [20, 21, 22, 23, 24, 25]
[[variants]]
method.name = "fine_tune"
"""  # other sources, so that no trial waits for a stage of another
WORKERS = 3
LIMIT_S = 300.0
CONTROLLER, ALL_WORKERS, TRAINS = "controller ready", f"{WORKERS} workers joined", "first stage trains"
BY_RAY = "a worker cancelled, Ray knows: until its replacement is submitted"
BY_SLURM = "a job cancelled before it joined, SLURM knows: until its replacement is submitted"
CALLS = "calls to SLURM while nothing happens"
GOALS = {CONTROLLER: 30.0, "first worker joined": 30.0, ALL_WORKERS: 30.0, TRAINS: 30.0, BY_RAY: 10.0, BY_SLURM: 40.0,
         CALLS: 2.0}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Took:
    """One measurement: seconds, and how many of them SLURM itself took; or calls per minute."""

    what: str
    value: float
    slurms_own: float | None = None


def begin(testbed: Testbed, folder: Path, commands: str) -> tuple[Sweep, list[Took]]:
    """Submits a sweep and waits until it trains; returns the time of each step since its submission."""
    setup = json.dumps([f"export PATH='{commands}'"])
    sweep = make_sweep(testbed, folder, "start", SPEC, walltime_min=30, max_jobs=WORKERS + 1, setup=setup)
    launched = sweep.launch("--detach")
    if launched.returncode:
        raise RuntimeError(launched.stderr)
    until(lambda: len(events(sweep, "worker_joined")) >= WORKERS and stage_spans(sweep), LIMIT_S, "the sweep to begin")
    ((ready_s, controller),) = events(sweep, "controller_started")
    joined = events(sweep, "worker_joined")[:WORKERS]
    times = job_times([controller, *(job for _, job in joined)])
    taken_s, began_s = times[controller]
    waits = [began_s - taken_s + times[job][1] - times[job][0] for _, job in joined]
    last_wait = max(waits)
    steps = [Took(what=CONTROLLER, value=ready_s - taken_s, slurms_own=began_s - taken_s)]
    steps.append(Took(what="first worker joined", value=joined[0][0] - taken_s, slurms_own=waits[0]))
    steps.append(Took(what=ALL_WORKERS, value=joined[-1][0] - taken_s, slurms_own=last_wait))
    steps.append(
        Took(what=TRAINS, value=min(began for began, _ in stage_spans(sweep).values()) - taken_s, slurms_own=waits[0])
    )
    return sweep, steps


def lose(sweep: Sweep) -> list[Took]:
    """Cancels a worker, then its replacement before it joins; returns the times until both were replaced."""
    joined, lost = [job for _, job in events(sweep, "worker_joined")], {job for _, job in events(sweep, "worker_lost")}
    victim = next(job for job in joined if job not in lost)
    before = len(events(sweep, "worker_submitted"))
    cancel([victim], None)
    until(lambda: len(events(sweep, "worker_submitted")) > before, LIMIT_S, "a replacement")
    replaced_s, heir = events(sweep, "worker_submitted")[before]
    cancel([heir], None)
    cancelled_s = time.time()
    replacements = [
        Took(what=BY_RAY, value=replaced_s - dict((job, at) for at, job in events(sweep, "worker_lost"))[victim])
    ]
    until(lambda: len(events(sweep, "worker_submitted")) > before + 1, LIMIT_S, "another replacement")
    until(lambda: len(events(sweep, "worker_joined")) > len(joined), LIMIT_S, "it to join")
    if heir not in {job for _, job in events(sweep, "worker_joined")}:  # otherwise Ray noticed it
        replacements.append(Took(what=BY_SLURM, value=events(sweep, "worker_submitted")[before + 1][0] - cancelled_s))
    return replacements


def rest(folder: Path, quiet_s: float) -> Took:
    """Calls to SLURM per minute, by all jobs of the sweep, over this time."""
    before = calls(folder).total()
    time.sleep(quiet_s)
    return Took(what=CALLS, value=(calls(folder).total() - before) / quiet_s * 60)


def measure(starts: int, losses: int, quiet_s: float) -> list[Took]:
    """All measurements, each on a fresh SLURM, except the losses, which are measured in one sweep."""
    measurements = []
    for number in range(starts):
        with slurm_bed() as (testbed, folder):
            commands = bad_day(folder / "commands", {"real": 1})
            sweep, took = begin(testbed, folder / "sweep", commands)
            measurements += took
            if number == starts - 1:
                for _ in range(losses):
                    measurements += lose(sweep)
                time.sleep(30.0)  # after a loss SLURM is asked more often for a while
                measurements.append(rest(folder / "commands", quiet_s))
            sweep.command("cancel", str(sweep.run.path))
    return measurements


def row(what: str, took: Sequence[Took]) -> Row:
    """A row of the table; the goal is for the time without SLURM's own."""
    values = [each.value for each in took]
    own = [each.slurms_own for each in took if each.slurms_own is not None]
    beyond = statistics.median(each.value - (each.slurms_own or 0.0) for each in took)
    return {
        "what": what,
        "unit": "per minute" if what == CALLS else "s",
        "times": len(took),
        "median": statistics.median(values),
        "quartiles": spread(values),
        "slurms_own": statistics.median(own) if own else None,
        "beyond_it": beyond,
        "goal": GOALS[what],
        "verdict": verdict(beyond <= GOALS[what]),
    }


NOTES = (
    "Three nodes of one machine with as many cores as listed below: head, driver, workers, and SLURM share them.",
    "Counted from the moment at which SLURM took the controller's job; slurms_own is what SLURM let it and the worker "
    "wait in its queue. SLURM tells both in whole seconds.",
    "The first stage trains: its end, less its seconds of training; models and data are read by then.",
    "Calls are those of all jobs of the sweep: of sbatch, squeue, scancel, scontrol and sacct.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the table."""
    options = parser_of(__doc__, "cluster_start", quick="each once").parse_args(arguments)
    load = f"The machine's load (1 min) when this began, without it: {os.getloadavg()[0]:.1f}."
    took = measure(*((1, 1, 60.0) if options.quick else (5, 5, 240.0)))
    rows = [row(what, found) for what in GOALS if (found := [each for each in took if each.what == what])]
    write(table_of("How a sweep on SLURM begins", rows, (*NOTES, load)), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
