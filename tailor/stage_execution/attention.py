"""DELTA's attention: the loss with each channel of the pre-trained network zeroed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import tailor.stages as stages
from tailor.core.errors import ConfigError
from tailor.data.objective import loss_sum
from tailor.data.task_data import Samples, generator, in_order
from tailor.model.state import ModelState
from tailor.stage_execution.base import StageContext, StageOutput, add_prefix, compute
from tailor.training.feature_maps import compared_layers

TEMPERATURE = 5.0  # of the softmax over standardised loss increases, as in the authors' code


@compute.register
def compute_weigh_channels(stage: stages.WeighChannels, parent: ModelState, context: StageContext) -> StageOutput:
    train, ranks = context.splits(stage.task).train, context.ranks
    drawn = torch.randperm(len(train), generator=generator(stage.seed, "attention"))[: stage.images]
    mine = train.take(drawn[ranks.rank :: ranks.world_size].to(train.labels.device))
    model = parent.build(ranks.device).eval()
    compared, weights = compared_layers(parent), {}
    if not compared:
        raise ConfigError(f"regulariser 'delta' compares feature maps, and no convolution of {parent.network} has any")
    for layer, channels in compared.items():
        losses = [loss_without(model, layer, channel, mine) for channel in range(channels)]
        weights[layer] = attention(ranks.sum(torch.stack(losses)).cpu())
    return StageOutput(tensors=add_prefix("channel_weights", weights))


def attention(losses: Tensor) -> Tensor:
    """Weights (C,) with mean 1 of a layer's channels, from the losses (C,) without each of them, summed over images.

    They are C x softmax(z / 5), z the standardised increases of the loss, in which the loss with all channels and the
    number of images cancel. The authors' code is the same, and multiplies by C in the penalty. If all channels matter
    equally, all weights are 1.

    >>> attention(torch.tensor([2.0, 2.0])).tolist()
    [1.0, 1.0]
    """
    z = (losses - losses.mean()) / losses.std(correction=0).clamp_min(1e-30)
    return (len(losses) * (z / TEMPERATURE).softmax(dim=0)).float()


@torch.no_grad()
def loss_of(model: nn.Module, samples: Samples) -> Tensor:
    """The loss summed over samples, float64."""
    total = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
    for images, labels in in_order(samples):
        total += loss_sum(model(images), labels)
    return total


def loss_without(model: nn.Module, layer: str, channel: int, samples: Samples) -> Tensor:
    """The loss summed over samples with one channel of a layer's output set to zero."""
    with zero_channel(model.get_submodule(layer), channel):
        return loss_of(model, samples)


@contextmanager
def zero_channel(layer: nn.Module, channel: int) -> Iterator[None]:
    """Set one channel of the layer's output to zero within the context."""

    def zero(_layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        output[:, channel] = 0.0
        return output

    hook = layer.register_forward_hook(zero)
    try:
        yield
    finally:
        hook.remove()
