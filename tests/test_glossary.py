"""One word for one thing: class names occur once, and the glossary names classes that exist."""

import ast
import importlib
import re
from collections import defaultdict

from tests.product import ROOT, modules

ROW = re.compile(r"\| (?P<word>[^|]+) \| (?P<meaning>[^|]+) \| (?:`(?P<place>[\w.]+)`)? ?\|")
HEADS = ("| word | meaning | module and class |", "| --- | --- | --- |")
LINES = [line for line in (ROOT / "docs" / "glossary.md").read_text().splitlines() if "|" in line and line not in HEADS]
ROWS = [row for line in LINES if (row := ROW.fullmatch(line))]


def test_class_names_occur_once() -> None:
    places = defaultdict[str, list[str]](list)
    for module, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: defined_in for name, defined_in in places.items() if len(defined_in) > 1} == {}


def test_each_word_of_the_glossary_has_one_row_of_three_cells() -> None:
    assert len(ROWS) == len(LINES) > 30
    assert len({row["word"] for row in ROWS}) == len(ROWS)


def test_what_the_glossary_names_is_there() -> None:
    for place in [row["place"] for row in ROWS if row["place"]]:
        module, _, name = place.rpartition(".")
        assert getattr(importlib.import_module(module), name).__module__ == module, place
