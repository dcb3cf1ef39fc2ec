"""What is known of networks and data sets before torch is imported: enough to check a spec and to plan its cost.

The numbers are facts about the code that builds the networks; `tests/tailor/test_catalog.py` counts them anew.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailor.registry import Registry

TORCHVISION_FILE = Path(__file__).parent / "torchvision_networks.json"  # made by `python -m tailor.networks_table`


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """A network by name."""

    description: str
    builder: str | Callable[..., Any]  # a function or "module:function"; its keyword num_classes -> an nn.Module
    head: str  # name of the module that a target task replaces
    input_shape: tuple[int, ...]  # of one image (or row) where nothing else is said; what `macs` counts
    has_norm: bool  # a norm follows the prunable layers (decides TransTailor's `auto`)
    activation: str  # class of the activation behind the prunable layers: "ReLU", "ReLU6", "SiLU", ...
    macs: int  # multiply-accumulates of conv and linear layers for one image of input_shape, with 5 classes
    params_count: int  # with 5 classes
    head_params_count: int  # with 5 classes
    any_size: bool = False  # whether it reads images of other heights and widths, too


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """A data set by name, with a source task and a target task."""

    description: str
    loader: str | Callable[..., Any]  # a function or "module:function"; -> {"source": Samples, "target": Samples}
    sha256: str | None  # of the arrays that the loader must return; None: a user's, known by her module
    input_shape: tuple[int, ...]  # of one image, (channels, height, width), or of one row of numbers
    source_classes: int  # 0: no source task; 1: real values, for which a network has one output
    target_classes: int
    source_images: int
    target_images: int
    test_images: int  # of the target, fixed by the split seed and independent of `train_images`


class _Networks(Registry[NetworkInfo]):
    """Networks by name; one of timm's, "timm/...", is described when it is first asked for, which imports torch."""

    def __getitem__(self, name: str) -> NetworkInfo:
        self._bring(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self._bring(name)
        return super().__contains__(name)

    def _bring(self, name: object) -> None:
        if not isinstance(name, str) or not name.startswith("timm/") or name in self._records:
            return
        from tailor.network_facts import described
        from tailor.timm_networks import first_record

        self._records[name] = first_record(name)
        try:
            self._records[name] = described(name)
        except BaseException:
            del self._records[name]  # what cannot be followed is no network of ours
            raise


NETWORKS: Registry[NetworkInfo] = _Networks("network")
DATASETS: Registry[DataInfo] = Registry("data set")

NETWORKS.add(
    "digits_vgg",
    NetworkInfo(
        description="Like VGG: four convolutions with biases, no norm, two poolings, a hidden and a last linear layer.",
        builder="tailor.embedded_networks:digits_vgg",
        head="classifier.2",
        input_shape=(1, 8, 8),
        has_norm=False,
        activation="ReLU",
        macs=1_353_536,
        params_count=64_901,
        head_params_count=325,
    ),
)
NETWORKS.add(
    "digits_resnet",
    NetworkInfo(
        description="Residual: a stem and two blocks of two convolutions with BatchNorm, pooling, one linear.",
        builder="tailor.embedded_networks:digits_resnet",
        head="head",
        input_shape=(1, 8, 8),
        has_norm=True,
        activation="ReLU",
        macs=1_193_712,
        params_count=43_517,
        head_params_count=245,
    ),
)
NETWORKS.add(
    "digits_vgg_bn",
    NetworkInfo(
        description="digits_vgg with BatchNorm after each convolution.",
        builder="tailor.embedded_networks:digits_vgg_bn",
        head="classifier.2",
        input_shape=(1, 8, 8),
        has_norm=True,
        activation="ReLU",
        macs=1_353_536,
        params_count=65_237,
        head_params_count=325,
    ),
)
NETWORKS.add(
    "friedman_mlp",
    NetworkInfo(
        description="Two hidden linear layers of 64 with ReLU, no norm, for regression on ten numbers.",
        builder="tailor.embedded_networks:friedman_mlp",
        head="head",
        input_shape=(10,),
        has_norm=False,
        activation="ReLU",
        macs=5_056,
        params_count=5_189,
        head_params_count=325,
    ),
)
for _name, _found in json.loads(TORCHVISION_FILE.read_bytes()).items():
    _facts = _found["info"] | {"input_shape": tuple(_found["info"]["input_shape"])}
    NETWORKS.add(_name, NetworkInfo(**_facts))
DATASETS.add(
    "digits",
    DataInfo(
        description="scikit-learn's 1,797 scanned digits of 8 x 8 pixels: source task 0-4, target task 5-9.",
        loader="tailor.digits:load",
        sha256="a7156e1d7f88ade7fbf97f2bca0ef1bc8b7d39b3f5562385c2b83da9e2333679",
        input_shape=(1, 8, 8),
        source_classes=5,
        target_classes=5,
        source_images=901,
        target_images=896,
        test_images=348,
    ),
)
DATASETS.add(
    "friedman1",
    DataInfo(
        description="Friedman #1, regression on ten numbers: the target is the function, the source a relative of it.",
        loader="tailor.friedman:load",
        sha256="47c21eeddefd9d340d0e9f2c8435aa126cdcab06216df75955cc9c7c3389291a",
        input_shape=(10,),
        source_classes=1,
        target_classes=1,
        source_images=2000,
        target_images=1400,
        test_images=600,
    ),
)
