"""Lives of a small sweep on a real SLURM, of which workers, nodes, controller and driver are struck while it runs.

A fault strikes when so many stages are finished, and there is something to strike. Nobody looks after the sweep;
when all have struck it is launched again, which waits for its end, and judged.
"""

import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.clients.untrue import unexpected
from tests.faults.invariants import Violation, count_stages, differences, processes_of, violations
from tests.slurm.disturbances import Disturber
from tests.slurm.sweep import SERIAL, Sweep, make_sweep
from tests.slurm.testbed import LOGIN, Testbed

NAME = "small"
SPEC = """
[trial]
source.epochs = 2
optimisation.epochs = 12
optimisation.head_epochs = 4
[axes]
seed = [0, 1, 2, 3]
[[variants]]
method.name = "fine_tune"
[[variants]]
method = { name = "transtailor", steps = 3 }
"""
KINDS: Mapping[str, str] = {
    "worker_cancelled": "worker",
    "worker_killed": "worker",
    "worker_node_killed": "node",
    "worker_node_cut": "node",
    "worker_node_slow": "cable",
    "worker_node_held": "cable",
    "connections_broken": "cable",
    "controller_node_killed": "node",
    "controller_warned": "controller",
    "controller_requeued": "controller",
    "head_killed": "controller",
    "driver_killed": "driver",
}
"""What tests/slurm/disturbances.py does -> to what."""
FAULTS = (2, 5)  # of one life, at least and at most
DARK_S = 20.0  # how long a node has no power, or no network
STRIKE_LIMIT_S = 200.0  # until there is something to strike: a controller that was killed begins anew
LAUNCH_LIMIT_S = 600.0
END_LIMIT_S = 120.0  # after the sweep's end, until its jobs and processes are gone
POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class StruckSlurm:
    """One fault, and what came of the life that it was part of."""

    seed: int
    life: int
    how: str  # a name of KINDS
    hit: str
    stages: int  # that were finished
    broken: tuple[str, ...] = ()  # promises that the life broke, in words

    def __str__(self) -> str:
        return f"life {self.life} of seed {self.seed}: {self.how}, {self.hit}, after {self.stages} stages"


@dataclass(frozen=True)
class Undisturbed:
    """The same sweep left alone, without SLURM and Ray."""

    run: Path
    stages: int


def leave_alone(testbed: Testbed, place: Path) -> Undisturbed:
    """Runs it one trial after the other: the obvious reference.

    Raises:
        AssertionError: already that breaks a promise.
    """
    sweep = make_sweep(testbed, place, NAME, SPEC)
    done = sweep.launch(*SERIAL, site="serial")
    assert done.returncode == 0, done.stdout + done.stderr
    run, cache = place / "serial_runs" / NAME, place / "serial_cache"
    assert violations(run, cache, ended=True) == []
    return Undisturbed(run, count_stages(cache))


def live(seed: int, number: int, undisturbed: Undisturbed, testbed: Testbed, place: Path) -> list[StruckSlurm]:
    """One life in a new folder, which is gone afterwards if nothing was broken; the faults that struck.

    Raises:
        RuntimeError: it could not be submitted.
    """
    chance = random.Random(f"slurm/{seed}/{number}")
    sweep = make_sweep(testbed, place, NAME, SPEC, walltime_min=5, drain_before_s=20, controller_min=10)
    launched = sweep.launch("--detach")
    if launched.returncode:
        raise RuntimeError(launched.stderr)
    disturber = Disturber(testbed, sweep.run, chance)
    struck: list[StruckSlurm] = []
    broken: list[str] = []
    for how, fraction in drawn(chance):
        there = count_stages(testbed.on_the_server(sweep.folder / "cache"))
        after = there + int(fraction * max(0, undisturbed.stages - there))
        try:
            hit = _strike(sweep, disturber, how, after)
        except TimeoutError as late:
            broken.append(f"3: {late}")
            break
        if hit is None:
            break
        struck.append(StruckSlurm(seed=seed, life=number, how=how, hit=hit, stages=after))
        _give_back(testbed, how, hit)
    broken += _judged_at_the_end(sweep, undisturbed)
    broken += [f"a client said: {line}" for line in _untrue(testbed, place)]
    if not broken:
        shutil.rmtree(place)
    return [replace(one, broken=tuple(broken)) for one in struck]


def drawn(chance: random.Random) -> list[tuple[str, float]]:
    """The faults of a life: what is done, and after which fraction of the stages that are still to come."""
    return [(chance.choice(list(KINDS)), chance.random()) for _ in range(chance.randint(*FAULTS))]


def _strike(sweep: Sweep, disturber: Disturber, how: str, after: int) -> str | None:
    """Waits for so many stages and something to strike, and strikes; None if the sweep ended before.

    Raises:
        TimeoutError: it goes on no more.
    """
    stages, until_s = -1, time.monotonic() + STRIKE_LIMIT_S
    while sweep.place.outcome is None:
        if (there := count_stages(sweep.testbed.on_the_server(sweep.folder / "cache"))) > stages:
            stages, until_s = there, time.monotonic() + STRIKE_LIMIT_S
        if time.monotonic() > until_s:
            raise TimeoutError(f"for {STRIKE_LIMIT_S:g} s there was no progress after {stages} stages")
        if stages >= after and (hit := getattr(disturber, how)()) is not None:
            return str(hit)
        time.sleep(POLL_S)
    return None


def _give_back(testbed: Testbed, how: str, hit: str) -> None:
    """Gives a node its power or its network back, after a while: so long it lacks that is part of the fault."""
    if how.endswith("_node_killed"):
        time.sleep(DARK_S)
        testbed.start_node(hit)
    elif KINDS[how] == "cable" or how.endswith("_cut"):
        time.sleep(DARK_S)
        testbed.mend(hit)


def _judged_at_the_end(sweep: Sweep, undisturbed: Undisturbed) -> list[str]:
    done = sweep.launch(limit_s=LAUNCH_LIMIT_S)
    if done.returncode != 0:
        return [f"1: the launch after the faults ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}"]
    until_s = time.monotonic() + END_LIMIT_S
    while (sweep.place.jobs() or processes_of(sweep.folder)) and time.monotonic() < until_s:
        time.sleep(POLL_S)
    run = sweep.run.path
    broken = [Violation(4, f"job left: {job.id} {job.name}") for job in sweep.place.jobs()]
    broken += [*violations(run, sweep.folder / "cache", ended=True), *differences(run, undisturbed.run)]
    return [f"{one.promise}: {one.what}" for one in broken]


def _untrue(testbed: Testbed, place: Path) -> list[str]:
    """What clients of the test bed said of the life's files that is neither true nor on the list."""
    if testbed.client is None:
        return []
    below = f" /{place.relative_to(testbed.shared)}/"
    names = (LOGIN, *(f"node{number}" for number in range(1, testbed.nodes + 1)))
    return unexpected(line for name in names for line in testbed.untrue(name) if below in line)
