"""How much faster pruned networks are, for the MACs that they lost: forward passes, and with the backward pass.

    python benchmarks/pruned_speed.py                   # about four minutes
    python benchmarks/pruned_speed.py --quick           # only MobileNetV2, small images: seconds
    python benchmarks/pruned_speed.py --device cuda     # what the goal is for

ResNet-50, VGG-16 and MobileNetV2 with 20% and 50% fewer MACs: pruned by us, with any widths and in multiples of 8,
and by Torch-Pruning if it is installed: `python -m pip install -e '.[bench]'`. All of a network's models take
turns. The models of Torch-Pruning are rebuilt and counted like ours, after a check that the rebuilt model is the same.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.record import Cell, Row, parser_of, spread, table_of, verdict, write
from tailor.data.task_data import generator
from tailor.facts.networks import NETWORKS
from tailor.facts.widths import WidthRule
from tailor.model.circumstance import device_name
from tailor.model.cost import removed_macs_fraction
from tailor.model.passes import wait_for
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning import budget_solver, surgery
from tailor.pruning.criteria.base import Scoring
from tailor.pruning.criteria.weights import l1
from tailor.stage_execution.preparing import initial_state
from tailor.stages import GroupRule

COMPARED, QUICK_COMPARED, CLASSES = ("resnet50", "vgg16", "mobilenet_v2"), ("mobilenet_v2",), 1000
REMOVED_MACS_FRACTIONS = (0.2, 0.5)
RULE = GroupRule(residual="coupled", linear=True)  # all that can lose filters, as Torch-Pruning has it
GOAL_FRACTION = 0.75
UNPRUNED, THEIRS = "unpruned", "Torch-Pruning"
OURS = {"ours": 1, "ours, widths in multiples of 8": 8}
TOLERANCE, TRIES = 0.01, 10
CHECKED_PX = 64

Work = Callable[[nn.Module, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Length:
    """How much to measure."""

    px: int
    batch: int
    passes: int  # timed together: one alone is too short on a GPU
    forward_rounds: int
    backward_rounds: int


USUAL = {
    "cpu": Length(px=224, batch=4, passes=1, forward_rounds=7, backward_rounds=3),
    "cuda": Length(px=224, batch=256, passes=4, forward_rounds=8, backward_rounds=5),
}
QUICK = {
    "cpu": Length(px=64, batch=1, passes=1, forward_rounds=3, backward_rounds=1),
    "cuda": Length(px=224, batch=256, passes=3, forward_rounds=3, backward_rounds=2),
}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model that takes its turns."""

    name: str
    asked_removed_macs_fraction: float  # of the MACs, to be removed
    removed_macs_fraction: float
    model: nn.Module

    @property
    def macs_ratio(self) -> float:
        """MACs before / after."""
        return 1.0 / (1.0 - self.removed_macs_fraction)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "pruned_speed", quick="one network, fewer rounds")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, help="images of a pass (default: 4 on a CPU, 256 on a GPU)")
    options = parser.parse_args(arguments)
    device, length = torch.device(options.device), (QUICK if options.quick else USUAL)[options.device]
    if options.batch is not None:
        length = replace(length, batch=options.batch)
    if not (has_theirs := importlib.util.find_spec("torch_pruning") is not None):
        print("Torch-Pruning is not installed: its rows are left out", file=sys.stderr, flush=True)
    rows = []
    for network in QUICK_COMPARED if options.quick else COMPARED:
        rows += rows_of(network, list(contenders(network, length, device, has_theirs)), length, device)
        table = table_of("The speed of pruned networks", rows, _notes(length, device, has_theirs))
        write(table, options.out, ("torch", "torchvision", *(["torch-pruning"] if has_theirs else [])))
    return 0


def contenders(network: str, length: Length, device: torch.device, has_theirs: bool) -> Iterator[Contender]:
    """The models of a network that take turns, the unpruned one first."""
    whole = initial_state(network, CLASSES, (3, length.px, length.px), seed=0)
    yield contender(UNPRUNED, 0.0, whole, device)
    for fraction in REMOVED_MACS_FRACTIONS:
        for name, width_multiple in OURS.items():
            yield contender(name, fraction, prune(whole, fraction, width_multiple), device)
        if has_theirs:
            yield contender(THEIRS, fraction, prune_by_torch_pruning(whole, fraction), device)


def contender(name: str, asked_removed_macs_fraction: float, state: ModelState, device: torch.device) -> Contender:
    """A model on its device, with its MACs."""
    on_gpu = device.type == "cuda"
    return Contender(
        name=name,
        asked_removed_macs_fraction=asked_removed_macs_fraction,
        removed_macs_fraction=removed_macs_fraction(state),
        model=state.build(device).to(memory_format=torch.channels_last if on_gpu else torch.contiguous_format),
    )


def prune(whole: ModelState, fraction: float, width_multiple: int) -> ModelState:
    """Pruned by us: the filters of the smallest L1 norm, the same share of each layer's."""
    groups = surgery.groups(building.skeleton(whole.network, CLASSES), whole.input_shape, RULE)
    alone = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
    scoring = Scoring(
        state=whole, found=groups, ranks=alone, samples=None, batch_size=None, placement=None, seed=None
    )  # the weights are all that L1 reads
    ranking = budget_solver.combine_scores(l1(scoring), groups, "sum")
    least = budget_solver.minimums(whole, groups, 0.0)
    kept = budget_solver.uniform(
        budget_solver.Budget(whole, groups, fraction, least, WidthRule(multiple=width_multiple)), ranking
    )
    return surgery.slim(whole, kept, groups)


def prune_by_torch_pruning(whole: ModelState, fraction: float) -> ModelState:
    """Pruned by Torch-Pruning with its defaults and L1, with the share of filters that removes the asked MACs.

    Raises:
        ValueError: none was found.
    """
    share = 1.0 - (1.0 - fraction) ** 0.5  # were both sides of each layer to lose it
    for _ in range(TRIES):
        state = torch_pruning_state(whole, share)
        removed = removed_macs_fraction(state)
        if abs(removed - fraction) <= TOLERANCE:
            return state
        share *= fraction / removed
    raise ValueError(f"{whole.network}: Torch-Pruning removes {removed:.3f} of the MACs where {fraction:g} were asked")


def torch_pruning_state(whole: ModelState, share: float, round_to: int | None = None) -> ModelState:
    """The network that Torch-Pruning leaves after removing this share of filters, as our state.

    Raises:
        AssertionError: the model that is rebuilt from it gives other outputs.
    """
    import torch_pruning

    model = whole.build().eval()
    images = torch.randn(1, 3, CHECKED_PX, CHECKED_PX, generator=generator(0, "images"))
    torch_pruning.pruner.BasePruner(
        model,
        images,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=share,
        round_to=round_to,
        ignored_layers=[model.get_submodule(NETWORKS[whole.network].head)],
    ).step()
    state = replace(whole.with_weights_of(model), kept=None)
    with torch.no_grad():
        torch.testing.assert_close(state.build().eval()(images), model(images))
    return state


def rows_of(network: str, turns: list[Contender], length: Length, device: torch.device) -> list[Row]:
    """The rows of a network: forward alone as in evaluation, and with the backward pass as in training."""
    images = torch.randn(length.batch, 3, length.px, length.px, generator=generator(0, "images")).to(device)
    if device.type == "cuda":
        images = images.contiguous(memory_format=torch.channels_last)
    rows: list[Row] = []
    works: dict[str, tuple[Work, int]] = {
        "forward": (forward, length.forward_rounds),
        "forward and backward": (forward_and_backward, length.backward_rounds),
    }
    for what, (work, rounds) in works.items():
        for contender in turns:
            contender.model.train(work is forward_and_backward)
        # The first round is not counted: libraries choose their algorithms, memory is taken.
        times = [
            [seconds(work, contender.model, images, length.passes) for contender in turns] for _ in range(rounds + 1)
        ][1:]
        unpruned_s = [taken[0] for taken in times]
        for contender, own_s in zip(turns, zip(*times, strict=True), strict=True):
            rows.append({"network": network} | row(contender, what, device, own_s, unpruned_s))
    return rows


def row(
    contender: Contender, what: str, device: torch.device, own_s: Sequence[float], unpruned_s: Sequence[float]
) -> dict[str, Cell]:
    """The row of a model; speed-ups are per round, so anything that slows a whole round cancels out."""
    speed_ups = [before / after for before, after in zip(unpruned_s, own_s, strict=True)]
    own_ms = [1e3 * taken_s for taken_s in own_s]
    part = statistics.median(speed_ups) / contender.macs_ratio
    has_goal = contender.name in OURS and what == "forward"
    is_judged = has_goal and device.type == "cuda"
    return {
        "device": device.type,
        "what": what,
        "model": contender.name,
        "asked_removed_macs_fraction": contender.asked_removed_macs_fraction,
        "removed_macs_fraction": contender.removed_macs_fraction,
        "macs_ratio": contender.macs_ratio,
        "median_ms": statistics.median(own_ms),
        "quartiles_ms": spread(own_ms),
        "speed_up": statistics.median(speed_ups),
        "speed_up_quartiles": spread(speed_ups),
        "speed_up_per_macs_ratio": part,
        "rounds": len(own_s),
        "goal": f">= {GOAL_FRACTION} on a GPU" if has_goal else None,
        "verdict": verdict(part >= GOAL_FRACTION) if is_judged else None,
    }


def seconds(work: Work, model: nn.Module, images: Tensor, passes: int) -> float:
    """Wall time of one of this many passes; waits for the GPU before and after all."""
    wait_for(images.device)
    begun_s = time.perf_counter()
    for _ in range(passes):
        work(model, images)
    wait_for(images.device)
    return (time.perf_counter() - begun_s) / passes


def forward(model: nn.Module, images: Tensor) -> None:
    """A forward pass without gradients."""
    with torch.inference_mode(), _precision(images.device):
        model(images)


def forward_and_backward(model: nn.Module, images: Tensor) -> None:
    """A training step without the optimiser's part; gradients are dropped, for all models share the memory."""
    with _precision(images.device):
        loss = F.cross_entropy(model(images), torch.zeros(len(images), dtype=torch.int64, device=images.device))
    torch.autograd.backward(loss)
    model.zero_grad(set_to_none=True)


def _precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _notes(length: Length, device: torch.device, has_theirs: bool) -> tuple[str, ...]:
    on_gpu = device.type == "cuda"
    precision = "bfloat16 by autocast, channels last" if on_gpu else f"float32, {torch.get_num_threads()} threads"
    theirs = (
        "its BasePruner with its defaults (the same share of each layer's filters, no rounding) and L1, the last layer "
        "kept; the share is the one that removes the asked MACs. Its tensors are rebuilt as ours are."
    )
    return (
        f"On {device_name(device)}, {precision}; batches of {length.batch} random images of {length.px} x {length.px} "
        f"pixels in the device's memory, {CLASSES} classes, random weights; torch's own settings, nothing is compiled.",
        "ours: the filters of the smallest L1 norm go, the same share of each layer's, of layers whose outputs are "
        "added together and of hidden linear layers too. Multiples of 8: `width_multiple = 8`, widths rounded up and "
        "more filters taken until the budget is met.",
        f"Torch-Pruning: {theirs if has_theirs else 'not installed, left out.'}",
        "MACs of all models are counted by `tailor.model.cost`, at the size of these images.",
        f"All models of a network take turns (passes in a turn: {length.passes}). speed_up: milliseconds of the "
        "unpruned model / of this one in the same round, median of the rounds. speed_up_per_macs_ratio: speed_up / "
        "macs_ratio, which is MACs before / after; 1: faster by all that was lost. The goal is for that, of forward.",
        "forward: evaluation mode, no gradients. forward and backward: training mode, with the loss and without the "
        "optimiser.",
    )


if __name__ == "__main__":
    sys.exit(main())
