"""Where a stage that was interrupted goes on: one safetensors file per stage, whole or absent, never pickle."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tailor.distributed import Ranks
from tailor.state import write_whole


@dataclass
class Progress:
    """How far a training stage is."""

    epoch: int = 0
    step: int = 0  # steps done in that epoch
    elapsed_s: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # loss, correct, images of that epoch so far
    history: list[dict[str, Any]] = field(default_factory=list)  # one entry per finished epoch


class Checkpoint:
    """The checkpoint of one stage; rank 0 reads and writes it, all ranks get the same state.

    Args:
        path: the file; None keeps no checkpoints.
        every_s: least seconds between two writes; 0 writes whenever asked.
    """

    def __init__(self, path: Path | None, every_s: float, ranks: Ranks) -> None:
        self.path, self.every_s, self.ranks = path, every_s, ranks
        self._last_s = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to write, as rank 0 sees it; never on other ranks."""
        if self.path is None or self.ranks.rank > 0:
            return False
        return time.monotonic() - self._last_s >= self.every_s

    def save(self, progress: Progress, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Write the state of this moment (rank 0 alone); the old checkpoint stays until the new one is whole."""
        if self.path is not None and self.ranks.rank == 0:
            tensors = {f"model/{n}": t for n, t in model.state_dict().items()} | _optimiser_tensors(optimiser)
            content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            self.write(safetensors.torch.save(content, {"progress": json.dumps(vars(progress))}))

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> Progress:
        """Load the checkpoint into model and optimiser, if there is a whole one; how far it had come."""
        content = self.read()
        if not content:
            return Progress()
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        model.load_state_dict({n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")})
        _restore_optimiser(optimiser, tensors)
        return Progress(**json.loads(header["__metadata__"]["progress"]))

    def remove(self) -> None:
        """Remove the file once the stage is finished."""
        if self.path is not None and self.ranks.rank == 0:
            self.path.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Write what the stage goes on from (rank 0 alone); the old file stays until the new one is whole."""
        if self.path is not None and self.ranks.rank == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, content)
        self._last_s = time.monotonic()

    def read(self) -> bytes:
        """What was written last, on all ranks; empty at a fresh start."""
        is_there = self.ranks.rank == 0 and self.path is not None and self.path.exists()
        return self.ranks.broadcast_bytes(self.path.read_bytes() if is_there and self.path is not None else None)


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimiser/{number}/{name}": value
        for number, parameter in enumerate(_parameters(optimiser))
        for name, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    for number, parameter in enumerate(_parameters(optimiser)):
        prefix = f"optimiser/{number}/"
        found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if found:
            optimiser.state[parameter] = {name: tensor.to(parameter.device) for name, tensor in found.items()}
