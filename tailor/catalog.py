"""What is known of networks and data sets before torch is imported: enough to check a spec and to plan its cost.

The numbers are facts about the code that builds the networks; `tests/tailor/test_catalog.py` counts them anew.
"""

from dataclasses import dataclass

from tailor.registry import Registry


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """A network by name."""

    description: str
    builder: str  # "module:function"; called with the number of classes, returns an nn.Module
    head: str  # name of the module that a target task replaces
    image_shape: tuple[int, int, int]  # channels, height, width that it is trained and counted at
    has_norm: bool  # a norm follows the prunable layers (decides TransTailor's `auto`)
    macs: int  # multiply-accumulates of conv and linear layers for one image, with 5 classes
    params_count: int  # with 5 classes
    head_params_count: int  # with 5 classes


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """A data set by name, with a source task and a target task."""

    description: str
    loader: str  # "module:function"; returns {"source": Samples, "target": Samples}
    sha256: str  # of the arrays that the loader must return
    image_shape: tuple[int, int, int]
    source_classes: int
    target_classes: int
    source_images: int
    target_images: int
    test_images: int  # of the target, fixed by the split seed and independent of `train_images`


NETWORKS: Registry[NetworkInfo] = Registry("network")
DATASETS: Registry[DataInfo] = Registry("data set")

NETWORKS.add(
    "digits_vgg",
    NetworkInfo(
        description="Like VGG: four convolutions with biases, no norm, two poolings, a hidden and a last linear layer.",
        builder="tailor.networks:digits_vgg",
        head="classifier.2",
        image_shape=(1, 8, 8),
        has_norm=False,
        macs=1_353_536,
        params_count=64_901,
        head_params_count=325,
    ),
)
NETWORKS.add(
    "digits_resnet",
    NetworkInfo(
        description="Residual: a stem and two blocks of two convolutions with BatchNorm, pooling, one linear.",
        builder="tailor.networks:digits_resnet",
        head="head",
        image_shape=(1, 8, 8),
        has_norm=True,
        macs=1_193_712,
        params_count=43_517,
        head_params_count=245,
    ),
)
DATASETS.add(
    "digits",
    DataInfo(
        description="scikit-learn's 1,797 scanned digits of 8 x 8 pixels: source task 0-4, target task 5-9.",
        loader="tailor.digits:load",
        sha256="a7156e1d7f88ade7fbf97f2bca0ef1bc8b7d39b3f5562385c2b83da9e2333679",
        image_shape=(1, 8, 8),
        source_classes=5,
        target_classes=5,
        source_images=901,
        target_images=896,
        test_images=348,
    ),
)
