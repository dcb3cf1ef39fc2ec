"""Other processes on the device: ranks that meet.

`python -m tailor.gpu_check.processes DEVICE FILE` is one of these ranks.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tailor.gpu_check import CheckRow
from tailor.gpu_check.training import ShortTraining
from tailor.model.state import weights
from tailor.parallel.process_group import ProcessGroup, join, leave
from transtailor.lines import last_line
from transtailor.waiting import reap

LIMIT_S = 300.0
TOLERANCE = 1e-2  # of the largest weight; ranks add up in another order


def check_ranks(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """Train with as many ranks as there are cards, at most two, and compare with one rank; on the CPU with two."""
    is_gpu = ranks.device.type == "cuda"
    count = min(2, torch.cuda.device_count()) if is_gpu else 2
    path = folder / "weights.safetensors"
    failure = _run_ranks(count, ranks.device.type, path)
    largest_difference = float("inf")
    if not failure:
        together = safetensors.torch.load_file(path)
        alone = weights(ShortTraining(ranks).model)
        largest_difference = max(
            _relative_difference(tensor, together[name]) for name, tensor in alone.items() if tensor.is_floating_point()
        )
    yield CheckRow(
        check=f"{'NCCL' if is_gpu else 'gloo'}, ranks: {count}",
        compared="sums; weights trained together and alone, norms synchronised" if count > 1 else "sums, a step of DDP",
        tolerance=f"{TOLERANCE:.0e}",
        difference=failure or f"{largest_difference:.0e}",
        is_right=largest_difference <= TOLERANCE,
    )


def _relative_difference(tensor: Tensor, other: Tensor) -> float:
    """Return the largest difference, as a share of the largest element."""
    return float((tensor - other).abs().max()) / float(tensor.abs().max() + 1e-9)


def _run_ranks(count: int, device: str, path: Path) -> str:
    """Start ranks and wait for them; return the last line of the first that failed, empty if none did."""
    with socket.socket() as free_port:
        free_port.bind(("127.0.0.1", 0))
        port = free_port.getsockname()[1]
    command = [sys.executable, "-m", "tailor.gpu_check.processes", device, str(path)]
    processes = []
    for number in range(count):
        environment = os.environ | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(count),
            "RANK": str(number),
            "LOCAL_RANK": str(number),
        }
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=LIMIT_S)[1] for process in processes]
    except subprocess.TimeoutExpired:
        return f"no end after {LIMIT_S:.0f} s"
    finally:
        for process in processes:
            reap(process)
    for process, error in zip(processes, errors, strict=True):
        if process.returncode:
            return last_line(error.strip()) or "a rank died"
    return ""


def main() -> int:
    """Meet the other ranks, add up, train with them; rank 0 writes the weights. Return 0, or 1 for a wrong sum."""
    device, path = sys.argv[1:]
    ranks = join(device, LIMIT_S, threads=1)
    if ranks.world_size == 1:  # such a trial needs no group; here it is what is checked
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    numbers = torch.full((4,), float(ranks.rank + 1), device=ranks.device)
    dist.all_reduce(numbers)
    expected_sum = sum(range(ranks.world_size + 1))
    if numbers.tolist() != [expected_sum] * 4:
        sys.stderr.write(f"a sum over {ranks.world_size} ranks is {numbers.tolist()}\n")
        return 1
    DistributedDataParallel(nn.Linear(4, 4).to(ranks.device))(numbers).sum().backward()
    trained = weights(ShortTraining(ranks).model)
    if ranks.rank == 0:
        safetensors.torch.save_file(trained, path)
    leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
