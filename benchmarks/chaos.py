"""A sweep on a real SLURM that is disturbed all the time, compared with the same sweep run serially and undisturbed.

    python benchmarks/chaos.py                  # about an hour; root, and the packages of tests/slurm
    python benchmarks/chaos.py --quick          # a few minutes
    python benchmarks/chaos.py --clients        # each node sees the folder by a client of its own, as on NFS (FUSE)

Walltimes of three minutes, and every 30 to 60 s a kill: of a worker's job or process, a worker's node, the
controller's process, job or node, and the driver, in turn. Killed nodes get their power back after 20 s. No one
intervenes. At the end the tables equal those of the serial run, every trial has ended once, and nothing is left behind.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.record import Cell, Measured, parser_of, write
from benchmarks.slurm_bed import slurm_bed
from tests.slurm.disturbances import Disturber, left_behind
from tests.slurm.sweep import Sweep, make_sweep
from tests.slurm.testbed import Testbed

SPEC = """
[trial]
source.epochs = 4
optimisation.epochs = {epochs}
optimisation.head_epochs = 10
[axes]
seed = {seeds}
network = ["digits_vgg", "digits_resnet"]
[[variants]]
method.name = "fine_tune"
[[variants]]
method = {{ name = "transtailor", steps = 3 }}
[[variants]]
method = {{ name = "prune", criterion = "l1", asked_removed_macs_fraction = 0.3 }}
"""
TURNS = (
    "worker_cancelled", "worker_node_killed", "head_killed", "driver_killed", "worker_killed",
    "controller_node_killed", "controller_requeued",
)  # fmt: skip
DARK_S = 20.0  # how long a killed node has no power


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """One disturbance of the sweep."""

    after_s: float
    kind: str
    hit: str


def disturb(
    sweep: Sweep, testbed: Testbed, chance: random.Random, pause_s: tuple[float, float], until_s: float
) -> list[Disturbance]:
    """Disturbs the sweep for this time, or until it ends; waits for its end and returns the disturbances."""
    disturber, began_s = Disturber(testbed, sweep.run, chance), time.monotonic()
    done: list[Disturbance] = []
    dark: dict[str, float] = {}
    turn = 0
    next_s = began_s + chance.uniform(*pause_s)
    while sweep.place.outcome is None:
        now_s = time.monotonic()
        for node in [node for node, light_s in dark.items() if now_s > light_s]:
            del dark[node]
            testbed.start_node(node)
        if now_s > next_s and now_s - began_s < until_s:
            kind = TURNS[turn % len(TURNS)]
            hit = getattr(disturber, kind)()
            turn += 1
            next_s = now_s + (chance.uniform(*pause_s) if hit is not None else 2.0)
            if hit is not None:
                done.append(Disturbance(after_s=now_s - began_s, kind=kind, hit=hit))
                print(f"{now_s - began_s:6.0f} s  {kind}: {hit}", flush=True)
                if "node_killed" in kind:
                    dark[hit] = now_s + DARK_S
        time.sleep(0.5)
    for node in dark:
        testbed.start_node(node)
    return done


def measure(
    seeds: int, epochs: int, pause_s: tuple[float, float], until_s: float, seed: int, clients: bool
) -> Measured:
    """Starts a SLURM, runs the sweep there with disturbances, then serially, and compares them."""
    with slurm_bed(accounting=True, clients=clients) as (testbed, folder):
        spec = SPEC.format(seeds=list(range(seeds)), epochs=epochs)
        sweep = make_sweep(
            testbed, folder / "sweep", "chaos", spec, walltime_min=3, drain_before_s=30, controller_min=3
        )
        began_s = time.monotonic()
        launched = sweep.launch("--detach")
        if launched.returncode:
            raise RuntimeError(launched.stderr)
        done = disturb(sweep, testbed, random.Random(seed), pause_s, until_s)
        took_s = time.monotonic() - began_s
        _wait_for_the_end(sweep)
        left = left_behind(sweep.run.path)
        print(f"{took_s:6.0f} s  the sweep has ended; the serial run begins", flush=True)
        with (folder / "serial.log").open("w") as log:  # now: at the same time it would take half of two cores
            if sweep.start_serial(log).wait():
                raise RuntimeError((folder / "serial.log").read_text())
        return _table(sweep, done, took_s, left)


def _wait_for_the_end(sweep: Sweep) -> None:
    end_s = time.monotonic() + 120.0
    while sweep.place.jobs() and time.monotonic() < end_s:
        time.sleep(2.0)


def _table(sweep: Sweep, done: list[Disturbance], took_s: float, left: list[str]) -> Measured:
    outcome = sweep.place.outcome
    comparison = sweep.beside_serial()
    planned = sweep.rows("SELECT trial_id FROM planned")
    ends = sweep.ends()
    attempts = sweep.rows("SELECT status, count(*) AS attempts FROM attempts GROUP BY ALL ORDER BY ALL")
    events = sweep.rows("SELECT kind, count(*) AS events FROM events GROUP BY ALL ORDER BY ALL")
    rows: list[tuple[Cell, ...]] = [
        ("minutes from the launch to the end", round(took_s / 60, 1)),
        ("disturbances", len(done)),
        *((f"... {kind.replace('_', ' ')}", count) for kind, count in sorted(Counter(d.kind for d in done).items())),
        ("trials of the sweep", len(planned)),
        ("trials that finished", len(ends)),
        ("trials that finished more than once", sum(count != 1 for count in ends.values())),
        *((f"attempts that {row['status']}", row["attempts"]) for row in attempts),  # type: ignore[list-item]
        *((f"events: {row['kind']}", row["events"]) for row in events),  # type: ignore[list-item]
        ("tables equal to the serial run's", str(comparison)),
        ("processes left behind", len(left)),
        ("exit code", None if outcome is None else outcome.code),
    ]
    return Measured(
        title="A sweep on SLURM under fire",
        columns=("what", "value"),
        rows=tuple(rows),
        notes=(
            "Three nodes of the test bed (tests/slurm/testbed.py), walltimes of 3 min, a kill every 30 to 60 s, "
            "in turn: " + ", ".join(turn.replace("_", " ") for turn in TURNS) + ".",
            "Equal means: every operating point of both runs, to the last bit, and its predictions of the test images.",
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the table; exit code 1 if something was lost."""
    parser = parser_of(__doc__, "chaos", quick="a small sweep and kills every 15 to 30 s")
    parser.add_argument(
        "--minutes", type=float, default=31.0, help="how long it is disturbed; then it may end in peace"
    )
    parser.add_argument("--seeds", type=int, default=40, help="of the sweep: more make it longer")
    parser.add_argument("--epochs", type=int, default=65, help="of each fine-tuning")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--clients", action="store_true", help="each node has a client of its own of the shared folder")
    options = parser.parse_args(arguments)
    seeds, epochs, pause_s = (1, 10, (15.0, 30.0)) if options.quick else (options.seeds, options.epochs, (30.0, 60.0))
    measured = measure(seeds, epochs, pause_s, options.minutes * 60, options.seed, options.clients)
    write(measured, options.out)
    values = dict(measured.rows)
    return 0 if values["exit code"] == 0 and str(values["tables equal to the serial run's"]).startswith("yes") else 1


if __name__ == "__main__":
    sys.exit(main())
