"""Imports a plugin, a user's own module: one file, under a name that hides no other module. No torch.

What a plugin registers (a method, criterion, network, data set, allocation or regulariser) is used by its name. The
SHA-256 of its source counts in ids and keys (see `tailor.core.plugin_digests`).
"""

import hashlib
import sys
import traceback
from collections.abc import Iterator
from importlib.abc import InspectLoader
from importlib.util import decode_source, module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tailor.catalogue.datasets import DATASETS
from tailor.catalogue.networks import NETWORKS
from tailor.catalogue.regularisation import REGULARISERS
from tailor.config.allocations import ALLOCATIONS
from tailor.config.trial import METHODS
from tailor.core.errors import ConfigError
from tailor.core.plugin_digests import PACKAGE, PluginRecord
from tailor.core.registry import Registry
from tailor.pruning.criteria import CRITERIA

REGISTRIES: tuple[Registry[Any], ...] = (METHODS, CRITERIA, NETWORKS, DATASETS, ALLOCATIONS, REGULARISERS)


class _Source(InspectLoader):
    """Executes a source that was read before, so that the hashed source is what runs; writes no bytecode."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._content = content

    def get_source(self, fullname: str) -> str:  # noqa: ARG002  # importlib's interface
        """Return the source text."""
        return decode_source(self._content)

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        """Return the compiled source; tracebacks name its file."""
        return self.source_to_code(self._content, str(self._path))


def load_copy(path: Path) -> None:
    """Import a copy from a folder that is named by the copy's SHA-256, which is verified. Raises as `load`."""
    load(path, path.parent.name)


def load(path: Path, expected_sha256: str | None = None) -> str:
    """Import a Python file, once per process; return the SHA-256 of its source, 64 hexadecimal digits.

    The file cannot import other files of its folder. A file with another SHA-256 than expected is not run.

    Raises:
        ConfigError: no such file, another SHA-256, the file raises or registers nothing, or a name is taken.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be imported: {error.strerror}; type the path of a .py file") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if expected_sha256 not in (None, sha256):
        raise ConfigError(f"{path}: has SHA-256 {sha256}, expected {expected_sha256}: it was changed, and is not run")
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE, "The modules of users."))
    name = f"{path.stem}_{sha256[:8]}"
    if hasattr(package, name):
        return sha256
    records_before = set(_records())
    try:
        module = _execute(path, content, f"{PACKAGE}.{name}")
    except BaseException:
        _forget(set(_records()) - records_before)
        raise
    registered = frozenset(set(_records()) - records_before)
    if not registered:
        del sys.modules[module.__name__]
        raise ConfigError(
            f"{path}: registers nothing; decorate a method with @tailor.extend.register, or add to "
            "CRITERIA, NETWORKS, DATASETS, ALLOCATIONS or REGULARISERS"
        )
    module._PLUGIN = PluginRecord(sha256, registered)  # type: ignore[attr-defined]
    setattr(package, name, module)
    return sha256


def _execute(path: Path, content: bytes, name: str) -> ModuleType:
    """Execute the module, which is in `sys.modules` meanwhile, and stays there unless it raises."""
    spec = spec_from_loader(name, _Source(path, content), origin=str(path))
    assert spec is not None and spec.loader is not None
    spec.has_location = True  # the module knows its __file__
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception | SystemExit):
            raise ConfigError(f"{path}{_line_of(error, path)}: {type(error).__name__}: {error}") from error
        raise
    return module


def _line_of(error: BaseException, path: Path) -> str:
    """Return the last line of the user's file in the traceback, such as ", line 3"; empty if it has none."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _forget(records: set[tuple[str, str]]) -> None:
    """Remove what a module registered before it raised."""
    for registry in REGISTRIES:
        for name in list(registry):
            if (registry.noun, name) in records:
                registry.remove(name)


def _records() -> Iterator[tuple[str, str]]:
    """Yield noun and name of each registered record."""
    for registry in REGISTRIES:
        for name in registry:
            yield registry.noun, name
