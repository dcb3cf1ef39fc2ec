"""Private names of libraries that a room relies on: which of them an installed version lacks, and what to do then."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from transtailor.errors import UserError
from transtailor.shell import pip


class LibraryError(UserError):
    """An installed library lacks a private name that is used here."""


@dataclass(frozen=True, kw_only=True)
class PrivateNames:
    """Private names of one library that one room uses; a newer version may lack them."""

    library: str  # as pip knows it, with its extras: "ray[tune]"
    tried: str  # the version that the names were tried with
    names: Mapping[str, str]
    """Dotted name -> what it is used for. "a.f(word)": a keyword or an attribute in the body of f."""

    def find_missing(self) -> list[str]:
        """The names that the installed version lacks; takes microseconds once the library is imported.

        >>> PrivateNames(library="json", tried="", names={"json.dumps": "", "json.dump_all": ""}).find_missing()
        ['json.dump_all']
        """
        return [name for name in self.names if not _is_there(name)]

    def check(self) -> None:
        """Raise LibraryError, which says what to type, if the installed version lacks one of the names."""
        if lacking := self.find_missing():
            library = self.library.partition("[")[0]
            parts = "; ".join(f"{name} ({self.names[name]})" for name in lacking)
            raise LibraryError(
                f"{library} {version(library)} lacks what is used of it: {parts}; it was tried with {library} "
                f"{self.tried}: type: {pip('install', f'{self.library}=={self.tried}')}"
            )


def _is_there(name: str) -> bool:
    dotted, _, word = name.removesuffix(")").partition("(")
    place, *parts = dotted.split(".")
    thing: Any = importlib.import_module(place)
    for part in parts:
        place += f".{part}"
        is_module = part not in vars(thing) and _has_module(thing, place) if isinstance(thing, ModuleType) else False
        if is_module and place == dotted:
            return True  # not imported here: that may take seconds
        if is_module:
            thing = importlib.import_module(place)
        elif hasattr(thing, part):
            thing = getattr(thing, part)
        else:
            return False
    return not word or word in _words(thing)


def _has_module(package: ModuleType, place: str) -> bool:
    return "__path__" in vars(package) and find_spec(place) is not None


def _words(function: Any) -> tuple[Any, ...]:
    code = inspect.unwrap(function).__code__
    return (*code.co_varnames, *code.co_names, *code.co_consts)
