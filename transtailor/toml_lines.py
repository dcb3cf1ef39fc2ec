"""Where in a TOML file something stands that is wrong, for messages; readers give the values alone."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from transtailor.documents import DocumentError

REFUSED = "is not valid TOML: "
_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]")
_ASSIGNED = re.compile(r"\s*([\w.\"' -]+?)\s*=")
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)")
_HINTS = (
    (r"Illegal character '\n'", "a quote is opened there and not closed"),
    ("Unterminated string", "a quote is opened and not closed"),
    ("Invalid value", 'words stand in quotes, as in name = "demo"'),
    ("Expected '=' after a key", "each line is a key, =, and a value"),
    ("Cannot overwrite a value", "the key stands there twice"),
)


def fault_in(path: Path, error: DocumentError) -> str:
    """What is wrong with a file that `read_toml` has refused: the line, what it says, and what is missing there."""
    said = str(error).removeprefix(REFUSED)
    if said == str(error):
        return said
    hint = next((f"; {hint}" for words, hint in _HINTS if said.startswith(words)), "")
    found = _AT_LINE.search(said)
    if found is None:
        return f"{error}{hint}"
    number = int(found[1])
    line = "".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[number - 1 : number]).strip()
    return f"line {number} {REFUSED}{line}   ({_AT_LINE.sub('', said)}{hint})"


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """The number of the line that sets `keys`, or else the table around it; None where neither stands in the text.

    Args:
        text: valid TOML.
        keys: those of the tables above it and its own; of an array of tables first its name, then the number from 1.
    """
    arrays: Counter[str] = Counter()
    table: tuple[str, ...] = ()
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            name = _split(header[2])
            if header[1] == "[[":
                arrays[name[0]] += 1
            table = (name[0], str(arrays[name[0]]), *name[1:]) if name[0] in arrays else name
            path = table
        elif assigned := _ASSIGNED.match(line):
            path = (*table, *_split(assigned[1]))
        else:
            continue
        common = min(len(path), len(keys))
        if path[:common] == tuple(keys[:common]) and (best is None or common > best[0]):
            best = common, number
    return None if best is None else best[1]


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip(" \"'") for part in dotted.split("."))
