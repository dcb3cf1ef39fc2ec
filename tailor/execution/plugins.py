"""Imports a plugin, a user's own module: one file, whose neighbours it can import. No torch.

A file in a package has the package's name for it, any other one a name that hides no other module.

What a plugin registers (a method, criterion, network, data set, allocation or regulariser) is used by its name. The
SHA-256 of its source and its neighbours' counts in ids and keys (see `tailor.common.plugin_digests`).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailor.common.errors import ConfigError
from tailor.common.neighbours import PACKAGE, read_user_file, run_user_file
from tailor.common.plugin_digests import PluginRecord
from tailor.common.registry import Registry
from tailor.config.allocations import ALLOCATIONS
from tailor.config.trial import METHODS
from tailor.facts.datasets import DATASETS
from tailor.facts.networks import NETWORKS
from tailor.facts.regularisation import REGULARISERS
from tailor.pruning.criteria import CRITERIA

REGISTRIES: tuple[Registry[Any], ...] = (METHODS, CRITERIA, NETWORKS, DATASETS, ALLOCATIONS, REGULARISERS)


def load_copy(path: Path) -> None:
    """Import a copy from a folder that is named by the copy's SHA-256, which is verified. Raises as `load`."""
    load(path, path.parent.name)


def load(path: Path, expected_sha256: str | None = None) -> PluginRecord:
    """Import a Python file, once per process; return it as it was then: later edits do not affect a run.

    Args:
        path: the file.
        expected_sha256: a file with another one is not run.

    Raises:
        ConfigError: no such file, another SHA-256, the file registers nothing, a name is taken, or as of
            `run_user_file`.
    """
    user_file = read_user_file(path)
    if expected_sha256 not in (None, user_file.sha256):
        found = user_file.sha256
        raise ConfigError(f"{path}: has SHA-256 {found}, expected {expected_sha256}: it was changed, and is not run")
    loaded: PluginRecord | None = getattr(sys.modules.get(user_file.module), "_PLUGIN", None)
    if loaded is not None and loaded.user_file.content == user_file.content:
        return loaded
    records_before = set(_records())
    try:
        module = run_user_file(user_file)
    except BaseException:
        registries = {registry.noun: registry for registry in REGISTRIES}
        for noun, name in set(_records()) - records_before:
            registries[noun].remove(name)
        raise
    registered = frozenset(set(_records()) - records_before)
    if not registered:
        del sys.modules[module.__name__]
        raise ConfigError(
            f"{path}: registers nothing; decorate a method with @tailor.extend.register, or add to "
            "CRITERIA, NETWORKS, DATASETS, ALLOCATIONS or REGULARISERS"
        )
    for noun, registered_name in registered:
        if noun == NETWORKS.noun:
            NETWORKS.analyse_later(registered_name)
    sha256 = user_file.sha256  # with the neighbours that it has loaded
    files = frozenset([str(path), *(str(user_file.root / name) for name in user_file.neighbours)])
    plugin = PluginRecord(sha256, registered, user_file, files)
    module._PLUGIN = plugin  # type: ignore[attr-defined]
    setattr(sys.modules[PACKAGE], f"{path.stem}_{sha256[:8]}", module)
    return plugin


def _records() -> Iterator[tuple[str, str]]:
    """Yield noun and name of each registered record."""
    for registry in REGISTRIES:
        for name in registry:
            yield registry.noun, name
