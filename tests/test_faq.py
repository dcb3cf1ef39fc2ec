"""The messages on the page of questions are those of the program."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.import_graph import PRODUCT, ROOT

PAGE = (ROOT / "docs" / "faq.md").read_text()
GAP = "…"  # a name, a number, or whatever else is not the same in each message


def texts() -> Iterator[str]:
    """Each text in the code of the rooms, with a gap for each value in it."""
    for room in PRODUCT:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def is_in(message: str, text: str) -> bool:
    """Whether a text of the code can give this message: its words between gaps, in their order."""
    parts = [part.strip() for part in message.split(GAP) if part.strip()]
    return re.search(".*?".join(map(re.escape, parts)), text, flags=re.DOTALL) is not None


@pytest.fixture(scope="module")
def said() -> str:
    """All texts of the code, each on its own line."""
    return "\n".join(text.replace("\n", " ") for text in texts())


MESSAGES = re.findall(r"^### `(.*)`$", PAGE, flags=re.MULTILINE)


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 20


@pytest.mark.parametrize("message", MESSAGES)
def test_the_program_has_this_message(message: str, said: str) -> None:
    assert any(is_in(message, line) for line in said.splitlines()), message


def test_another_message_is_found(said: str) -> None:
    assert not any(is_in("… is a run of another planet:", line) for line in said.splitlines())
