"""Plain English: docstrings, comments, messages and pages have none of the turns of phrase of a table.

The words of a page that a script wrote are the script's: change both.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.import_graph import PRODUCT, ROOT

WORDS = {
    "(go|goes|went|going) on": "resume, continue",
    "(stand|stands|stood)(?! for)": "is, appears, is written",
    "so many": "N, this many, the number of",
    "(is|are|was|were) told": "receives, is informed; or rephrase",
    "told from": "distinguished from",
    "((is|are) to be|(was|were) to)": "must, will, should; or rephrase",
    "last words": "last output, last errors",
    "(hang|hangs) on": "depends on",
    "one's": "your own, user-defined",
    "whoever": "a user who, code that, if you",
    "nobody": "no one, no user, none",
    "somebody": "another user, someone",
    "is said": "is printed, is reported",
    "in words": "as a message, with an explanation",
    "anew": "again, newly",
    "once more": "again",
    "(mend|mended)": "fix, repair",
    "(let|lets) go": "release",
    "there is nothing": "no X",
    "falls too far": "exceeds the tolerance",
    "at hand": "available",
    r"where ([\w']+ ){0,4}lies": "is, is in",  # of a file; a value lies between two others
    r"lies (now|there|here|where|beside|below|under|directly|in(?! \[))": "is in",
    r"of old(?! \w)": "before, earlier; or rephrase",
    "(therein|thereby|thereof|hereby)": "rephrase",
    "so-called": "drop it",
}
GAP = r"[\s#*>]+"  # between two words: a line may break there, in a comment or a quotation too
PHRASES = {re.compile(words.replace(" ", GAP) + r"\b", re.I): plain for words, plain in WORDS.items()}
ANY = re.compile(rf"\b(?:{'|'.join(phrase.pattern for phrase in PHRASES)})", re.I)
TEMPLATES = (".css", ".html", ".j2", ".json", ".toml")
CODE = (*PRODUCT, "benchmarks", "tools")
PAGES = ("benchmarks/README.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs")
# Of a module: a comment, a text in three quotes, or one in one; names and numbers are between them.
PARTS = re.compile(
    r"#(?P<comment>[^\n]*)"
    r"|(?P<quotes>\"\"\"|''')(?P<long>(?:\\.|[^\\])*?)(?P=quotes)"
    r"|(?P<quote>[\"'])(?P<short>(?:\\.|[^\\\n])*?)(?P=quote)",
    re.S,
)
Piece = tuple[int, str]  # the number of its first line, and the text


def texts(source: str) -> Iterator[list[Piece]]:
    """Each text of a module: strings that Python joins, and comments on lines that follow each other."""
    strings: list[Piece] = []
    comments: list[Piece] = []
    line, end = 1, 0
    for part in PARTS.finditer(source):
        between = source[end : part.start()]
        line, end = line + source.count("\n", end, part.start()), part.end()
        if not re.fullmatch(r"[\sfrbFRB]*", between):
            yield strings
            strings = []
        if part["comment"] is not None:
            if comments and comments[-1][0] < line - 1:
                yield comments
                comments = []
            comments.append((line, f"{part['comment']} "))
        elif part["long"] is not None:
            yield [(line, part["long"])]
        else:
            strings.append((line, re.sub(r"\\[nrt]", "  ", part["short"])))
        line += source.count("\n", part.start(), part.end())
    yield from (strings, comments)


def wrong_words(text: list[Piece]) -> Iterator[tuple[int, str, str]]:
    """Line, phrase and replacement of each phrase of the table."""
    starts, lines, whole = [0], [1], ""
    for first, piece in text:
        for number, part in enumerate(piece.splitlines(keepends=True), start=first):
            starts.append(len(whole))
            lines.append(number)
            whole += part
    for found in ANY.finditer(whole):
        plain = next(plain for phrase, plain in PHRASES.items() if phrase.match(whole, found.start()))
        yield lines[bisect_right(starts, found.start()) - 1], re.sub(GAP, " ", found[0]), plain


def complaints(path: Path, name: str) -> list[str]:
    """`file:line: phrase: replacement` of all that is wrong in a file."""
    source = path.read_text(encoding="utf-8")
    parts = texts(source) if path.suffix == ".py" else iter([[(1, source)]])
    wrong = sorted({one for part in parts for one in wrong_words(part)})
    return [f"{name}:{line}: {phrase!r}: {plain}" for line, phrase, plain in wrong]


def all_complaints(place: str, root: Path = ROOT) -> list[str]:
    """Of a page, or of what is below a folder: the code and its templates, or the pages."""
    top = root / place
    paths = sorted(top.rglob("*")) if top.is_dir() else [top]
    suffixes = (".py", *TEMPLATES) if place in CODE else (".md",)
    chosen = (path for path in paths if path.suffix in suffixes)
    return [wrong for path in chosen for wrong in complaints(path, path.relative_to(root).as_posix())]


@pytest.mark.parametrize("place", [*CODE, *PAGES])
def test_the_words_are_plain(place: str) -> None:
    found = all_complaints(place)
    assert not found, "\n".join(["write it in plainer words (see WORDS in this file):", *found])


@pytest.mark.parametrize(
    ("name", "content", "line", "phrase"),
    [
        ("hpc/docstring.py", 'def f():\n    """Runs it, and\n    goes\n    on.\n    """\n', 3, "goes on"),
        ("hpc/attribute.py", 'a = 1\n"""What nobody reads."""\n', 2, "nobody"),
        ("hpc/comment.py", "a = 1\n# as it stood\nb = 2  # stands for 2\n", 2, "stood"),
        ("hpc/comments.py", "a = 1\nb = 2  # one that is\n# told of it\n", 2, "is told"),
        ("hpc/message.py", 'b = "there is "\n"""nothing"""\n', None, ""),
        (
            "hpc/messages.py",
            'b = (\n    f"{1} trials: there is "  # why\n    "nothing left"\n)\n',
            2,
            "there is nothing",
        ),
        ("hpc/escape.py", 'a = "\\nWhoever asks"\n', 1, "Whoever"),
        ("hpc/names.py", "nobody = at.hand(lets, go)\nstands = nobody  # stands for all\n", None, ""),
        ("results/templates/page.html.j2", "<p>\nthe so-called\narms</p>", 2, "so-called"),
        ("results/tables.json", '{\n "a": "nobody"}\n', 2, "nobody"),
        ("sweeps/specs/one.toml", "a = 1\n# once\n# more\n", 2, "once more"),
        ("docs/extend/page.md", "# A page\n\nIt lies in a folder, and values\nlie in [0, 1].", 3, "lies in"),
        ("docs/page.md", "# A page\n\n> Start it\n> anew\n", 4, "anew"),
        ("docs/results/page.md", "| nobody |", 1, "nobody"),
        ("benchmarks/one.py", 'NOTE = (\n    "which was "\n    "to end"\n)\n', 2, "was to"),
        ("CHANGELOG.md", "- Errors are refused in words.\n", 1, "in words"),
    ],
)
def test_a_planted_word_is_found(name: str, content: str, line: int | None, phrase: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    found = [one for place in (*CODE, *PAGES) if (tmp_path / place).exists() for one in all_complaints(place, tmp_path)]
    expected = [] if line is None else [f"{name}:{line}: {phrase!r}: "]
    assert [one[: len(start)] for one, start in zip(found, expected, strict=True)] == expected
