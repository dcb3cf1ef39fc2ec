"""The page of every key of a spec is what the settings say, and none of them is left out."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sweeps.spec.spec import SPECS
from tailor.config.pruning import PruningConfig
from tools.spec_reference import DOCUMENT, meaning, page, type_text

PAGE = DOCUMENT.read_text()


class Planted(PruningConfig):
    """Settings with one that has no text."""

    planted: int = 1


def test_the_page_is_what_the_settings_say() -> None:
    assert page() == PAGE, "type: python -m tools.spec_reference"


def test_a_key_without_a_meaning_is_refused() -> None:
    assert "linear layers" in meaning(Planted, "linear")
    with pytest.raises(LookupError, match=r"Planted\.planted has no meaning: write"):
        meaning(Planted, "planted")


def keys(table: Mapping[str, Any]) -> Iterator[str]:
    """The last part of each key of a spec, dotted or not; labels and settings alike."""
    for key, value in table.items():
        yield key.rpartition(".")[2]
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping):
                yield from keys(inner)


@pytest.mark.parametrize("spec", sorted(SPECS.glob("*.toml")), ids=lambda path: path.stem)
def test_each_key_of_a_shipped_spec_is_on_the_page(spec: Path) -> None:
    on_the_page = set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)) | {"name"}
    assert set(keys(tomllib.loads(spec.read_text()))) - on_the_page == set()


def test_a_row_has_type_default_unit_and_meaning() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `crop_px` "))
    assert row.startswith("| `crop_px` | whole number ≥ 1 | none | pixels | Side of the square")
    assert "| `method` | name or table | *required* |" in PAGE
    assert type_text({"type": "array", "items": {"type": "number", "minimum": 0}}) == "list of numbers ≥ 0"
