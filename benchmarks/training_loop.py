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

import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.images import CLASSES, PIXELS, training_images
from benchmarks.record import Row, in_turns, parser_of, show_to_ranks, spread, table_of, verdict, write
from hpc.ranks.process_ranks import ProcessRanks
from tailor.config.optimisation import Optimisation
from tailor.core.seeds import stream
from tailor.data.task_data import Samples, normalise
from tailor.networks import building
from tailor.parallel.norm import synchronise_norms
from tailor.parallel.process_group import ProcessGroup, join, leave
from tailor.stages import Training
from tailor.training.checkpoint import Checkpoint
from tailor.training.loop import draws_randomly, group, optimiser_for, train

RANKS = (1, 2)
BATCH_SIZE = 32
LOOPS = ("ours", "bare")
RATIO_GOAL = 0.98  # of the bare loop's images per second
OVERHEAD_GOAL_US = 60.0  # more than the bare loop's processor time in each step, for the networks of `TINY`
TINY = ("digits_vgg", "digits_resnet")  # their steps take a millisecond or two, so a ratio says little
SAME_WEIGHTS = 1e-3  # largest difference after an epoch, of the way that the weights went: rounding alone makes 1e-5
WARM_UP_EPOCHS = 1
SEED = 0
PHOTOGRAPHS = 96  # random ones, for networks that read photographs
CHECKPOINT_EVERY_S = 30.0  # what a sweep's trials have


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
    options = parser_of(__doc__, "training_loop", quick="fewer and shorter rounds").parse_args(arguments)
    show_to_ranks()
    rows = []
    for ranks in RANKS:
        for network, length in (QUICK if options.quick else USUAL).items():
            rows.append(row(network, ranks, measure(network, ranks, length)))
            print(f"{network} on {ranks} rank(s): ours / bare = {rows[-1]['ratio']:.3f}", file=sys.stderr, flush=True)
    write(table_of("The training loop", rows, _notes(options.quick)), options.out)
    return 0


def measure(network: str, ranks: int, length: Length) -> Timings:
    """Each loop's calls, one per round.

    Raises:
        ValueError: the loops do not end at the same weights, so they do not do the same work.
    """
    timings: Timings = {loop: [] for loop in LOOPS}
    with tempfile.TemporaryDirectory() as folder:
        processes = ProcessRanks("benchmarks.training_loop:LoopRank", ranks)
        try:
            (difference, *_) = processes.call("difference", network, BATCH_SIZE, folder)
            if difference > SAME_WEIGHTS:
                raise ValueError(f"{network} on {ranks} ranks: weights of the two loops differ by {difference:.2g}")
            (images, *_) = processes.call("images", network)
            for loop in LOOPS:
                processes.call("seconds", loop, network, WARM_UP_EPOCHS, BATCH_SIZE, folder)
            steps = length.epochs * math.ceil(images / BATCH_SIZE)
            for loop in in_turns(LOOPS, length.rounds):
                times = processes.call("seconds", loop, network, length.epochs, BATCH_SIZE, folder)
                wall_s = max(wall_s for wall_s, _ in times)
                cpu_s = sum(cpu_s for _, cpu_s in times)
                done = Timing(images=length.epochs * images, steps=steps, wall_s=wall_s, cpu_s=cpu_s)
                timings[loop].append(done)
        finally:
            processes.close()
    return timings


def row(network: str, ranks: int, timings: Timings) -> Row:
    """A row of the table; ratios are medians of the rounds' ratios."""
    rounds = list(zip(timings["ours"], timings["bare"], strict=True))
    ratios = [bare.wall_s / ours.wall_s for ours, bare in rounds]
    ratio = statistics.median(ratios)
    overhead_us = statistics.median(1e6 * (ours.cpu_s - bare.cpu_s) / ranks / ours.steps for ours, bare in rounds)
    is_tiny = network in TINY
    is_met = overhead_us <= OVERHEAD_GOAL_US if is_tiny else ratio >= RATIO_GOAL
    return {
        "network": network,
        "ranks": ranks,
        "ours_images_per_s": statistics.median(call.images / call.wall_s for call in timings["ours"]),
        "bare_images_per_s": statistics.median(call.images / call.wall_s for call in timings["bare"]),
        "ratio": ratio,
        "ratio_quartiles": spread(ratios),
        "cpu_time_ratio": statistics.median(bare.cpu_s / ours.cpu_s for ours, bare in rounds),
        "overhead_us_a_step": overhead_us,
        "rounds": len(rounds),
        "goal": f"{OVERHEAD_GOAL_US:g} µs a step" if is_tiny else f"ratio {RATIO_GOAL:g}",
        "verdict": verdict(is_met),
    }


@dataclass(frozen=True, kw_only=True)
class Work:
    """The data on which both loops train a network."""

    samples: Samples
    normalised: Tensor  # a hand-written loop for a small set normalises it once, so this is not timed


class LoopRank:
    """Times one loop at a time; all ranks get the same calls in the same order."""

    def __init__(self) -> None:
        self._ranks = join("cpu")

    def images(self, network: str) -> int:
        """Training images of one epoch, over all ranks."""
        return len(work_for(network).samples)

    def seconds(self, loop: str, network: str, epochs: int, batch_size: int, folder: str) -> tuple[float, float]:
        """Wall time, as the slowest rank sees it, and this rank's CPU time of `epochs` epochs on a new network.

        `loop` is "ours" or "bare".
        """
        model = self._network(network)
        self._meet()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        self._train(loop, network, model, self._training(epochs, batch_size), Path(folder))
        cpu_s = time.process_time() - cpu_s
        self._meet()
        return time.perf_counter() - wall_s, cpu_s

    def difference(self, network: str, batch_size: int, folder: str) -> float:
        """Largest difference of a weight after one epoch of each loop, as a share of how far the weights moved.

        Without dropout, because ours draws it from a seed per step and the bare loop does not.
        """
        training = self._training(1, batch_size)
        before, ours, bare = (_without_dropout(self._network(network)) for _ in range(3))
        self._train("ours", network, ours, training, Path(folder))
        self._train("bare", network, bare, training, Path(folder))
        moved = max(_distances(before, ours))
        return max(_distances(ours, bare)) / moved

    def close(self) -> None:
        """Leave the process group."""
        leave()

    def _train(self, loop: str, network: str, model: nn.Module, training: Training, folder: Path) -> None:
        work = work_for(network)
        if loop == "ours":
            checkpoint = Checkpoint(folder / "benchmark.safetensors", CHECKPOINT_EVERY_S, self._ranks)
            optimiser = optimiser_for([group(list(model.parameters()), training.learning_rate)], training)
            train(model, optimiser, work.samples, training, "none", checkpoint)
            checkpoint.remove()
        elif loop == "bare":
            seeds = [stream(training.seed, "order", epoch) for epoch in range(training.epochs)]
            train_bare(model, work.normalised, work.samples.labels, training, seeds, self._ranks)
        else:
            raise ValueError(f"no loop {loop!r}; type ours or bare")

    def _network(self, name: str) -> nn.Module:
        """The network in training mode, its norms synchronised: the same for both loops."""
        return synchronise_norms(building.build(name, CLASSES, seed=SEED).train(), self._ranks)

    def _training(self, epochs: int, batch_size: int) -> Training:
        """As the trials of a sweep fine-tune by default."""
        usual = Optimisation()
        return Training(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=usual.head_learning_rate,
            head_learning_rate=usual.head_learning_rate,
            momentum=usual.momentum,
            weight_decay=usual.weight_decay,
            schedule=usual.schedule,
            seed=SEED,
        )

    def _meet(self) -> None:
        if self._ranks.world_size > 1:
            dist.barrier()


@lru_cache(maxsize=1)
def work_for(network: str) -> Work:
    """The training images of the digits task, or random ones where the network reads larger images."""
    samples = training_images(network, PHOTOGRAPHS)
    return Work(samples=samples, normalised=normalise(samples.fetch().images))


def _without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if draws_randomly(module):
            module.p = 0.0  # type: ignore[assignment]
    return model


def train_bare(
    model: nn.Module, images: Tensor, labels: Tensor, training: Training, seeds: Sequence[int], ranks: ProcessGroup
) -> None:
    """The loop as written by hand: no metrics, no checkpoints, no checks.

    Args:
        model: trained in place.
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64.
        training: batch size (over all ranks), learning rate, momentum and weight decay are read.
        seeds: one per epoch, for the order of the images.
        ranks: the processes that train together.
    """
    optimiser = torch.optim.SGD(
        model.parameters(), lr=training.learning_rate, momentum=training.momentum, weight_decay=training.weight_decay
    )
    parallel = ranks.parallel(model)  # DDP without its broadcast of buffers, which the norms have made equal already
    for seed in seeds:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        for start in range(0, len(labels), training.batch_size):
            mine = order[start : start + training.batch_size][ranks.rank :: ranks.world_size]
            logits = parallel(images.index_select(0, mine))
            loss = F.cross_entropy(logits, labels.index_select(0, mine))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()


def _distances(first: nn.Module, second: nn.Module) -> list[float]:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return [float((a.detach() - b.detach()).abs().max()) for a, b in pairs]


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
