"""Messages name the line of a file at which something is wrong."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from transtailor.documents import DocumentError, describe_fault, find_line, read_toml

TEXT = """\
name = "x"
method.name = "prune"
[trial]
network = "a"
optimisation.epochs = 1
data = { name = "b" }
[trial.source]
epochs = 2
[axes]
"optimisation.lr" = [1]
[[variants]]
label = "one"
[[variants]]
label = "two"
[variants.axes]
seed = [1]
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("name",), 1),
        (("method",), 2),
        (("trial", "network"), 4),
        (("trial", "optimisation", "epochs"), 5),
        (("trial", "data", "name"), 6),
        (("trial", "source", "epochs"), 8),
        (("trial", "source", "weights"), 7),
        (("trial", "missing"), 3),
        (("axes", "optimisation", "lr"), 10),
        (("variants", "1", "label"), 12),
        (("variants", "2", "label"), 14),
        (("variants", "2", "axes", "seed"), 16),
        (("nowhere",), None),
    ],
)
def test_the_line_of_a_setting_is_found(keys: Sequence[str], line: int | None) -> None:
    assert find_line(TEXT, keys) == line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a = 1\nb = "c\n', ["line 2", 'b = "c', "a quote is opened there and not closed"]),
        ("a = b\n", ["line 1", "a = b", "text needs quotes"]),
        ('a = """b', ["a quote is opened and not closed"]),
        ('a = "C:\\Users\\me"', ["Invalid hex value", "write / in place of \\", "single quotes"]),
        ('a = "C:\\data"', ["Unescaped", "write / in place of \\", "single quotes"]),
        ("a\n", ["line 1", "each line is a key, =, and a value"]),
        ("a = 1\na = 2\n", ["line 2", "the key is set twice"]),
        ("[a]\nb = 1\n[a]\nb = 2\n", ["line 3", "[[variants]]"]),
        ("\ufeff[a]\nb = c\n", ["line 2", "b = c"]),
        ("a = .01\n", ["line 1", "a = .01", "a number has a digit before its point, as in 0.01"]),
        ("a = 1\nb = [1, -.5]\n", ["line 2", "a number has a digit before its point"]),
        ("a = 5.\n", ["a number has digits behind its point, as in 1.0"]),
        ("a = None\n", ["TOML has no such value: leave the key out"]),
        ("a = { b = 1, c = null }\n", ["TOML has no such value: leave the key out"]),
        ("a = True\n", ["type true or false, in lower case"]),
        ("a = NaN\n", ["type nan or inf, in lower case"]),
        ("a = 20%\n", ["for 20% type 0.2"]),
        ("a = 0,5\n", ["the decimal point is a point, as in 0.5"]),
        ("a = { b = 0,5, c = 1 }\n", ["the decimal point is a point, as in 0.5"]),
        ("a = 007\n", ["a number does not begin with 0"]),
        ("a = [01, 2]\n", ["a number does not begin with 0"]),
        ("a = [0 1]\n", ["a list ends with ], and has commas between its values"]),
        ('a = ["b" "c"]\n', ["a list ends with ], and has commas between its values"]),
        ("a = 0-4\n", ["several values are a list, as in [0, 1, 2], or { from = 0, to = 2 }"]),
        ("a = 0..4\n", ["several values are a list"]),
        ("a = range(5)\n", ["several values are a list"]),
        ("// a\n", ["a comment begins with #"]),
        ('a = "b"\na.c = 1\n', ["as method = ... and method.KEY = ... (write method.name = ...)"]),
        ("a = {\n  b = 1\n}\n", ["line 1", "a table in { } is on one line"]),
        ("a = { b = 1,\n  c = 2 }\n", ["line 1", "a table in { } is on one line"]),
        ("a = \u201cb\u201d\n", ["line 1", 'a text stands in straight quotes, as in name = "demo"']),
        ("a = { b = 1 c = 2 }\n", ["line 1", "a comma stands between two keys in { }"]),
        ("a = { b = 1 }\na.c = [2, 3]\n", ["('a',)", "write it in { }; a list of values is an axis: axes.KEY = "]),
        ("a = { b = 1, }\n", ["without a comma before }"]),
        ("# a\u2028b\na = b\n", ["line 2", "a = b"]),  # only line feeds end lines of TOML
    ],
)
def test_what_is_no_toml_is_told_with_its_line_and_what_is_missing(
    text: str, said: Sequence[str], tmp_path: Path
) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(DocumentError) as error:
        read_toml(path)
    message = describe_fault(path, error.value)
    assert [words for words in said if words not in message] == []
    assert "\n" not in message
