"""`python -m tailor export | time`: commands for a saved sub-model; their arguments and what they print."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tailor.core.errors import ConfigError
from transtailor.terminal import say

if TYPE_CHECKING:
    from tailor.model.state import ModelState

LEAST = {"batch": 1, "threads": 1, "repeats": 2}  # smallest values that a model is timed with


def add_export_to(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `export` its arguments."""
    _add_folder_to(parser)
    parser.add_argument("--to", required=True, metavar="FORMAT", help="torch-export (.pt2) or onnx (.onnx)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: FOLDER/model.pt2 or .onnx)")
    parser.add_argument("--batch", default="dynamic", help="images at once: a number, or dynamic (default): any number")


def add_time_to(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `time` its arguments."""
    _add_folder_to(parser)
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images of a forward pass (default: 1)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: as many as torch takes)")
    parser.add_argument("--repeats", type=int, default=50, metavar="N", help="forward passes timed (default: 50)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run_export(arguments: argparse.Namespace, out: TextIO) -> None:
    """Export a saved sub-model and print what was written. Raises ConfigError: the user's mistake."""
    batch = None if arguments.batch == "dynamic" else _number(arguments.batch)
    state = _state(arguments.folder)
    from tailor.deploy.export import FORMATS, export

    file = arguments.out or arguments.folder / f"model{FORMATS[arguments.to].suffix}"
    try:
        with _errors_explained(arguments.folder):
            made = export(state, arguments.to, file, batch)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror or error}; type --out FILE") from error
    say(
        f"{made.file}: {made.size_bytes:,} bytes, for {'any number of' if batch is None else batch} image(s) at once\n"
        f"read back and compared with the model: outputs differ by at most {made.difference:.1e}",
        to=out,
    )


def run_time(arguments: argparse.Namespace, out: TextIO) -> None:
    """Measure what a saved sub-model costs here and print it. Raises ConfigError: the user's mistake."""
    refuse_too_few(arguments)
    state = _state(arguments.folder)
    from tailor.model.latency import latency_lines, measure
    from tailor.parallel.process_group import join

    device = join(arguments.device).device
    with _errors_explained(arguments.folder):
        found = measure(
            state, batch=arguments.batch, device=device, threads=arguments.threads, repeats=arguments.repeats
        )
    if arguments.json:
        say(json.dumps(asdict(found)), to=out)
    else:
        for line in latency_lines(found):
            say(line, to=out)


def refuse_too_few(timing: object) -> None:
    """Raise ConfigError if an attribute that `LEAST` names is too small; None means that it was not given."""
    for name, least in LEAST.items():
        given = getattr(timing, name)
        if given is not None and given < least:
            raise ConfigError(f"--{name} is {given}; expected {least} or more")


RUN: dict[str, Callable[[argparse.Namespace, TextIO], None]] = {"export": run_export, "time": run_time}


def _add_folder_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a sub-model as `run --save` wrote it")


def _number(given: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"--batch is {given!r}; expected a number of 1 or more, or dynamic")
    return int(given)


@contextmanager
def _errors_explained(folder: Path) -> Iterator[None]:
    """Turn torch's errors for a model whose tensors do not fit together into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except (RuntimeError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"the model in {folder} does not compute: {error}") from error


def _state(folder: Path) -> "ModelState":
    """The saved model, of a registered network."""
    from tailor.catalogue.networks import NETWORKS
    from tailor.model.state import load_state

    state = load_state(folder)
    if state.network not in NETWORKS:
        raise ConfigError(
            f"{folder} is of network {state.network!r}, which does not come with this program; give the module that "
            "registers it: --import FILE"
        )
    return state
