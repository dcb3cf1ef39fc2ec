"""Trials per hour of a device: several at once, each in its own process, compared with one after the other.

    python benchmarks/packed_trials.py                            # about three minutes on a large GPU
    python benchmarks/packed_trials.py --device cpu --quick       # few and short trials: only to check that it runs

Small networks on small data leave most of a GPU idle. Trials of one rank that ask for a part of one (`gpus_per_rank =
0.25` in a spec's `[resources]`) are packed on it by Ray; here the processes are started without Ray, so that only
the device is measured.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from benchmarks.record import Row, in_turns, parser_of, show_to_ranks, spread, table_of, write
from hpc.ranks.process_ranks import ProcessRanks
from tailor.config.parsing import parse_trial

if TYPE_CHECKING:
    from tailor.parallel.process_group import ProcessGroup

Found = list[tuple[float, float, int]]  # of each operating point: validation score, validation loss, MACs

HOUR_S = 3600.0
METHOD = "transtailor"


@dataclass(frozen=True, kw_only=True)
class Length:
    """How much to measure."""

    trials: int  # of a round
    at_once: tuple[int, ...]  # the first is 1
    rounds: int
    trial: dict[str, Any]  # settings of each, but for the seed


@dataclass(frozen=True, kw_only=True)
class Round:
    """All trials run once."""

    wall_s: float
    used_gb: float | None  # of the GPU at the end, by all processes together
    found: list[Found]  # by trial


USUAL = Length(
    trials=8,
    at_once=(1, 4, 8),
    rounds=2,
    trial={
        "network": "digits_resnet",
        "method": {"name": METHOD, "steps": 1},
        "optimisation": {"epochs": 10, "head_epochs": 10},
    },
)
QUICK = Length(
    trials=4,
    at_once=(1, 2),
    rounds=1,
    trial={
        "network": "digits_vgg",
        "method": {"name": METHOD, "steps": 1, "alpha_epochs": 1},
        "optimisation": {"epochs": 2, "head_epochs": 2},
        "source": {"epochs": 2},
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "packed_trials", quick="few and short trials")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu goes with --quick")
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not options.quick:
        print("on a CPU processes share no device; to see that this runs, add --quick", file=sys.stderr)
        return 2
    name = gpu_name() if options.device == "cuda" else "no GPU, so this says nothing about packing one"
    if name is None:
        print("torch sees no GPU; to see that this runs: --device cpu --quick", file=sys.stderr)
        return 2
    show_to_ranks()
    length = QUICK if options.quick else USUAL
    for rounds in measure(length, options.device):
        table = table_of("Trials packed on a device", rows_of(rounds, options.device), _notes(length, name))
        write(table, options.out, packages=("torch",))
    return 0


def gpu_name() -> str | None:
    """The GPU's name, asked for in another process: this one stays without torch; None without a GPU."""
    ask = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    return said or None


def measure(length: Length, device: str) -> Iterator[dict[int, list[Round]]]:
    """The rounds so far, after each one, by how many trials ran at once; these take turns, up and down.

    Raises:
        RankFailed, RankDied: a trial failed; on a GPU perhaps because this many do not fit.
    """
    trials = [
        parse_trial(length.trial | {"seed": seed}, f"seed {seed}").model_dump(mode="json")
        for seed in range(length.trials)
    ]
    rounds: dict[int, list[Round]] = {}
    for at_once in in_turns(length.at_once, length.rounds):
        rounds.setdefault(at_once, []).append(run_packed(trials, at_once, device))
        print(f"{at_once} at once: {rounds[at_once][-1].wall_s:.1f} s", file=sys.stderr, flush=True)
        yield rounds


def run_packed(trials: Sequence[dict[str, Any]], at_once: int, device: str) -> Round:
    """All trials on this many warm processes; each has run one of them before the clock starts."""
    processes: list[ProcessRanks] = []
    idle: SimpleQueue[ProcessRanks] = SimpleQueue()

    def start(_number: int) -> None:
        process = ProcessRanks("benchmarks.packed_trials:PackedRank", 1)  # ends with the thread that started it
        processes.append(process)
        process.call("run", trials[0], device)

    def run(settings: dict[str, Any]) -> Found:
        process = idle.get()
        try:
            (results,) = process.call("run", settings, device)
        finally:  # also one that has ended: its next user gets an error instead of waiting for ever
            idle.put(process)
        return cast(Found, results)

    try:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(start, range(at_once)))
            for process in processes:
                idle.put(process)
            begun_s = time.perf_counter()
            results = list(pool.map(run, trials))
            wall_s = time.perf_counter() - begun_s
            (used_gb,) = processes[0].call("used_gb")
        return Round(wall_s=wall_s, used_gb=used_gb, found=results)
    finally:
        for process in processes:
            process.kill()


def rows_of(rounds: dict[int, list[Round]], device: str) -> list[Row]:
    """A row for each number of trials at once; times are medians over rounds."""
    first = rounds[1][0]
    alone_s = statistics.median(timed.wall_s for timed in rounds[1])
    rows: list[Row] = []
    for at_once, packed in rounds.items():
        walls_s = [timed.wall_s for timed in packed]
        wall_s = statistics.median(walls_s)
        used_gb = [timed.used_gb for timed in packed if timed.used_gb is not None]
        rows.append({
            "device": device,
            "at_once": at_once,
            "trials": len(first.found),
            "trials_per_hour": len(first.found) / wall_s * HOUR_S,
            "times_one_after_the_other": alone_s / wall_s,
            "rounds_s": spread(walls_s),
            "used_gb": max(used_gb, default=None),
            "equal_results": "yes" if all(timed.found == first.found for timed in packed) else "no",
        })  # fmt: skip
    return rows


class PackedRank:
    """One process of those that share a device: whole trials, one after the other, each from an empty cache."""

    def __init__(self) -> None:
        self._ranks: ProcessGroup | None = None

    def run(self, settings: dict[str, Any], device: str) -> Found:
        """The results of the trial's operating points."""
        from tailor.config.trial import TrialConfig
        from tailor.execution.cache import Cache
        from tailor.execution.runner import run_trial
        from tailor.parallel.process_group import join

        self._ranks = self._ranks or join(device)
        with tempfile.TemporaryDirectory() as cache:
            events = run_trial(TrialConfig.model_validate(settings), cache=Cache(Path(cache)), ranks=self._ranks)
            facts = [event.result.info for event in events if event.point is not None]
        return [(info["validation_score"], info["validation_loss"], info["macs"]) for info in facts]

    def used_gb(self) -> float | None:
        """Memory of the GPU that any process uses; None on a CPU."""
        if self._ranks is None or self._ranks.device.type != "cuda":
            return None
        import torch

        free, total = torch.cuda.mem_get_info(self._ranks.device)
        return float(total - free) / 1e9

    def close(self) -> None:
        """Leave the process group."""
        from tailor.parallel.process_group import leave

        leave()


def _notes(length: Length, name: str) -> tuple[str, ...]:
    return (
        f"{name}. {length.trials} trials a round, whole ones of {METHOD} on {length.trial['network']} and digits, each "
        "from an empty cache, its source network included; they differ in their seeds. One process and one thread "
        f"for each trial at once, on {len(os.sched_getaffinity(0))} cores; each process has run a trial before.",
        "times_one_after_the_other: median wall time of the rounds with one at once / of these; the rounds take turns. "
        "rounds_s: quartiles of the rounds' wall times.",
        "used_gb: memory of the GPU in use at the end of a round, by all processes, including those of others. "
        "equal_results: validation score, loss and MACs of each operating point as with one at once, to the last bit.",
    )


if __name__ == "__main__":
    sys.exit(main())
