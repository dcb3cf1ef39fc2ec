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

from tailor.common.errors import Paused
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

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Add the row of the present epoch to the history, and begin the next epoch."""
        self.history.append(row)
        self.epoch += 1
        self.step = 0
        self.elapsed_s = 0.0
        self.sums = [0.0, 0.0, 0.0]


class Checkpoint:
    """The checkpoint of one stage; rank 0 reads and writes it, all ranks get the same state.

    Args:
        path: the file; None keeps no checkpoints.
        every_s: most seconds between two writes; 0 writes at each call. The first write comes after `SOONEST_S`,
            the next ones once `WRITING_FRACTION` allows it: a small network whose node is lost then loses seconds.
        pause: called on rank 0, whenever the ranks agree on the next action.
    """

    def __init__(self, path: Path | None, every_s: float, ranks: ProcessGroup, pause: Pause = never) -> None:
        self.path = path
        self.every_s = every_s
        self.ranks = ranks
        self.pause = pause
        self._last_write_s = time.monotonic()
        self._wait_s = min(every_s, SOONEST_S)  # until the next write; depends on the duration of the last one

    def wanted_action(self) -> CheckpointAction:
        """Return what rank 0 wants to do next; CONTINUE on other ranks, which follow rank 0."""
        if self.ranks.rank > 0:
            return CheckpointAction.CONTINUE
        if self.pause():
            return CheckpointAction.PAUSE
        is_due = self.path is not None and time.monotonic() - self._last_write_s >= self._wait_s
        return CheckpointAction.WRITE if is_due else CheckpointAction.CONTINUE

    def agree(self) -> CheckpointAction:
        """Return what rank 0 wants to do next, on all ranks; collective."""
        message = bytes([self.wanted_action()])
        return CheckpointAction(int.from_bytes(self.ranks.broadcast_bytes(message)))

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
            tensors = _with_prefix("model/", model.state_dict())
            tensors |= _optimiser_tensors(optimiser)
            tensors |= _with_prefix("average/", average.tensors)
            content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            self.write(safetensors.torch.save(content, {"progress": json.dumps(vars(progress))}))

    def restore(
        self, model: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage, until_epoch: int
    ) -> TrainingProgress:
        """Load the checkpoint into model, optimiser and average; return its progress.

        Without a complete checkpoint, and if it is beyond the beginning of `until_epoch`, nothing is loaded and the
        progress is that of a new start.
        """
        content = self.read()
        if not content:
            return TrainingProgress()
        progress = _stored_progress(content)
        if (progress.epoch, progress.step) > (until_epoch, 0):
            return TrainingProgress()
        tensors = safetensors.torch.load(content)
        model.load_state_dict(_of_prefix("model/", tensors))
        average.restore(_of_prefix("average/", tensors))
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
        self._last_write_s = time.monotonic()
        writing_s = self._last_write_s - begin_s
        self._wait_s = min(self.every_s, max(SOONEST_S, writing_s / WRITING_FRACTION))

    def read(self) -> bytes:
        """Return the content of the last checkpoint, on all ranks; empty without one, and if the file is damaged."""
        content = None
        if self.ranks.rank == 0 and self.path is not None and self.path.exists():
            content = _read_verified(self.path)
        return self.ranks.broadcast_bytes(content)


def _read_verified(path: Path) -> bytes:
    """Return a checkpoint's content; empty, with a warning in the log, if the checksum is wrong."""
    stored = path.read_bytes()
    checksum = stored[:CHECKSUM_BYTES]
    content = stored[CHECKSUM_BYTES:]
    if hashlib.sha256(content).digest() != checksum:
        log.warning("damaged checkpoint, the stage starts from the beginning: %s", path)
        return b""
    return content


def _stored_progress(content: bytes) -> TrainingProgress:
    """Return the progress in the header of a safetensors file: 8 bytes for its length, then JSON."""
    header_bytes = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_bytes])
    return TrainingProgress(**json.loads(header["__metadata__"]["progress"]))


class RankSync:
    """The moments of a training at which all ranks follow rank 0, about once a second, with one small message."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._ranks = checkpoint.ranks
        self._steps_since_message = 0
        self._steps_between_messages = 1  # the first message, after one step, gives the pace
        self._last_message_s = time.monotonic()

    def count_step(self) -> bool:
        """Count a step; return whether the ranks synchronise after it, which is equal on all ranks."""
        self._steps_since_message += 1
        return self._steps_since_message >= self._steps_between_messages

    def synchronise(self, sums: list[float]) -> tuple[list[float], CheckpointAction]:
        """Return the sums added up over all ranks, and rank 0's action; collective."""
        numbers = [*sums, self._checkpoint.wanted_action(), self._steps_until_next()]
        message = torch.tensor(numbers, dtype=torch.float64, device=self._ranks.device)
        # Other ranks send 0 for the last two numbers, so that the sums are what rank 0 sent.
        *totals, action, steps_until_next = self._ranks.sum(message).tolist()
        self._steps_since_message = 0
        self._steps_between_messages = int(steps_until_next)
        self._last_message_s = time.monotonic()
        return totals, CheckpointAction(int(action))

    def _steps_until_next(self) -> int:
        """Return after how many steps the next message is due, by the pace since the last one; 0 on other ranks."""
        if self._ranks.rank > 0:
            return 0
        elapsed_s = max(time.monotonic() - self._last_message_s, 1e-9)
        steps_per_s = self._steps_since_message / elapsed_s
        return min(max(1, int(steps_per_s * AGREE_EVERY_S)), AGREE_EVERY_STEPS)


def parameters_of(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """Return all parameters that an optimiser steps, in its order."""
    parameters: list[Tensor] = []
    for group in optimiser.param_groups:
        parameters += group["params"]
    return parameters


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _of_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with the prefix, by their names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimiser's state by optimiser/PARAMETER/NAME, with the number of the parameter."""
    tensors: dict[str, Tensor] = {}
    for number, parameter in enumerate(parameters_of(optimiser)):
        state = optimiser.state.get(parameter, {})
        tensors |= {f"optimiser/{number}/{name}": value for name, value in state.items() if isinstance(value, Tensor)}
    return tensors


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    counts_on_device = any(group.get("fused") or group.get("capturable") for group in optimiser.param_groups)
    for number, parameter in enumerate(parameters_of(optimiser)):
        state = _of_prefix(f"optimiser/{number}/", tensors)
        if state:
            optimiser.state[parameter] = {
                name: _lay_out(tensor, parameter, counts_on_device) for name, tensor in state.items()
            }


def _lay_out(tensor: Tensor, parameter: Tensor, counts_on_device: bool) -> Tensor:
    """Return a tensor of an optimiser's state as torch wants it: on its parameter's device and in its memory format.

    A count of steps stays on the CPU, unless the optimiser wants its counts on the device.
    """
    if tensor.shape == parameter.shape:
        return torch.empty_like(parameter).copy_(tensor)
    is_count = tensor.dim() == 0
    if is_count and not counts_on_device:
        return tensor
    return tensor.to(parameter.device)
