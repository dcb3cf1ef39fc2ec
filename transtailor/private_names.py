"""Check that installed libraries have the private names that a room relies on, and say what to do if they do not."""

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
        """Return the names that the installed version lacks; takes microseconds once the library is imported.

        >>> PrivateNames(library="json", tried="", names={"json.dumps": "", "json.dump_all": ""}).find_missing()
        ['json.dump_all']
        """
        return [name for name in self.names if not _is_there(name)]

    def check(self) -> None:
        """Raise LibraryError, which says what to type, if the installed version lacks one of the names."""
        missing = self.find_missing()
        if not missing:
            return
        library = self.library.partition("[")[0]
        names_and_uses = "; ".join(f"{name} ({self.names[name]})" for name in missing)
        raise LibraryError(
            f"{library} {version(library)} lacks what is used of it: {names_and_uses}; it was tried with {library} "
            f"{self.tried}: type: {pip('install', f'{self.library}=={self.tried}')}"
        )


def _is_there(name: str) -> bool:
    """Whether the installed library has a name of `PrivateNames.names`."""
    dotted_name, _, word = name.removesuffix(")").partition("(")
    path, *parts = dotted_name.split(".")
    value: Any = importlib.import_module(path)  # of the part of the name that was looked up so far
    for part in parts:
        path += f".{part}"
        if _is_module_to_import(value, part, path):
            if path == dotted_name:
                return True  # not imported here: that may take seconds
            value = importlib.import_module(path)
        elif hasattr(value, part):
            value = getattr(value, part)
        else:
            return False
    return not word or word in _words(value)


def _is_module_to_import(package: object, part: str, path: str) -> bool:
    """Whether `part` is a module of a package that has not been imported yet."""
    if not isinstance(package, ModuleType) or part in vars(package):
        return False
    return "__path__" in vars(package) and find_spec(path) is not None


def _words(function: Any) -> tuple[Any, ...]:
    """Return the names and constants in the body of a function."""
    code = inspect.unwrap(function).__code__
    return (*code.co_varnames, *code.co_names, *code.co_consts)
