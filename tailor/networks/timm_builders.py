"""timm's networks by name, "timm/resnet26": their facts are found at the first use. Needs timm."""

import importlib
import importlib.util
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tailor.common.errors import ConfigError
from tailor.facts.networks import ANALYSED, INPUT_SHAPE, TIMM, NetworkInfo
from transtailor.names import nearest
from transtailor.shell import pip

if TYPE_CHECKING:
    from torch import nn


def record(name: str) -> NetworkInfo:
    """A record of one of timm's networks, whose facts are asked; timm is not imported.

    Raises:
        ConfigError: timm is not installed, or the name is of weights.
    """
    own = name.removeprefix(TIMM)
    if "." in own:
        raise ConfigError(
            f"network {name!r} has the name of weights after the dot; give {name.partition('.')[0]!r}, and the file of "
            "weights in source.weights"
        )
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(
            f"network {name!r} is timm's, which is not installed; type: " + pip("install", "transtailor-sweeps[timm]")
        )
    return NetworkInfo(description=f"timm's {own}, without weights.", builder=partial(build, own), facts_from=ANALYSED)


def first_record(name: str) -> NetworkInfo:
    """A record that is enough to build one of timm's networks. Raises ConfigError: timm has no such network."""
    known = record(name)
    own = name.removeprefix(TIMM)
    timm = importlib.import_module("timm")
    if not timm.is_model(own):
        raise ConfigError(f"timm {timm.__version__} has no network {own!r}{nearest(own, timm.list_models())}")
    weights_facts = timm.get_pretrained_cfg(own, allow_unregistered=True)
    input_shape = INPUT_SHAPE if weights_facts is None else weights_facts.input_size
    return replace(known, input_shape=input_shape, facts_from="")


def build(own_name: str, num_classes: int) -> "nn.Module":
    """One of timm's networks, without its weights."""
    model: nn.Module = importlib.import_module("timm").create_model(own_name, num_classes=num_classes)
    return model
