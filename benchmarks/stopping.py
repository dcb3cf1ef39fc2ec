"""How soon a stop is noticed, and how soon the sweep has ended, in each state of a sweep.

    python benchmarks/stopping.py                    # ten minutes; root, and the packages of tests/slurm
    python benchmarks/stopping.py --states local     # only those; the others stay in the table

On a SLURM of two nodes (tests/slurm/testbed.py) and on this machine: a sweep is brought into each state and stopped by
`transtailor stop`. Noticed is the event "stopping", ended is the end of the last job, or of the process.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from benchmarks.record import ROOT, Measured, parser_of, read_rows, verdict, write
from benchmarks.slurm_bed import events, slurm_bed
from hpc.slurm.jobs import cancel
from results.store.reader import load
from sweeps.run.run_folder import RunFolder
from tests.slurm.sweep import make_sweep, until
from tests.slurm.testbed import Testbed

NOTICED_GOAL_S, ENDED_GOAL_S = 10.0, 60.0
LIMIT_S = 600.0
TRAINS = """
[trial]
source.epochs = 2
optimisation.epochs = 100_000
[axes]
seed = [0, 1]
[[variants]]
method.name = "fine_tune"
"""
HANGS = """
imports = ["hangs.py"]
[trial]
source.epochs = 2
optimisation.epochs = 2
optimisation.head_epochs = 1
[axes]
seed = [0]
[[variants]]
method = { name = "prune", criterion = "hangs", asked_removed_macs_fraction = 0.3 }
"""
MODULE = """
import time
from pathlib import Path

from tailor.extend import CRITERIA, Criterion


def hang(_scoring):
    Path({begun!r}).touch()
    while True:
        time.sleep(1.0)


CRITERIA.add("hangs", Criterion(compute=hang, source="a benchmark"))
"""
COLUMNS = ("state", "noticed_s", "ended_s", "goals", "verdict")


def stop_on_slurm(state: str) -> tuple[float | None, float]:
    """Seconds until a stop was noticed (None: never, because no driver runs) and until no job was left."""
    with slurm_bed(nodes=2) as (testbed, folder):
        spec = HANGS if "not answer" in state else TRAINS
        (folder / "sweep").mkdir()
        (folder / "sweep" / "hangs.py").write_text(MODULE.format(begun=str(folder / "begun")))
        blocked = [] if "train" in state or "not answer" in state else _block(testbed, whole="controller" in state)
        sweep = make_sweep(testbed, folder / "sweep", "stopped", spec, cpus=2, max_jobs=3)
        launched = sweep.launch("--detach")
        if launched.returncode:
            raise RuntimeError(launched.stderr)
        reached: Mapping[str, Callable[[], object]] = {
            "SLURM: the controller waits": lambda: sweep.place.jobs(),
            "SLURM: the head starts": lambda: (
                (sweep.place.controller() or sweep.place.jobs()[0]).state.state == "RUNNING"
            ),
            "SLURM: no worker has come": lambda: events(sweep, "worker_submitted"),
            "SLURM: trials train": sweep.stages,  # the first is there, the next one has no end
            "SLURM: a stage does not answer": (folder / "begun").exists,
        }
        until(reached[state], LIMIT_S, state)
        began_s = time.time()
        stopped = sweep.command("stop", str(sweep.run.path))
        if stopped.returncode:
            raise RuntimeError(stopped.stderr)
        until(lambda: not sweep.place.jobs(), LIMIT_S, "the last job to end")
        ended_s = time.time() - began_s
        cancel(blocked, None)
        noticed = events(sweep, "stopping")
        return (noticed[0][0] - began_s if noticed else None), ended_s


def _block(testbed: Testbed, *, whole: bool) -> list[str]:
    """Jobs of another user: on all of both nodes, or on one CPU of each, so that only the controller fits."""
    cpus = "2" if whole else "1"
    words = ["sbatch", "--parsable", f"--cpus-per-task={cpus}", "--mem=100", "--output=/dev/null", "--wrap=sleep 3600"]
    done = [
        subprocess.run(
            [*words, f"--nodelist=node{node}"], env=testbed.environment, capture_output=True, text=True, check=True
        )
        for node in (1, 2)
    ]
    until(lambda: all(testbed.state_of(f"node{node}") != "idle" for node in (1, 2)), LIMIT_S, "others' jobs")
    return [job.stdout.strip() for job in done]


def stop_here(state: str) -> tuple[float | None, float]:
    """The same on this machine, where a stop is a signal."""
    site = state.partition(":")[0]
    with tempfile.TemporaryDirectory(prefix="stopping-") as name:
        folder = Path(name)
        (folder / "hangs.py").write_text(MODULE.format(begun=str(folder / "begun")))
        (folder / "stopped.toml").write_text(f'name = "stopped"\n{HANGS if "not answer" in state else TRAINS}')
        run, environment = RunFolder(folder / "runs" / "stopped"), os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(ROOT / "sweeps" / "launch.py"), "stopped.toml", "--site", site]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

        def rows(query: str) -> list[dict[str, object]]:
            if not run.path.exists():
                return []
            with load(run.path) as tables:
                return tables.rows(query)

        def has_begun() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{state}: the launch has ended before the stop:\n{(folder / 'log').read_text()}")
            if "not answer" in state:
                return (folder / "begun").exists()
            return any((folder / "cache").glob("??/[!.]*.stage"))  # the first stage is finished

        try:
            until(has_begun, LIMIT_S, state)
            began_s = time.time()
            words = [sys.executable, "-m", "transtailor", "stop", str(run.path)]
            subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True, timeout=LIMIT_S)
            process.wait(LIMIT_S)
            ended_s = time.time() - began_s
        finally:
            process.kill()
            process.wait()
        (noticed,) = rows("SELECT epoch(max(happened_at)) AS at_s FROM events WHERE kind = 'stopping'")
        return float(str(noticed["at_s"])) - began_s, ended_s


STATES: dict[str, Callable[[str], tuple[float | None, float]]] = {
    "serial: trials train": stop_here,
    "serial: a stage does not answer": stop_here,
    "local: trials train": stop_here,
    "local: a stage does not answer": stop_here,
    "SLURM: the controller waits": stop_on_slurm,
    "SLURM: the head starts": stop_on_slurm,
    "SLURM: no worker has come": stop_on_slurm,
    "SLURM: trials train": stop_on_slurm,
    "SLURM: a stage does not answer": stop_on_slurm,
}
NOTES = (
    "Once each. Seconds count from the call of `transtailor stop`, whose own start is in them.",
    "Not noticed: where no driver runs yet, stop cancels the jobs itself.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and writes the table after each state."""
    parser = parser_of(__doc__, "stopping")
    parser.add_argument("--states", default="", help="those whose name has this in it")
    options = parser.parse_args(arguments)
    by_state = {str(row[0]): row for row in read_rows(options.out, COLUMNS)}
    for state in [state for state in STATES if options.states in state]:
        noticed_s, ended_s = STATES[state](state)
        met = (noticed_s is None or noticed_s <= NOTICED_GOAL_S) and ended_s <= ENDED_GOAL_S
        goals = f"{NOTICED_GOAL_S:g} and {ENDED_GOAL_S:g} s"
        by_state[state] = (state, noticed_s, ended_s, goals, verdict(met))
        rows = tuple(by_state[name] for name in STATES if name in by_state)
        write(Measured(title="How soon a stop is noticed", columns=COLUMNS, rows=rows, notes=NOTES), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
