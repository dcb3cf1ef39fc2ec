"""The code blocks of the documentation's pages, for the tests that run them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from tests.commands import transtailor_command

DOCS = Path(__file__).parents[1] / "docs"
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, its first line in the page, and why it is not run, if so."""

    kind: str
    text: str
    line: int
    not_run: str | None


def blocks(page: Path) -> list[Block]:
    """Each fenced block of a page, in order; a comment `<!-- not run: reason -->` belongs to the block below it."""
    return list(_blocks(page.read_text()))


def _blocks(text: str) -> Iterator[Block]:
    reason = None
    for token in MarkdownIt().parse(text):
        if token.type == "fence":
            assert token.map is not None
            yield Block(kind=token.info.strip(), text=token.content, line=token.map[0] + 1, not_run=reason)
        found = NOT_RUN.match(token.content) if token.type == "html_block" else None
        reason = found[1] if found else None


def run_block(block: Block, folder: Path, names: dict[str, Any]) -> None:
    """Run a block of Python, which reads and changes `names`, or paste one of bash or SQL, in the working folder."""
    if block.kind == "python":
        exec(compile(block.text, f"line {block.line}", "exec"), names)  # noqa: S102  # our own page
        return
    lines = {"bash": block.text.splitlines(), "sql": [shlex.join(["transtailor", "query", "runs/demo", block.text])]}
    for line in lines[block.kind]:
        program, *words = shlex.split(line, comments=True)
        assert program == "transtailor", line
        done = transtailor_command(*words, folder=folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert done.stdout, line
