"""One word for one thing: class names occur once, and the glossary names classes that exist."""

import ast
import importlib
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.import_graph import ROOT, modules

GLOSSARY = ROOT / "docs" / "glossary.md"
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
