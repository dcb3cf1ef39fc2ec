"""A tiny sweep that is killed, interrupted, and loses its power or its disk, at every named write.

    python benchmarks/faults.py # resumes docs/results/evidence/faults.jsonl until there are 1,000
    python benchmarks/faults.py --faults 50 --seed 7 --out /anywhere/faults
    python benchmarks/faults.py --seed 7 --life 3       # one life again, to look at it
    python benchmarks/faults.py --with search --faults 200 # resumes docs/results/evidence/faults_search.jsonl
    python benchmarks/faults.py --with settle --faults 100 # resumes docs/results/evidence/faults_settle.jsonl
    python benchmarks/faults.py --with ray --faults 100 # resumes docs/results/evidence/faults_ray.jsonl
    python benchmarks/faults.py --with slurm --faults 30 --minutes 20   # root, and the packages of tests/slurm
    python benchmarks/faults.py --with slurm --clients --faults 100   # each node a client of its own, as on NFS

Each life is a sweep of two trials on the site `serial`. Each of its first launches gets one fault; then it is launched
until it ends, and its files are checked: by tests/faults/invariants.py, and for equality with an undisturbed run.
With Ray it is a sweep of six trials on the site `local`; each process may get a fault, several in one launch.
With SLURM it has eight trials on a test bed of three nodes; workers, nodes, controller and driver get faults.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import json
import math
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cache
from itertools import count
from typing import Any

from benchmarks.record import EVIDENCE, Cell, Measured, parser_of, write
from benchmarks.slurm_bed import slurm_bed
from tests.clients.untrue import MAY_BE_UNTRUE
from tests.faults import lives, ray_lives, slurm_lives
from tests.faults.lives import Struck
from tests.faults.moments import HOWS
from tests.faults.ray_lives import StruckRay
from tests.faults.slurm_lives import StruckSlurm
from tests.faults.tiny_sweep import SEARCH, SETTLE, SPEC, warm_up

WITHOUT_FULL_DISK = tuple(how for how in HOWS if how != "full disk")


class Attack(ABC):
    """A way to disturb a sweep."""

    out: str
    """The name of its results."""
    of: type[Any]
    """What a fault is on record as."""

    def __init__(self, root: Path, end: ExitStack) -> None:
        """Takes an empty folder, and what undoes at the end what was raised here."""
        self.place, self.end = root, end

    @abstractmethod
    def live(self, seed: int, number: int, folder: Path) -> list[Any]:
        """One life in a new folder; its faults."""

    @abstractmethod
    def table(self, done: list[Any]) -> Measured:
        """The table of all faults."""


class OnWrites(Attack):
    """At the named writes of a tiny sweep without Ray."""

    out, of = "faults", Struck
    spec, hows = SPEC, HOWS

    def __init__(self, root: Path, end: ExitStack) -> None:
        super().__init__(root, end)
        warm_up()
        self._undisturbed = lives.leave_alone(root / "undisturbed", self.spec, self.hows)

    def live(self, seed: int, number: int, folder: Path) -> list[Any]:
        """See tests/faults/lives.py."""
        return lives.live(seed, number, self._undisturbed, folder)

    def table(self, done: list[Any]) -> Measured:
        """How many faults of each kind struck, at how many different moments, and how many lives broke a promise."""
        rows: list[tuple[Cell, ...]] = []
        for how in (*HOWS, "all"):
            mine = [fault for fault in done if how in (fault.how, "all")]
            places = {(fault.event, fault.place) for fault in mine}
            moments = {(fault.event, fault.place, fault.nth) for fault in mine}
            rows.append((how, len(mine), len(places), len(moments), *_lives(mine)))
        return Measured(
            title="A sweep struck at its writes",
            columns=("fault", "struck", "kinds of writes", "moments", "lives", "lives that broke a promise"),
            rows=tuple(rows),
            notes=(
                "A moment is the n-th time that a launch is about to open, sync, rename or remove a file, or to make a "
                "folder; the kinds of writes are these without the n. tests/faults/moments.py says what each fault is.",
                *_how_judged(done),
                "Launcher and rank are forks of one process that has imported the libraries, one rank per trial, no "
                "Ray.",
            ),
        )


class OnSearch(OnWrites):
    """At those of a tiny search that stops trials early; on a full disk trials may fail, which is another search."""

    out, spec, hows = "faults_search", SEARCH, WITHOUT_FULL_DISK


class OnSettle(OnWrites):
    """At those of a tiny sweep that adds seeds; on a full disk trials may fail, and such arms are in no family."""

    out, spec, hows = "faults_settle", SETTLE, WITHOUT_FULL_DISK


class OnRay(Attack):
    """On the processes of a small sweep with a Ray of its own."""

    out, of = "faults_ray", StruckRay

    def __init__(self, root: Path, end: ExitStack) -> None:
        super().__init__(root, end)
        self._undisturbed: Callable[[int], ray_lives.SmallSweep] = cache(
            lambda ranks: ray_lives.leave_alone(root / f"undisturbed{ranks}", ranks)
        )

    def live(self, seed: int, number: int, folder: Path) -> list[Any]:
        """See tests/faults/ray_lives.py; trials have one rank and two in turn."""
        return ray_lives.live(seed, number, self._undisturbed(1 + number % 2), folder)

    def table(self, done: list[Any]) -> Measured:
        """How many faults of each kind struck each kind of process, and how many lives broke a promise."""
        rows: list[tuple[Cell, ...]] = []
        for target in (*ray_lives.TARGETS, "all"):
            mine = [fault for fault in done if target in (fault.target, "all")]
            rows.append((target, *(sum(fault.how == how for fault in mine) for how in ray_lives.HOWS), *_lives(mine)))
        return Measured(
            title="A sweep on Ray whose processes are struck",
            columns=("process", *ray_lives.HOWS, "lives", "lives that broke a promise"),
            rows=tuple(rows),
            notes=(
                f"A process is struck once a random number of stages is finished. SIGSTOP is taken back after "
                f"{ray_lives.STOPPED_S:g} s; ranks without a sign of life for {ray_lives.HANG_LIMIT_S:g} s are "
                "taken to hang. The driver lives in the launcher's process.",
                *_how_judged(done),
                "The real command line, six trials of one rank or two, `--site local`; the run that was left alone is "
                "one without Ray.",
            ),
        )


class OnSlurm(Attack):
    """On the workers, nodes, controller and driver of a small sweep on a real SLURM."""

    out, of, clients = "faults_slurm", StruckSlurm, False
    title = "A sweep on SLURM of which anything is struck"
    notes: tuple[str, ...] = ()

    def __init__(self, root: Path, end: ExitStack) -> None:
        super().__init__(root, end)
        bed = slurm_bed(accounting=True, bad_cables=True, clients=self.clients)
        self._testbed, folder = self.end.enter_context(bed)
        self.place = folder / "lives"  # which the nodes may read
        self._undisturbed = slurm_lives.leave_alone(self._testbed, self._testbed.folder.parent / "undisturbed")

    def live(self, seed: int, number: int, folder: Path) -> list[Any]:
        """See tests/faults/slurm_lives.py."""
        return slurm_lives.live(seed, number, self._undisturbed, self._testbed, folder)

    def table(self, done: list[Any]) -> Measured:
        """How many faults of each kind struck, and how many lives broke a promise."""
        rows: list[tuple[Cell, ...]] = []
        for how, target in (*slurm_lives.KINDS.items(), ("all", "")):
            mine = [fault for fault in done if how in (fault.how, "all")]
            rows.append((how.replace("_", " "), target, len(mine), *_lives(mine)))
        return Measured(
            title=self.title,
            columns=("fault", "of", "struck", "lives", "lives that broke a promise"),
            rows=tuple(rows),
            notes=(
                "tests/slurm/disturbances.py says what each fault is. It strikes once a random number of stages is "
                f"finished; a node has its power or its network back after {slurm_lives.DARK_S:g} s. A slow "
                "cable delays each frame by 0.3 s; a broken connection is reset at both ends, with all others of the "
                "node.",
                "Judged at the end of each life by tests/faults/invariants.py; each row is equal, to the "
                "last bit, to that of a run that was left alone.",
                _seeds_of(done),
                "The real command line on three nodes of the test bed (tests/slurm/testbed.py), eight trials of one "
                "rank; the run that was left alone is one without SLURM and Ray.",
                *self.notes,
            ),
        )


class OnClients(OnSlurm):
    """The same where each node sees the folder by a client of its own, with NFS's default times."""

    out, clients = "faults_clients", True
    title = "A sweep on SLURM of which anything is struck, on nodes that are clients of their own"
    notes = (
        "Each node sees the folder by a client of its own (tests/clients/client.c) with NFS's default times; with a "
        "node's power all is lost that its client had not written. A cut cable cuts the node off from the others, "
        "not from the folder. The run that was left alone is on a local disk.",
        "A promise is also broken if a client said of a file what was not true, unless that is on the list of "
        "tests/clients/untrue.py: " + "; ".join(MAY_BE_UNTRUE.values()) + ".",
    )


def _lives(faults: list[Any]) -> tuple[int, int]:
    """The number of lives, and the number of those that broke a promise."""
    all_lives = {(fault.seed, fault.life) for fault in faults}
    broken_lives = {(fault.seed, fault.life) for fault in faults if fault.broken}
    return len(all_lives), len(broken_lives)


def _how_judged(done: list[Any]) -> tuple[str, str]:
    return (
        "Judged after each launch and at the end by tests/faults/invariants.py; at the end each row is "
        "equal, to the last bit, to that of a run that was left alone.",
        _seeds_of(done),
    )


def _seeds_of(done: list[Any]) -> str:
    seeds = ", ".join(str(seed) for seed in sorted({fault.seed for fault in done}))
    return f"Seeds: {seeds}. Each fault, with its life's seed, is a line of the .jsonl file beside this one."


ATTACKS: dict[str, type[Attack]] = {
    "writes": OnWrites, "search": OnSearch, "settle": OnSettle, "ray": OnRay, "slurm": OnSlurm,
}  # fmt: skip


def read_faults(path: Path, of: type[Any]) -> list[Any]:
    """The faults of earlier runs."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [of(**record | {"broken": tuple(record["broken"])}) for record in map(json.loads, lines)]


def record(path: Path, struck: Iterable[Any]) -> None:
    """Adds the faults of one life at once, so that an interrupted run leaves complete lives."""
    with path.open("a") as stream:
        stream.write("".join(f"{json.dumps(vars(fault))}\n" for fault in struck))


def go_on(attack: Attack, path: Path, faults: int, seed: int, end_s: float) -> list[Any]:
    """Runs lives until this many faults are recorded, or until `end_s` (of time.monotonic)."""
    done = read_faults(path, attack.of)
    begun = {fault.life for fault in done if fault.seed == seed}
    numbers = count(max(begun, default=-1) + 1)
    while len(done) < faults and time.monotonic() < end_s:
        number = next(numbers)
        struck = attack.live(seed, number, attack.place / f"{number}")
        record(path, struck)
        done += struck
        for fault in struck:
            print(fault, *fault.broken, sep="\n    ", flush=True)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 1 if a promise was broken."""
    parser = parser_of(__doc__, None)
    parser.add_argument("--with", choices=ATTACKS, default="writes", dest="attack", help="what is struck")
    parser.add_argument("--faults", type=int, default=1000, help="how many to reach, including those on record")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no life later; the next run resumes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--life", type=int, help="repeat this life alone, and record nothing")
    parser.add_argument(
        "--clients", action="store_true", help="with slurm: each node is a client of its own, as on NFS"
    )
    options = parser.parse_args(arguments)
    if options.clients and options.attack != "slurm":
        parser.error("--clients goes with --with slurm")
    end_s = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="faults-") as root, ExitStack() as end:
        kind = OnClients if options.clients else ATTACKS[options.attack]
        attack = kind(Path(root), end)
        if options.life is not None:
            place = attack.place / f"{options.life}"
            done = attack.live(options.seed, options.life, place)
            for fault in done:
                print(fault, *fault.broken, sep="\n    ")
            if place.exists():
                kept = Path(tempfile.mkdtemp(prefix=f"life{options.life}-")) / "life"
                print(f"kept in {shutil.copytree(place, kept, symlinks=True)}")
            else:
                print("nothing was broken")
        else:
            out = options.out or EVIDENCE / attack.out
            out.parent.mkdir(parents=True, exist_ok=True)
            done = go_on(attack, out.with_name(f"{out.name}.jsonl"), options.faults, options.seed, end_s)
            write(attack.table(done), out)
    return 1 if any(fault.broken for fault in done) else 0


if __name__ == "__main__":
    sys.exit(main())
