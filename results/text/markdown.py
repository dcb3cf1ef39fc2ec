"""Tables as Markdown; what users wrote is escaped, so that no sign of it is markup."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

_MARKUP = re.compile(r"[\\`*<>\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
"""Signs that mean something anywhere, and underscores that are not inside a word."""


def escaped(text: str) -> str:
    """The same text in one line, for a cell or a sentence."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def table_lines(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[int] = (0,)
) -> Iterator[str]:
    """A table; the columns at these places hold words and stand left, all others right. Cells are taken as they are."""
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join('---' if place in words else '---:' for place in range(len(columns)))} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def note_lines(notes: Iterable[str]) -> Iterator[str]:
    """Notes as a list."""
    for note in notes:
        yield f"- {escaped(note)}"
