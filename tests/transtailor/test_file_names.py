"""Names of files for texts of the user."""

from pathlib import Path

import pytest

from transtailor.file_names import file_name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("prune l1", "digits_vgg"), "prune_l1-digits_vgg"),
        (("../up", "a/b\\c"), "__up-a_b_c"),
        (("--help",), "_help"),
        ((".hidden",), "_hidden"),
        (("",), "_"),
        (("caf\u00e9 \u6a39",), "caf_"),
        (("a\nb\0c",), "a_b_c"),
    ],
)
def test_words_of_a_user_become_the_name_of_a_file(words: tuple[str, ...], name: str) -> None:
    assert file_name(*words) == name


def test_a_long_name_is_shortened_and_stays_apart_from_others(tmp_path: Path) -> None:
    labels = ["x" * 240, "x" * 241, "x" * 3000, "x" * 240 + "a", "x " * 240, "x-" * 240]
    names = {file_name(label, "net") for label in labels}
    assert len(names) == len(labels)
    for name in names:
        folder = tmp_path / f".{name}-0123456789abcdef-1"
        folder.mkdir()
        assert len(folder.name) <= 143
