"""Mean shift: biases take over what removed filters and heads gave on average.

VBP (arXiv 2507.12988): where a layer reads x and loses some of it, b becomes b + W[:, gone] mean(x[gone]).
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

import tailor.stages as stages
from tailor.core.errors import ConfigError
from tailor.data.task_data import batches
from tailor.model.state import ModelState
from tailor.networks.attention import replace_attention
from tailor.pruning import surgery
from tailor.stage_execution.base import StageContext, StageOutput, add_prefix, compute
from tailor.stage_execution.pruning import groups_of
from tailor.stage_execution.tuning import HasState


@compute.register
def compute_shift_means(stage: stages.ShiftMeans, parent: ModelState, context: StageContext) -> StageOutput:
    unpruned = cast(HasState, stage.unpruned).model_state()
    if unpruned.kept is None or parent.kept is None:
        raise ConfigError("pruning.shift_means needs the indices of kept filters, which initialised weights have not")
    found = groups_of(unpruned, stage.rule)
    kept = {}
    for group in found:
        before = unpruned.kept.get(group.name, torch.arange(group.filters))
        kept[group.name] = torch.isin(before, parent.kept.get(group.name, before)).nonzero().flatten()
    gone = gone_inputs(unpruned, kept, found)
    means = _means(unpruned, {*gone}, stage, context)
    tensors = dict(unpruned.tensors)
    for layer, inputs in gone.items():
        weight = tensors[f"{layer}.weight"]
        read = weight.flatten(2).sum(dim=2) if weight.dim() > 2 else weight
        tensors[f"{layer}.bias"] = tensors[f"{layer}.bias"] + read[:, inputs] @ means[layer][inputs].to(read.dtype)
    slimmed = surgery.slim(replace(unpruned, tensors=tensors), kept, found).tensors
    return StageOutput(tensors=add_prefix("tensors", {f"{layer}.bias": slimmed[f"{layer}.bias"] for layer in gone}))


def gone_inputs(state: ModelState, kept: surgery.Kept, found: tuple[surgery.Group, ...]) -> dict[str, Tensor]:
    """Layer with a bias -> its inputs that removed filters and heads gave; channels under norms are left out."""
    gone: dict[str, Tensor] = {}
    for group in (group for group in found if group.kind in ("filters", "heads")):
        removed = torch.ones(group.filters, dtype=torch.bool)
        removed[kept[group.name]] = False
        for read in (read for read in group.slices if read.dim == 1 and not read.loose):
            layer = read.tensor.removesuffix(".weight")
            if f"{layer}.bias" in state.tensors and removed.any():
                gone[layer] = torch.cat([gone.get(layer, torch.zeros(0, dtype=torch.int64)), *read.indices[removed]])
    return gone


def _means(state: ModelState, layers: set[str], stage: stages.ShiftMeans, context: StageContext) -> dict[str, Tensor]:
    """Layer -> the mean of each of its inputs over the training images and positions, and over its calls in a pass."""
    ranks = context.ranks
    model = state.build(ranks.device).eval()
    if stage.rule.is_whole:
        replace_attention(model)  # so that it calls its layers

    totals = {  # the last number counts what the layer saw
        layer: torch.zeros(state.tensors[f"{layer}.weight"].shape[1] + 1, dtype=torch.float64, device=ranks.device)
        for layer in sorted(layers)
    }

    def add_into(layer: str, module: nn.Module) -> None:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].movedim(-1 if isinstance(module, nn.Linear) else 1, -1)
            total = values.flatten(1, -2).mean(dim=1).sum(dim=0) if values.dim() > 2 else values.sum(dim=0)
            totals[layer][:-1] += total.double()
            totals[layer][-1] += len(values)

        module.register_forward_pre_hook(add)

    for layer in totals:
        add_into(layer, model.get_submodule(layer))
    data = context.splits(stage.task).train
    with torch.no_grad():
        for batch in batches(data, stage.batch_size, 0, 0, "none", ranks):
            if len(batch.images):
                model(batch.images)
    sums = {layer: ranks.sum(total) for layer, total in totals.items()}
    return {layer: (total[:-1] / total[-1]).cpu() for layer, total in sums.items()}
