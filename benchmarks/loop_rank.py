"""One rank of the training benchmark: tailor's loop and the same loop written bare, on the same work."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.images import CLASSES, training_images
from tailor.config.optimisation import Optimisation
from tailor.core.seeds import stream
from tailor.data.task_data import Samples, normalise
from tailor.networks import building
from tailor.parallel.norm import synchronise_norms
from tailor.parallel.process_group import ProcessGroup, join, leave
from tailor.stages import Training
from tailor.training.checkpoint import Checkpoint
from tailor.training.loop import draws_randomly, group, optimiser_for, train

SEED = 0
PHOTOGRAPHS = 96  # random ones, for networks that read photographs
CHECKPOINT_EVERY_S = 30.0  # what a sweep's trials have


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


def _distances(one: nn.Module, other: nn.Module) -> list[float]:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return [float((a.detach() - b.detach()).abs().max()) for a, b in pairs]
