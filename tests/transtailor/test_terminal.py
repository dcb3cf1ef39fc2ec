"""Nothing that is shown can act on a terminal."""

import io
import sys

import pytest

from transtailor.terminal import printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2J\x1b[31mred", "\\x1b[2J\\x1b[31mred"),
        ("over\rwritten\b\x7f\x9b", "over\\rwritten\\x08\\x7f\\x9b"),
        ("turned \u202e round\u2028", "turned \\u202e round\\u2028"),
        ("half \ud800 of one", "half \\ud800 of one"),
        ("Größe\tπ\n[red]✓ 漢字", "Größe\tπ\n[red]✓ 漢字"),
    ],
)
def test_what_a_terminal_acts_on_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.check
def test_every_sign_is_shown_as_itself_or_as_ascii() -> None:
    for number in range(sys.maxunicode + 1):
        shown = printable(chr(number))
        assert shown.replace("\n", "").replace("\t", "").isprintable()
        assert shown == chr(number) or shown.isascii()


def test_a_line_is_said_to_a_stream() -> None:
    stream = io.StringIO()
    say(ValueError("\x1b[2J"), to=stream)
    assert stream.getvalue() == "\\x1b[2J\n"
