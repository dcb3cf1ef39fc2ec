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
            model.get_submodule(layer).register_forward_hook(self._catch(layer))

    def _catch(self, layer: str) -> Any:
        def catch(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.maps[layer] = output

        return catch


def compared_layers(state: ModelState) -> dict[str, int]:
    """Layer -> channels: for each resolution the last of its widest convolutions among those that can lose filters.

    In a ResNet of bottlenecks these are the stem and the last convolution of each stage; the authors' code compares
    the latter.
    """
    model = state.build().eval()
    groups = surgery.groups(model, state.input_shape, ANY_FILTER)
    caught = FeatureMaps(model, [member.layer for group in groups for member in group.members])
    with torch.no_grad():
        model(torch.zeros(1, *state.input_shape))
    chosen: dict[torch.Size, str] = {}
    for layer, maps in caught.maps.items():  # in the order of execution
        rival = chosen.get(maps.shape[2:])
        if rival is None or maps.shape[1] >= caught.maps[rival].shape[1]:
            chosen[maps.shape[2:]] = layer
    return {layer: caught.maps[layer].shape[1] for layer in chosen.values()}
