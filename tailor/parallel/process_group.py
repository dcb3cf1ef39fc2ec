"""The ranks of one trial: they join by torch's own variables, so torchrun, Ray and srun can all start them."""

import gc
import inspect
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # DDP would import it in a group, which its functions' defaults then keep
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tailor.common.determinism import use_deterministic_algorithms
from tailor.common.errors import ConfigError
from tailor.common.heartbeat import beat
from tailor.common.torch_private import TORCH

COLLECTIVE_TIMEOUT_S = 600.0  # if no watchdog watches the ranks
# Norms are synchronised, so buffers are equal on all ranks and need no broadcast; torch 2.15 renamed the switch.
_PARAMETERS = inspect.signature(DistributedDataParallel.__init__).parameters
_SWITCH = "forward_sync_buffers" if "forward_sync_buffers" in _PARAMETERS else "broadcast_buffers"
_NO_BUFFER_BROADCAST: dict[str, Any] = {_SWITCH: False}


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """This process among those that train one trial together; a single process is rank 0 of 1."""

    rank: int
    world_size: int
    device: torch.device

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        """Return rank 0's `data` on every rank; that of other ranks is ignored. Bytes, never pickles."""
        beat()
        if self.world_size == 1:
            return data or b""
        size = torch.tensor([len(data or b"") if self.rank == 0 else 0])
        dist.broadcast(size, 0)
        buffer = torch.empty(int(size), dtype=torch.uint8)
        if self.rank == 0 and data:
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if int(size):
            dist.broadcast(buffer, 0)
        return buffer.numpy().tobytes()

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum the tensor over ranks, in place, and return it."""
        beat()
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def wait(self) -> None:
        """Return when all ranks have called this."""
        self.sum(torch.zeros(1))

    def gather_interleaved(self, rows: Tensor, total: int) -> Tensor:
        """Return rows (total, ...) from the share of each rank, which has rows rank, rank + world_size, ..."""
        if self.world_size == 1:
            return rows
        rows_of_longest_share = -(-total // self.world_size)
        padded = torch.zeros((rows_of_longest_share, *rows.shape[1:]), dtype=rows.dtype, device=rows.device)
        padded[: len(rows)] = rows
        shares = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(shares, padded)
        interleaved = torch.stack(shares, dim=1).flatten(0, 1)
        return interleaved[:total]

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return the model in DistributedDataParallel; itself in a single process or without parameters to train."""
        is_trained = any(parameter.requires_grad for parameter in model.parameters())
        if self.world_size == 1 or not is_trained:
            return model
        return DistributedDataParallel(model, **_NO_BUFFER_BROADCAST)


def join(
    device: str = "auto", collective_timeout_s: float = COLLECTIVE_TIMEOUT_S, *, threads: int | None = None
) -> ProcessGroup:
    """Join the process group that RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT describe.

    Without these variables this is a single process. A process that joined before keeps its group. On a GPU this
    process uses deterministic algorithms, and float32 without TF32's shorter mantissas, from then on.

    Args:
        device: "auto" (this rank's GPU if there is one), "cpu" or "cuda".
        collective_timeout_s: how long a rank waits for the others, after which it raises.
        threads: CPU threads of this process; None: as its environment sets.

    Raises:
        ConfigError: `device` is none of these, or "cuda" on a machine without a GPU.
        LibraryError: the installed torch lacks a name that is used.
    """
    TORCH.check()
    if device not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f"no such device: {device!r} (valid: auto, cpu, cuda)")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was asked for and torch sees no GPU: is the driver there (nvidia-smi), and does torch fit "
            "it? The device 'cpu' needs none; for a sweep, type --set resources.gpus_per_rank=0"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    use_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    own_device = torch.device("cpu")
    if use_gpu:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        # If a scheduler shows each rank only its own GPU, there is one, whatever the local rank is.
        own_device = torch.device("cuda", local_rank % torch.cuda.device_count())
        use_deterministic_algorithms()
        # `precision = "float32"` means it on a GPU, too: torch's default rounds the inputs of convolutions to TF32.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.cuda.set_device(own_device)
    if world_size > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if use_gpu else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=collective_timeout_s))
    return ProcessGroup(rank=rank, world_size=world_size, device=own_device)


def leave() -> None:
    """Leave the process group, if this process is in one.

    The group's threads end here, unless an object keeps the group. A thread that releases a tensor while the
    interpreter ends aborts the process (pytorch issue 190489).
    """
    if dist.is_initialized():
        gc.collect()  # a DDP model in a reference cycle keeps the group
        dist.destroy_process_group()
