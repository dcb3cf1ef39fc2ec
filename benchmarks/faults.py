"""A tiny sweep that is killed, interrupted, cut off from power and from its disk, at every named write.

    python benchmarks/faults.py                         # goes on from docs/results/faults.jsonl until there are 1,000
    python benchmarks/faults.py --faults 50 --seed 7 --out /anywhere/faults
    python benchmarks/faults.py --seed 7 --life 3       # one life again, to look at it

Each life is a sweep of two trials on the site `serial`. Its first launches are struck once each; then it is launched
until it ends, and judged by its files: tests/faults/invariants.py, and equal to the run that was left alone.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository, instead of the folder of this script

import argparse
import json
import tempfile
from collections.abc import Iterable
from itertools import count

from benchmarks.record import RESULTS, Cell, Measured, write
from tests.faults.lives import Struck, Undisturbed, leave_alone, live
from tests.faults.moments import HOWS
from tests.faults.tiny_sweep import warm_up


def recorded(path: Path) -> list[Struck]:
    """The faults of earlier runs."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Struck(**record | {"broken": tuple(record["broken"])}) for record in map(json.loads, lines)]


def record(path: Path, struck: Iterable[Struck]) -> None:
    """Adds the faults of one life at once, so that a run that is cut off leaves whole lives."""
    with path.open("a") as stream:
        stream.write("".join(f"{json.dumps(vars(one))}\n" for one in struck))


def go_on(path: Path, faults: int, seed: int, undisturbed: Undisturbed, place: Path) -> list[Struck]:
    """Lives life after life until so many faults are on record."""
    done = recorded(path)
    begun = {one.life for one in done if one.seed == seed}
    lives = count(max(begun, default=-1) + 1)
    while len(done) < faults:
        number = next(lives)
        struck = live(seed, number, undisturbed, place / f"{number}")
        record(path, struck)
        done += struck
        for one in struck:
            print(one, *one.broken, sep="\n    ", flush=True)
    return done


def table(done: list[Struck]) -> Measured:
    """How many faults of each kind struck, at how many different moments, and how many lives broke a promise."""
    rows: list[tuple[Cell, ...]] = []
    for how in (*HOWS, "all"):
        mine = [one for one in done if how in (one.how, "all")]
        places = {(one.event, one.place) for one in mine}
        moments = {(one.event, one.place, one.nth) for one in mine}
        lives = {(one.seed, one.life) for one in mine}
        broken = {(one.seed, one.life) for one in mine if one.broken}
        rows.append((how, len(mine), len(places), len(moments), len(lives), len(broken)))
    return Measured(
        title="A sweep struck at its writes",
        columns=("fault", "struck", "kinds of writes", "moments", "lives", "lives that broke a promise"),
        rows=tuple(rows),
        notes=(
            "A moment is the n-th time that a launch is about to open, sync, rename or remove a file, or to make a "
            "folder; the kinds of writes are these without the n. tests/faults/moments.py says what each fault is.",
            "Judged after each launch and at the end by tests/faults/invariants.py; at the end each row that counts is "
            "equal, to the last bit, to that of a run that was left alone.",
            f"Seeds: {', '.join(str(seed) for seed in sorted({one.seed for one in done}))}. Each fault, with its "
            "life's seed, is a line of the .jsonl file beside this one.",
            "Launcher and rank are forks of one process that has imported the libraries, one rank per trial, no Ray.",
        ),
    )


def main() -> int:
    """Runs what the command line says; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=1000, help="how many there are to be, those on record included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--life", type=int, help="repeat this life alone, and record nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / "faults", help="path without suffix")
    options = parser.parse_args()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        undisturbed = leave_alone(Path(place) / "undisturbed")
        if options.life is not None:
            kept = Path(tempfile.mkdtemp(prefix=f"life{options.life}-")) / "life"
            done = live(options.seed, options.life, undisturbed, kept)
            for one in done:
                print(one, *one.broken, sep="\n    ")
            print(f"kept in {kept}" if kept.exists() else "nothing was broken")
        else:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            path = options.out.with_name(f"{options.out.name}.jsonl")
            done = go_on(path, options.faults, options.seed, undisturbed, Path(place))
            write(table(done), options.out)
    return 1 if any(one.broken for one in done) else 0


if __name__ == "__main__":
    sys.exit(main())
