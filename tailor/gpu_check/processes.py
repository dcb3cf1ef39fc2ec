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
from torch import nn
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
    """Ranks that train together, as many as there are cards, at most two; on the CPU two, over gloo."""
    is_gpu, path = ranks.device.type == "cuda", folder / "weights.safetensors"
    count = min(2, torch.cuda.device_count()) if is_gpu else 2
    said, worst = _end_of_ranks(count, ranks.device.type, path), float("inf")
    if not said:
        together = safetensors.torch.load_file(path)
        alone = {name: t for name, t in weights(ShortTraining(ranks).model).items() if t.is_floating_point()}
        worst = max(float((t - together[name]).abs().max()) / float(t.abs().max() + 1e-9) for name, t in alone.items())
    check = f"{'NCCL' if is_gpu else 'gloo'}, ranks: {count}"
    compared = "sums; weights trained together and alone, norms synchronised" if count > 1 else "sums, a step of DDP"
    yield CheckRow(check, compared, f"{TOLERANCE:.0e}", said or f"{worst:.0e}", worst <= TOLERANCE)


def _end_of_ranks(count: int, device: str, path: Path) -> str:
    """Start ranks and wait for them; empty, or the last line of the first that failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    command, started = [sys.executable, "-m", "tailor.gpu_check.processes", device, str(path)], []
    for number in map(str, range(count)):
        environment = os.environ | meeting | {"RANK": number, "LOCAL_RANK": number}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        said = [rank.communicate(timeout=LIMIT_S)[1] for rank in started]
    except subprocess.TimeoutExpired:
        return f"no end after {LIMIT_S:.0f} s"
    finally:
        for rank in started:
            reap(rank)
    failed = [text.strip() for rank, text in zip(started, said, strict=True) if rank.returncode]
    return (last_line(failed[0]) or "a rank died") if failed else ""


def main() -> int:
    """Meet the other ranks, add up, train with them; rank 0 writes the weights. Returns 0, or 1 for a wrong sum."""
    device, path = sys.argv[1:]
    ranks = join(device, LIMIT_S, threads=1)
    if ranks.world_size == 1:  # such a trial needs no group; here it is what is checked
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    numbers = torch.full((4,), float(ranks.rank + 1), device=ranks.device)
    dist.all_reduce(numbers)
    if numbers.tolist() != [sum(range(ranks.world_size + 1))] * 4:
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
