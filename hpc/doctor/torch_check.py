"""Check the GPUs that torch sees, a step of training on each, and an all-reduce between the nodes.

python -m hpc.doctor.torch_check FOLDER RANK RANKS GPUS INTERFACE
"""

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from hpc.doctor.finding import DoctorFolder, Finding, Meeting, failure, fine, unknown
from hpc.errors import ClusterError
from hpc.ranks.ranks import RankHost, meeting_environment, rank_environment
from hpc.ranks.ray_ranks import interface_of
from hpc.ray.node import allocation, own_address
from transtailor.lines import first_line

NUMBERS = 2**22  # float32
MEET_LIMIT_S = 60.0
STEP_TOLERANCE = 1e-3  # of weights of about 0.1 after a step of 0.01: rounding, also to TF32, is some 1e-5
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
        folder.report("all-reduce", rank, unknown("not between nodes, as there is one"))
        return 0
    try:
        # Meet as the ranks of a trial do, and add up numbers
        address = own_address(interface)
        host = RankHost()  # holds the store as long as it lives
        if rank == 0:
            folder.write("meeting", Meeting(address=address, port=host.host_store(address)))
        meeting = folder.wait_to_read("meeting", Meeting, MEET_LIMIT_S)
        name = interface_of(address)
        if name is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.update(rank_environment(rank=rank, ranks=ranks, local_rank=0, local_ranks=1, threads=1))
        os.environ.update(meeting_environment(meeting.address, meeting.port))
        backend, device = ("nccl", "cuda") if gpus else ("gloo", "cpu")
        dist.init_process_group(backend, timeout=timedelta(seconds=MEET_LIMIT_S))
        try:
            numbers = torch.ones(NUMBERS, device=device)
            dist.all_reduce(numbers)
            total = float(numbers[-1])  # waits for a GPU
            dist.barrier()
        finally:
            dist.destroy_process_group()
        if total != ranks:
            raise ClusterError(f"the sum of {ranks} ones is {total}")
        finding = fine(f"{backend}, {4 * NUMBERS / 1e6:.1f} MB of {ranks} nodes")
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
    text = f"{visible} of {', '.join(sorted(names))}"
    try:
        on_cpu = step_on("cpu")
        for index in range(visible):
            difference = float((step_on(f"cuda:{index}") - on_cpu).abs().max())
            if not difference <= STEP_TOLERANCE:
                advice = (
                    "a card or a driver computes wrong numbers: exclude the node, and see docs/testing.md, check-gpu"
                )
                return failure(f"{text}; a step of training on GPU {index} differs by {difference:.0e}", advice)
    except RuntimeError as error:  # torch's errors
        return failure(f"{text}; no step of training: {first_line(str(error))}", "does this torch fit the driver?")
    return fine(f"{text}; a step of training is the CPU's")


def step_on(device: str) -> torch.Tensor:
    """Return the weights of a small network, on the CPU, after one step of training on a device."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 30 * 30, 10))
    model = nn.Sequential(*layers).to(device)
    images, labels = torch.randn(8, 3, 32, 32).to(device), torch.arange(8).to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    torch.autograd.backward(nn.functional.cross_entropy(model(images), labels))
    optimiser.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach().cpu()


if __name__ == "__main__":
    sys.exit(main())
