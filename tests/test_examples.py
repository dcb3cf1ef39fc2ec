"""What users import has an example in its docstring; `make test` runs all examples as doctests."""

import inspect
import sys
import types
from collections.abc import Mapping
from typing import Any

import pytest

import results
import sweeps
import tailor
import tailor.extend

PUBLIC: tuple[types.ModuleType, ...] = (tailor, results, sweeps, tailor.extend)
"""What users import from: each function and class in their `__all__` has an example."""
WITHOUT: Mapping[str, str] = {
    "sweeps.FollowedRun": "a run that another process runs: docs/python.md has one, and a test runs it",
    "sweeps.follow": "as sweeps.FollowedRun",
    "tailor.extend.NetworkInfo": "a record that users fill in: docs/extend/network.md has a whole one",
}
"""Name -> why it has no example."""


def public_methods(thing: type) -> list[Any]:
    """The public methods and properties of a class, also those that it inherits."""
    kinds = (types.FunctionType, property, classmethod, staticmethod)
    members = {name: member for base in reversed(thing.__mro__) for name, member in vars(base).items()}
    return [member for name, member in members.items() if isinstance(member, kinds) and not name.startswith("_")]


def public_names() -> list[str]:
    """`module.name` of each function, and of each class with methods, that users import."""
    names = []
    for module in PUBLIC:
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or (inspect.isclass(thing) and public_methods(thing)):
                names.append(f"{module.__name__}.{name}")
    return names


@pytest.mark.parametrize("name", public_names())
def test_what_users_call_has_an_example(name: str) -> None:
    module, _, last = name.rpartition(".")
    thing = getattr(sys.modules[module], last)
    documented = [thing, *public_methods(thing)] if inspect.isclass(thing) else [thing]
    has_example = any(">>> " in (part.__doc__ or "") for part in documented)
    assert has_example == (name not in WITHOUT), f"{name}: write >>> ... in its docstring"


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_completion_shows_what_is_public(module: types.ModuleType) -> None:
    assert set(module.__all__) <= set(dir(module))


def test_what_has_no_example_is_there() -> None:
    assert set(WITHOUT) <= set(public_names())
