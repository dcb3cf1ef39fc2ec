"""The user's own modules: one file each, imported under a name that shadows nothing, known by its SHA-256. No torch.

What a module registers (a method, criterion, network, data set, allocation or regulariser) is used by its name like
any other, and the SHA-256 of the module's source counts in the ids of the trials and stages that use it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tailor.core.registry import Registry

PACKAGE = "user_modules"  # its modules are called user_modules.<stem>_<first 8 digits of the SHA-256>


@dataclass(frozen=True)
class Brought:
    """What a loaded module is known by; stands in the module itself, as `_BROUGHT`."""

    sha256: str
    registered: frozenset[tuple[str, str]]  # noun of the registry, name of the record


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
    return brought.sha256 if isinstance(brought, Brought) else None


def _loaded() -> Iterator[Brought]:
    package = sys.modules.get(PACKAGE)
    for module in vars(package).values() if package is not None else ():
        brought = getattr(module, "_BROUGHT", None)
        if isinstance(brought, Brought):
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
