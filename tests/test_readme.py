"""The README's tour runs, on a shorter sweep; tests/test_wheel.py pastes it into a shell of an installed package."""

import re
from pathlib import Path

from tests import pages
from tests.product import ROOT

PAGE = ROOT / "README.md"
README = PAGE.read_text()
SHORTER = """
name = "tour"
[trial]
network = "digits_vgg"
source.epochs = 1
data.train_images = 64
optimisation = { epochs = 1, head_epochs = 1 }
[axes]
seed = [0]
[[variants]]
method = { name = "transtailor", steps = 1, alpha_epochs = 1 }
[[variants]]
label = "full fine-tuning"
method.name = "fine_tune"
"""
"""For a file `tour`: one of the working folder comes before a shipped sweep of that name."""


def blocks(kind: str) -> list[str]:
    """The text of each block of a language, but of those that the page says are not run."""
    return [block.text for block in pages.blocks(PAGE) if block.kind == kind and block.not_run is None]


def test_it_is_short() -> None:
    assert README.count("\n") <= 110


def test_its_pictures_are_small_and_all_that_there_are() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").iterdir())
    texts = [README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    shown = re.findall(r"!\[[^]]+\]\((.*?)\)", "\n".join(texts))
    assert {path.name for path in pictures} == {Path(target).name for target in shown}
    assert sum(path.stat().st_size for path in pictures) <= 200_000


def test_what_was_not_measured_is_what_the_results_say() -> None:
    (section,) = re.findall(r"## What it is not, and what was not measured\n(.*?)\n## ", README, flags=re.DOTALL)
    findings = (ROOT / "docs" / "results" / "README.md").read_text()
    _, _, not_measured = findings.partition("## Not measured\n")
    named = {name for name in re.findall(r"`(\w+)`", not_measured) if (ROOT / "benchmarks" / f"{name}.py").is_file()}
    assert named and "(docs/results/README.md#not-measured)" in section
    assert "real GPU" in section and "production cluster" in section
