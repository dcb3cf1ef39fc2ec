"""How much faster vit_b_16 is with half of its MACs, beside Torch-Pruning's isomorphic pruning.

    python benchmarks/transformer_speed.py              # about four minutes
    python benchmarks/transformer_speed.py --quick      # one image, fewer rounds

Torch-Pruning keeps twelve heads and makes them narrower, since torch's attention demands that all heads together are as
wide as the stream. We remove whole heads. All widths are multiples of 8; ours are chosen twice: by us, and as theirs.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import copy
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from benchmarks.pruned_speed import CLASSES, COLUMNS, QUICK, TRIES, UNPRUNED, USUAL, Contender, Length, rows_of
from benchmarks.record import RESULTS, Measured, write
from tailor.data.task_data import generator
from tailor.model.cost import counted_macs, removed_macs_fraction
from tailor.model.latency import device_name
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning import budget_solver, surgery
from tailor.pruning.criteria.base import Scoring
from tailor.pruning.criteria.weights import l1
from tailor.pruning.surgery import Kept
from tailor.stage_execution.preparing import initial_state
from tailor.stages import GroupRule

NETWORK, FRACTION, TOLERANCE = "vit_b_16", 0.5, 0.02
RULE = GroupRule(residual="coupled", linear=True, stream=True, heads=True)
ROUND_TO = 24  # a multiple of 8, and of the number of heads, as Torch-Pruning needs it
HEAD_WIDTH = 64
CPU = torch.device("cpu")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table; returns 0."""
    parser = argparse.ArgumentParser(description="speed-up of vit_b_16 with half of its MACs, beside Torch-Pruning")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and one image: for a look")
    parser.add_argument("--out", type=Path, default=RESULTS / "transformer_speed", help="path without suffix")
    options = parser.parse_args(arguments)
    length = replace(QUICK["cpu"] if options.quick else USUAL["cpu"], px=224)
    if not (has_theirs := importlib.util.find_spec("torch_pruning") is not None):
        print("Torch-Pruning is not installed: its rows are left out", file=sys.stderr, flush=True)
    turns = list(contenders(length, has_theirs))
    measured = Measured(
        title="The speed of a pruned transformer",
        columns=(*COLUMNS[:-2], "widths"),
        rows=tuple(
            (*row[:-2], next(widths_of(one.model) for one in turns if one.name == row[3]))
            for row in rows_of(NETWORK, turns, length, CPU)
        ),
        notes=_notes(length),
    )
    write(measured, options.out, ("torch", "torchvision", *(["torch-pruning"] if has_theirs else [])))
    return 0


def contenders(length: Length, has_theirs: bool) -> Iterator[Contender]:
    """The models that take turns, the unpruned one first."""
    whole = initial_state(NETWORK, CLASSES, (3, length.px, length.px), seed=0)
    yield Contender(name=UNPRUNED, asked_fraction=0.0, removed_fraction=0.0, model=whole.build())
    found = surgery.groups(building.skeleton(NETWORK, CLASSES), whole.input_shape, RULE)
    ranking = l1_ranking(whole, found)
    least = budget_solver.minimums(whole, found, 0.0)
    yield ours(
        "ours, by_kind",
        whole,
        found,
        budget_solver.lowest_by_kind(budget_solver.Budget(whole, found, FRACTION, least, 8), ranking),
    )
    if has_theirs:
        theirs = torch_pruning_contender(whole)
        yield theirs
        kept = {}
        for group in found:
            layer = theirs.model.get_submodule(group.name.partition(":")[0])
            width = layer.weight.shape[0]
            count = round(width / HEAD_WIDTH) if group.kind == "heads" else width
            kept[group.name] = ranking[group.name].argsort(descending=True)[:count].sort().values
        yield ours("ours, as wide as Torch-Pruning's", whole, found, kept)


def l1_ranking(whole: ModelState, found: tuple[surgery.Group, ...]) -> dict[str, torch.Tensor]:
    """Name of each group -> the L1 norms of its units."""
    alone = ProcessGroup(rank=0, world_size=1, device=CPU)
    scoring = Scoring(state=whole, found=found, ranks=alone, samples=None, batch_size=None, placement=None, seed=None)
    return budget_solver.combine_scores(l1(scoring), found, "sum")


def ours(name: str, whole: ModelState, found: tuple[surgery.Group, ...], kept: Kept) -> Contender:
    """A model of ours that keeps these units."""
    state = surgery.slim(whole, kept, found)
    return Contender(
        name=name, asked_fraction=FRACTION, removed_fraction=removed_macs_fraction(state), model=state.build()
    )


def torch_pruning_contender(whole: ModelState) -> Contender:
    """Its isomorphic pruning by L1, with the share that removes the asked MACs.

    Raises:
        ValueError: none was found.
    """
    share = 1.0 - (1.0 - FRACTION) ** 0.5
    for _ in range(TRIES):
        model = prune_by_torch_pruning(whole, share)
        removed = 1.0 - macs_of_module(model, whole.input_shape) / macs_of_module(whole.build(), whole.input_shape)
        if abs(removed - FRACTION) <= TOLERANCE:
            return Contender(name="Torch-Pruning", asked_fraction=FRACTION, removed_fraction=removed, model=model)
        share *= FRACTION / removed
    raise ValueError(f"Torch-Pruning removes {removed:.3f} of the MACs where {FRACTION:g} were asked")


def prune_by_torch_pruning(whole: ModelState, share: float) -> nn.Module:
    """The network that it leaves after removing this share of the channels of each kind."""
    import torch_pruning

    model = whole.build().eval()
    torch_pruning.pruner.BasePruner(
        model,
        torch.randn(1, *whole.input_shape, generator=generator(0, "images")),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
        global_pruning=True,
        isomorphic=True,
        pruning_ratio=share,
        round_to=ROUND_TO,
        ignored_layers=[model.heads.head],
        unwrapped_parameters=[(model.class_token, 2), (model.encoder.pos_embedding, 2)],
    ).step()
    model.hidden_dim = model.conv_proj.out_channels
    return model


def macs_of_module(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of a module for one image."""
    return counted_macs(copy.deepcopy(model).to("meta").eval(), shape)


def widths_of(model: nn.Module) -> str:
    """Of the stream, of all heads together and of the hidden layers, the smallest and largest of all blocks."""
    heads = [module.out_proj.weight.shape[1] for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    hidden = [module[0].weight.shape[0] for name, module in model.named_modules() if name.endswith("mlp")]
    spans = [f"{min(each)}-{max(each)}" if min(each) < max(each) else str(each[0]) for each in (heads, hidden)]
    return f"stream {model.conv_proj.weight.shape[0]}, heads {spans[0]}, hidden {spans[1]}"


def _notes(length: Length) -> tuple[str, ...]:
    return (
        f"On {device_name(CPU)}, float32, {torch.get_num_threads()} threads; batches of {length.batch} random images "
        f"of {length.px} x {length.px} pixels, {CLASSES} classes, random weights.",
        "ours, by_kind: heads, channels of the stream and hidden units, the same share of each kind, those of the "
        "smallest L1 norm, `width_multiple = 8`.",
        f"Torch-Pruning: BasePruner with isomorphic and global pruning, L1, round_to = {ROUND_TO}: the stream and all "
        "heads together are equally wide, so each of its twelve heads becomes narrower.",
        "ours, as wide as Torch-Pruning's: its widths of stream and hidden layers, and as many heads of "
        f"{HEAD_WIDTH} as come nearest to its width of all heads.",
        "All models take turns. speed_up: milliseconds of the unpruned model / of this one in the same round, median "
        "of the rounds. speed_up_per_macs_ratio: speed_up / macs_ratio, which is MACs before / after.",
    )


if __name__ == "__main__":
    sys.exit(main())
