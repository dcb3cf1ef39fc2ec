"""One word for one thing: class names occur once, the glossary names classes that exist; calls can be read."""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.import_graph import PRODUCT, ROOT, modules

GLOSSARY = ROOT / "docs" / "glossary.md"
MOST_ARGUMENTS = 7  # of a function, without self; records (dataclasses, pydantic) have as many fields as they need
ROW = re.compile(r"\| (?P<word>[^|]+) \| (?P<meaning>[^|]+) \| (?:`(?P<place>[\w.]+)`)? ?\|")


def classes(folder: Path = ROOT) -> dict[str, list[str]]:
    """Name of each class of the product at the top of a module -> the modules that define one."""
    found = defaultdict[str, list[str]](list)
    for name, path in modules(folder).items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    return found


def rows() -> list[re.Match[str]]:
    """The lines of the glossary's tables."""
    lines = GLOSSARY.read_text(encoding="utf-8").splitlines()
    return [found for line in lines if (found := ROW.fullmatch(line)) and found["word"] not in ("word", "---")]


def test_class_names_occur_once() -> None:
    twice = {name: places for name, places in classes().items() if len(places) > 1}
    assert not twice


def test_a_class_name_that_occurs_twice_is_found(tmp_path: Path) -> None:
    for place in ("hpc/one.py", "results/two.py"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text("class Same: ...\nclass _Private: ...\n")
    assert dict(classes(tmp_path)) == {"Same": ["hpc.one", "results.two"]}


def test_words_occur_once() -> None:
    words = [row["word"] for row in rows()]
    assert len(words) > 30
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["word"])
def test_what_the_glossary_names_is_there(row: re.Match[str]) -> None:
    if row["place"] is None:
        return
    module, _, name = row["place"].rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert found.__module__ == module


def functions_with_many_arguments(path: Path) -> Iterator[str]:
    """`name (number)` of each function of a file that takes more arguments than a reader keeps in mind."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            number = len(names) - (names[:1] in (["self"], ["cls"]))
            if number > MOST_ARGUMENTS:
                yield f"{node.name} ({number})"


@pytest.mark.parametrize("room", PRODUCT)
def test_functions_take_few_arguments(room: str) -> None:
    paths = sorted((ROOT / room).rglob("*.py"))
    assert paths
    wrong = {path.relative_to(ROOT).as_posix(): [*functions_with_many_arguments(path)] for path in paths}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_a_function_with_many_arguments_is_found(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text(
        "class C:\n"
        "    def __init__(self, a, b, c, d, e, f, g): ...\n"
        "    def m(self, a, b, c, /, d, e, *, f, g, h): ...\n"
    )
    assert [*functions_with_many_arguments(path)] == ["m (8)"]
