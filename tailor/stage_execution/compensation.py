"""Mean shift: biases take over what removed filters and heads gave on average.

VBP (arXiv 2507.12988): where a layer reads x and loses some of it, b becomes b + W[:, gone] mean(x[gone]).
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

import tailor.stages as stages
from tailor.common.errors import ConfigError
from tailor.data.task_data import batches
from tailor.model.state import ModelState
from tailor.pruning import surgery
from tailor.stage_execution.base import StageContext, StageOutput, add_prefix, compute
from tailor.stage_execution.pruning import groups_of
from tailor.stage_execution.tuning import HasState


@compute.register
def compute_shift_means(stage: stages.ShiftMeans, parent: ModelState, context: StageContext) -> StageOutput:
    unpruned = cast(HasState, stage.unpruned).model_state()
    if unpruned.kept is None or parent.kept is None:
        raise ConfigError("pruning.shift_means needs the indices of kept filters, which initialised weights have not")
    groups = groups_of(unpruned, stage.rule)
    nothing = {group.name: torch.zeros(0, dtype=torch.int64) for group in groups}
    if not gone_inputs(unpruned, nothing, groups):
        raise ConfigError(
            "pruning.shift_means = true has no effect: no layer that reads what can be removed has a bias; leave it out"
        )
    kept = {}
    for group in groups:
        kept_before = unpruned.kept.get(group.name, torch.arange(group.filters))
        kept_now = parent.kept.get(group.name, kept_before)
        kept[group.name] = torch.isin(kept_before, kept_now).nonzero().flatten()
    gone = gone_inputs(unpruned, kept, groups)
    means = _means(unpruned, set(gone), stage, context)
    tensors = dict(unpruned.tensors)
    for layer, inputs in gone.items():
        weight = tensors[f"{layer}.weight"]
        matrix = weight.flatten(2).sum(dim=2) if weight.dim() > 2 else weight  # a mean is the same at each position
        shift = matrix[:, inputs] @ means[layer][inputs].to(matrix.dtype)
        tensors[f"{layer}.bias"] = tensors[f"{layer}.bias"] + shift
    slimmed = surgery.slim(replace(unpruned, tensors=tensors), kept, groups).tensors
    biases = {f"{layer}.bias": slimmed[f"{layer}.bias"] for layer in gone}
    return StageOutput(tensors=add_prefix("tensors", biases))


def gone_inputs(state: ModelState, kept: surgery.Kept, groups: tuple[surgery.Group, ...]) -> dict[str, Tensor]:
    """Layer with a bias -> indices of its inputs that came from removed filters and heads.

    Channels under norms over channels (the stream) are left out.
    """
    gone: dict[str, Tensor] = {}
    for group in groups:
        if group.kind not in ("filters", "heads"):
            continue
        removed = torch.ones(group.filters, dtype=torch.bool)
        removed[kept[group.name]] = False
        if not removed.any():
            continue
        for part in group.slices:
            is_read = part.dim == 1 and not part.loose
            layer = part.tensor.removesuffix(".weight")
            if is_read and f"{layer}.bias" in state.tensors:
                before = gone.get(layer, torch.zeros(0, dtype=torch.int64))
                gone[layer] = torch.cat([before, *part.indices[removed]])
    return gone


def _means(state: ModelState, layers: set[str], stage: stages.ShiftMeans, context: StageContext) -> dict[str, Tensor]:
    """Layer -> the mean of each of its inputs over the training images and positions, and over its calls in a pass."""
    ranks = context.ranks
    model = state.build(ranks.device).eval()
    if stage.rule.is_whole:
        from tailor.networks.attention import replace_attention  # imports torchvision, which takes seconds

        replace_attention(model)  # so that it calls its layers

    totals: dict[str, Tensor] = {}
    for layer in sorted(layers):
        inputs = state.tensors[f"{layer}.weight"].shape[1]
        # The last number counts the images that the layer saw.
        totals[layer] = torch.zeros(inputs + 1, dtype=torch.float64, device=ranks.device)
        _add_inputs_into(totals[layer], model.get_submodule(layer))
    data = context.train(stage.task)
    with torch.no_grad():
        for batch in batches(data, stage.batch_size, 0, 0, "none", ranks):
            if len(batch.images):
                model(batch.images)
    sums = {layer: ranks.sum(total) for layer, total in totals.items()}
    return {layer: (total[:-1] / total[-1]).cpu() for layer, total in sums.items()}


def _add_inputs_into(total: Tensor, module: nn.Module) -> None:
    """From now on, add to `total` (inputs + 1,) each image's mean input over its positions, and count the images."""

    def add(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        channels_dim = -1 if isinstance(module, nn.Linear) else 1
        values = inputs[0].movedim(channels_dim, -1)
        per_image = values.flatten(1, -2).mean(dim=1) if values.dim() > 2 else values
        total[:-1] += per_image.sum(dim=0).double()
        total[-1] += len(values)

    module.register_forward_pre_hook(add)
