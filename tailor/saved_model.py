"""What the commands for a saved sub-model have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tailor.core.errors import ConfigError
from transtailor import cli

if TYPE_CHECKING:
    from tailor.model.state import ModelState

MINIMUM = {"batch": 1, "threads": 1, "repeats": 2}  # smallest values that a model is timed with

folder_argument = cli.argument("folder", type=cli.FOLDER)


def timing_options(function: cli.Function) -> cli.Function:
    """Give a command the options by which a model is timed."""
    for decorate in (
        cli.option("--repeats", default=50, metavar="N", help="forward passes timed"),
        cli.option("--threads", type=int, metavar="N", help="CPU threads (default: as many as torch takes)"),
        cli.option("--device", default="auto", help="auto, cpu or cuda"),
        cli.option("--batch", default=1, metavar="N", help="images of a forward pass"),
    ):
        function = decorate(function)
    return function


def refuse_too_few(**timing: int | None) -> None:
    """Raise ConfigError if a number by which a model is timed is too small; None means that it was not given."""
    for name, value in timing.items():
        if value is not None and value < MINIMUM[name]:
            raise ConfigError(f"--{name} is {value}; expected {MINIMUM[name]} or more")


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
    from tailor.catalogue.networks import NETWORKS
    from tailor.model.state import load_state

    state = load_state(folder)
    if state.network not in NETWORKS:
        raise ConfigError(
            f"{folder} is of network {state.network!r}, which does not come with this program; give the module that "
            "registers it: --import FILE"
        )
    return state
