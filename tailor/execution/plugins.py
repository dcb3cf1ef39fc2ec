"""Imports a plugin, a user's own module: one file, whose neighbours it can import. No torch.

A file in a package has the package's name for it, any other one a name that hides no other module.

What a plugin registers (a method, criterion, network, data set, allocation or regulariser) is used by its name. The
SHA-256 of its source counts in ids and keys (see `tailor.common.plugin_digests`).
"""

import hashlib
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tailor.common.errors import ConfigError
from tailor.common.neighbours import advice_on, search_beside
from tailor.common.plugin_digests import PACKAGE, PluginRecord
from tailor.common.registry import Registry
from tailor.config.allocations import ALLOCATIONS
from tailor.config.trial import METHODS
from tailor.facts.datasets import DATASETS
from tailor.facts.networks import NETWORKS
from tailor.facts.regularisation import REGULARISERS
from tailor.pruning.criteria import CRITERIA

ORIGIN = "origin.txt"  # beside a copy of a plugin: the path of the file that was copied
REGISTRIES: tuple[Registry[Any], ...] = (METHODS, CRITERIA, NETWORKS, DATASETS, ALLOCATIONS, REGULARISERS)


class _Source(InspectLoader):
    """Executes a source that was read before, so that the hashed source is what runs; writes no bytecode."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self._content = content

    def get_source(self, fullname: str) -> str:  # noqa: ARG002  # importlib's interface
        """Return the source text."""
        return decode_source(self._content)

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        """Return the compiled source; tracebacks name its file."""
        return self.source_to_code(self._content, str(self.path))


class _Finder(MetaPathFinder):
    """Finds the plugins that are in packages, also for a package that imports its plugin itself."""

    def __init__(self) -> None:
        self.sources: dict[str, _Source] = {}  # by the name of the module

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:
        """Return the spec of a plugin, None for any other module."""
        source = self.sources.get(fullname)
        return None if source is None else _spec_of(fullname, source)


_finder = _Finder()


def load_copy(path: Path) -> None:
    """Import a copy from a folder that is named by the copy's SHA-256, which is verified. Raises as `load`."""
    load(path, path.parent.name)


def origin_of(path: Path) -> Path:
    """Return the file beside which a plugin's neighbours are: of a run's copy the file that was copied."""
    origin = path.parent / ORIGIN
    return Path(origin.read_text(encoding="utf-8")) if origin.is_file() else path.resolve()


def load(path: Path, expected_sha256: str | None = None) -> str:
    """Import a Python file, once per process; return the SHA-256 of its source, 64 hexadecimal digits.

    Args:
        path: the file.
        expected_sha256: a file with another one is not run. The file's neighbours do not count in it.

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
    package.__path__ = []  # so that Python looks for modules in it
    name = f"{path.stem}_{sha256[:8]}"
    if hasattr(package, name):
        return sha256
    records_before = set(_records())
    try:
        module = _execute(path, content, name)
    except BaseException:
        _forget(set(_records()) - records_before)
        raise
    registered = frozenset(set(_records()) - records_before)
    if not registered:
        del sys.modules[module.__name__]
        vars(package).pop(name, None)
        raise ConfigError(
            f"{path}: registers nothing; decorate a method with @tailor.extend.register, or add to "
            "CRITERIA, NETWORKS, DATASETS, ALLOCATIONS or REGULARISERS"
        )
    for noun, registered_name in registered:
        if noun == NETWORKS.noun:
            NETWORKS.analyse_later(registered_name)
    module._PLUGIN = PluginRecord(sha256, registered, path.resolve())  # type: ignore[attr-defined]
    setattr(package, name, module)
    return sha256


def _execute(path: Path, content: bytes, name: str) -> ModuleType:
    """Execute the module, which is in `sys.modules` meanwhile, and stays there unless it raises."""
    origin = origin_of(path)
    package = search_beside(origin)
    full_name = f"{package}.{origin.stem}" if package else f"{PACKAGE}.{name}"
    sys.modules.pop(full_name, None)  # another version of it
    _finder.sources[full_name] = _Source(path, content)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    try:
        return import_module(full_name)
    except BaseException as error:
        if isinstance(error, Exception | SystemExit):
            advice = advice_on(error, origin)
            raise ConfigError(f"{path}{_line_of(error, path)}: {type(error).__name__}: {error}{advice}") from error
        raise


def _spec_of(name: str, source: _Source) -> ModuleSpec:
    spec = spec_from_loader(name, source, origin=str(source.path))
    assert spec is not None
    spec.has_location = True  # the module knows its __file__
    return spec


def _line_of(error: BaseException, path: Path) -> str:
    """Return the last line of the user's file in the traceback, such as ", line 3"; empty if it has none."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _forget(records: set[tuple[str, str]]) -> None:
    """Remove what a module registered before it raised."""
    registries = {registry.noun: registry for registry in REGISTRIES}
    for noun, name in records:
        registries[noun].remove(name)


def _records() -> Iterator[tuple[str, str]]:
    """Yield noun and name of each registered record."""
    for registry in REGISTRIES:
        for name in registry:
            yield registry.noun, name
