"""Other processes on the device: ranks that meet, and what a slot sees of the GPUs."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch

from tailor.gpu_check.row import CheckRow, not_here
from tailor.gpu_check.training import ShortTraining
from tailor.parallel.process_group import ProcessGroup

LIMIT_S = 300.0
TOLERANCE = 1e-2  # of the largest weight; ranks add up in another order
SEEN = "import torch; c = torch.cuda; print([str(c.get_device_properties(n).uuid) for n in range(c.device_count())])"


def check_ranks(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """Ranks that train together, as many as there are cards, at most two; on the CPU two, over gloo."""
    is_gpu = ranks.device.type == "cuda"
    count = min(2, torch.cuda.device_count()) if is_gpu else 2
    alone = {name: tensor.cpu() for name, tensor in ShortTraining(ranks).model.state_dict().items()}
    said = _end_of_ranks(count, ranks.device.type, folder)
    difference = float("inf")
    if said == "":
        together = safetensors.torch.load_file(folder / "ranks.safetensors")
        pairs = [(tensor, together[name]) for name, tensor in alone.items() if tensor.is_floating_point()]
        difference = max(float((one - two).abs().max()) / (float(one.abs().max()) or 1.0) for one, two in pairs)
    yield CheckRow(
        check=f"{'NCCL' if is_gpu else 'gloo'}, {count} rank{'s' if count > 1 else ''}",
        compared="sums; weights trained together and alone, norms synchronised" if count > 1 else "sums, a DDP step",
        tolerance=f"{TOLERANCE:.0e}",
        found=said or f"{difference:.0e}",
        is_right=difference <= TOLERANCE,
    )


def check_visible(ranks: ProcessGroup, _folder: Path) -> Iterator[CheckRow]:
    """A process that CUDA_VISIBLE_DEVICES gives one GPU, or one MIG instance, by number or by id, sees that one."""
    compared = "the GPU that each name in CUDA_VISIBLE_DEVICES shows"
    if ranks.device.type == "cpu":
        yield not_here("CUDA_VISIBLE_DEVICES", compared, "no GPU")
        return
    given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    uuids = [str(torch.cuda.get_device_properties(n).uuid) for n in range(torch.cuda.device_count())]
    names = given or [str(number) for number in range(len(uuids))]
    expected = dict(zip(names, uuids, strict=True)) | {f"GPU-{uuid}": uuid for uuid in uuids if not given}
    wrong = [name for name, uuid in expected.items() if _seen_with(name) != str([uuid])]
    yield CheckRow(
        check="CUDA_VISIBLE_DEVICES",
        compared=compared,
        tolerance="that one alone",
        found=f"{len(wrong)} of {len(expected)} wrong {', '.join(wrong)}".rstrip(),
        is_right=not wrong,
    )


def _seen_with(name: str) -> str:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": name}
    done = subprocess.run(
        [sys.executable, "-c", SEEN], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    return done.stdout.strip()


def _end_of_ranks(count: int, device: str, folder: Path) -> str:
    """Start ranks and wait for them; empty, or the last line of the first that failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    command = [sys.executable, "-m", "tailor.gpu_check.rank", device, str(folder / "ranks.safetensors")]
    started = [
        subprocess.Popen(
            command, env=os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    try:
        said = [rank.communicate(timeout=LIMIT_S)[1] for rank in started]
    except subprocess.TimeoutExpired:
        return f"no end after {LIMIT_S:.0f} s"
    finally:
        for rank in started:
            rank.kill()
            rank.wait()
    failed = [text for rank, text in zip(started, said, strict=True) if rank.returncode]
    return (failed[0].strip().splitlines() or ["a rank died"])[-1] if failed else ""
