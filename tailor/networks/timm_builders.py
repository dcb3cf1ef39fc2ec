"""timm's networks by name, "timm/resnet26": their facts are found at the first use. Needs timm."""

import importlib
import importlib.util
from functools import partial
from typing import TYPE_CHECKING

from tailor.common.errors import ConfigError
from tailor.facts.networks import INPUT_SHAPE, NetworkInfo
from transtailor.names import nearest
from transtailor.shell import pip

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm/"


def first_record(name: str) -> NetworkInfo:
    """A record that is enough to build one of timm's networks.

    Raises:
        ConfigError: timm is not installed, or has no such network.
    """
    own = name.removeprefix(PREFIX)
    if "." in own:
        raise ConfigError(
            f"network {name!r} has the name of weights after the dot; give {name.partition('.')[0]!r}, and the file of "
            "weights in source.weights"
        )
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(
            f"network {name!r} is timm's, which is not installed; type: " + pip("install", "transtailor-sweeps[timm]")
        )
    timm = importlib.import_module("timm")
    if not timm.is_model(own):
        raise ConfigError(f"timm {timm.__version__} has no network {own!r}{nearest(own, timm.list_models())}")
    weights_facts = timm.get_pretrained_cfg(own, allow_unregistered=True)
    return NetworkInfo(
        description=f"timm's {own}, without weights.",
        builder=partial(build, own),
        input_shape=INPUT_SHAPE if weights_facts is None else weights_facts.input_size,
        facts_from="tailor.pruning.network_facts:find_facts",
    )


def build(own_name: str, num_classes: int) -> "nn.Module":
    """One of timm's networks, without its weights."""
    model: nn.Module = importlib.import_module("timm").create_model(own_name, num_classes=num_classes)
    return model
