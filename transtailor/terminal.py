"""Words from a terminal, and output to it: only text, even if it comes from other users' files."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO


def printable(text: object) -> str:
    r"""Return a text in which what a terminal could act on is escaped; tabs and line breaks stay.

    Control characters, marks that change the direction of text, and code points without a character are escaped.

        >>> printable("\x1b[31mred")
        '\\x1b[31mred'
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(_printable_character(character) for character in shown)


def _printable_character(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()


def say(text: object, *, to: TextIO | None = None) -> None:
    """Print a text as a line, at once; to the standard output, if no stream is given."""
    stream = sys.stdout if to is None else to
    stream.write(f"{printable(text)}\n")
    stream.flush()


def make_writable() -> None:
    """Let both output streams take any text: what their encoding lacks is escaped, and a closed one leads nowhere."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def ignore_closed_stdout() -> Iterator[None]:
    """End the block quietly when the reader of the standard output has closed it, such as `head`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's own last flush would complain
