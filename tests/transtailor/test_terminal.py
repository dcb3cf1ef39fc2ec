"""Nothing that is shown can act on a terminal."""

import io
import sys

import pytest

from transtailor.__main__ import main
from transtailor.terminal import make_writable, printable, say


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


def test_a_table_in_an_encoding_without_its_signs_and_a_closed_output(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    assert main([]) == 0
    written.seek(0)
    written.truncate()
    say("40.6 ± 2 …")
    assert written.getvalue() == b"40.6 \xb1 2 \\u2026\n"
    monkeypatch.setattr(sys, "stdout", None)
    make_writable()
    say("to nobody")
    assert not sys.stdout.isatty()
    sys.stdout.close()


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
