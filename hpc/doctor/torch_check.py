"""Check the GPUs that torch sees, and the bandwidth of an all-reduce between the nodes.

python -m hpc.doctor.torch_check FOLDER RANK RANKS GPUS INTERFACE
"""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from hpc.doctor.finding import DoctorFolder, Finding, TorchRank, failure, fine
from hpc.errors import ClusterError
from hpc.ranks.ranks import RankHost, meeting_environment, rank_environment
from hpc.ranks.ray_ranks import interface_of
from hpc.ray.node import allocation, own_address
from transtailor.lines import first_line

NUMBERS = 2**22  # float32
REPETITIONS = 5
MEET_LIMIT_S = 60.0
AMD_DEVICE = Path("/dev/kfd")  # of AMD's driver
AMD_ADVICE = "choose a partition with NVIDIA GPUs, or set gpus_per_node = 0 in the site"
ADVICE = "set network_interface in the site to the interface between the nodes; torch's output is in the log"


def main() -> int:
    """Report on the GPUs, and with several ranks on the all-reduce; return 0."""
    folder = DoctorFolder(Path(sys.argv[1]))
    rank = int(sys.argv[2])
    ranks = int(sys.argv[3])
    gpus = int(sys.argv[4])
    interface = sys.argv[5] or None
    torch.set_num_threads(1)
    folder.report("gpus", rank, _gpus(gpus))
    if ranks == 1:
        return 0
    try:
        finding = _all_reduce(folder, rank, ranks, interface)
    except (ClusterError, RuntimeError, OSError) as error:  # torch's errors are RuntimeErrors
        finding = failure(f"{type(error).__name__}: {first_line(str(error))}", ADVICE)
    folder.report("all-reduce", rank, finding)
    return 0


def _gpus(requested: int) -> Finding:
    """Return whether SLURM gave the job as many GPUs as it requested, and torch sees them all."""
    if requested == 0:
        return fine("none, as the site says")
    try:
        allocated = allocation(os.environ).gpus
        visible = torch.cuda.device_count()
    except ClusterError as error:
        return failure(str(error), AMD_ADVICE)
    if torch.version.hip or (not visible and AMD_DEVICE.exists()):  # SLURM may set CUDA_VISIBLE_DEVICES for them, too
        return failure(f"this node has AMD GPUs ({AMD_DEVICE}), which are not supported", AMD_ADVICE)
    if allocated != requested:
        return failure(
            f"the job asked for {requested} and CUDA_VISIBLE_DEVICES names {allocated}",
            "see gpus_per_node and gres in the site",
        )
    if visible != requested:
        advice = "is the driver there (nvidia-smi), does torch fit it, does a container need --nv? See setup, container"
        return failure(f"the job was given {allocated} and torch {torch.__version__} sees {visible}", advice)
    names = {torch.cuda.get_device_name(index) for index in range(visible)}
    return fine(f"{visible} of {', '.join(sorted(names))}")


def _all_reduce(folder: DoctorFolder, rank: int, ranks: int, interface: str | None) -> Finding:
    """Meet as the ranks of a trial do, run one all-reduce to warm up, and then measure some."""
    address = own_address(interface)
    gpus = torch.cuda.device_count()
    host = RankHost()  # holds the store as long as it lives
    port = host.host_store(address) if rank == 0 else 0
    folder.write(f"torch-{rank}", TorchRank(gpus=gpus, address=address, port=port))
    answers = [folder.wait_to_read(f"torch-{other}", TorchRank, MEET_LIMIT_S) for other in range(ranks)]
    use_gpu = all(answer.gpus for answer in answers)
    name = interface_of(address)
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    os.environ.update(rank_environment(rank=rank, ranks=ranks, local_rank=0, local_ranks=1, threads=1))
    os.environ.update(meeting_environment(answers[0].address, answers[0].port))
    backend, device = ("nccl", "cuda") if use_gpu else ("gloo", "cpu")
    dist.init_process_group(backend, timeout=timedelta(seconds=MEET_LIMIT_S))
    try:
        _add_up(device, ranks)  # warms up
        times_s = [_add_up(device, ranks) for _ in range(REPETITIONS)]
    finally:
        dist.destroy_process_group()
    size_bytes = 4 * NUMBERS
    median_s = sorted(times_s)[REPETITIONS // 2]
    return fine(f"{backend}, {size_bytes / 1e6:.1f} MB in {median_s:.3f} s: {size_bytes / median_s / 1e9:.2f} GB/s")


def _add_up(device: str, ranks: int) -> float:
    """Return the seconds of one all-reduce; raises ClusterError if the sum is wrong."""
    numbers = torch.ones(NUMBERS, device=device)
    dist.barrier()
    begin_s = time.perf_counter()
    dist.all_reduce(numbers)
    total = float(numbers[-1])  # waits for a GPU
    if total != ranks:
        raise ClusterError(f"the sum of {ranks} ones is {total}")
    return time.perf_counter() - begin_s


if __name__ == "__main__":
    sys.exit(main())
