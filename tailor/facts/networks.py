"""What is known of networks before torch is imported: enough to check a spec and to plan its cost.

The numbers are facts about the code that builds the networks; `tests/tailor/facts/test_catalog.py` counts them.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tailor.common.errors import explain_errors
from tailor.common.registry import Registry, function_of
from tailor.facts.asked import ask

INPUT_SHAPE = (3, 224, 224)  # of one image, if nothing else is known


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """A network by name."""

    description: str
    builder: str | Callable[..., Any]  # a function or "module:function"; its keyword num_classes -> an nn.Module
    head: str = ""  # name of the module that a target task replaces
    input_shape: tuple[int, ...] = INPUT_SHAPE  # of one image (or row) by default; `macs` counts for it
    any_size: bool = False  # whether it also reads images of other sizes
    width_multiple: int = 8  # what `pruning.width_multiple = "auto"` is for this network
    # Facts of its code: all but those of embedded networks are found at its first use, whatever is given here.
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
        transformer multiplies activations (`activation_macs`), ConvNeXt has a GELU, and no other of torchvision's
        networks has either (tests/tailor/methods/test_rivals.py).
        """
        return bool(self.activation_macs) or "GELU" in self.activation.split("+")


TIMM = "timm/"  # before the names of its networks
EMBEDDED = json.loads((Path(__file__).parent / "embedded_networks.json").read_bytes())
OWN_BUILDERS = {name: f"tailor.networks.torchvision_builders:{name}" for name in ("googlenet", "inception_v3")}
ANALYSED = "tailor.facts.networks:facts_asked"


def is_timms(name: str) -> bool:
    """Whether a network is one of timm's."""
    return name.startswith(TIMM)


def facts_asked(name: str) -> NetworkInfo:
    """Return the record of one of torchvision's or timm's networks with its facts."""
    return replace(NETWORKS[name], **ask("facts", name))


def is_asked(name: str) -> bool:
    """Whether `ask` can be asked about a network, which every process knows by its name: it is no user's."""
    builder = NETWORKS[name].builder
    return is_timms(name) or (
        isinstance(builder, str) and builder.startswith(("torchvision.models:", "tailor.networks"))
    )


class _Networks(Registry[NetworkInfo]):
    """Networks by name; the facts of torchvision's, timm's and users' are found at the first use, by torch."""

    elsewhere = (
        "; one of timm is typed timm/NAME; your own needs the file that registers it: imports = [FILE] in a spec, "
        "--import FILE behind a command, from tailor.execution import plugins; plugins.load(Path(FILE)) in Python"
    )

    def add(self, name: str, record: NetworkInfo) -> NetworkInfo:
        """Register a network; torchvision's names are taken, too."""
        _ = name in self  # registers one of torchvision's
        return super().add(name, record)

    def analyse_later(self, name: str) -> None:
        """Find the facts of a user's network at its first use."""
        finder = "tailor.execution.network_check:find_facts_of_users"
        self._records[name] = replace(self._records[name], facts_from=finder)

    def get_bare(self, name: str) -> NetworkInfo:
        """Return a record as it is, perhaps without facts. Raises ConfigError: there is no such network."""
        return self._records[name] if name in self else super().__getitem__(name)

    def put(self, name: str, record: NetworkInfo) -> None:
        """Replace the record of a network."""
        self._records[name] = record

    def __getitem__(self, name: str) -> NetworkInfo:
        info = super().__getitem__(name)
        if info.facts_from:
            self._records[name] = replace(info, facts_from="")  # the network is built by this record
            try:
                with explain_errors(f"network {name!r} cannot be analysed", "choose another one"):
                    self._records[name] = function_of(info.facts_from)(name)
            except BaseException:
                if info.facts_from == ANALYSED:
                    self.remove(name)
                else:
                    self._records[name] = info
                raise
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._records, *ask("names")]))

    def _can_be_added(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if is_timms(name):
            self._records[name] = function_of("tailor.networks.timm_builders:record")(name)
            return True
        is_torchvisions = name.isidentifier() and name in ask("names")
        if is_torchvisions:
            builder = OWN_BUILDERS.get(name, f"torchvision.models:{name}")
            description = f"torchvision's {name}, without weights."
            self._records[name] = NetworkInfo(description=description, builder=builder, facts_from=ANALYSED)
        return is_torchvisions


NETWORKS = _Networks("network")
for _name, _facts in EMBEDDED.items():
    NETWORKS.put(_name, NetworkInfo(**_facts))
