"""`tailor.prune` beside Torch-Pruning: ten networks of torchvision, the same share of the MACs removed by both.

    python benchmarks/own_networks.py                   # about ten minutes
    python benchmarks/own_networks.py --quick           # two networks

Both remove the filters of the smallest L1 norm, the same share in each layer, until the budget is met, each by the code
that its user writes (`ours`, `theirs`). The networks are initialised, and each filter is multiplied by a number of its
own: no weights are downloaded, and norms differ as in a trained network.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import ast
import copy
import inspect
import textwrap
import time
from collections.abc import Callable, Sequence

import torch
import torchvision
from torch import Tensor, nn

import tailor
from benchmarks.record import RESULTS, Cell, Measured, read_rows, verdict, write
from tailor.data.task_data import generator
from tailor.model.cost import counted_macs
from tailor.own.pruned import PrunedNetwork
from tailor.pruning.budget_solver import BUDGET_MARGIN
from tailor.pruning.groups import groups
from tailor.stages import GroupRule
from tools.masked_reference import mask_model

NETWORKS = (
    "resnet18",
    "squeezenet1_1",
    "mobilenet_v2",
    "mnasnet1_0",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "resnet50",
    "densenet121",
    "alexnet",
    "vgg11_bn",
)
QUICK = ("resnet18", "mobilenet_v2")
PX, REMOVED, SPREAD = 64, 0.5, 0.5
LARGEST_DIFFERENCE = 1e-9  # of masked and slimmed outputs in float64, relative to the largest
LEAST_KEPT = 0.99  # kept weights, ours / theirs

COLUMNS = (
    "network",
    "ours_removed_macs",
    "theirs_removed_macs",
    "layers",
    "widths_within_one",
    "ours_kept_l1",
    "theirs_kept_l1",
    "masked_difference",
    "ours_s",
    "theirs_s",
    "verdict",
)


def ours(model: nn.Module, images: Tensor) -> PrunedNetwork:
    """What a user of this program writes."""
    return tailor.prune(
        model, images, removed_macs_fraction=0.5, criterion="l1", allocation="uniform", minimum_filters_fraction=0.0
    )


def theirs(model: nn.Module, images: Tensor) -> nn.Module:
    """What a user of Torch-Pruning writes to reach a share of the MACs."""
    import torch_pruning as tp

    model = copy.deepcopy(model).eval()
    head = [module for module in model.modules() if getattr(module, "out_features", 0) == 1000]
    head += [module for module in model.modules() if getattr(module, "out_channels", 0) == 1000]
    pruner = tp.pruner.BasePruner(
        model,
        images,
        importance=tp.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=1.0,
        iterative_steps=100,
        ignored_layers=head,
    )
    macs, _ = tp.utils.count_ops_and_params(model, images)
    left = macs
    while left > 0.5 * macs:
        pruner.step()
        left, _ = tp.utils.count_ops_and_params(model, images)
    return model


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="tailor.prune beside Torch-Pruning on torchvision's networks")
    parser.add_argument("--quick", action="store_true", help="two networks: for a look, not for a record")
    parser.add_argument("--resume", action="store_true", help="keep the rows that the table has")
    parser.add_argument("--out", type=Path, default=RESULTS / "own_networks", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    title = "A user's network pruned in one call, beside Torch-Pruning"
    rows = read_rows(options.out, COLUMNS) if options.resume else []
    for name in QUICK if options.quick else NETWORKS:
        if name not in [before[0] for before in rows]:
            rows.append(row(name))
            measured = Measured(title=title, columns=COLUMNS, rows=tuple(rows), notes=notes())
            write(measured, options.out, packages=("torch", "torchvision", "torch-pruning"))
    return 0


def row(name: str) -> tuple[Cell, ...]:
    """A row of the table."""
    model = network(name)
    images = torch.randn(1, 3, PX, PX, generator=generator(0, "images"))
    start_s = time.perf_counter()
    own = ours(model, images)
    own_s, start_s = time.perf_counter() - start_s, time.perf_counter()
    other = theirs(model, images)
    other_s = time.perf_counter() - start_s
    whole = macs(model)
    removed = [1.0 - macs(one) / whole for one in (own.model, other)]
    kept = [l1_of(one) / l1_of(model) for one in (own.model, other)]
    layers, near = widths_within_one(own.model, other)
    difference = masked_difference(model, own)
    is_met = (
        0.0 <= removed[0] - REMOVED <= BUDGET_MARGIN
        and difference <= LARGEST_DIFFERENCE
        and (near == layers or kept[0] >= LEAST_KEPT * kept[1])
    )
    return (name, *removed, layers, near, *kept, difference, own_s, other_s, verdict(is_met))


def network(name: str) -> nn.Module:
    """The network in evaluation mode, each filter multiplied by exp(0.5 x a normal number)."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(name).eval()
    draw = generator(0, "filters")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                factors = torch.exp(SPREAD * torch.randn(len(parameter), generator=draw))
                parameter.mul_(factors.reshape(-1, *[1] * (parameter.dim() - 1)))
    return model


def macs(model: nn.Module) -> int:
    """Multiply-accumulates of one image, both sides counted alike."""
    return counted_macs(copy.deepcopy(model).to("meta"), (3, PX, PX))


def l1_of(model: nn.Module) -> float:
    """Sum of the absolute weights of convolutions and linear layers."""
    return sum(float(p.detach().abs().sum()) for p in model.parameters() if p.dim() > 1)


def widths_within_one(own: nn.Module, other: nn.Module) -> tuple[int, int]:
    """How many layers there are, and how many of them have the same number of filters in both, or one more or fewer."""
    widths = [{n: len(p) for n, p in one.named_parameters() if p.dim() > 1} for one in (own, other)]
    return len(widths[0]), sum(abs(width - widths[1][name]) <= 1 for name, width in widths[0].items())


def masked_difference(model: nn.Module, own: PrunedNetwork) -> float:
    """How far the pruned outputs are from those of the whole network with zeros, in float64, over the largest."""
    images = torch.randn(2, 3, PX, PX, generator=generator(1, "images"), dtype=torch.float64)
    reference = copy.deepcopy(model).double()
    found = groups(reference, (3, PX, PX), GroupRule(residual="coupled", linear=True))
    became = [group for group in own.groups if group.reason is None]
    kept = {group.name: torch.tensor(one.kept) for group, one in zip(found, became, strict=True)}
    mask_model(reference, kept, found)
    with torch.no_grad():
        expected, found_outputs = reference(images), copy.deepcopy(own.model).double()(images)
    return float((found_outputs - expected).abs().max() / expected.abs().max())


def lines_of(function: Callable[..., object]) -> list[str]:
    """The lines of a function's body without its docstring."""
    source = textwrap.dedent(inspect.getsource(function))
    (defined,) = ast.parse(source).body
    assert isinstance(defined, ast.FunctionDef)
    first = defined.body[1].lineno  # behind the docstring
    return textwrap.dedent("\n".join(source.splitlines()[first - 1 :])).splitlines()


def notes() -> tuple[str, ...]:
    """What is compared, and the code of both sides."""
    shown = [f"{name}, {len(lines_of(side))} lines:" for name, side in (("ours", ours), ("theirs", theirs))]
    code = ["\n\n```python\n" + "\n".join(lines_of(side)) + "\n```\n" for side in (ours, theirs)]
    return (
        f"Initialised networks, input {PX} x {PX}, half of the MACs to be removed. removed_macs: share that was "
        "removed, of both counted by this program.",
        "layers: convolutions and linear layers; widths_within_one: those whose numbers of filters differ by at most "
        "one (both round a share of the filters).",
        "kept_l1: sum of the absolute weights that are left, over that of the whole network; the importance of theirs "
        "is of the weights that make a filter and of those that read it, that of ours is of those that make it.",
        "masked_difference: of our pruned network and the whole one with zeros in place of what was removed, float64, "
        "over the largest output.",
        f"verdict: the budget is met within {BUDGET_MARGIN:g}, masked equals slimmed to {LARGEST_DIFFERENCE:g}, and "
        f"the widths are theirs within one filter or the kept weights at least {LEAST_KEPT:g} of theirs.",
        *(f"{what}{text}" for what, text in zip(shown, code, strict=True)),
    )


if __name__ == "__main__":
    sys.exit(main())
