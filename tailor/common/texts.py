"""Names of files and classes as messages, tables and comparisons have them."""

import os
import unicodedata
from collections.abc import Iterable

from transtailor.plural import first_few


def some(names: Iterable[str], shown: int = 5) -> str:
    """Return the first few names, and the number of the others."""
    return first_few([in_one_line(name) for name in sorted(names)], shown)


def in_one_line(name: str) -> str:
    """Return a name as a message shows it: line ends and tabs in it are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)


def as_text(name: str) -> str:
    r"""Return a name from the disk as text in UTF-8; bytes that are not, as older systems have them, become \xe9."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def normal_form(name: str) -> str:
    """Return a name for comparing, sorting and drawing: in NFC, because macOS and archives made there may write NFD."""
    return unicodedata.normalize("NFC", name)
