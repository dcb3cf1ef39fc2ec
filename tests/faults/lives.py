"""Lives of a tiny sweep: launched, struck at a moment drawn from a seed, launched again until it ends, then judged."""

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults.invariants import Violation, differences, processes_of, temporaries, violations
from tests.faults.moments import HOWS, Fault, How, Moment, moments_of
from tests.faults.tiny_sweep import SPEC, Launch, TinySweep

MOST_FAULTS = 4  # of one life, one in each launch
END_LIMIT_S = 300.0  # after a launcher's end, until the kernel has ended its ranks, on a busy machine
MAY_END_WITH = {
    "SIGKILL": {-9, 0},  # a killed rank is replaced, and its trial tried again
    "SIGKILL of both": {-9},
    "loss of power": {-9},
    "SIGTERM": {-15, 130, 0},  # before anything runs, the default; after everything, too late
    "SIGINT": {130, 0},
    "full disk": {0, 1, 2},
}


@dataclass(frozen=True, kw_only=True)
class Struck:
    """One fault, and what came of the life that it was part of."""

    seed: int
    life: int
    launch: int
    how: str
    event: str
    place: str
    nth: int
    code: int  # that the launch ended with
    broken: tuple[str, ...] = ()  # promises that the life broke, in words

    def __str__(self) -> str:
        where = f"life {self.life} of seed {self.seed}, launch {self.launch}"
        return f"{where}: {self.how} before {self.event} {self.place} [{self.nth}], ended with {self.code}"


@dataclass(frozen=True)
class Undisturbed:
    """The same sweep left alone, and the moments of its launches."""

    run: Path
    first: tuple[Moment, ...]
    again: tuple[Moment, ...]  # of a launch that finds the run there
    spec: str
    hows: tuple[How, ...]  # faults that may strike


def leave_alone(place: Path, spec: str = SPEC, hows: tuple[How, ...] = HOWS) -> Undisturbed:
    """Runs it without faults, twice.

    Raises:
        AssertionError: already that breaks a promise.
    """
    sweep = TinySweep.below(place, spec)
    for number in range(2):
        launch = sweep.launch(number)
        assert launch.code == 0, launch.said
    broken = _in_a_fork(lambda: violations(sweep.run, sweep.cache, ended=True))
    assert (broken, temporaries(sweep.folder)) == ([], [])
    first, again = (moments_of(sweep.trace(number)) for number in range(2))
    return Undisturbed(
        sweep.run, tuple(first), tuple(again + [m for m in first if "creating" not in m.place]), spec, hows
    )


def live(seed: int, number: int, undisturbed: Undisturbed, place: Path) -> list[Struck]:
    """One life in a new folder, which is gone afterwards if nothing was broken.

    Returns:
        the faults that struck; one whose moment never came is not among them.
    """
    chance = random.Random(f"{seed}/{number}")
    sweep = TinySweep.below(place, undisturbed.spec)
    struck: list[Struck] = []
    broken: list[str] = []
    faults = chance.randint(1, MOST_FAULTS)
    for launch_number in range(faults):
        moments = undisturbed.again if sweep.run.exists() else undisturbed.first
        fault = _drawn(chance, moments, undisturbed.hows)
        launch = sweep.launch(launch_number, fault)
        if fault.moment in moments_of(sweep.trace(launch_number)):
            told = Struck(
                seed=seed, life=number, launch=launch_number, how=fault.how, code=launch.code, **vars(fault.moment)
            )  # fmt: skip
            struck.append(told)
            broken += [f"launch {launch_number}: {what}" for what in _judged(sweep, fault, launch)]
    broken += _end(sweep, faults, undisturbed)
    if not broken:
        shutil.rmtree(place)
    return [replace(one, broken=tuple(broken)) for one in struck]


def _drawn(chance: random.Random, moments: Sequence[Moment], hows: Sequence[How]) -> Fault:
    """A fault at a moment: each kind of change is as likely, however often it happens."""
    kinds = sorted({(moment.event, moment.place) for moment in moments})
    event, place = chance.choice(kinds)
    moment = chance.choice([moment for moment in moments if (moment.event, moment.place) == (event, place)])
    return Fault(how=chance.choice(hows), moment=moment, seed=chance.getrandbits(32))


def _judged(sweep: TinySweep, fault: Fault, launch: Launch) -> list[str]:
    """What a launch that was struck has broken already."""
    broken = [] if launch.code in MAY_END_WITH[fault.how] else [f"6: it ended with {launch.code}"]
    if "Traceback" in launch.said:
        broken.append("6: it ended with a traceback")
    broken += [f"4: process left: {what}" for what in _left(sweep.folder)]
    if sweep.run.exists():
        broken += _told(_in_a_fork(lambda: violations(sweep.run, sweep.cache, ended=False)))
    return broken


def _end(sweep: TinySweep, number: int, undisturbed: Undisturbed) -> list[str]:
    """Launches without a fault, which has to finish the sweep; what is broken then."""
    launch = sweep.launch(number)
    if launch.code != 0:
        return [f"1: the launch after the faults ended with {launch.code}: {launch.said[-500:]}"]
    broken = [f"4: process left: {what}" for what in _left(sweep.folder)]
    broken += _told(_in_a_fork(lambda: violations(sweep.run, sweep.cache, ended=True)))
    broken += _told(_in_a_fork(lambda: _read_otherwise(sweep.run)))
    return broken + _told(_in_a_fork(lambda: differences(sweep.run, undisturbed.run)))


def _read_otherwise(run: Path) -> list[Violation]:
    """Decisions by scores that no row has."""
    from tests.faults.decisions import read_otherwise

    return [Violation(2, what) for what in read_otherwise(run)]


def _left(folder: Path) -> list[str]:
    """Processes of the sweep that do not end."""
    until_s = time.monotonic() + END_LIMIT_S
    while (left := processes_of(folder)) and time.monotonic() < until_s:
        time.sleep(0.02)
    return left


def _told(found: Sequence[Violation]) -> list[str]:
    return [f"{one.promise}: {one.what}" for one in found]


def _in_a_fork(judge: Callable[[], list[Violation]]) -> list[Violation]:
    """What a judgement finds; in a fork, since readers of Parquet start threads, which later forks would lack."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = json.dumps([[one.promise, one.what] for one in judge()])
        except BaseException as error:  # noqa: BLE001  # told to who asked: a fork must not go on as its parent
            text = json.dumps([[0, f"the judgement failed: {error!r}"]])
        with os.fdopen(writing, "w") as stream:
            stream.write(text)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        found = json.load(stream)
    os.waitpid(child, 0)
    return [Violation(*one) for one in found]
