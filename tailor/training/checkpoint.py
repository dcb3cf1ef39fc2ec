"""Where a stage that was interrupted goes on: one file per stage, whole or absent, never pickle.

It is the SHA-256 of the rest (32 bytes), then a safetensors file.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tailor.core.errors import Paused
from tailor.parallel.process_group import ProcessGroup
from tailor.training.weight_average import WeightAverage
from transtailor.files import make_folder, write_file

AGREE_EVERY_S = 1.0
AGREE_EVERY_STEPS = 100  # at most, however fast steps are
CHECKSUM_BYTES = 32
SOONEST_S = 5.0  # between two writes, however fast they are
WRITING_FRACTION = 0.005  # of the time that a stage takes, for its checkpoints
log = logging.getLogger(__name__)

Pause = Callable[[], bool]
"""Whether the trial is asked to pause; rank 0 alone asks."""


def never() -> bool:
    """Nobody asks for a pause."""
    return False


class Wish(IntEnum):
    """What rank 0 wants of all ranks at this moment."""

    GO_ON = 0
    KEEP = 1  # write a checkpoint and go on
    PAUSE = 2  # write a checkpoint and raise `Paused`


@dataclass
class TrainingProgress:
    """How far a training stage is."""

    epoch: int = 0
    step: int = 0  # steps done in that epoch
    elapsed_s: float = 0.0  # spent on those steps
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # loss, correct, images of that epoch so far
    history: list[dict[str, Any]] = field(default_factory=list)  # one entry per finished epoch


class Checkpoint:
    """The checkpoint of one stage; rank 0 reads and writes it, all ranks get the same state.

    Args:
        path: the file; None keeps no checkpoints.
        every_s: most seconds between two writes; 0 writes whenever asked. The first one comes after `SOONEST_S`,
            the next ones once `WRITING_FRACTION` allows it: a small network whose node is lost then loses seconds.
        ranks: those that train together.
        pause: asked on rank 0, wherever the ranks agree on going on.
    """

    def __init__(self, path: Path | None, every_s: float, ranks: ProcessGroup, pause: Pause = never) -> None:
        self.path, self.every_s, self.ranks, self.pause = path, every_s, ranks, pause
        self._last_s = time.monotonic()
        self._pause_s = min(every_s, SOONEST_S)  # until the next write; by how long the last one took

    def wish(self) -> Wish:
        """What rank 0 wants; other ranks want nothing of their own."""
        if self.ranks.rank > 0:
            return Wish.GO_ON
        if self.pause():
            return Wish.PAUSE
        is_due = self.path is not None and time.monotonic() - self._last_s >= self._pause_s
        return Wish.KEEP if is_due else Wish.GO_ON

    def agree(self) -> Wish:
        """What rank 0 wants, on all ranks; collective."""
        return Wish(int.from_bytes(self.ranks.broadcast_bytes(bytes([self.wish()]))))

    def follow(
        self,
        wish: Wish,
        progress: TrainingProgress,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        average: WeightAverage,
    ) -> None:
        """Do what all ranks agreed on.

        Raises:
            Paused: on every rank, once rank 0 has written the state of this moment.
        """
        if wish is not Wish.GO_ON:
            self.save(progress, model, optimiser, average)
        if wish is Wish.PAUSE:
            raise Paused

    def save(
        self, progress: TrainingProgress, model: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage
    ) -> None:
        """Write the state of this moment (rank 0 alone); the old checkpoint stays until the new one is whole."""
        if self.path is not None and self.ranks.rank == 0:
            tensors = {f"model/{n}": t for n, t in model.state_dict().items()} | _optimiser_tensors(optimiser)
            tensors |= {f"average/{n}": t for n, t in average.tensors.items()}
            content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            self.write(safetensors.torch.save(content, {"progress": json.dumps(vars(progress))}))

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage) -> TrainingProgress:
        """Load the checkpoint into all three, if there is a whole one; how far it had come."""
        content = self.read()
        if not content:
            return TrainingProgress()
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        model.load_state_dict({n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")})
        average.restore({n.removeprefix("average/"): t for n, t in tensors.items() if n.startswith("average/")})
        _restore_optimiser(optimiser, tensors)
        return TrainingProgress(**json.loads(header["__metadata__"]["progress"]))

    def remove(self) -> None:
        """Remove the file once the stage is finished."""
        if self.path is not None and self.ranks.rank == 0:
            self.path.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Write what the stage goes on from (rank 0 alone); the old file stays until the new one is whole."""
        begin_s = time.monotonic()
        if self.path is not None and self.ranks.rank == 0:
            make_folder(self.path.parent)
            write_file(self.path, hashlib.sha256(content).digest() + content)
        self._last_s = time.monotonic()
        self._pause_s = min(self.every_s, max(SOONEST_S, (self._last_s - begin_s) / WRITING_FRACTION))

    def read(self) -> bytes:
        """What was written last, on all ranks; empty at a fresh start, and where the file is not what was written."""
        is_there = self.ranks.rank == 0 and self.path is not None and self.path.exists()
        return self.ranks.broadcast_bytes(_verified(self.path) if is_there and self.path is not None else None)


def _verified(path: Path) -> bytes:
    """A checkpoint's content; empty, and said in the log, where its checksum is another."""
    stored = path.read_bytes()
    checksum, content = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
    if hashlib.sha256(content).digest() != checksum:
        log.warning("damaged checkpoint, the stage begins anew: %s", path)
        return b""
    return content


class Agreements:
    """The moments of a training at which all ranks follow rank 0, about once a second, by one small message each."""

    def __init__(self, checkpoint: Checkpoint, ranks: ProcessGroup) -> None:
        self._checkpoint, self._ranks = checkpoint, ranks
        self._steps, self._until = 0, 1  # since the last one, and in all until the next; the first tells the pace
        self._last_s = time.monotonic()

    def after_step(self) -> bool:
        """Count a step; whether the ranks agree after it. Equal on all ranks."""
        self._steps += 1
        return self._steps >= self._until

    def reach(self, sums: list[float]) -> tuple[list[float], Wish]:
        """The sums added up over all ranks, and what rank 0 wishes; collective."""
        numbers = [*sums, self._checkpoint.wish(), self._steps_until_next()]
        message = torch.tensor(numbers, dtype=torch.float64, device=self._ranks.device)
        *totals, wish, until = self._ranks.sum(message).tolist()
        self._steps, self._until, self._last_s = 0, int(until), time.monotonic()
        return totals, Wish(int(wish))

    def _steps_until_next(self) -> int:
        """By rank 0's pace since the last agreement; 0 on other ranks."""
        if self._ranks.rank > 0:
            return 0
        elapsed_s = max(time.monotonic() - self._last_s, 1e-9)
        return min(max(1, int(self._steps / elapsed_s * AGREE_EVERY_S)), AGREE_EVERY_STEPS)


def parameters_of(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters that an optimiser steps, in its order."""
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimiser/{number}/{name}": value
        for number, parameter in enumerate(parameters_of(optimiser))
        for name, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    for number, parameter in enumerate(parameters_of(optimiser)):
        prefix = f"optimiser/{number}/"
        found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if found:
            optimiser.state[parameter] = {name: _laid_out(tensor, parameter) for name, tensor in found.items()}


def _laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A tensor of an optimiser's state where it was: as its parameter lies, and a count of steps on the CPU."""
    if tensor.shape != parameter.shape:
        return tensor if tensor.dim() == 0 else tensor.to(parameter.device)
    return torch.empty_like(parameter).copy_(tensor)
