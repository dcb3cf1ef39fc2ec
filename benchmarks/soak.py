"""Two thousand small trials in one launch, with a fault every few seconds: does its driver grow?

    python benchmarks/soak.py              # a quarter of an hour; --seed repeats the faults
    python benchmarks/soak.py --quick      # a minute: a quick test

Ranks, slots and idle workers of Ray are killed and stopped while the driver's memory and open files are observed from
outside. The driver survives all of it. A trial with a fault in each of its tries fails, as promised: then the same
command is launched again, without faults. At the end tests/faults/invariants.py checks the run.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import csv
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from benchmarks.record import Cell, Measured, parser_of, verdict, write
from results.store.reader import finished_trial_ids
from tests.faults.invariants import count_rows, processes_of, violations
from tests.faults.ray_lives import HANG_LIMIT_S, STOPPED_S, TARGETS, SmallSweep, family

SEEDS, QUICK_SEEDS = 1000, 40  # each makes two trials
LOOK_EVERY_S = 1.0
PAUSE_S = (3.0, 8.0)  # between two faults, at least and at most
SHORT_STOP_S = 2.0
STOPS_S = (None, SHORT_STOP_S, STOPPED_S)  # None: it is killed
WEIGHTS = (4, 4, 1)  # long stops are rare: with many of them both slots would be idle most of the time
SETTLED_S = 10.0  # a process gets no fault before this age: a trial has three tries, which begin with a start
GIVEN_UP_S = 5400.0
END_LIMIT_S = 60.0  # after the driver's end, until its Ray is gone
WARM_UP_FRACTION = 0.25
RELATED_S = 30  # samples this far apart may be correlated: about the time to recover from a fault
DRIVER, HEAD, RAYLET, RANK, SLOT, IDLE = "launcher", "head (GCS)", "raylet", "rank", "slot", "idle worker"
STRUCK = (RANK, SLOT, IDLE)
KINDS: Mapping[str, Callable[[psutil.Process], bool]] = {
    **TARGETS, IDLE: lambda process: "ray::IDLE" in " ".join(process.cmdline())
}  # fmt: skip
MEMORY_GOAL_MB, FILES_GOAL = 10.0, 1.0  # of growth per 1,000 trials
COLUMNS = ("what", "unit", "value", "low", "high", "goal", "verdict")
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An observation; memory is resident memory."""

    at_s: float
    trials: int  # that have ended
    driver_mb: float
    driver_files: float
    head_mb: float
    raylet_mb: float


@dataclass(kw_only=True)
class Soak:
    """One launch with its faults and observations."""

    sweep: SmallSweep
    chance: random.Random
    samples: list[Sample] = field(default_factory=list)
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)  # how and what -> times
    stopped: dict[psutil.Process, float] = field(default_factory=dict)  # -> when it may continue

    def run(self) -> int:
        """Launches the sweep and returns how it ended.

        Raises:
            RuntimeError: it does not end.
        """
        with start_launch(self.sweep, 0) as launch:
            self._accompany(launch)
        return launch.returncode

    def _accompany(self, launch: "subprocess.Popen[bytes]") -> None:
        began_s = strike_s = time.monotonic()
        while launch.poll() is None:
            now_s = time.monotonic()
            if now_s > began_s + GIVEN_UP_S:
                raise RuntimeError(f"the sweep did not end within {GIVEN_UP_S:g} s")
            for process in [process for process, until_s in self.stopped.items() if now_s > until_s]:
                del self.stopped[process]
                _send(process, signal.SIGCONT)
            there = processes_by_kind(launch.pid)
            if now_s > strike_s and self._strike(there, now_s):
                strike_s = now_s + self.chance.uniform(*PAUSE_S)
            self._sample(there, now_s - began_s)
            time.sleep(LOOK_EVERY_S)

    def _strike(self, there: Mapping[str, list[psutil.Process]], now_s: float) -> bool:
        """Kills or stops one process that has settled and is not stopped; False if there is none."""
        settled_s = time.time() - SETTLED_S
        candidates = {
            what: [
                process
                for process in there.get(what, ())
                if process not in self.stopped and process.create_time() < settled_s
            ]
            for what in STRUCK
        }
        targets = [what for what, processes in candidates.items() if processes]
        if not targets:
            return False
        what = self.chance.choice(targets)
        victim, stop_s = self.chance.choice(candidates[what]), self.chance.choices(STOPS_S, WEIGHTS)[0]
        how = "SIGKILL" if stop_s is None else f"SIGSTOP for {stop_s:g} s"
        if stop_s is not None:
            self.stopped[victim] = now_s + stop_s
        _send(victim, signal.SIGKILL if stop_s is None else signal.SIGSTOP)
        self.struck[how, what] += 1
        print(f"{how} of {what}", flush=True)
        return True

    def _sample(self, there: Mapping[str, list[psutil.Process]], at_s: float) -> None:
        if not {DRIVER, HEAD, RAYLET} <= there.keys():  # Ray is starting, or gone
            return
        (driver, *_), (head, *_), (raylet, *_) = (there[name] for name in (DRIVER, HEAD, RAYLET))
        try:
            driver_mb, head_mb, raylet_mb = (process.memory_info().rss / MB for process in (driver, head, raylet))
            files = driver.num_fds()
        except psutil.NoSuchProcess:
            return
        self.samples.append(
            Sample(
                at_s=at_s,
                trials=self.ended,
                driver_mb=driver_mb,
                driver_files=files,
                head_mb=head_mb,
                raylet_mb=raylet_mb,
            )  # fmt: skip
        )
        if len(self.samples) % 30 == 1:
            print(self.samples[-1], flush=True)

    @property
    def ended(self) -> int:
        """How many trials have ended, by their rows."""
        return count_rows(self.sweep.run, "trials")


def processes_by_kind(launcher: int) -> dict[str, list[psutil.Process]]:
    """The processes of a launch by what they are."""
    by_kind: dict[str, list[psutil.Process]] = {}
    for process in family(launcher):
        try:
            process.create_time()  # kept from here on
            for kind in [kind for kind, is_one in KINDS.items() if is_one(process)]:
                by_kind.setdefault(kind, []).append(process)
        except psutil.NoSuchProcess:
            continue
    return by_kind


@contextmanager
def start_launch(sweep: SmallSweep, number: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A launch, which has ended afterwards: it is interrupted if the caller leaves earlier."""
    with sweep.start(number, "local") as launch:
        try:
            yield launch
        finally:
            if launch.poll() is None:
                launch.send_signal(signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Growth per 1,000 trials, with its 95% interval."""

    value: float
    low: float
    high: float


def slope_of(trials: Sequence[float], values: Sequence[float], related: int) -> Slope:
    """How values grow with the trials: least squares, with an interval that allows for correlated errors.

    Args:
        trials: at which the values were seen, in the order of time.
        values: of any unit.
        related: up to this many samples apart, errors may be correlated (Newey and West's estimate, 1987).
    """
    import statsmodels.api as sm

    design = sm.add_constant([number / 1000 for number in trials])
    fit = sm.OLS(values, design).fit(cov_type="HAC", cov_kwds={"maxlags": related, "use_correction": True}, use_t=True)
    low, high = fit.conf_int()[1]
    return Slope(value=float(fit.params[1]), low=float(low), high=float(high))


def growth(samples: Sequence[Sample]) -> list[tuple[Cell, ...]]:
    """The rows of the values that may grow, from the samples after the warm-up and before the last trial has ended.

    Raises:
        ValueError: there are too few of them.
    """
    last = samples[-1].trials if samples else 0
    warm = [sample for sample in samples if WARM_UP_FRACTION * last <= sample.trials < last]
    if len(warm) < 10:
        raise ValueError(f"{len(warm)} samples after the warm-up, expected 10 or more: the sweep is too short")
    related = min(int(RELATED_S / LOOK_EVERY_S), len(warm) // 4)
    rows: list[tuple[Cell, ...]] = []
    for what, unit, name, goal in (
        ("the driver's memory", "MB", "driver_mb", MEMORY_GOAL_MB),
        ("the driver's open files", "files", "driver_files", FILES_GOAL),
        (f"memory of Ray's {HEAD}", "MB", "head_mb", None),
        (f"memory of Ray's {RAYLET}", "MB", "raylet_mb", None),
    ):
        values = [getattr(sample, name) for sample in warm]
        slope = slope_of([sample.trials for sample in warm], values, related)
        said = None if goal is None else verdict(slope.high < goal)
        rows.append((f"{what}, per 1,000 trials", unit, slope.value, slope.low, slope.high, goal, said))
        rows.append((f"{what}, in all samples", unit, None, min(values), max(values), None, None))
    return rows


def table(soak: Soak, trials: int, given_up: int, broken: Sequence[str]) -> Measured:
    """What came of it."""
    finished = len(finished_trial_ids(soak.sweep.run))
    minutes = (soak.samples[-1].at_s if soak.samples else 0.0) / 60
    rows: list[tuple[Cell, ...]] = [
        *growth(soak.samples),
        ("trials that finished", "trials", finished, None, None, trials, verdict(finished == trials)),
        ("... of these by a second launch: struck in each of three tries", "trials", given_up, None, None, None, None),
        ("promises broken", "", len(broken), None, None, 0, verdict(not broken)),
        ("minutes", "min", minutes, None, None, None, None),
        ("faults", "", soak.struck.total(), None, None, None, None),
    ]
    rows += [(f"... {how} of {what}", "", n, None, None, None, None) for (how, what), n in sorted(soak.struck.items())]
    return Measured(title=f"{trials:,} trials in one launch under fire", columns=COLUMNS, rows=tuple(rows), notes=NOTES)


NOTES = (
    f"One launch on the site local, one rank per trial, of fine-tuning and TransTailor of two steps on a tiny network; "
    f"a fault every {PAUSE_S[0]:g} to {PAUSE_S[1]:g} s. A stopped process continues after {SHORT_STOP_S:g} s or "
    f"{STOPPED_S:g} s; ranks without a sign of life for {HANG_LIMIT_S:g} s are taken to hang. A process is struck once "
    f"it is {SETTLED_S:g} s old.",
    f"Memory is what is resident (RSS), which does not depend on how many others share its pages. Observed every "
    f"{LOOK_EVERY_S:g} s; the first {WARM_UP_FRACTION:.0%} of the trials are left out as warm-up, and the report's "
    "writing.",
    f"Growth: least squares over the samples, low and high its 95% interval by Newey and West, for samples that go "
    f"together up to {RELATED_S} s apart. The goals are for its upper end: a driver of 10,000 trials then grows by "
    "less than 100 MB, and by less than ten of the 1,024 files that a process may have open by default. One "
    "file left open at each fault is far above that.",
    "Nothing lost: each trial has finished once, and tests/faults/invariants.py finds nothing at the end.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table; 1 if something was lost."""
    parser = parser_of(__doc__, "soak", quick="few trials")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    seeds = QUICK_SEEDS if options.quick else SEEDS
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        sweep = SmallSweep(Path(name) / "soak", ranks=1, seeds=seeds)
        soak = Soak(sweep=sweep, chance=random.Random(f"soak/{options.seed}"))
        code = soak.run()
        given_up = 2 * seeds - len(finished_trial_ids(sweep.run))
        if code == 1:
            with start_launch(sweep, 1) as again:
                code = again.wait(GIVEN_UP_S)
        broken = broken_promises(sweep, code)
        measured = table(soak, 2 * seeds, given_up, broken)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_samples(soak.samples, options.out.with_name(f"{options.out.name}_samples.csv"))
    write(measured, options.out)
    print(*broken, sep="\n")
    return 1 if broken else 0


def broken_promises(sweep: SmallSweep, code: int) -> list[str]:
    """The promises that the launch broke, as messages."""
    until_s = time.monotonic() + END_LIMIT_S
    while processes_of(sweep.folder) and time.monotonic() < until_s:
        time.sleep(LOOK_EVERY_S)
    *_, last = sorted(sweep.folder.glob("output*"))
    broken = [] if code == 0 else [f"3: it ended with {code}: {last.read_text(errors='replace')[-1000:]}"]
    return broken + [
        f"{violation.promise}: {violation.what}"
        for violation in violations(sweep.run, sweep.folder / "cache", ended=True)
    ]


def write_samples(samples: Sequence[Sample], path: Path) -> None:
    """All samples, including those of the warm-up."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, fieldnames=list(Sample.__annotations__))
        lines.writeheader()
        lines.writerows(vars(sample) for sample in samples)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:  # a rank that is taken to hang was killed
        return


if __name__ == "__main__":
    sys.exit(main())
