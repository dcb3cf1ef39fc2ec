"""Whole short trials: each stage on the device and on the CPU, and a trial that is interrupted."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from tailor.common.errors import Paused
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.runner import Result, StageEvent, run_trial
from tailor.gpu_check import CheckRow
from tailor.gpu_check.training import count_unequal, pause_after, row_of_bits
from tailor.parallel.process_group import ProcessGroup
from tailor.stage_execution import StageContext, compute
from tailor.stage_execution.base import StageOutput, Tensors

SHORT: dict[str, Any] = {
    "network": "digits_resnet",
    "source": {"epochs": 2},
    "optimisation": {"epochs": 2, "head_epochs": 2},
    "data": {"train_images": 80, "augmentation": "shift"},
}
METHODS: tuple[dict[str, Any], ...] = (
    {"name": "transtailor", "steps": 1, "alpha_epochs": 1},
    {"name": "pac_net", "allocate_epochs": 1},
    {"name": "target_aware_adaptation", "kept_cumulative_fraction": 0.9},
    {"name": "prune", "criterion": "taylor", "asked_removed_macs_fraction": 0.2},
    {"name": "sfp", "asked_removed_macs_fraction": 0.2},
    {"name": "gbn", "steps": 1, "ticks": 1},
    {"name": "fine_tune"},
    {"name": "head_only"},
    {"name": "smaller_dense", "asked_removed_macs_fraction": 0.2},
)
# A stage is a few steps of training or a measurement, in float32: rounding is some 1e-5, a mistake 1e-1.
TOLERANCES = {"numbers": 1e-2, "loss": 1e-2, "score": 1e-2, "selections": 5e-2, "MACs": 1e-2}
# Trained from random weights at a high rate: after 58 steps two convolutions of one CPU are 30% apart, losses 0.1%.
UNSTABLE = {"train_source"}
KIND_OF_FACT = {"macs": "MACs", "removed_macs_fraction": "MACs", "deciding_score": "score"}
CPU = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
QUESTIONS_BEFORE_PAUSE = 3  # before a stage, after its first step, at an agreement


def check_methods(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """Run a short trial of each method on the CPU, and each stage again on the device, from the CPU's parents."""
    cache = Cache(folder)
    compared_keys: set[str] = set()
    for method in METHODS:
        largest = {kind: 0.0 for kind in TOLERANCES}
        stages = 0
        for event in run_trial(trial(method), cache=cache, ranks=CPU):
            stages += 1
            if event.result.key in compared_keys:  # methods share their first stages
                continue
            compared_keys.add(event.result.key)
            for kind, difference in differences(event.result, compute_stage(event, ranks)).items():
                largest[kind] = max(largest[kind], difference)
        yield CheckRow(
            check=f"method {method['name']}",
            compared=f"{stages} stages on {ranks.device.type} and on the CPU",
            tolerance=_list_text(TOLERANCES),
            difference=_list_text(largest),
            is_right=all(largest[kind] <= tolerance for kind, tolerance in TOLERANCES.items()),
        )


def check_resumption(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """Run a trial on the device in one go, twice, and once interrupted again and again; compare all bits."""
    config = trial(METHODS[0])
    straight = tensors_of(run_trial(config, cache=Cache(folder / "a"), ranks=ranks))
    repeated = tensors_of(run_trial(config, cache=Cache(folder / "b"), ranks=ranks))
    resumed: Tensors = {}
    pauses = 0
    while not resumed:
        events = run_trial(
            config,
            cache=Cache(folder / "c"),
            ranks=ranks,
            checkpoint_folder=folder / "checkpoints",
            pause=pause_after(QUESTIONS_BEFORE_PAUSE),
        )
        try:
            resumed = tensors_of(events)
        except Paused:
            pauses += 1
    compared = f"{len(straight)} tensors of a trial"
    yield row_of_bits("repeated equals straight", f"{compared}, in another cache", count_unequal(straight, repeated))
    yield row_of_bits("resumed equals straight", f"{compared}, paused {pauses} times", count_unequal(straight, resumed))


def trial(method: dict[str, Any]) -> TrialConfig:
    """Return a short trial of a method."""
    return parse_trial(SHORT | {"method": method}, "check-gpu")


def compute_stage(event: StageEvent, ranks: ProcessGroup) -> StageOutput:
    """Compute the stage of an event on another device, from the same parents."""
    stage = event.result.stage
    parent = stage.of.model_state() if isinstance(stage.of, Result) else None
    return compute(stage, parent, StageContext(ranks=ranks, checkpoint_folder=None, checkpoint_every_s=0.0))


def differences(on_cpu: Result, on_device: StageOutput) -> dict[str, float]:
    """Return the largest difference of each kind between a stage of the CPU and that of the device; NaN is infinite."""
    largest = {kind: 0.0 for kind in TOLERANCES}

    def note(kind: str, difference: float) -> None:
        largest[kind] = max(largest[kind], float("inf") if math.isnan(difference) else difference)

    losses = [row["train_loss"] for row in on_cpu.info.get("epochs", [])]
    device_losses = [row["train_loss"] for row in on_device.info.get("epochs", [])]
    for loss, device_loss in zip(losses, device_losses, strict=True):
        note("loss", abs(loss - device_loss) / losses[0])
    tensors = on_cpu.read_tensors()
    if on_cpu.stage.kind not in UNSTABLE:
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and tensor.numel():
                distance = float((tensor - on_device.tensors[name].cpu()).abs().max())
                note("numbers", distance / (float(tensor.abs().max()) or 1.0))
    note("selections", share_unlike(tensors, on_device.tensors))
    for fact in KIND_OF_FACT.keys() & on_cpu.info.keys():
        expected = float(on_cpu.info[fact])
        note(KIND_OF_FACT[fact], abs(expected - float(on_device.info[fact])) / max(1.0, abs(expected)))
    return largest


def share_unlike(first: Tensors, second: Tensors) -> float:
    """Return the share of the filters in either selection that are not in both.

    Two correct selections can differ: of filters that score alike, either may stay.

    >>> share_unlike({"kept/conv1": torch.tensor([0, 1, 2])}, {"kept/conv1": torch.tensor([0, 1, 3])})
    0.5
    """
    kept_in_first = _kept_filters(first)
    kept_in_second = _kept_filters(second)
    return len(kept_in_first ^ kept_in_second) / max(1, len(kept_in_first | kept_in_second))


def _kept_filters(tensors: Tensors) -> set[tuple[str, int]]:
    """Return group and index of each filter that a pruning kept."""
    filters: set[tuple[str, int]] = set()
    for name, indices in tensors.items():
        if name.startswith("kept/"):
            filters |= {(name, index) for index in indices.tolist()}
    return filters


def tensors_of(events: Iterable[StageEvent]) -> Tensors:
    """Return all tensors that a trial stored, by stage and name."""
    tensors: Tensors = {}
    for event in events:
        key = event.result.key
        tensors |= {f"{key}/{name}": tensor for name, tensor in event.result.read_tensors().items()}
    return tensors


def _list_text(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} {number:.0e}" if number else f"{name} 0" for name, number in numbers.items())
