"""One short training on the device: precision, optimisers, where its tensors are, what the host waits for, memory."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailor.config.optimisation import Optimisation
from tailor.core.errors import Paused, TrainingError
from tailor.data import task_data
from tailor.data.device_images import DeviceImages
from tailor.execution.memory import memory_explained
from tailor.gpu_check.row import CheckRow, not_here
from tailor.networks import building
from tailor.parallel.norm import set_norms
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Training
from tailor.training.checkpoint import Checkpoint, Pause, never, parameters_of
from tailor.training.loop import group, optimiser_for, train

NETWORK, CLASSES, IMAGES, RATE = "digits_resnet", 5, 200, 0.02
BF16_TOLERANCE = 0.05  # of the loss; bf16 has 8 bits
WAITS_OF_AN_AGREEMENT = 4  # the losses, the right answers, the message to the other ranks, their answer
OPTIMISERS: dict[str, Callable[[list[Any]], torch.optim.Optimizer]] = {
    "fused SGD": lambda groups: torch.optim.SGD(groups, momentum=0.9, fused=True),
    "fused Adam": lambda groups: torch.optim.Adam(groups, fused=True),
    "capturable Adam": lambda groups: torch.optim.Adam(groups, capturable=True),
}
AnyOptimiser = Callable[[list[Any]], torch.optim.Optimizer]


class ShortTraining:
    """Two epochs of a small network with norms on 200 digits; what is left of it.

    Args:
        ranks: who trains.
        path: of the checkpoint; None keeps none.
        pause: as of `Checkpoint`.
        make: the optimiser of the parameter groups; None: that of the settings.
        settings: of `Training`.
    """

    def __init__(
        self,
        ranks: ProcessGroup,
        path: Path | None = None,
        pause: Pause = never,
        make: AnyOptimiser | None = None,
        settings: Mapping[str, Any] = {},
    ) -> None:
        training = Training(epochs=2, batch_size=32, seed=0, learning_rate=RATE, **settings)
        self.samples = DeviceImages(ranks.device).place(task_data.source("digits").take(torch.arange(IMAGES)))
        self.model = set_norms(building.build(NETWORK, CLASSES, seed=0).to(ranks.device), "synchronised", ranks)
        groups = [group(list(self.model.parameters()), training.learning_rate)]
        self.optimiser = optimiser_for(groups, training) if make is None else make(groups)
        checkpoint = Checkpoint(path, 0.0, ranks, pause)
        self.history = train(self.model, self.optimiser, self.samples, training, "shift", checkpoint)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, gradients, the state of the optimiser, images and labels; no counts of steps."""
        steps = [self.optimiser.state[parameter] for parameter in parameters_of(self.optimiser)]
        kept = {f"optimiser/{n}/{name}": t for n, state in enumerate(steps) for name, t in state.items()}
        gradients = {f"gradient/{name}": p.grad for name, p in self.model.named_parameters()}
        there = (
            self.model.state_dict() | gradients | kept | {"images": self.samples.images, "labels": self.samples.labels}
        )
        return {name: tensor for name, tensor in there.items() if isinstance(tensor, Tensor) and tensor.dim()}


def pause_after(questions: int) -> Pause:
    """A `pause` that says no to this many questions, and then yes."""
    asked = count()
    return lambda: next(asked) >= questions


def check_precision(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """bf16 and channels_last against float32, by the loss of the last epoch."""
    losses = []
    for settings in ({}, {"precision": "bf16", "memory_format": "channels_last"}):
        losses.append(ShortTraining(ranks, settings=settings).history[-1]["train_loss"])
    whole, mixed = losses
    difference = abs(mixed - whole) / whole
    yield CheckRow(
        check="bf16, channels_last",
        compared=f"loss {mixed:.4f}, in float32 {whole:.4f}",
        tolerance=f"{BF16_TOLERANCE:.0%}",
        found=f"{difference:.2%}",
        is_right=difference <= BF16_TOLERANCE,  # NaN is not
    )


def check_optimisers(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """Optimisers that run on the device, restored from a checkpoint inside an epoch."""
    for name, make in OPTIMISERS.items():
        compared = "weights, resumed and straight"
        if name.startswith("capturable") and ranks.device.type == "cpu":
            yield not_here(name, compared, "torch has it on GPUs only")
            continue
        straight = ShortTraining(ranks, make=make).model.state_dict()
        path = folder / f"{name}.checkpoint"
        try:
            ShortTraining(ranks, path, pause=pause_after(1), make=make)
            resumed: dict[str, Tensor] = {}  # it did not pause
        except Paused:
            resumed = ShortTraining(ranks, path, make=make).model.state_dict()
        wrong = [key for key, tensor in straight.items() if key not in resumed or not torch.equal(tensor, resumed[key])]
        yield CheckRow(
            check=f"{name} from a checkpoint",
            compared=f"{len(straight)} {compared}",
            tolerance="no bit",
            found=f"{len(wrong)} differ",
            is_right=not wrong,
        )


def check_placement(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """After a training, all tensors are on the device."""
    tensors = ShortTraining(ranks).tensors()
    elsewhere = [name for name, tensor in tensors.items() if tensor.device != ranks.device]
    yield CheckRow(
        check="placement",
        compared=f"{len(tensors)} tensors of a training",
        tolerance="all on the device",
        found=f"{len(elsewhere)} elsewhere {', '.join(elsewhere[:3])}".rstrip(),
        is_right=not elsewhere,
    )


def check_waits(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """How often the host waits for the GPU inside epochs, by CUDA's own count: at agreements only."""
    compared = "waits in two epochs, agreements apart"
    if ranks.device.type == "cpu":
        yield not_here("waits of the host", compared, "a CPU is not waited for")
        return
    found, agreements = host_waits(ranks)
    yield CheckRow(
        check="waits of the host",
        compared=compared,
        tolerance="0",
        found=f"{found - WAITS_OF_AN_AGREEMENT * agreements} in addition to {agreements} agreements",
        is_right=found <= WAITS_OF_AN_AGREEMENT * agreements,
    )


def host_waits(ranks: ProcessGroup) -> tuple[int, int]:
    """Waits of a short training for its GPU, and how often its ranks agreed."""
    agreements: list[None] = []

    def agree() -> bool:
        agreements.append(None)
        torch.cuda.set_sync_debug_mode("warn")  # from the first step on: what precedes moves the images
        return False

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            ShortTraining(ranks, pause=agree)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught), len(agreements)


def check_memory(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """More memory than any device has: the message names the batch size."""
    said = "no error"
    try:
        with memory_explained(Optimisation(batch_size=64), ranks.device):
            torch.empty(2**60, dtype=torch.uint8, device=ranks.device)
    except TrainingError as error:
        said = str(error)
    yield CheckRow(
        check="out of memory",
        compared="the message of an allocation of 2^60 bytes",
        tolerance="batch_size = 64 in it",
        found=said[:60],
        is_right="batch_size = 64" in said,
    )
