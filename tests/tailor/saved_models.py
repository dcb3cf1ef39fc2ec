"""Sub-models as trials leave them, for the tests of what is done with saved ones: pruned, with factors and pixels."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from tailor.data.task_data import generator
from tailor.facts.networks import NETWORKS
from tailor.model.state import ModelState, Pixels
from tailor.networks import building
from tailor.pruning import surgery
from tailor.pruning.groups import groups
from tailor.stages import GroupRule

EMBEDDED = {"digits_vgg": (1, 8, 8), "digits_vgg_bn": (1, 8, 8), "digits_resnet": (1, 8, 8), "friedman_mlp": (10,)}
TORCHVISION = {"mobilenet_v2": (3, 64, 64), "resnet18": (3, 64, 64)}


def pruned(network: str) -> ModelState:
    """A network with about six of ten filters left, a factor at each layer, pixels of its own, and measured norms."""
    shape, draw = (EMBEDDED | TORCHVISION)[network], generator(0, "test saved")
    tensors = building.build(network, 5, seed=0).state_dict()
    head = f"{NETWORKS[network].head}.weight"
    tensors[head] = torch.randn(tensors[head].shape, generator=draw)
    whole = ModelState(network=network, classes=5, input_shape=shape, tensors=tensors)
    found = groups(building.skeleton(network, 5), shape, GroupRule(residual="coupled", linear=True))
    stays = {g.name: torch.rand(g.filters, generator=draw) < 0.6 for g in found}
    kept = {name: mask.nonzero().flatten() if mask.any() else torch.tensor([0]) for name, mask in stays.items()}
    slimmed = surgery.slim(whole, kept, found)
    factors = {m.layer: torch.rand(len(kept[g.name]), generator=draw) + 0.5 for g in found for m in g.members}
    pixels = Pixels(mean=(0.4,) * shape[0], std=(0.2,) * shape[0]) if len(shape) == 3 else Pixels()
    state = replace(slimmed, factors=factors, pixels=pixels)
    return state.with_weights_of(with_measured_norms(state.build(), shape, draw))


def with_measured_norms(model: nn.Module, shape: tuple[int, ...], draw: torch.Generator) -> nn.Module:
    """The model with the statistics of some images: with others, its outputs would hardly depend on its input."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.train()
    with torch.no_grad():
        model(torch.randn(8, *shape, generator=draw))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
            module.running_var.clamp_(min=float(module.running_var.mean()))  # no channel amplifies rounding
    return model


def outputs(state: ModelState, images: Tensor) -> Tensor:
    """What a state's model says of images, without being saved."""
    with torch.no_grad():
        found: Tensor = state.build().eval()(images)
    return found
