"""One short training on the device: precision, optimisers, what the host waits for, memory."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailor.common.determinism import RepeatableBackward
from tailor.common.errors import Paused, TrainingError
from tailor.config.optimisation import Optimisation
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

NETWORK = "digits_resnet"
CLASSES = 5
IMAGES = 200
LEARNING_RATE = 0.02
MIXED_PRECISION = {"precision": "bf16", "memory_format": "channels_last"}
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
        training = Training(epochs=2, batch_size=32, seed=0, learning_rate=LEARNING_RATE, **settings)
        self.samples = DeviceImages(ranks.device).place(task_data.source("digits").take(torch.arange(IMAGES)))
        self.model = set_norms(building.build(NETWORK, CLASSES, seed=0).to(ranks.device), "synchronised", ranks)
        groups = [group(list(self.model.parameters()), training.learning_rate)]
        self.optimiser = optimiser_for(groups, training) if make is None else make(groups)
        checkpoint = Checkpoint(path, 0.0, ranks, pause)
        self.history = train(self.model, self.optimiser, self.samples, training, "shift", checkpoint)


def pause_after(questions: int) -> Pause:
    """Return a `pause` that says no to this many questions, and then yes."""
    questions_asked = count()
    return lambda: next(questions_asked) >= questions


def check_precision(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """Compare bf16 and channels_last with float32, by the loss of the last epoch."""
    whole_loss = ShortTraining(ranks).history[-1]["train_loss"]
    mixed_loss = ShortTraining(ranks, settings=MIXED_PRECISION).history[-1]["train_loss"]
    difference = abs(mixed_loss - whole_loss) / whole_loss
    yield CheckRow(
        check="bf16, channels_last",
        compared=f"loss {mixed_loss:.4f}, in float32 {whole_loss:.4f}",
        tolerance=f"{BF16_TOLERANCE:.0%}",
        difference=f"{difference:.2%}",
        is_right=difference <= BF16_TOLERANCE,
    )


def check_optimisers(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """Restore optimisers that run on the device from a checkpoint inside an epoch; compare with a straight training."""
    for name, make in OPTIMISERS.items():
        check = f"{name} from a checkpoint"
        if name.startswith("capturable") and ranks.device.type == "cpu":
            yield CheckRow(check, "", "", "torch has it on GPUs only", None)
            continue
        path = folder / f"{name}.checkpoint"
        straight = ShortTraining(ranks, make).model.state_dict()
        resumed: dict[str, Tensor] = {}
        try:
            ShortTraining(ranks, make, path, pause_after(1))
        except Paused:
            resumed = ShortTraining(ranks, make, path).model.state_dict()
        compared = f"{len(straight)} weights, resumed and straight"
        yield row_of_bits(check, compared, count_unequal(straight, resumed))


def count_unequal(expected: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> int:
    """Return how many of the expected tensors the others lack, or have with other values."""
    unequal = 0
    for name, tensor in expected.items():
        if name not in others or not torch.equal(tensor, others[name]):
            unequal += 1
    return unequal


def row_of_bits(check: str, compared: str, unequal: int) -> CheckRow:
    """Return the row of a check in which no bit may differ, from how many tensors do."""
    return CheckRow(check, compared, "no bit", f"{unequal} differ", unequal == 0)


def check_attention(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """Compute the gradients of attention over many tokens again and again, in both precisions; compare all bits."""
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        model = DigitsAttention(64, 4).to(ranks.device)
        tokens = torch.randn(16, 577, 64, device=ranks.device)
        repeatable = RepeatableBackward(model)
        first_gradients: dict[str, Tensor] = {}
        unequal = 0
        for _ in range(TIMES):
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = model(tokens).float().square().mean()
            with repeatable.context(tokens):
                gradients = torch.autograd.grad(loss, list(model.parameters()))
            by_name = {name: gradient for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True)}
            first_gradients = first_gradients or by_name
            unequal += count_unequal(first_gradients, by_name)
        yield row_of_bits(f"attention, {precision}", f"{len(first_gradients)} gradients, {TIMES} times", unequal)


def check_waits(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """Count how often the host waits for the GPU inside epochs, by CUDA's own count: at agreements only."""
    if ranks.device.type == "cpu":
        yield CheckRow("waits of the host", "", "", "a CPU is not waited for", None)
        return
    agreements = 0

    def count_agreement() -> bool:
        nonlocal agreements
        agreements += 1
        torch.cuda.set_sync_debug_mode("warn")  # from the first step on: what precedes moves the images
        return False

    with warnings.catch_warnings(record=True) as recorded_warnings:
        warnings.simplefilter("always")
        try:
            ShortTraining(ranks, pause=count_agreement)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchronizing" in str(warning.message) for warning in recorded_warnings)
    allowed = WAITS_OF_AN_AGREEMENT * agreements
    compared = f"waits in two epochs with {agreements} agreements"
    yield CheckRow("waits of the host", compared, f"{allowed}", f"{waits}", waits <= allowed)


def check_memory(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """Ask for more memory than any device has: the message has to name the batch size."""
    message = "no error"
    try:
        with memory_explained(Optimisation(batch_size=64), ranks.device):
            torch.empty(2**60, dtype=torch.uint8, device=ranks.device)
    except TrainingError as error:
        message = str(error)
    compared = "the message of an allocation of 2^60 bytes"
    yield CheckRow("out of memory", compared, "batch_size = 64 in it", message[:62], "batch_size = 64" in message)
