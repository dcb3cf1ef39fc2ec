"""One rank of `check_ranks`: python -m tailor.gpu_check.rank DEVICE FILE."""

import sys

import safetensors.torch
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tailor.gpu_check.training import ShortTraining
from tailor.model.state import weights
from tailor.parallel.process_group import join, leave

LIMIT_S = 120.0


def main() -> int:
    """Meet the other ranks, add up, train with them; rank 0 writes the weights. Returns 0, or 1 for a wrong sum."""
    device, path = sys.argv[1:]
    ranks = join(device, LIMIT_S, threads=1)
    if ranks.world_size == 1:  # such a trial needs no group; here it is what is checked
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    numbers = torch.full((4,), float(ranks.rank + 1), device=ranks.device)
    dist.all_reduce(numbers)
    if numbers.tolist() != [ranks.world_size * (ranks.world_size + 1) / 2] * 4:
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
