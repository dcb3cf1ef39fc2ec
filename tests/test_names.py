"""One word for one thing: class names occur once, the glossary names classes that exist; functions say what they do."""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.import_graph import PRODUCT, ROOT, modules

GLOSSARY = ROOT / "docs" / "glossary.md"
# No function is called so, and no name begins so. `from`, `to`, `with`, `without` and `on` may begin a name.
PREPOSITION = (
    "after|against|apart|as|at|before|behind|below|between|by|for|here|in|inside|near|not|nothing|now|of|over|per|since|"
    "than|that|then|through|under|until|up|where|within"
)
PARTICIPLE = (
    "became|begun|bent|bound|bought|brought|built|caught|chosen|dealt|done|drawn|fed|felt|forgotten|found|frozen|given|"
    "gone|grown|held|hidden|kept|known|laid|left|lent|lost|made|meant|met|paid|proven|ran|said|seen|sent|shown|slept|sold|"
    "spent|stood|struck|stuck|swept|taken|taught|thought|told|understood|woken|won|written|"
    r"(?!(need|seed|speed|encoding|listing|meaning|pairing|ping|slimming|teaching|timing|training|tuning)(_|$))"
    r"[a-z0-9]+(ed|ing)"
)
NO_NAME = re.compile(
    rf"_*(({PREPOSITION})(_.*)?|(({PREPOSITION}|{PARTICIPLE}|from|to|with|without|on|out)(_(?!_)|$))+_*)"
)
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


def table_rows(text: str) -> list[re.Match[str] | str]:
    """The lines of a page's tables below their heads; of a malformed one the line itself."""
    heads = ("| word | meaning | module and class |", "| --- | --- | --- |")
    return [ROW.fullmatch(line) or line for line in text.splitlines() if "|" in line and line not in heads]


def rows() -> list[re.Match[str]]:
    """The lines of the glossary's tables that have three cells."""
    return [row for row in table_rows(GLOSSARY.read_text(encoding="utf-8")) if not isinstance(row, str)]


def test_class_names_occur_once() -> None:
    twice = {name: places for name, places in classes().items() if len(places) > 1}
    assert not twice


def test_a_class_name_that_occurs_twice_is_found(tmp_path: Path) -> None:
    for place in ("hpc/one.py", "results/two.py"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text("class Same: ...\nclass _Private: ...\n")
    assert dict(classes(tmp_path)) == {"Same": ["hpc.one", "results.two"]}


def test_each_line_of_the_glossary_is_read() -> None:
    assert [row for row in table_rows(GLOSSARY.read_text(encoding="utf-8")) if isinstance(row, str)] == []


@pytest.mark.parametrize(
    "line",
    [
        "| one | two |",
        "| a | b | c.d |",
        "| a | b | `c` and `d` |",
        "a | b | `c.d` |",
        "| a | b | `c.d` | e |",
        "| --- |",
    ],
)
def test_a_malformed_line_is_found(line: str) -> None:
    right = ["| rank | a process | `hpc.ranks.ranks.RankHost` |", "| run | a folder | |"]
    found = table_rows(
        "\n".join(["# Words", "", "| word | meaning | module and class |", "| --- | --- | --- |", *right, line])
    )
    assert [row for row in found if isinstance(row, str)] == [line]


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


def functions_without_a_name(path: Path) -> Iterator[str]:
    """Functions of a file whose name is a participle or a preposition; properties are read like fields, and may be."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_property = any(ast.unparse(one).endswith("property") for one in node.decorator_list)
            if not is_property and NO_NAME.fullmatch(node.name):
                yield node.name


@pytest.mark.parametrize("room", [*PRODUCT, "benchmarks"])
def test_functions_are_called_by_verbs_or_nouns(room: str) -> None:
    later = ("results/plot/", "results/report/", "sweeps/search/", "sweeps/spec/")  # being worked on
    found = {path: [*functions_without_a_name(path)] for path in sorted((ROOT / room).rglob("*.py"))}
    found = {path: names for path, names in found.items() if not any(one in path.as_posix() for one in later)}
    assert {path.relative_to(ROOT).as_posix(): names for path, names in found.items() if names} == {}


def test_a_function_without_a_name_is_found(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    wrong = ("told", "_made", "measured", "left_by", "of_layers", "__asking", "until")
    right = ("tell", "told_story", "layers_of", "from_json", "with_seed", "distinct_stages", "tuning", "__init__")
    nested = (
        "def outer():\n    async def within(): ...\n\n    class C:\n        @property\n        def ended(self): ...\n"
    )
    path.write_text("".join(f"def {name}(): ...\n" for name in wrong + right) + nested)
    assert [*functions_without_a_name(path)] == [*wrong, "within"]


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
