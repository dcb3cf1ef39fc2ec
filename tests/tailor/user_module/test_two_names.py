"""One module under two names, as networks of users have them: pruned, saved and loaded as with one name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

import tailor
from tailor.common.errors import ConfigError
from tailor.networks.building import tensors_of


class TwoNames(nn.Module):
    """Two convolutions with norms and a classifier, before `add_names` gives modules further names."""

    def __init__(self, add_names: Callable[["TwoNames"], None] | None = None) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        )
        self.fc = nn.Linear(16, 4)
        if add_names is not None:
            add_names(self)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.fc(self.backbone(x).mean((2, 3)))
        return outputs


def name_a_layer(model: TwoNames) -> None:
    model.layer1 = model.backbone[0]


def name_children(model: TwoNames) -> None:
    model.features = nn.Sequential(*model.backbone.children())


def name_the_head(model: TwoNames) -> None:
    model.head = model.fc


def name_a_list(model: TwoNames) -> None:
    model.layers = nn.ModuleList([*model.backbone, model.fc])


def name_before(model: TwoNames) -> None:
    """Let the second name come first in the order of the modules."""
    backbone = model.backbone
    del model.backbone
    model.a_first = nn.ModuleList(reversed(list(backbone)))
    model.backbone = backbone


class Twin(TwoNames):
    """Two images' parts through one encoder that has two names, as Siamese networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.other = self.backbone

    def forward(self, x: Tensor) -> Tensor:
        both = self.backbone(x) + self.other(x.flip(-1))
        outputs: Tensor = self.fc(both.mean((2, 3)))
        return outputs


class Repeated(nn.Module):
    """One convolution that a Sequential has twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        block = nn.Conv2d(16, 16, 3, padding=1)
        self.body = nn.Sequential(block, nn.ReLU(), block, nn.ReLU())
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.fc(self.body(self.stem(x)).mean((2, 3)))
        return outputs


class AroundResNet(nn.Module):
    """A published network whose stages have further names in the module around it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torchvision.models.resnet18(num_classes=4)
        self.layer1 = self.backbone.layer1
        self.layer4 = self.backbone.layer4

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.backbone(x)
        return outputs


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "a layer": lambda: TwoNames(name_a_layer),
    "children": lambda: TwoNames(name_children),
    "the head": lambda: TwoNames(name_the_head),
    "a list": lambda: TwoNames(name_a_list),
    "before": lambda: TwoNames(name_before),
    "twin": Twin,
    "repeated": Repeated,
    "around resnet18": AroundResNet,
}


@pytest.mark.parametrize("network", NETWORKS)
def test_it_is_pruned_saved_and_loaded(network: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = NETWORKS[network]().eval()
    images = torch.randn(2, 3, 8, 8)
    pruned = tailor.prune(model, images, criterion="l2", asked_removed_macs_fraction=0.2)
    assert pruned.removed_macs_fraction >= 0.2
    assert pruned.params == sum(parameter.numel() for parameter in pruned.model.parameters())
    pruned.save(tmp_path)
    loaded = tailor.load(tmp_path, model=model)
    assert torch.equal(loaded(images), pruned.model(images))
    saved = safetensors.torch.load_file(tmp_path / "model.safetensors")
    of_model = loaded.state_dict()
    assert {f"tensors/{name}" for name in tensors_of(model)} == saved.keys()
    assert all(tensor.shape == of_model[name.removeprefix("tensors/")].shape for name, tensor in saved.items())


@pytest.mark.parametrize("network", ["a layer", "children", "a list"])
def test_further_names_change_nothing(network: str) -> None:
    kept = []
    for make in (TwoNames, NETWORKS[network]):
        torch.manual_seed(0)
        pruned = tailor.prune(make().eval(), torch.zeros(1, 3, 8, 8), criterion="l2", asked_removed_macs_fraction=0.3)
        kept.append([(str(group), group.kept) for group in pruned.groups])
    assert kept[0] == kept[1]


@pytest.mark.parametrize("name", ["backbone.0", "features.0", "features"])
def test_what_is_excluded_by_any_of_its_names_keeps_its_filters(name: str) -> None:
    model = TwoNames(name_children)
    example = torch.zeros(1, 3, 8, 8)
    try:
        pruned = tailor.prune(model, example, criterion="l2", asked_removed_macs_fraction=0.3, exclude=[name])
    except ConfigError as error:
        assert name == "features" and "backbone.0, backbone.3: it is excluded" in str(error)
    else:
        first, second, _ = pruned.groups
        assert (first.reason, second.reason) == ("it is excluded", None)
        assert len(second.kept) < 16
