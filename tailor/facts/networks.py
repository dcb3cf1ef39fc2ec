"""What is known of networks before torch is imported: enough to check a spec and to plan its cost.

The numbers are facts about the code that builds the networks; `tests/tailor/facts/test_catalog.py` counts them.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tailor.common.errors import explain_errors
from tailor.common.registry import Registry, function_of

INPUT_SHAPE = (3, 224, 224)  # of one image, if nothing else is known
TORCHVISION_FILE = Path(__file__).parent / "torchvision_networks.json"  # made by `python -m tools.networks_table`


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """A network by name."""

    description: str
    builder: str | Callable[..., Any]  # a function or "module:function"; its keyword num_classes -> an nn.Module
    head: str = ""  # name of the module that a target task replaces
    input_shape: tuple[int, ...] = INPUT_SHAPE  # of one image (or row) by default; `macs` counts for it
    any_size: bool = False  # whether it also reads images of other sizes
    width_multiple: int = 8  # what `pruning.width_multiple = "auto"` is for this network
    # Facts of its code: in the tables, of a family or a user's network found at its first use, whatever is given here.
    has_norm: bool = False  # a norm follows the prunable layers (decides TransTailor's `auto`)
    activation: str = "none"  # class of the activation after the prunable layers: "ReLU", "ReLU6", "SiLU", ...
    macs: int = 0  # multiply-accumulates of all products for one image of input_shape, with 5 classes
    activation_macs: int = 0  # of `macs`, those of products of activations with each other (attention)
    params_count: int = 0  # with 5 classes
    head_params_count: int = 0  # with 5 classes
    uncounted: tuple[str, ...] = ()  # operations that multiply by weights and are not in `macs`
    more_head: tuple[str, ...] = ()  # tensors outside of `head` that have an entry for each class: other heads
    version: int = 1  # above 1 where version 0.2 computed something else with it: part of its trials' ids
    facts_from: str = ""  # "module:function" that finds the facts at the first use; empty: they are known

    def __post_init__(self) -> None:
        for name in ("input_shape", "uncounted", "more_head"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a list is as good

    def head_tensors(self, names: Iterable[str]) -> list[str]:
        """Return those of a network's tensors, by name, that are of a head, which a target task replaces."""
        return [name for name in names if name.startswith(f"{self.head}.") or name in self.more_head]

    @property
    def has_own_parameters(self) -> bool:
        """Whether it has parameters that no module's `reset_parameters` sets, known without building the network.

        They are positions, class tokens, attention and scales of layers: only in transformers and in ConvNeXt. A
        transformer multiplies activations (`activation_macs`), ConvNeXt has a GELU, and no other network of the tables
        has either (tests/tailor/methods/test_rivals.py).
        """
        return bool(self.activation_macs) or "GELU" in self.activation.split("+")


# Prefix of a name -> the function that makes a record to build such a network with.
FAMILIES = {"timm/": "tailor.networks.timm_builders:first_record"}


def is_of_family(name: str) -> bool:
    """Whether a network is one of a family, whose facts are in no table."""
    return name.startswith(tuple(FAMILIES))


class _Networks(Registry[NetworkInfo]):
    """Networks by name; the facts of one of a family, or of a user's, are found at its first use, by torch."""

    elsewhere = (
        "; one of timm is typed timm/NAME; your own needs the file that registers it: imports = [FILE] in a spec, "
        "--import FILE behind a command, from tailor.execution import plugins; plugins.load(Path(FILE)) in Python"
    )

    def analyse_later(self, name: str) -> None:
        """Find the facts of a user's network at its first use."""
        finder = "tailor.execution.network_check:find_facts_of_users"
        self._records[name] = replace(self._records[name], facts_from=finder)

    def __getitem__(self, name: str) -> NetworkInfo:
        info = super().__getitem__(name)
        if info.facts_from:
            self._records[name] = replace(info, facts_from="")  # the network is built by this record
            try:
                with explain_errors(f"network {name!r} cannot be analysed", "choose another one"):
                    self._records[name] = function_of(info.facts_from)(name)
            except BaseException:
                self._records[name] = info
                raise
        return self._records[name]

    def _can_be_added(self, name: object) -> bool:
        for prefix, first_record in FAMILIES.items():
            if isinstance(name, str) and name.startswith(prefix):
                self._records[name] = function_of(first_record)(name)
                return True
        return False


NETWORKS = _Networks("network")

_embedded = json.loads((Path(__file__).parent / "embedded_networks.json").read_bytes())
_of_torchvision = {name: entry["info"] for name, entry in json.loads(TORCHVISION_FILE.read_bytes()).items()}
for _name, _facts in (_embedded | _of_torchvision).items():
    NETWORKS.add(_name, NetworkInfo(**_facts))
