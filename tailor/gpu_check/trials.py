"""Whole short trials: each stage on the device and on the CPU, and a trial that is interrupted."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.core.errors import Paused
from tailor.execution.cache import Cache
from tailor.execution.runner import Result, StageEvent, run_trial
from tailor.gpu_check.row import CheckRow
from tailor.gpu_check.training import pause_after
from tailor.parallel.process_group import ProcessGroup
from tailor.stage_execution import StageContext, compute
from tailor.stage_execution.base import StageOutput

SHORT: dict[str, Any] = {
    "network": "digits_resnet",
    "source": {"epochs": 2},
    "optimisation": {"epochs": 2, "head_epochs": 2},
    "data": {"train_images": 80, "augmentation": "shift"},
}
TRANSTAILOR = {"name": "transtailor", "steps": 1, "alpha_epochs": 1}
METHODS: tuple[dict[str, Any], ...] = (
    TRANSTAILOR,
    {"name": "pac_net", "allocate_epochs": 1},
    {"name": "target_aware_adaptation", "kept_cumulative_fraction": 0.9},
    {"name": "prune", "criterion": "taylor", "removed_macs_fraction": 0.2},
    {"name": "sfp", "removed_macs_fraction": 0.2},
    {"name": "gbn", "steps": 1, "ticks": 1},
    {"name": "fine_tune"},
    {"name": "head_only"},
    {"name": "smaller_dense", "removed_macs_fraction": 0.2},
)
# A stage is a few steps of training or a measurement, in float32: rounding is some 1e-5, a mistake 1e-1.
TOLERANCES = {"numbers": 1e-2, "score": 1e-2, "selections": 2e-2, "MACs": 1e-2}
CPU = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
INTERRUPTED_AFTER = 3  # questions whether to pause: one before a stage, one after its first step


def check_methods(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """A short trial of each method on the CPU; each of its stages again on the device, from the CPU's parents."""
    cache, seen = Cache(folder / "cpu"), set[str]()
    for method in METHODS:
        worst, stages = dict.fromkeys(TOLERANCES, 0.0), 0
        config = trial(method)
        for event in run_trial(config, cache=cache, ranks=CPU):
            stages += 1
            if event.result.key not in seen:  # methods share their first stages
                seen.add(event.result.key)
                for name, difference in differences(event.result, computed(event, ranks)).items():
                    worst[name] = max(worst[name], difference)
        yield CheckRow(
            check=f"method {method['name']}",
            compared=f"{stages} stages on {ranks.device.type} and on the CPU",
            tolerance=_listed(TOLERANCES),
            found=_listed(worst),
            is_right=all(worst[name] <= allowed for name, allowed in TOLERANCES.items()),
        )


def check_resumption(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """A trial on the device in one go, twice, and one that is interrupted again and again; to the last bit."""
    config = trial(TRANSTAILOR)
    straight, again = (tensors_of(run_trial(config, cache=Cache(folder / n), ranks=ranks)) for n in ("a", "b"))
    pauses, resumed = 0, dict[str, Tensor]()
    while not resumed:
        kept: dict[str, Any] = {"cache": Cache(folder / "c"), "checkpoint_folder": folder / "checkpoints"}
        try:
            resumed = tensors_of(run_trial(config, ranks=ranks, pause=pause_after(INTERRUPTED_AFTER), **kept))
        except Paused:
            pauses += 1
    for name, found, how in (
        ("repeated", again, "computed again"),
        ("resumed", resumed, f"interrupted {pauses} times"),
    ):
        wrong = [key for key, tensor in straight.items() if not torch.equal(tensor, found[key])]
        yield CheckRow(
            check=f"{name} equals straight",
            compared=f"{len(straight)} tensors of a trial, {how}",
            tolerance="no bit",
            found=f"{len(wrong)} differ",
            is_right=not wrong,
        )


def trial(method: dict[str, Any]) -> TrialConfig:
    """A short trial of a method."""
    return parse_trial(SHORT | {"method": method}, "check-gpu")


def computed(event: StageEvent, ranks: ProcessGroup) -> StageOutput:
    """The stage of an event, computed on another device from the same parents."""
    stage = event.result.stage
    parent = stage.of.model_state() if isinstance(stage.of, Result) else None
    return compute(stage, parent, StageContext(ranks=ranks, checkpoint_folder=None, checkpoint_every_s=0.0))


def differences(here: Result, there: StageOutput) -> dict[str, float]:
    """The largest difference of each kind between a stage of the CPU and one of the device; NaN counts as one."""
    tensors, found = here.read_tensors(), dict.fromkeys(TOLERANCES, 0.0)
    for name, tensor in tensors.items():
        other = there.tensors[name].cpu()
        if name.startswith("kept/"):
            found["selections"] = max(found["selections"], share_unlike(tensor, other))
        elif tensor.is_floating_point() and tensor.numel():
            scale = float(tensor.abs().max()) or 1.0
            found["numbers"] = max(found["numbers"], _distance(float((tensor - other).abs().max()) / scale))
    for kind, fact in (("MACs", "macs"), ("MACs", "removed_macs_fraction"), ("score", "deciding_score")):
        if fact in here.info:
            one, two = float(here.info[fact]), float(there.info[fact])
            found[kind] = max(found[kind], _distance(abs(one - two) / max(1.0, abs(one))))
    return found


def share_unlike(one: Tensor, two: Tensor) -> float:
    """Share of the filters in either selection that are not in both.

    >>> share_unlike(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 3]))
    0.5
    """
    first, second = set(one.tolist()), set(two.tolist())
    return len(first ^ second) / max(1, len(first | second))


def tensors_of(events: Iterable[StageEvent]) -> dict[str, Tensor]:
    """All tensors that a trial stored, by stage and name."""
    return {f"{e.result.key}/{name}": tensor for e in events for name, tensor in e.result.read_tensors().items()}


def _distance(value: float) -> float:
    return value if value == value else float("inf")  # NaN would pass any comparison


def _listed(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} {number:.0e}" if number else f"{name} 0" for name, number in numbers.items())
