"""The file of one trial, and the user's modules that it needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution.plugins import load
from tailor.execution.weights_check import refuse_missing
from transtailor import cli
from transtailor.documents import DocumentError, describe_fault, read_toml
from transtailor.shell import command as to_type

trial_argument = cli.argument("trial", type=cli.FILE)
imports_option = cli.option(
    "--import", "imports", multiple=True, type=cli.FILE, metavar="FILE",
    help="your own module with a method, criterion, network, data set, ... (repeatable)",
)  # fmt: skip


def read_trial(path: Path, imports: Sequence[Path]) -> tuple[TrialConfig, list[str]]:
    """Import the user's modules, and return the trial that a file describes, and what to know before it starts.

    Raises:
        ConfigError: the user's mistake.
    """
    load_modules(imports)
    config = parse_trial(_read(path), str(path))
    return config, [*config.warnings(), *refuse_missing([config])]


def load_modules(imports: Sequence[Path]) -> None:
    """Import the user's modules. Raises ConfigError: one cannot be imported."""
    for module in imports:
        load(module)


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = read_toml(path)
    except FileNotFoundError as error:
        run_sweep = to_type("run", path)
        raise ConfigError(
            f"no such file: {path}; type the path of a TOML file. A sweep is run by: {run_sweep}"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    except DocumentError as error:
        raise ConfigError(f"{path} {describe_fault(path, error)}") from error
    if {"trial", "axes", "variants"} & settings.keys():
        raise ConfigError(
            f"{path} is the spec of a sweep, not the settings of one trial; to run it, type: {to_type('run', path)}"
        )
    return settings
