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
from tailor.gpu_check import CheckRow
from tailor.gpu_check.training import pause_after
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
    {"name": "prune", "criterion": "taylor", "removed_macs_fraction": 0.2},
    {"name": "sfp", "removed_macs_fraction": 0.2},
    {"name": "gbn", "steps": 1, "ticks": 1},
    {"name": "fine_tune"},
    {"name": "head_only"},
    {"name": "smaller_dense", "removed_macs_fraction": 0.2},
)
# A stage is a few steps of training or a measurement, in float32: rounding is some 1e-5, a mistake 1e-1.
TOLERANCES = {"numbers": 1e-2, "loss": 1e-2, "score": 1e-2, "selections": 5e-2, "MACs": 1e-2}
# Trained from random weights at a high rate: after 58 steps two convolutions of one CPU are 30% apart, losses 0.1%.
UNSTABLE = {"train_source"}
KIND_OF_FACT = {"macs": "MACs", "removed_macs_fraction": "MACs", "deciding_score": "score"}
CPU = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
ASKED = 3  # times whether to pause, before the answer is yes: before a stage, after its first step, at an agreement


def check_methods(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """A short trial of each method on the CPU; each of its stages again on the device, from the CPU's parents."""
    cache, seen = Cache(folder), set[str]()
    for method in METHODS:
        worst, stages = dict.fromkeys(TOLERANCES, 0.0), 0
        for event in run_trial(trial(method), cache=cache, ranks=CPU):
            stages += 1
            if event.result.key not in seen:  # methods share their first stages
                seen.add(event.result.key)
                found = differences(event.result, compute_stage(event, ranks))
                worst = {kind: max(worst[kind], found[kind]) for kind in worst}
        compared = f"{stages} stages on {ranks.device.type} and on the CPU"
        is_right = all(worst[kind] <= allowed for kind, allowed in TOLERANCES.items())
        yield CheckRow(f"method {method['name']}", compared, _list_text(TOLERANCES), _list_text(worst), is_right)


def check_resumption(ranks: ProcessGroup, folder: Path) -> Iterator[CheckRow]:
    """A trial on the device in one go, twice, and one that is interrupted again and again; to the last bit."""
    config, pauses, resumed = trial(METHODS[0]), 0, dict[str, Tensor]()
    straight, again = (tensors_of(run_trial(config, cache=Cache(folder / n), ranks=ranks)) for n in ("a", "b"))
    kept: dict[str, Any] = {"cache": Cache(folder / "c"), "checkpoint_folder": folder / "checkpoints"}
    while not resumed:
        try:
            resumed = tensors_of(run_trial(config, ranks=ranks, pause=pause_after(ASKED), **kept))
        except Paused:
            pauses += 1
    for check, found, how in (("repeated", again, "in another cache"), ("resumed", resumed, f"paused {pauses} times")):
        wrong = sum(not torch.equal(tensor, found[name]) for name, tensor in straight.items())
        compared = f"{len(straight)} tensors of a trial, {how}"
        yield CheckRow(f"{check} equals straight", compared, "no bit", f"{wrong} differ", wrong == 0)


def trial(method: dict[str, Any]) -> TrialConfig:
    """A short trial of a method."""
    return parse_trial(SHORT | {"method": method}, "check-gpu")


def compute_stage(event: StageEvent, ranks: ProcessGroup) -> StageOutput:
    """The stage of an event, computed on another device from the same parents."""
    stage = event.result.stage
    parent = stage.of.model_state() if isinstance(stage.of, Result) else None
    return compute(stage, parent, StageContext(ranks=ranks, checkpoint_folder=None, checkpoint_every_s=0.0))


def differences(here: Result, there: StageOutput) -> dict[str, float]:
    """The largest difference of each kind between a stage of the CPU and the same of the device; infinite for NaN."""
    tensors, found = here.read_tensors(), [(kind, 0.0) for kind in TOLERANCES]
    losses, others = ([row["train_loss"] for row in facts.get("epochs", [])] for facts in (here.info, there.info))
    found += [("loss", abs(one - other) / losses[0]) for one, other in zip(losses, others, strict=True)]
    for name, tensor in tensors.items() if here.stage.kind not in UNSTABLE else ():
        if tensor.is_floating_point() and tensor.numel():
            distance = float((tensor - there.tensors[name].cpu()).abs().max())
            found.append(("numbers", distance / (float(tensor.abs().max()) or 1.0)))
    found.append(("selections", share_unlike(tensors, there.tensors)))
    for fact in KIND_OF_FACT.keys() & here.info.keys():
        expected = float(here.info[fact])
        found.append((KIND_OF_FACT[fact], abs(expected - float(there.info[fact])) / max(1.0, abs(expected))))
    return {kind: max(d if d == d else float("inf") for k, d in found if k == kind) for kind in TOLERANCES}


def share_unlike(one: Tensors, two: Tensors) -> float:
    """Share of the filters in either selection that are not in both; of two that score alike, either may stay.

    >>> share_unlike({"kept/conv1": torch.tensor([0, 1, 2])}, {"kept/conv1": torch.tensor([0, 1, 3])})
    0.5
    """
    first, second = (
        {(n, i) for n, t in kept.items() if n.startswith("kept/") for i in t.tolist()} for kept in (one, two)
    )
    return len(first ^ second) / max(1, len(first | second))


def tensors_of(events: Iterable[StageEvent]) -> Tensors:
    """All tensors that a trial stored, by stage and name."""
    return {f"{e.result.key}/{name}": tensor for e in events for name, tensor in e.result.read_tensors().items()}


def _list_text(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} {number:.0e}" if number else f"{name} 0" for name, number in numbers.items())
