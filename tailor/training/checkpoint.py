"""Checkpoints, from which interrupted stages resume: one file per stage, whole or absent, never pickle.

The file has the SHA-256 of the rest (32 bytes), then a safetensors file.
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
WRITING_FRACTION = 0.005  # share of a stage's time for its checkpoints
log = logging.getLogger(__name__)

Pause = Callable[[], bool]
"""Whether the trial is asked to pause; called only on rank 0."""


def never() -> bool:
    """Return False: the trial is never asked to pause."""
    return False


class CheckpointAction(IntEnum):
    """What all ranks do next, as rank 0 decides."""

    CONTINUE = 0
    WRITE = 1  # write a checkpoint and continue
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
        every_s: most seconds between two writes; 0 writes at each call. The first write comes after `SOONEST_S`,
            the next ones once `WRITING_FRACTION` allows it: a small network whose node is lost then loses seconds.
        pause: called on rank 0, whenever the ranks agree on the next action.
    """

    def __init__(self, path: Path | None, every_s: float, ranks: ProcessGroup, pause: Pause = never) -> None:
        self.path, self.every_s, self.ranks, self.pause = path, every_s, ranks, pause
        self._last_s = time.monotonic()
        self._pause_s = min(every_s, SOONEST_S)  # until the next write; depends on the duration of the last one

    def wanted_action(self) -> CheckpointAction:
        """What rank 0 wants; other ranks follow."""
        if self.ranks.rank > 0:
            return CheckpointAction.CONTINUE
        if self.pause():
            return CheckpointAction.PAUSE
        is_due = self.path is not None and time.monotonic() - self._last_s >= self._pause_s
        return CheckpointAction.WRITE if is_due else CheckpointAction.CONTINUE

    def agree(self) -> CheckpointAction:
        """What rank 0 wants, on all ranks; collective."""
        return CheckpointAction(int.from_bytes(self.ranks.broadcast_bytes(bytes([self.wanted_action()]))))

    def follow(
        self,
        action: CheckpointAction,
        progress: TrainingProgress,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        average: WeightAverage,
    ) -> None:
        """Do the action that all ranks agreed on.

        Raises:
            Paused: on every rank, once rank 0 has written the state of this moment.
        """
        if action is not CheckpointAction.CONTINUE:
            self.save(progress, model, optimiser, average)
        if action is CheckpointAction.PAUSE:
            raise Paused

    def save(
        self, progress: TrainingProgress, model: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage
    ) -> None:
        """Write the present state (only rank 0); the old checkpoint stays until the new one is complete."""
        if self.path is not None and self.ranks.rank == 0:
            tensors = {f"model/{n}": t for n, t in model.state_dict().items()} | _optimiser_tensors(optimiser)
            tensors |= {f"average/{n}": t for n, t in average.tensors.items()}
            content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            self.write(safetensors.torch.save(content, {"progress": json.dumps(vars(progress))}))

    def restore(
        self, model: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage, until_epoch: int
    ) -> TrainingProgress:
        """Load the checkpoint into all three, if there is a complete one that is not beyond an epoch; its progress."""
        content = self.read()
        if not content:
            return TrainingProgress()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        progress = TrainingProgress(**json.loads(header["__metadata__"]["progress"]))
        if (progress.epoch, progress.step) > (until_epoch, 0):
            return TrainingProgress()
        tensors = safetensors.torch.load(content)
        model.load_state_dict({n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")})
        average.restore({n.removeprefix("average/"): t for n, t in tensors.items() if n.startswith("average/")})
        _restore_optimiser(optimiser, tensors)
        return progress

    def remove(self) -> None:
        """Remove the file once the stage is finished."""
        if self.path is not None and self.ranks.rank == 0:
            self.path.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Write the content of a checkpoint (only rank 0); the old file stays until the new one is complete."""
        begin_s = time.monotonic()
        if self.path is not None and self.ranks.rank == 0:
            make_folder(self.path.parent)
            write_file(self.path, hashlib.sha256(content).digest() + content)
        self._last_s = time.monotonic()
        self._pause_s = min(self.every_s, max(SOONEST_S, (self._last_s - begin_s) / WRITING_FRACTION))

    def read(self) -> bytes:
        """The last content, on all ranks; empty at a new start, and if the file is damaged."""
        is_there = self.ranks.rank == 0 and self.path is not None and self.path.exists()
        return self.ranks.broadcast_bytes(_read_verified(self.path) if is_there and self.path is not None else None)


def _read_verified(path: Path) -> bytes:
    """A checkpoint's content; empty, with a warning in the log, if the checksum is wrong."""
    stored = path.read_bytes()
    checksum, content = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
    if hashlib.sha256(content).digest() != checksum:
        log.warning("damaged checkpoint, the stage starts from the beginning: %s", path)
        return b""
    return content


class RankSync:
    """The moments of a training at which all ranks follow rank 0, about once a second, with one small message."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint, self._ranks = checkpoint, checkpoint.ranks
        self._steps, self._until = 0, 1  # since the last message, and until the next; the first gives the pace
        self._last_s = time.monotonic()

    def count_step(self) -> bool:
        """Count a step; whether the ranks synchronise after it. Equal on all ranks."""
        self._steps += 1
        return self._steps >= self._until

    def synchronise(self, sums: list[float]) -> tuple[list[float], CheckpointAction]:
        """The sums added up over all ranks, and rank 0's action; collective."""
        numbers = [*sums, self._checkpoint.wanted_action(), self._steps_until_next()]
        message = torch.tensor(numbers, dtype=torch.float64, device=self._ranks.device)
        *totals, action, until = self._ranks.sum(message).tolist()
        self._steps, self._until, self._last_s = 0, int(until), time.monotonic()
        return totals, CheckpointAction(int(action))

    def _steps_until_next(self) -> int:
        """By rank 0's pace since the last message; 0 on other ranks."""
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
    on_device = any(group.get("fused") or group.get("capturable") for group in optimiser.param_groups)
    for number, parameter in enumerate(parameters_of(optimiser)):
        prefix = f"optimiser/{number}/"
        found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if found:
            optimiser.state[parameter] = {n: _lay_out(tensor, parameter, on_device) for n, tensor in found.items()}


def _lay_out(tensor: Tensor, parameter: Tensor, on_device: bool) -> Tensor:
    """A tensor of an optimiser's state in its parameter's layout; a count of steps is on the CPU or `on_device`."""
    if tensor.shape != parameter.shape:
        return tensor if tensor.dim() == 0 and not on_device else tensor.to(parameter.device)
    return torch.empty_like(parameter).copy_(tensor)
