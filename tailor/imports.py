"""The user's own modules: one file each, imported under a name that shadows nothing, known by its SHA-256. No torch.

What a module registers (a method, criterion, network, data set, allocation or regulariser) is used by its name like
any other, and the SHA-256 of the module's source counts in the ids of the trials and stages that use it.
"""

import hashlib
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.abc import InspectLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tailor.errors import ConfigError
from tailor.registry import Registry

PACKAGE = "user_modules"  # its modules are called user_modules.<stem>_<first 8 digits of the SHA-256>


@dataclass(frozen=True)
class _Brought:
    """What a loaded module is known by; stands in the module itself, as `_BROUGHT`."""

    sha256: str
    registered: frozenset[tuple[str, str]]  # noun of the registry, name of the record


class _Source(InspectLoader):
    """Executes a source that was read already, so that what runs is what was hashed; writes no bytecode."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content = path, content

    def get_source(self, fullname: str) -> str:  # noqa: ARG002  # importlib's interface
        """The source text."""
        return self._content.decode()

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        """The compiled source; tracebacks name its file."""
        return self.source_to_code(self._content, str(self._path))


def load(path: Path) -> str:
    """Import a file of Python and return the SHA-256 of its source, 64 hexadecimal digits; once per process.

    It stands alone: files beside it cannot be imported by it.

    Raises:
        ConfigError: no such file, it raises, it registers nothing, or a name that it registers is taken.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be imported: {error.strerror}; type the path of a .py file") from error
    sha256 = hashlib.sha256(content).hexdigest()
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE, "What users brought."))
    name = f"{path.stem}_{sha256[:8]}"
    if hasattr(package, name):
        return sha256
    before = set(_records())
    module = _executed(path, content, f"{PACKAGE}.{name}")
    registered = frozenset(set(_records()) - before)
    if not registered:
        del sys.modules[module.__name__]
        raise ConfigError(
            f"{path}: registers nothing; decorate a method with @tailor.methods.register, or add to "
            "CRITERIA, NETWORKS, DATASETS, ALLOCATIONS or REGULARISERS"
        )
    module._BROUGHT = _Brought(sha256, registered)  # type: ignore[attr-defined]
    setattr(package, name, module)
    return sha256


def anything_is_loaded() -> bool:
    """Whether a user's module may have been loaded in this process."""
    return PACKAGE in sys.modules


def digest_of(registry: Registry[Any], name: str) -> str | None:
    """The SHA-256 of the user's module that registered `name`; None for what comes with this program."""
    record = (registry.noun, name)
    return next((brought.sha256 for brought in _loaded() if record in brought.registered), None)


def digests_in(settings: object) -> dict[str, str]:
    """What of the users' modules is named anywhere in settings (plain JSON values): noun and name -> SHA-256.

    Any text that is the name of a user's record counts as a use of it, so that none is overlooked.
    """
    if not anything_is_loaded():
        return {}
    named = set(_texts(settings))
    return {
        f"{noun} {name}": brought.sha256
        for brought in _loaded()
        for noun, name in sorted(brought.registered)
        if name in named
    }


def digest_of_class(kind: type) -> str | None:
    """The SHA-256 of the user's module that defines a class (of stages, of settings); None for this program's own."""
    module = sys.modules.get(kind.__module__)
    brought = getattr(module, "_BROUGHT", None)
    return brought.sha256 if isinstance(brought, _Brought) else None


def _executed(path: Path, content: bytes, name: str) -> ModuleType:
    """The module, in `sys.modules` under its name from its first line on, and gone from there if it raises."""
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
    """The last line of the user's file that the error went through, such as ", line 3"."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _records() -> Iterator[tuple[str, str]]:
    """Noun and name of all that is registered."""
    from tailor.allocations import ALLOCATIONS  # later than this module, which they import
    from tailor.catalog import DATASETS, NETWORKS
    from tailor.criteria import CRITERIA
    from tailor.methods import METHODS
    from tailor.regularisation import REGULARISERS

    registries: tuple[Registry[Any], ...] = (METHODS, CRITERIA, NETWORKS, DATASETS, ALLOCATIONS, REGULARISERS)
    for registry in registries:
        for name in registry:
            yield registry.noun, name


def _loaded() -> Iterator[_Brought]:
    package = sys.modules.get(PACKAGE)
    for module in vars(package).values() if package is not None else ():
        brought = getattr(module, "_BROUGHT", None)
        if isinstance(brought, _Brought):
            yield brought


def _texts(settings: object) -> Iterator[str]:
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, dict):
        for value in settings.values():
            yield from _texts(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _texts(value)
