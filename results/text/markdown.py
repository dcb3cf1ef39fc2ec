"""Tables as Markdown; texts of users are escaped, so that they contain no markup."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

_MARKUP = re.compile(r"[\\`*<>\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that are markup anywhere, and underscores that are not inside a word."""


def escaped(text: str) -> str:
    """Escape a text, in one line, for a cell or a sentence."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def table_lines(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[int] = (0,)
) -> Iterator[str]:
    """Write a table; the columns at the places `left` are aligned left, all others right. Cells are not escaped."""
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join('---' if place in left else '---:' for place in range(len(columns)))} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def note_lines(notes: Iterable[str]) -> Iterator[str]:
    """Write notes as a list."""
    for note in notes:
        yield f"- {escaped(note)}"
