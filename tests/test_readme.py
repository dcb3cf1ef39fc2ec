"""The README's tour matches what is there: its links lead somewhere, its commands run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if not re.match(r"https?:", target) and not (page.parent / target).exists()]
    assert missing == []


def test_make_targets_are_there() -> None:
    named = set(re.findall(r"`?make ([a-z-]+)`?", README))
    assert named and named <= set(TARGET.findall((ROOT / "Makefile").read_text()))


def commands() -> list[str]:
    """Shell commands of the console blocks, with their continuation lines; `make` has a test of its own."""
    found: list[str] = []
    for block in blocks("console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif line.startswith("> "):
                found[-1] += "\n" + line[2:]
            elif line:
                raise AssertionError(f"neither a command nor its continuation: {line!r}")
    return [command for command in found if not command.startswith("make ")]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_commands_of_the_tour_run(tmp_path: Path) -> None:
    """In order, in a folder of their own that has `sweeps/` as a checkout has it."""
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    assert len(commands()) >= 10
    for command in commands():
        finished = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    assert (tmp_path / "runs" / "tour" / "report.html").exists()
    assert (tmp_path / "runs" / "shorter" / "report.html").exists()
