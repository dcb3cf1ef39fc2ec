"""What is known of networks before torch is imported: enough to check a spec and to plan its cost.

The numbers are facts about the code that builds the networks; `tests/tailor/facts/test_catalog.py` counts them.
"""

import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from tailor.common.registry import Registry, function_of

INPUT_SHAPE = (3, 224, 224)  # of one image, if nothing else is known
TORCHVISION_FILE = Path(__file__).parent / "torchvision_networks.json"  # made by `python -m tools.networks_table`


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """A network by name."""

    description: str
    builder: str | Callable[..., Any]  # a function or "module:function"; its keyword num_classes -> an nn.Module
    head: str  # name of the module that a target task replaces
    input_shape: tuple[int, ...]  # of one image (or row) by default; `macs` counts for it
    has_norm: bool  # a norm follows the prunable layers (decides TransTailor's `auto`)
    activation: str  # class of the activation after the prunable layers: "ReLU", "ReLU6", "SiLU", ...
    macs: int  # multiply-accumulates of all products for one image of input_shape, with 5 classes
    params_count: int  # with 5 classes
    head_params_count: int  # with 5 classes
    any_size: bool = False  # whether it also reads images of other sizes
    activation_macs: int = 0  # of `macs`, those of products of activations with each other (attention)
    width_multiple: int = 8  # what `pruning.width_multiple = "auto"` is for this network

    @property
    def has_own_parameters(self) -> bool:
        """Whether it has parameters that no module's `reset_parameters` sets, known without building the network.

        They are positions, class tokens, attention and scales of layers: only in transformers and in ConvNeXt. A
        transformer multiplies activations (`activation_macs`), ConvNeXt has a GELU, and no other network of the tables
        has either (tests/tailor/methods/test_rivals.py).
        """
        activations = str(self.activation).split("+")  # 0 in a record that is only for building
        return bool(self.activation_macs) or "GELU" in activations


def network_stub(
    description: str, builder: str | Callable[..., Any], input_shape: tuple[int, ...] = INPUT_SHAPE
) -> NetworkInfo:
    """Return a record that is enough to build a network; its facts are not known yet and stand as 0."""
    values: dict[str, Any] = {field.name: 0 for field in fields(NetworkInfo) if field.default is MISSING}
    values["description"] = description
    values["builder"] = builder
    values["input_shape"] = input_shape
    return NetworkInfo(**values)


# Prefix of a name -> the function that makes a record to build such a network with, and the one that finds its facts.
FAMILIES = {"timm/": ("tailor.networks.timm_builders:first_record", "tailor.facts.analysis:facts_of")}


def is_of_family(name: str) -> bool:
    """Whether a network is one of a family, whose facts are in no table."""
    return name.startswith(tuple(FAMILIES))


class _Networks(Registry[NetworkInfo]):
    """Networks by name; the facts of one of a family are found at its first use, which imports torch."""

    elsewhere = (
        "; one of timm is typed timm/NAME; your own needs the file that registers it: imports = [FILE] in a spec, "
        "--import FILE behind a command, from tailor.execution import plugins; plugins.load(Path(FILE)) in Python"
    )

    def _can_be_added(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        functions = next((functions for prefix, functions in FAMILIES.items() if name.startswith(prefix)), None)
        if functions is None:
            return False
        make_first_record = function_of(functions[0])
        find_facts = function_of(functions[1])
        self._records[name] = make_first_record(name)  # `find_facts` builds the network by this record
        try:
            self._records[name] = find_facts(name)
        except BaseException:
            del self._records[name]  # a network that cannot be traced is not registered
            raise
        return True


NETWORKS: Registry[NetworkInfo] = _Networks("network")

_embedded = json.loads((Path(__file__).parent / "embedded_networks.json").read_bytes())
_of_torchvision = {name: entry["info"] for name, entry in json.loads(TORCHVISION_FILE.read_bytes()).items()}
for _name, _facts in (_embedded | _of_torchvision).items():
    NETWORKS.add(_name, NetworkInfo(**_facts | {"input_shape": tuple(_facts["input_shape"])}))
