"""What the commands for a saved sub-model have in common."""

import importlib
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tailor.common.errors import ConfigError, explain_errors
from tailor.common.neighbours import advice_on, search_beside
from transtailor import cli
from transtailor.names import nearest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tailor.model.circumstance import Circumstance
    from tailor.model.state import ModelState

RUNTIMES = ("eager", "compiled", "onnxruntime")
PRECISIONS = ("float32", "bf16")
MEMORY_FORMATS = ("contiguous", "channels_last")
AS_PRUNED = "as pruned"  # the widths of a model without padding

folder_argument = cli.argument("folder", type=cli.FOLDER)
module_option = cli.option(
    "--module", metavar="FILE:NAME",
    help="for what tailor.prune saved: the class or function that makes the whole network, or itself, net.py:Net",
)  # fmt: skip


def timing_options(function: cli.Function) -> cli.Function:
    """Give a command the options by which a model is timed."""
    for decorate in (
        cli.option("--memory-format", type=click.Choice(MEMORY_FORMATS), help="of images (default: what is fastest)"),
        cli.option("--precision", type=click.Choice(PRECISIONS), help="default: float32, on a GPU bf16"),
        cli.option(
            "--runtime", type=click.Choice(RUNTIMES), help="default: onnxruntime if installed, on a GPU compiled"
        ),
        cli.option("--repeats", default=50, type=click.IntRange(min=2), metavar="N", help="forward passes timed"),
        cli.option("--threads", type=cli.COUNT, metavar="N", help="CPU threads (default: as many as torch takes)"),
        cli.option("--device", default="auto", help="auto, cpu or cuda"),
        cli.option("--batch", default=1, type=cli.COUNT, metavar="N", help="images of a forward pass"),
    ):
        function = decorate(function)
    return function


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How models are timed, as `timing_options` give it."""

    batch: int = 1  # images of a forward pass
    device: str = "auto"  # or cpu, or cuda
    threads: int | None = None  # of the CPU; None: as many as torch takes
    repeats: int = 50
    runtime: Literal["eager", "compiled", "onnxruntime"] | None = None  # None: what a user would deploy
    precision: Literal["float32", "bf16"] | None = None
    memory_format: Literal["contiguous", "channels_last"] | None = None

    def here(self) -> "tuple[Circumstance, torch.device]":
        """Return the circumstance on this machine, and the device.

        Raises:
            ConfigError: there is no such device, or the runtime is not installed or cannot do this.
        """
        from tailor.model.circumstance import circumstance_here
        from tailor.parallel.process_group import join

        device = join(self.device).device
        circumstance = circumstance_here(
            device,
            runtime=self.runtime,
            precision=self.precision,
            memory_format=self.memory_format,
            batch=self.batch,
            threads=self.threads,
        )
        return circumstance, device


@contextmanager
def explain_model_errors(folder: Path) -> Iterator[None]:
    """Turn torch's errors for a model whose tensors do not fit together into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except (RuntimeError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"the model in {folder} does not compute: {error}") from error


def read_model(folder: Path) -> "ModelState":
    """Return the saved model. Raises ConfigError: its network is not registered."""
    from tailor.facts.networks import NETWORKS
    from tailor.model.state import load_state

    state = load_state(folder)
    if state.network not in NETWORKS:
        raise ConfigError(
            f"{folder} is of network {state.network!r}, which does not come with this program; give the module that "
            "registers it: --import FILE"
        )
    return state


@contextmanager
def opened_model(folder: Path, module: str | None) -> "Iterator[ModelState]":
    """Yield the saved model, whose network can be built until the context ends.

    Args:
        module: for a network of the user's own (`PrunedNetwork.save`), FILE:NAME of what makes the whole one, called
            without arguments. FILE is a .py file, or an installed module.

    Raises:
        ConfigError: as of `read_model`; or the whole network cannot be made, or is another one.
    """
    if module is None:
        yield read_model(folder)
        return
    from tailor.user_module.pruned import opened

    with opened(folder, model=whole_network(module)) as (_, state):
        floats = {name: tensor.float() for name, tensor in state.tensors.items() if tensor.is_floating_point()}
        yield replace(state, tensors=state.tensors | floats)  # programs and timed passes read float32


def whole_network(text: str) -> "nn.Module":
    """The module that a class or function makes, given as FILE:NAME."""
    file, _, name = text.rpartition(":")
    advice = "expected FILE:NAME, such as net.py:Net or torchvision.models:resnet18"
    if not file or not name.isidentifier():
        raise ConfigError(f"--module {text}: {advice}")
    from torch import nn

    names = _names_in(file, text)
    if name not in names:
        public = [known for known in names if not known.startswith("_")]
        raise ConfigError(f"--module {text}: {file} has no {name}{nearest(name, public)}")
    with explain_errors(f"--module {text} cannot be made", f"{name} is called without arguments: give what can be"):
        made = names[name] if isinstance(names[name], nn.Module) else names[name]()
    if not isinstance(made, nn.Module):
        raise ConfigError(f"--module {text}: it makes a {type(made).__name__} and not a torch.nn.Module; {advice}")
    return made


def _names_in(file: str, text: str) -> dict[str, Any]:
    """The names that a .py file defines, or an installed module."""
    path = Path(file)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise ConfigError(f"--module {text} cannot be made: no such file: {file}; type the path of a .py file")
    try:
        if not is_file:
            return vars(importlib.import_module(file))
        package = search_beside(path)
        return vars(importlib.import_module(f"{package}.{path.stem}")) if package else runpy.run_path(file)
    except ConfigError:
        raise
    except Exception as error:  # a user's code may raise anything
        is_lost = not is_file and isinstance(error, ModuleNotFoundError) and f"{file}.".startswith(f"{error.name}.")
        advice = (
            f"; of a file, type its path with .py: {file.replace('.', '/')}.py{text.removeprefix(file)}"
            if is_lost
            else advice_on(error, path) or "; mend its code"
        )
        raise ConfigError(f"--module {text} cannot be made ({type(error).__name__}: {error}){advice}") from error
