"""A GPU computes what the CPU computes: `make check-gpu`, with torch and pytest alone.

The long tier does the same on the CPU, as if it were another device, so that what is checked here is known to run.
"""

import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tailor.common.determinism import RepeatableBackward
from tailor.common.errors import Paused, TrainingError
from tailor.config.optimisation import Optimisation
from tailor.config.parsing import parse_trial
from tailor.config.trial import METHODS
from tailor.data import task_data
from tailor.data.device_images import DeviceImages
from tailor.execution.cache import Cache
from tailor.execution.memory import memory_explained
from tailor.execution.runner import Result, StageEvent, run_trial
from tailor.model.state import weights
from tailor.networks import building
from tailor.networks.embedded import DigitsAttention
from tailor.parallel.norm import set_norms
from tailor.parallel.process_group import ProcessGroup, join, leave
from tailor.stage_execution import StageContext, compute
from tailor.stages import Training
from tailor.training.checkpoint import Checkpoint, Pause, never
from tailor.training.loop import group, optimiser_for, train
from tests.product import ROOT

SHORT: dict[str, Any] = {
    "network": "digits_resnet",
    "source": {"epochs": 2},
    "optimisation": {"epochs": 2, "head_epochs": 2},
    "data": {"train_images": 80, "augmentation": "shift"},
}
OF_METHODS: dict[str, dict[str, Any]] = {
    "transtailor": {"steps": 1, "alpha_epochs": 1},
    "pac_net": {"allocate_epochs": 1},
    "target_aware_adaptation": {"kept_cumulative_fraction": 0.9},
    "prune": {"criterion": "taylor", "asked_removed_macs_fraction": 0.2},
    "sfp": {"asked_removed_macs_fraction": 0.2},
    "gbn": {"steps": 1},
    "fine_tune": {},
    "head_only": {},
    "smaller_dense": {"asked_removed_macs_fraction": 0.2},
}
# A stage is a few steps of training or a measurement, in float32: rounding is some 1e-5, a mistake 1e-1.
TOLERANCE, OTHER_FILTERS = 1e-2, 5e-2
# Trained from random weights at a high rate: after 58 steps two convolutions of one CPU are 30% apart, losses 0.1%.
UNSTABLE = "train_source"
CPU = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
WAITS_OF_AN_AGREEMENT = 4  # the losses, the right answers, the message to the other ranks, their answer
MakeOptimiser = Callable[[list[Any]], torch.optim.Optimizer]
OPTIMISERS: dict[str, MakeOptimiser] = {
    "fused SGD": lambda groups: torch.optim.SGD(groups, momentum=0.9, fused=True),
    "fused Adam": lambda groups: torch.optim.Adam(groups, fused=True),
    "capturable Adam": lambda groups: torch.optim.Adam(groups, capturable=True),
}
NOT_NEEDED = ("ray", "submitit", "pyarrow", "duckdb", "pandas", "cryptography", "xdist")
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(
    params=[
        pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.check, NEEDS_GPU]),
        pytest.param("cpu", marks=pytest.mark.long),
    ]
)
def here(request: pytest.FixtureRequest) -> ProcessGroup:
    return join(request.param, threads=1)


class ShortTraining:
    """Two epochs of a small network with norms on 200 digits, and what is left of it."""

    def __init__(
        self, ranks: ProcessGroup, make: MakeOptimiser | None = None, path: Path | None = None, pause: Pause = never,
        settings: Mapping[str, Any] = {},
    ) -> None:  # fmt: skip
        training = Training(epochs=2, batch_size=32, seed=0, learning_rate=0.02, **settings)
        samples = DeviceImages(ranks.device).place(task_data.source("digits").take(torch.arange(200)))
        self.model = set_norms(building.build("digits_resnet", 5, seed=0).to(ranks.device), "synchronised", ranks)
        groups = [group(list(self.model.parameters()), training.learning_rate)]
        optimiser = optimiser_for(groups, training) if make is None else make(groups)
        self.history = train(self.model, optimiser, samples, training, "shift", Checkpoint(path, 0.0, ranks, pause))


def after(questions: int) -> Pause:
    """A pause after this many questions."""
    asked = count()
    return lambda: next(asked) >= questions


def assert_same_bits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    assert expected and expected.keys() == found.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []


def filters_of(tensors: Mapping[str, Tensor]) -> set[tuple[str, int]]:
    return {(name, index) for name in tensors if name.startswith("kept/") for index in tensors[name].tolist()}


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].__module__.startswith("tailor.methods.")])
def test_each_stage_of_a_method_is_that_of_the_cpu(method: str, here: ProcessGroup, tmp_path: Path) -> None:
    """Each is computed again from the CPU's parents. Of filters that score alike either may stay."""
    for event in run_trial(trial(method), cache=Cache(tmp_path), ranks=CPU):
        on_cpu, stage = event.result, event.result.stage
        parent = stage.of.model_state() if isinstance(stage.of, Result) else None
        made = compute(stage, parent, StageContext(ranks=here, checkpoint_folder=None, checkpoint_every_s=0.0))
        losses, found = ([row["train_loss"] for row in info.get("epochs", [])] for info in (on_cpu.info, made.info))
        assert found == pytest.approx(losses, abs=TOLERANCE * max(losses, default=0.0)), stage.kind
        for fact in {"macs", "removed_macs_fraction", "deciding_score"} & on_cpu.info.keys():
            assert made.info[fact] == pytest.approx(on_cpu.info[fact], rel=TOLERANCE, abs=TOLERANCE), (stage.kind, fact)
        tensors = on_cpu.read_tensors()
        kept, kept_here = filters_of(tensors), filters_of(made.tensors)
        assert len(kept ^ kept_here) <= OTHER_FILTERS * len(kept | kept_here), stage.kind
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and tensor.numel() and stage.kind != UNSTABLE:
                within = TOLERANCE * (float(tensor.abs().max()) or 1.0)
                assert float((made.tensors[name].cpu() - tensor).abs().max()) <= within, (stage.kind, name)


def trial(method: str) -> Any:
    return parse_trial(SHORT | {"method": {"name": method} | OF_METHODS[method]}, "check-gpu")


def test_a_trial_repeats_to_the_bit_also_interrupted_again_and_again(here: ProcessGroup, tmp_path: Path) -> None:
    config = trial("transtailor")
    straight = tensors_of(run_trial(config, cache=Cache(tmp_path / "a"), ranks=here))
    assert_same_bits(straight, tensors_of(run_trial(config, cache=Cache(tmp_path / "b"), ranks=here)))
    resumed: dict[str, Tensor] = {}
    while not resumed:
        events = run_trial(  # pauses: before a stage, after its first step, at an agreement
            config, cache=Cache(tmp_path / "c"), ranks=here, checkpoint_folder=tmp_path / "checkpoints", pause=after(3)
        )
        try:
            resumed = tensors_of(events)
        except Paused:
            continue
    assert_same_bits(straight, resumed)


def tensors_of(events: Iterable[StageEvent]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for event in events:
        key = event.result.key
        tensors |= {f"{key}/{name}": tensor for name, tensor in event.result.read_tensors().items()}
    return tensors


def test_mixed_precision_is_near_float32(here: ProcessGroup) -> None:
    whole = ShortTraining(here).history[-1]["train_loss"]
    mixed = ShortTraining(here, settings={"precision": "bf16", "memory_format": "channels_last"}).history[-1]
    assert mixed["train_loss"] == pytest.approx(whole, rel=0.05)  # bf16 has 8 bits


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_of_the_device_are_restored_inside_an_epoch(name: str, here: ProcessGroup, tmp_path: Path) -> None:
    if name.startswith("capturable") and here.device.type == "cpu":
        pytest.skip("torch has it on GPUs only")
    path = tmp_path / "checkpoint"
    straight = ShortTraining(here, OPTIMISERS[name]).model.state_dict()
    with pytest.raises(Paused):
        ShortTraining(here, OPTIMISERS[name], path, after(1))
    assert_same_bits(straight, ShortTraining(here, OPTIMISERS[name], path).model.state_dict())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_gradients_of_attention_over_many_tokens_repeat(precision: str, here: ProcessGroup) -> None:
    torch.manual_seed(0)
    model = DigitsAttention(64, 4).to(here.device)
    tokens = torch.randn(16, 577, 64, device=here.device)
    repeatable = RepeatableBackward(model)
    gradients = []
    for _ in range(5):
        with torch.autocast(here.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(tokens).float().square().mean()
        with repeatable.context(tokens):
            found = torch.autograd.grad(loss, list(model.parameters()))
        gradients.append(dict(zip(dict(model.named_parameters()), found, strict=True)))
        assert_same_bits(gradients[0], gradients[-1])


def test_the_host_waits_for_the_gpu_at_agreements_only(here: ProcessGroup) -> None:
    """Inside epochs, by CUDA's own count."""
    if here.device.type == "cpu":
        pytest.skip("a CPU is not waited for")
    agreements = 0

    def agree() -> bool:
        nonlocal agreements
        agreements += 1
        torch.cuda.set_sync_debug_mode("warn")  # from the first step on: what precedes moves the images
        return False

    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        try:
            ShortTraining(here, pause=agree)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchronizing" in str(warning.message) for warning in recorded)
    assert agreements and waits <= WAITS_OF_AN_AGREEMENT * agreements


def test_out_of_memory_names_the_batch_size(here: ProcessGroup) -> None:
    with (
        pytest.raises(TrainingError, match="batch_size = 64"),
        memory_explained(Optimisation(batch_size=64), here.device),
    ):
        torch.empty(2**60, dtype=torch.uint8, device=here.device)


def test_ranks_meet_and_train_what_one_trains(here: ProcessGroup, tmp_path: Path) -> None:
    """As many ranks as there are cards, at most two; on the CPU two. They add up in another order."""
    ranks = min(2, torch.cuda.device_count()) if here.device.type == "cuda" else 2
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path / "weights.safetensors"
    torch.multiprocessing.spawn(as_rank, (ranks, port, here.device.type, str(file)), nprocs=ranks)
    together = safetensors.torch.load_file(file)
    for name, tensor in weights(ShortTraining(here).model).items():
        if tensor.is_floating_point():
            within = TOLERANCE * float(tensor.abs().max() + 1e-9)
            assert float((together[name] - tensor.cpu()).abs().max()) <= within, name


def as_rank(rank: int, ranks: int, port: int, device: str, file: str) -> None:
    """Meet the other ranks, add up, train with them."""
    of_ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in of_ranks.items()})
    here = join(device, threads=1)
    if ranks == 1:  # such a trial needs no group; here it is what is checked
        dist.init_process_group("nccl")
    numbers = torch.full((4,), float(rank + 1), device=here.device)
    dist.all_reduce(numbers)
    assert numbers.tolist() == [sum(range(ranks + 1))] * 4
    DistributedDataParallel(nn.Linear(4, 4).to(here.device))(numbers).sum().backward()
    trained = weights(ShortTraining(here).model)
    if rank == 0:
        safetensors.torch.save_file(trained, file)
    leave()


@pytest.mark.check
def test_it_needs_torch_and_pytest_alone() -> None:
    """All that it may import, imported."""
    words = ["-q", "--noconftest", "--collect-only", "-m", "gpu", str(Path(__file__))]
    program = f"import sys; sys.modules.update(dict.fromkeys({NOT_NEEDED!r})); import pytest; "
    program += f"sys.exit(pytest.main({words!r}))"
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "test_each_stage_of_a_method" in done.stdout, done.stdout + done.stderr
