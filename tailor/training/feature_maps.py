"""The feature maps that DELTA compares, and the hooks that keep them."""

from typing import Any

import torch
from torch import Tensor, nn

from tailor.model.state import ModelState
from tailor.pruning import surgery
from tailor.stages import GroupRule

ANY_FILTER = GroupRule(residual="coupled", linear=False)  # the compared layers do not depend on what a trial prunes


class FeatureMaps:
    """The last outputs of some layers of a model, by name; the hooks stay as long as the model."""

    def __init__(self, model: nn.Module, layers: list[str]) -> None:
        self.maps: dict[str, Tensor] = {}
        for layer in layers:
            model.get_submodule(layer).register_forward_hook(self._hook_of(layer))

    def _hook_of(self, layer: str) -> Any:
        def keep_output(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.maps[layer] = output

        return keep_output


def compared_layers(state: ModelState) -> dict[str, int]:
    """Return the layers that DELTA compares, with their numbers of channels.

    For each resolution it is the widest of the convolutions that can lose filters, the last one if several are as wide.
    In a ResNet of bottlenecks these are the stem and the last convolution of each stage; the authors' code compares
    the latter.
    """
    model = state.build().eval()
    layers: list[str] = []
    for group in surgery.groups(model, state.input_shape, ANY_FILTER):
        layers += [member.layer for member in group.members]
    feature_maps = FeatureMaps(model, layers)
    with torch.no_grad():
        model(torch.zeros(1, *state.input_shape))
    channels = {layer: maps.shape[1] for layer, maps in feature_maps.maps.items()}
    widest: dict[torch.Size, str] = {}  # by resolution
    for layer, maps in feature_maps.maps.items():  # in the order of execution
        resolution = maps.shape[2:]
        if resolution not in widest or channels[layer] >= channels[widest[resolution]]:
            widest[resolution] = layer
    return {layer: channels[layer] for layer in widest.values()}
