"""What users import has an example in its docstring; `make examples` runs all examples."""

import inspect
import sys
import types
from collections.abc import Mapping
from typing import Any

import results
import sweeps
import tailor
import tailor.extend

PUBLIC: tuple[types.ModuleType, ...] = (tailor, results, sweeps, tailor.extend)
"""What users import from: each function and class in their `__all__` has an example."""
WITHOUT: Mapping[str, str] = {
    "sweeps.FollowedRun": "a run that another process runs: docs/python.md has one, and a test runs it",
    "sweeps.follow": "as sweeps.FollowedRun",
    "tailor.extend.DataInfo": "a record that users fill in: docs/extend.md has a whole one",
    "tailor.extend.NetworkInfo": "as tailor.extend.DataInfo",
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


def has_example(name: str) -> bool:
    """Whether the docstring of a function, of a class or of one of its methods shows a call."""
    module, _, last = name.rpartition(".")
    thing = getattr(sys.modules[module], last)
    documented = [thing, *public_methods(thing)] if inspect.isclass(thing) else [thing]
    return any(">>> " in (part.__doc__ or "") for part in documented)


def test_what_users_call_has_an_example() -> None:
    assert {name for name in public_names() if not has_example(name)} == set(WITHOUT)


def test_completion_shows_what_is_public() -> None:
    for module in PUBLIC:
        assert set(module.__all__) <= set(dir(module)), module
