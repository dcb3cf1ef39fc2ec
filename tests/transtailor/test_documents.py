"""Documents of strangers: what is nested without end is refused in words, however it is written."""

from pathlib import Path

import pytest

from transtailor.documents import DEEPEST, DocumentError, read_json, read_text, read_toml

DEEP = 5000


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, 
        "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "", "{", "nul", '"\\ud8"', "9" * DEEP,
    ],
)  # fmt: skip
def test_json_that_cannot_be_read_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    for source in (text, text.encode(), tmp_path / "a.json"):
        with pytest.raises(DocumentError, match="is not valid JSON: |is nested more than 64 levels deep"):
            read_json(source)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEP, "a = " + "[" * DEEP + "]" * DEEP, "a = " + "{a = " * DEEP + "1" + "}" * DEEP,
        f"{'a.' * DEEP}a = 1", f"[{'a.' * DEEP}a]", "a =", "a = " + "9" * DEEP, "a = 2020-99-99",
    ],
)  # fmt: skip
def test_toml_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="is not valid TOML: |is nested more than 64 levels deep"):
        read_toml(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name = 'demo'\n".encode("utf-16"), "it has bytes 0, as UTF-16 and workbooks have; save the file as UTF-8"),
        ("name = 'demo'\n".encode("utf-16-le"), "it has bytes 0"),
        (b"PK\x03\x04\x14\0", "it has bytes 0"),
        ("name = 'demo'\n# caf\u00e9".encode("latin-1"), "line 2 has the byte 0xe9; save the file as UTF-8"),
        (b"\x80\x04\x95", "line 1 has the byte 0x80"),
    ],
)
def test_text_in_another_encoding_is_refused_with_its_place(content: bytes, said: str) -> None:
    for read in (read_json, read_toml):
        with pytest.raises(DocumentError, match=said):
            read(content)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    """Windows' editors write one."""
    written = tmp_path / "marked"
    written.write_text('a = "caf\u00e9"', encoding="utf-8-sig")
    assert read_text(written) == 'a = "caf\u00e9"'
    assert read_toml(written) == {"a": "caf\u00e9"}
    assert read_json('{"a": 1}'.encode("utf-8-sig")) == {"a": 1}


def test_what_is_nested_as_deep_as_it_may_be_is_read() -> None:
    assert read_json("[" * DEEPEST + "]" * DEEPEST)
    assert read_toml("a = " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1))
    assert read_json('{"a": [1, {"b": "é"}]}'.encode()) == {"a": [1, {"b": "é"}]}
