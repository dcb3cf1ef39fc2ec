"""One short training on the device: precision, optimisers, what the host waits for, memory."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailor.config.optimisation import Optimisation
from tailor.core.determinism import RepeatableBackward
from tailor.core.errors import Paused, TrainingError
from tailor.data import task_data
from tailor.data.device_images import DeviceImages
from tailor.execution.memory import memory_explained
from tailor.gpu_check import CheckRow
from tailor.networks import building
from tailor.networks.embedded import DigitsAttention
from tailor.parallel.norm import set_norms
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Training
from tailor.training.checkpoint import Checkpoint, Pause, never
from tailor.training.loop import group, optimiser_for, train

NETWORK, CLASSES, IMAGES, RATE = "digits_resnet", 5, 200, 0.02
MIXED = {"precision": "bf16", "memory_format": "channels_last"}
BF16_TOLERANCE = 0.05  # of the loss; bf16 has 8 bits
TIMES = 5
WAITS_OF_AN_AGREEMENT = 4  # the losses, the right answers, the message to the other ranks, their answer
MakeOptimiser = Callable[[list[Any]], torch.optim.Optimizer]
OPTIMISERS: dict[str, MakeOptimiser] = {
    "fused SGD": lambda groups: torch.optim.SGD(groups, momentum=0.9, fused=True),
    "fused Adam": lambda groups: torch.optim.Adam(groups, fused=True),
    "capturable Adam": lambda groups: torch.optim.Adam(groups, capturable=True),
}


class ShortTraining:
    """Two epochs of a small network with norms on 200 digits, and what is left of it."""

    def __init__(
        self, ranks: ProcessGroup, make: MakeOptimiser | None = None, path: Path | None = None, pause: Pause = never,
        settings: Mapping[str, Any] = {},
    ) -> None:  # fmt: skip
        training = Training(epochs=2, batch_size=32, seed=0, learning_rate=RATE, **settings)
        self.samples = DeviceImages(ranks.device).place(task_data.source("digits").take(torch.arange(IMAGES)))
        self.model = set_norms(building.build(NETWORK, CLASSES, seed=0).to(ranks.device), "synchronised", ranks)
        groups = [group(list(self.model.parameters()), training.learning_rate)]
        self.optimiser = optimiser_for(groups, training) if make is None else make(groups)
        checkpoint = Checkpoint(path, 0.0, ranks, pause)
        self.history = train(self.model, self.optimiser, self.samples, training, "shift", checkpoint)


def pause_after(questions: int) -> Pause:
    """A `pause` that says no to this many questions, and then yes."""
    asked = count()
    return lambda: next(asked) >= questions


def check_precision(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """bf16 and channels_last against float32, by the loss of the last epoch."""
    whole, mixed = (ShortTraining(ranks, settings=one).history[-1]["train_loss"] for one in ({}, MIXED))
    off = abs(mixed - whole) / whole
    compared = f"loss {mixed:.4f}, in float32 {whole:.4f}"
    yield CheckRow("bf16, channels_last", compared, f"{BF16_TOLERANCE:.0%}", f"{off:.2%}", off <= BF16_TOLERANCE)


def check_optimisers(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """Optimisers that run on the device, restored from a checkpoint inside an epoch."""
    for name, make in OPTIMISERS.items():
        check, path = f"{name} from a checkpoint", folder / f"{name}.checkpoint"
        if name.startswith("capturable") and ranks.device.type == "cpu":
            yield CheckRow(check, "", "", "torch has it on GPUs only", None)
            continue
        straight, resumed = ShortTraining(ranks, make).model.state_dict(), dict[str, Tensor]()
        try:
            ShortTraining(ranks, make, path, pause_after(1))
        except Paused:
            resumed = ShortTraining(ranks, make, path).model.state_dict()
        wrong = sum(name not in resumed or not torch.equal(t, resumed[name]) for name, t in straight.items())
        compared = f"{len(straight)} weights, resumed and straight"
        yield CheckRow(check, compared, "no bit", f"{wrong} differ", wrong == 0)


def check_attention(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """Gradients of attention over many tokens, computed again and again, in both precisions; to the last bit."""
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        model = DigitsAttention(64, 4).to(ranks.device)
        tokens = torch.randn(16, 577, 64, device=ranks.device)
        repeatable, found = RepeatableBackward(model), list[list[Tensor]]()
        for _ in range(TIMES):
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = model(tokens).float().square().mean()
            with repeatable.context(tokens):
                found.append([*torch.autograd.grad(loss, [*model.parameters()])])
        wrong = sum(
            not torch.equal(one, other) for again in found[1:] for one, other in zip(found[0], again, strict=True)
        )
        compared = f"{len(found[0])} gradients, {TIMES} times"
        yield CheckRow(f"attention, {precision}", compared, "no bit", f"{wrong} differ", wrong == 0)


def check_waits(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """How often the host waits for the GPU inside epochs, by CUDA's own count: at agreements only."""
    if ranks.device.type == "cpu":
        yield CheckRow("waits of the host", "", "", "a CPU is not waited for", None)
        return
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
    waits = sum("synchronizing" in str(warning.message) for warning in caught)
    allowed = WAITS_OF_AN_AGREEMENT * len(agreements)
    compared = f"waits in two epochs with {len(agreements)} agreements"
    yield CheckRow("waits of the host", compared, f"{allowed}", f"{waits}", waits <= allowed)


def check_memory(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """More memory than any device has: the message names the batch size."""
    said = "no error"
    try:
        with memory_explained(Optimisation(batch_size=64), ranks.device):
            torch.empty(2**60, dtype=torch.uint8, device=ranks.device)
    except TrainingError as error:
        said = str(error)
    compared = "the message of an allocation of 2^60 bytes"
    yield CheckRow("out of memory", compared, "batch_size = 64 in it", said[:62], "batch_size = 64" in said)
