"""The page's scripts: few, short, and in one form, which is checked here without a formatter of JavaScript.

Checked: the width, the indentation, the ends of lines, one statement on a line. Not checked: spaces within a line.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import results

SCRIPTS = sorted((Path(results.__file__).parent / "templates").glob("*.js"))
MOST_LINES, MOST_IN_ALL, WIDTH = 300, 900, 120
PATTERN = r"/(?![/*])(?:\\.|\[(?:\\.|[^\]])*\]|[^/\n])+/[a-z]*"
CODE = re.compile(r"//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'" + rf"|(?:(?<=[=:,n] )|(?<=\()){PATTERN}")


def bare(text: str) -> str:
    """The code with comments gone, and texts and patterns as a single letter; templates keep only their brackets."""
    text = CODE.sub(lambda found: "" if found[0].startswith("//") else "S", text)
    return re.sub(r"`[^`\n]*`", "S", text)


def has_several(code: str) -> bool:
    """Whether more than one statement begins on a line; the parts of a `for`, and a short function, do not count."""
    return re.search(r";\s*(?!else )\S", re.sub(r"\bfor \(.*?\) |\{ [^{}]*; \}", "", code)) is not None


def faults(text: str) -> Iterator[str]:
    """What is not in the form, each with its line."""
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield "the end of the file"
    opened: list[tuple[str, int]] = []  # brackets that are open, each with the indentation of its line
    lines = bare(text).split("\n")
    for number, (line, code) in enumerate(zip(text.split("\n"), lines, strict=True), 1):
        where = f"{number}: {line.strip()}"
        if len(line) > WIDTH or line != line.rstrip() or "\t" in line:
            yield f"width or white space, {where}"
        if not line.strip() or not code.strip():
            continue
        closing = len(re.match(r"\s*([)\]}]*)", code)[1])  # type: ignore[index]  # it matches the empty text, too
        left = len(opened) - closing
        indent = opened[left][1] if closing else opened[-1][1] + 2 if opened else 0
        is_continued = re.match(r"\s*(\.(?!\.)|\?|:|&&|\|\||\+|in |from )", code) is not None
        if len(line) - len(line.lstrip()) != indent + 2 * is_continued:
            yield f"indentation, {where}"
        if has_several(code):
            yield f"several statements, {where}"
        for sign in re.findall(r"[][(){}]", code):
            if sign in "([{":
                opened.append((sign, len(line) - len(line.lstrip())))
            else:
                opened.pop()
    if opened:
        yield f"brackets that stay open: {opened}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_short_and_in_form(script: Path) -> None:
    text = script.read_text()
    assert text.count("\n") <= MOST_LINES
    assert list(faults(text)) == []


def test_all_scripts_together_are_small() -> None:
    assert len(SCRIPTS) >= 10
    assert sum(path.read_text().count("\n") for path in SCRIPTS) <= MOST_IN_ALL


@pytest.mark.parametrize(
    ("text", "fault"),
    [("f(() => {\nreturn 1;\n});\n", "indentation"), ("a();  \n", "width"), ("a();", "end"), ("a(); b();\n", "several"),
     ("f(\n    1);\n", "indentation"), ("if (a) {\n", "open"), (f"// {'a' * 130}\n", "width")],
)  # fmt: skip
def test_a_fault_is_found(text: str, fault: str) -> None:
    assert any(fault in one for one in faults(text))
