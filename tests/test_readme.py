"""The README's tour matches what is there: its links lead somewhere, its commands run."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
# What these say was so when it was written: the changelog, the log, and the records of measurements.
OF_TODAY = [
    page
    for page in PAGES
    if page.name not in ("CHANGELOG.md", "log.md") and ROOT / "docs" / "results" not in page.parents
]
FOLDERS = "transtailor|hpc|tailor|sweeps|results|tools|tests|benchmarks"
FILE = re.compile(rf"(?<![\w./-])(?:\.\./)*((?:{FOLDERS})/[\w./-]*\w\.py)\b")
MODULE = re.compile(rf"-m ((?:{FOLDERS})(?:\.\w+)*)")
TEST = re.compile(r"\btest_\w+\.py\b")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if not re.match(r"https?:", target) and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", OF_TODAY)
def test_files_and_modules_are_there(page: Path) -> None:
    """What is named by its path, by `python -m`, as a test, or as the text of a link."""
    assert gone(page.read_text()) == []


def gone(text: str) -> list[str]:
    missing = [name for name in FILE.findall(text) if not (ROOT / name).is_file()]
    for name in MODULE.findall(text):
        place = ROOT / name.replace(".", "/")
        missing += [name] if not place.with_suffix(".py").is_file() and not (place / "__main__.py").is_file() else []
    missing += [name for name in TEST.findall(text) if name not in {path.name for path in ROOT.glob("tests/**/*.py")}]
    links = re.findall(r"\[([\w./-]+\.\w+)\]\(([^)#\s]+)\)", text)
    return missing + [name for name, target in links if Path(name).name != Path(target).name and ".py" in name]


def test_what_is_gone_is_found() -> None:
    text = "`tailor/train.py` [train.py](../tailor/training/loop.py) `python -m tailor.networks_table` test_gone.py"
    assert gone(text) == ["tailor/train.py", "tailor.networks_table", "test_gone.py", "train.py"]
    assert gone("`tailor/training/loop.py` [loop.py](../tailor/training/loop.py) `python -m tailor plan`") == []


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


SHORTER = f"""
extends = "{ROOT}/sweeps/specs/tour.toml"
name = "tour"
[trial]
source.epochs = 1
optimisation = {{ epochs = 1, head_epochs = 1 }}
[axes]
seed = [0]
[resources]
ranks = 1
"""


def run_there(folder: Path, command: str) -> None:
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.ray
def test_the_commands_of_a_first_sweep_run(tmp_path: Path) -> None:
    """From its plan to its tables read without us; the sweep that the README names is here a shorter one."""
    (tmp_path / "sweeps" / "specs").mkdir(parents=True)
    (tmp_path / "sweeps" / "launch.py").symlink_to(ROOT / "sweeps" / "launch.py")
    (tmp_path / "sweeps" / "specs" / "tour.toml").write_text(SHORTER)
    first = list(itertools.takewhile(lambda command: "--extend" not in command, commands()))
    assert [command.split()[:3][-1] for command in first[2:5]] == ["sweeps", "results", "results"]
    for command in first:
        run_there(tmp_path, command)
    assert (tmp_path / "runs" / "tour" / "report.html").exists()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(3000)
def test_the_commands_of_the_tour_run(tmp_path: Path) -> None:
    """In order, in a folder of their own that has `sweeps/` as a checkout has it."""
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    assert len(commands()) >= 10
    for command in commands():
        run_there(tmp_path, command)
    assert (tmp_path / "runs" / "tour" / "report.html").exists()
    assert (tmp_path / "runs" / "shorter" / "report.html").exists()
