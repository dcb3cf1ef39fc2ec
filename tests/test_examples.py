"""Examples in docstrings: those that are there run, and what users call has one."""

import doctest
import importlib
import inspect
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import results
import sweeps
import tailor
import tailor.extend
from tests.import_graph import modules

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PUBLIC: tuple[types.ModuleType, ...] = (tailor, results, sweeps, tailor.extend)
"""What users import from: each function and class in their `__all__` has an example."""
WITHOUT: Mapping[str, str] = {
    "sweeps.FollowedRun": "a run that another process runs: docs/python.md has one, and a test runs it",
    "sweeps.follow": "as sweeps.FollowedRun",
    "tailor.extend.NetworkInfo": "a record that users fill in: docs/extend/network.md has a whole one",
}
"""Name -> why it has no example."""
WITH_EXAMPLES = [name for name, path in modules().items() if ">>>" in path.read_text(encoding="utf-8")]


def failures(module: types.ModuleType) -> tuple[int, int]:
    """How many examples of a module fail, and how many there are."""
    found = doctest.testmod(module, optionflags=FLAGS)
    return found.failed, found.attempted


def methods(thing: type) -> list[Any]:
    """The public methods and properties of a class, also those that it inherits."""
    kinds = (types.FunctionType, property, classmethod, staticmethod)
    members = {name: one for base in reversed(thing.__mro__) for name, one in vars(base).items()}
    return [one for name, one in members.items() if isinstance(one, kinds) and not name.startswith("_")]


def public() -> list[str]:
    """`module.name` of each function, and of each class with methods, that users import."""
    return [
        f"{module.__name__}.{name}"
        for module in PUBLIC
        for name in module.__all__
        if inspect.isfunction(thing := getattr(module, name)) or (inspect.isclass(thing) and methods(thing))
    ]


def has_example(thing: Any) -> bool:
    """Whether the docstring of a function or class, or of a method of the class, has an example."""
    parts = [thing, *methods(thing)] if inspect.isclass(thing) else [thing]
    return any(">>> " in (one.__doc__ or "") for one in parts)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_run(name: str) -> None:
    failed, attempted = failures(importlib.import_module(name))
    assert attempted and not failed


def test_there_are_examples() -> None:
    rooms = {name.partition(".")[0] for name in WITH_EXAMPLES}
    assert {"hpc", "transtailor", "results"} <= rooms


@pytest.mark.parametrize("name", public())
def test_what_users_call_has_an_example(name: str) -> None:
    module, _, last = name.rpartition(".")
    needs_one = name not in WITHOUT
    assert has_example(getattr(sys.modules[module], last)) == needs_one, f"{name}: write >>> ... in its docstring"


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_completion_shows_what_is_public(module: types.ModuleType) -> None:
    assert set(module.__all__) <= set(dir(module))


def test_what_has_no_example_is_there() -> None:
    assert set(WITHOUT) <= set(public())


@pytest.mark.parametrize(
    ("example", "failed"), [("2 + 2\n    4", 0), ("2 + 2\n    5", 1), ("sorted({'a', 'b'})\n    [...]", 0)]
)
def test_a_planted_example_is_run(
    example: str, failed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "planted_examples.py").write_text(f'def f():\n    """Add.\n\n    >>> {example}\n    """\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "planted_examples", raising=False)
    assert failures(importlib.import_module("planted_examples")) == (failed, 1)
    assert ("Expected:\n    5" in capsys.readouterr().out) == bool(failed)
    monkeypatch.delitem(sys.modules, "planted_examples")
