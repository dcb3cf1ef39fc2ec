"""Messages name the line of a file at which something is wrong."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from transtailor.documents import DocumentError, describe_fault, read_toml


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a = 1\nb = "c\n', ["line 2", 'b = "c']),
        ("a = b\n", ["line 1", "a = b"]),
        ("a = 1\na = 2\n", ["line 2", "a = 2"]),
        ("\ufeff[a]\nb = c\n", ["line 2", "b = c"]),
        ('a = """b', ["is not valid TOML"]),  # at the end of the document, which has no line
        ("# a\u2028b\na = b\n", ["line 2", "a = b"]),  # only line feeds end lines of TOML
    ],
)
def test_what_is_no_toml_is_told_with_its_line(text: str, said: Sequence[str], tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(DocumentError) as error:
        read_toml(path)
    message = describe_fault(path, error.value)
    assert [words for words in said if words not in message] == []
    assert "\n" not in message
