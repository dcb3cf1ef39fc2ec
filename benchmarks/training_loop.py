"""Images per second of tailor's training loop beside the same loop written bare in torch.

    python benchmarks/training_loop.py            # about five minutes
    python benchmarks/training_loop.py --quick    # about a minute

Both loops train the same network on the same images in the same order, with the same synchronised norms; that they
end at the same weights is checked first. They take turns, so that whatever else the machine does meets both.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.images import PIXELS
from benchmarks.loop_rank import PHOTOGRAPHS
from benchmarks.record import RESULTS, Cell, Measured, show_to_ranks, spread, verdict, write
from hpc.ranks.process_ranks import ProcessRanks

RANKS = (1, 2)
BATCH_SIZE = 32
LOOPS = ("ours", "bare")
RATIO_GOAL = 0.98  # of the bare loop's images per second
OVERHEAD_GOAL_US = 60.0  # more than the bare loop's processor time in each step, for the networks of `TINY`
TINY = ("digits_vgg", "digits_resnet")  # their steps take a millisecond or two, so a ratio says little
SAME_WEIGHTS = 1e-3  # largest difference after an epoch, of the way that the weights went: rounding alone makes 1e-5
WARM_UP_EPOCHS = 1

COLUMNS = (
    "network",
    "ranks",
    "ours_images_per_s",
    "bare_images_per_s",
    "ratio",
    "ratio_quartiles",
    "cpu_time_ratio",
    "overhead_us_a_step",
    "rounds",
    "goal",
    "verdict",
)


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long to measure."""

    epochs: int  # of one call of a loop
    rounds: int  # calls of each loop


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One call of a loop."""

    images: int  # trained on, over all ranks
    steps: int
    wall_s: float
    cpu_s: float  # of all ranks together


Timings = dict[str, list[Timing]]  # loop -> one call per round

USUAL = {  # 25 epochs are one fine-tuning of the embedded sweep
    "digits_vgg": Length(epochs=25, rounds=20),
    "digits_resnet": Length(epochs=25, rounds=15),
    "digits_vit": Length(epochs=10, rounds=10),
    "mobilenet_v2": Length(epochs=1, rounds=8),
}
QUICK = {
    "digits_vgg": Length(epochs=5, rounds=5),
    "digits_resnet": Length(epochs=5, rounds=5),
    "digits_vit": Length(epochs=2, rounds=3),
    "mobilenet_v2": Length(epochs=1, rounds=1),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="tailor's training loop beside the same loop written bare in torch")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: for a look, not for a record")
    parser.add_argument("--out", type=Path, default=RESULTS / "training_loop", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    show_to_ranks()
    rows = []
    for ranks in RANKS:
        for network, length in (QUICK if options.quick else USUAL).items():
            rows.append(row(network, ranks, measure(network, ranks, length)))
            print(f"{network} on {ranks} rank(s): ours / bare = {rows[-1][4]:.3f}", file=sys.stderr, flush=True)
    write(
        Measured(title="The training loop", columns=COLUMNS, rows=tuple(rows), notes=_notes(options.quick)), options.out
    )
    return 0


def measure(network: str, ranks: int, length: Length) -> Timings:
    """Each loop's calls, one per round.

    Raises:
        ValueError: the loops do not end at the same weights, so they do not do the same work.
    """
    timings: Timings = {loop: [] for loop in LOOPS}
    with tempfile.TemporaryDirectory() as folder:
        processes = ProcessRanks("benchmarks.loop_rank:LoopRank", ranks)
        try:
            (difference, *_) = processes.call("difference", network, BATCH_SIZE, folder)
            if difference > SAME_WEIGHTS:
                raise ValueError(f"{network} on {ranks} ranks: weights of the two loops differ by {difference:.2g}")
            (images, *_) = processes.call("images", network)
            for loop in LOOPS:
                processes.call("seconds", loop, network, WARM_UP_EPOCHS, BATCH_SIZE, folder)
            for number in range(length.rounds):
                for loop in LOOPS if number % 2 == 0 else reversed(LOOPS):
                    times = processes.call("seconds", loop, network, length.epochs, BATCH_SIZE, folder)
                    wall_s, cpu_s = max(wall_s for wall_s, _ in times), sum(cpu_s for _, cpu_s in times)
                    steps = length.epochs * math.ceil(images / BATCH_SIZE)
                    done = Timing(images=length.epochs * images, steps=steps, wall_s=wall_s, cpu_s=cpu_s)
                    timings[loop].append(done)
        finally:
            processes.close()
    return timings


def row(network: str, ranks: int, timings: Timings) -> tuple[Cell, ...]:
    """A row of the table; ratios are medians of the rounds' ratios."""
    rounds = list(zip(timings["ours"], timings["bare"], strict=True))
    ratios = [bare.wall_s / ours.wall_s for ours, bare in rounds]
    ratio, cpu_ratio = statistics.median(ratios), statistics.median(bare.cpu_s / ours.cpu_s for ours, bare in rounds)
    speeds = (statistics.median(one.images / one.wall_s for one in timings[loop]) for loop in LOOPS)
    overhead_us = statistics.median(1e6 * (ours.cpu_s - bare.cpu_s) / ranks / ours.steps for ours, bare in rounds)
    is_tiny = network in TINY
    goal = f"{OVERHEAD_GOAL_US:g} µs a step" if is_tiny else f"ratio {RATIO_GOAL:g}"
    is_met = overhead_us <= OVERHEAD_GOAL_US if is_tiny else ratio >= RATIO_GOAL
    counts = (cpu_ratio, overhead_us, len(rounds), goal, verdict(is_met))
    return network, ranks, *speeds, ratio, spread(ratios), *counts


def _notes(is_quick: bool) -> tuple[str, ...]:
    epochs = {name: length.epochs for name, length in (QUICK if is_quick else USUAL).items()}
    return (
        f"One call is {epochs['digits_vgg']} epochs of the digits target task, of mobilenet_v2 "
        f"{epochs['mobilenet_v2']} of {PHOTOGRAPHS} random images of {PIXELS} x {PIXELS} pixels; {BATCH_SIZE} images "
        "in a step over all ranks, one thread per rank; medians over rounds in which both loops take turns.",
        "ratio: ours / bare in images/s. cpu_time_ratio: bare / ours in CPU seconds of all ranks, which tells a "
        "slow loop from a busy machine. overhead: CPU time of one rank's step, ours - bare.",
        "ours: `tailor.training.loop.train` with its data path (uint8 images, normalised per batch), its metrics, its "
        "checks and checkpoints, every 30 s at the latest, as in a trial.",
        "bare: float images normalised beforehand, `index_select`, SGD, DDP on two ranks; no metrics, no checkpoints.",
        "Both: the same synchronised BatchNorm on two ranks (torch's own runs on GPUs only). Making the network is not "
        "timed; making the optimiser and DDP is.",
    )


if __name__ == "__main__":
    sys.exit(main())
