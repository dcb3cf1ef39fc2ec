"""What the commands for a saved sub-model have in common."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from tailor.common.errors import ConfigError, explain_errors
from tailor.common.neighbours import read_user_file, run_user_file
from tailor.model.circumstance import MemoryFormat, Precision, Runtime
from transtailor import cli
from transtailor.names import nearest

if TYPE_CHECKING:
    from torch import nn

    from tailor.model.state import ModelState

folder_argument = cli.argument("folder", type=cli.FOLDER)
module_option = cli.option(
    "--module", metavar="FILE:NAME",
    help="for what tailor.prune saved: the class or function that makes the whole network, or itself, net.py:Net",
)  # fmt: skip


def timing_options(function: cli.Function) -> cli.Function:
    """Give a command the options by which a model is timed."""
    for decorate in (
        cli.option(
            "--memory-format", type=click.Choice(get_args(MemoryFormat)), help="of images (default: what is fastest)"
        ),
        cli.option("--precision", type=click.Choice(get_args(Precision)), help="default: float32, on a GPU bf16"),
        cli.option(
            "--runtime",
            type=click.Choice(get_args(Runtime)),
            help="default: onnxruntime if installed, on a GPU compiled",
        ),
        cli.option("--repeats", default=50, type=click.IntRange(min=2), metavar="N", help="forward passes timed"),
        cli.option("--threads", type=cli.COUNT, metavar="N", help="CPU threads (default: as many as torch takes)"),
        cli.option("--device", default="auto", help="auto, cpu or cuda"),
        cli.option("--batch", default=1, type=cli.COUNT, metavar="N", help="images of a forward pass"),
    ):
        function = decorate(function)
    return function


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
    if is_file:
        return vars(run_user_file(read_user_file(path)))
    try:
        return vars(importlib.import_module(file))
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        advice = "; install what is missing" if isinstance(error, ImportError) else "; mend its code"
        if isinstance(error, ModuleNotFoundError) and f"{file}.".startswith(f"{error.name}."):
            advice = f"; of a file, type its path with .py: {file.replace('.', '/')}.py{text.removeprefix(file)}"
        raise ConfigError(f"--module {text} cannot be made ({type(error).__name__}: {error}){advice}") from error
