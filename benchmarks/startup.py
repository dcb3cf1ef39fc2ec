"""How soon the command answers: `--help`, `--plan`, and a launch until its first trial computes; and bare Python.

    python benchmarks/startup.py            # two minutes
    python benchmarks/startup.py --quick    # each once

The rounds go through all commands in turn, after one that is not counted and fills the system's cache of files.
The table also has the processor time as a multiple of that of `python -c pass`: it depends less on other work.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import json
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.process import run_measured
from benchmarks.record import ROOT, Row, parser_of, spread, table_of, verdict, write

LAUNCH = (sys.executable, str(ROOT / "sweeps" / "launch.py"))
ROUNDS, QUICK_ROUNDS = 5, 1
LOOK_EVERY_S = 0.01
GIVEN_UP_S = 300.0
STOPPED_CLEANLY = 130
GOAL_OF_UNFORKED = 0.7  # of the same launch whose ranks are not forked
FIRST_STEP, UNFORKED = "launch to the first step of the first trial", "the same, ranks not forked"


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """The cost of one run."""

    wall_s: float
    cpu_s: float | None = None  # None where the run is cut off before its end


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured."""

    what: str
    measure: Callable[[Path], Seconds]  # in an empty folder
    goal_s: float | None = None  # None: a control, or a share of one


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    options = parser_of(__doc__, "startup", quick="each once").parse_args(arguments)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    times_of: list[list[Seconds]] = [[] for _ in ASKED]
    for number in range(rounds + 1):
        for asked, times in zip(ASKED, times_of, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                seconds = asked.measure(Path(folder))
            if number:  # the first round warms
                times.append(seconds)
    rows = table_rows({asked.what: times for asked, times in zip(ASKED, times_of, strict=True)})
    write(table_of("Start-up", rows, NOTES), options.out)
    return 0


def table_rows(times_of: Mapping[str, Sequence[Seconds]]) -> list[Row]:
    """The table; the goal of a launch is a share of the one whose ranks are not forked, which took turns with it."""
    bare_cpu_s = median_cpu_s(times_of[ASKED[0].what])
    unforked_s = statistics.median(each.wall_s for each in times_of[UNFORKED])
    goals = {asked.what: asked.goal_s for asked in ASKED} | {FIRST_STEP: GOAL_OF_UNFORKED * unforked_s}
    return [row(what, times, bare_cpu_s, goals[what]) for what, times in times_of.items()]


def row(what: str, times: Sequence[Seconds], bare_cpu_s: float | None, goal_s: float | None) -> Row:
    """A row of the table; `bare_cpu_s` is the median of bare Python."""
    walls = [each.wall_s for each in times]
    wall_s, cpu_s = statistics.median(walls), median_cpu_s(times)
    return {
        "what": what,
        "runs": len(times),
        "wall_s": wall_s,
        "wall_s_quartiles": spread(walls),
        "cpu_s": cpu_s,
        "times_bare_python": None if cpu_s is None or bare_cpu_s is None else cpu_s / bare_cpu_s,
        "goal_s": goal_s,
        "verdict": None if goal_s is None else verdict(wall_s < goal_s),
    }


def median_cpu_s(times: Sequence[Seconds]) -> float | None:
    """Of the runs whose processor time is known; None where there is none."""
    known = [each.cpu_s for each in times if each.cpu_s is not None]
    return statistics.median(known) if known else None


def command(words: Sequence[str], folder: Path) -> Seconds:
    """From the start of a process to its end.

    Raises:
        CalledProcessError: it failed.
    """
    cost = run_measured(words, folder)
    return Seconds(wall_s=cost.wall_s, cpu_s=cost.cpu_s)


def first_step(folder: Path, *options: str) -> Seconds:
    """From launching the embedded sweep with `options` until the first stage of a trial began to be computed.

    That moment is the time when the first stage was stored, minus the seconds of its computation; then the launch is
    stopped as by Ctrl-C.

    Raises:
        RuntimeError: nothing was computed, or the launch did not stop cleanly.
    """
    start_s = time.time()
    with subprocess.Popen((*LAUNCH, *options), cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            stored = _first_stage(folder / "cache", process)
            process.send_signal(signal.SIGINT)
            code = process.wait(GIVEN_UP_S)
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
    if code != STOPPED_CLEANLY:
        raise RuntimeError(f"the launch ended with {code}, expected {STOPPED_CLEANLY}")
    compute_s: float = json.loads(stored.read_bytes().splitlines()[0])["description"]["made_by"]["compute_s"]
    return Seconds(wall_s=stored.stat().st_mtime - compute_s - start_s)


def _first_stage(cache: Path, launch: subprocess.Popen[bytes]) -> Path:
    """The file of the stage that is finished first, once there is one."""
    end_s = time.monotonic() + GIVEN_UP_S
    while time.monotonic() < end_s and launch.poll() is None:
        stored = [*cache.glob("??/[!.]*.stage")]  # with a dot: being written
        if stored:
            return min(stored, key=lambda path: path.stat().st_mtime)
        time.sleep(LOOK_EVERY_S)
    raise RuntimeError(f"no stage was computed within {GIVEN_UP_S:.0f} s, or the launch ended (code {launch.poll()})")


ASKED = (
    Asked(what="python -c pass", measure=partial(command, (sys.executable, "-c", "pass"))),
    Asked(what="python -c 'import torch'", measure=partial(command, (sys.executable, "-c", "import torch"))),
    Asked(what="--help", measure=partial(command, (*LAUNCH, "--help")), goal_s=0.5),
    Asked(what="--plan of the embedded sweep", measure=partial(command, (*LAUNCH, "--plan")), goal_s=1.0),
    Asked(what=FIRST_STEP, measure=first_step),
    Asked(what=UNFORKED, measure=lambda at: first_step(at, "--set", "resources.fork_ranks=false")),
)
NOTES = (
    "Medians, each run a process of its own in an empty folder; two rows and the last one are controls. The goals are "
    f"of wall time, that of the launch {GOAL_OF_UNFORKED} of the last row, with which it takes turns; "
    "times_bare_python is of processor time, which says more on a machine that does other things.",
    "The last two rows are the embedded sweep on the site local: planning, the run folder, Ray, the ranks, their "
    "imports, up to the moment when the first stage of a trial (the training of a source network) begins.",
)


if __name__ == "__main__":
    sys.exit(main())
