"""Suggested commands can be pasted into the shell that somebody has open, wherever the program is installed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from transtailor.shell import command, launch_words, pip, rerun

PROGRAM = '#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n'
WORDS = ["query", "runs/it's mine", 'SELECT "label" FROM trials; $(touch broken) `id` \\', "axes.seed=[0, 1]", "*", ""]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up environment whose programs print what they were given, and its folder as the working folder."""
    programs = tmp_path / "my project" / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "transtailor"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.chdir(tmp_path / "my project")
    return programs


def pasted(line: str) -> list[str]:
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout.splitlines()


def test_where_nothing_is_activated_the_programs_path_is_given(environment: Path) -> None:
    line = command(*WORDS)
    assert pasted(line) == [".venv/bin/transtailor", *WORDS]
    os.chdir("/usr")
    assert pasted(command("status")) == [str(environment / "transtailor"), "status"]
    assert not (environment.parents[1] / "broken").exists()


def test_in_an_activated_environment_its_name_is_enough(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{environment}:{os.environ['PATH']}")
    assert shlex.split(command("status"))[0] == "transtailor"
    assert pip("install", "a[b]==1") == "python -m pip install 'a[b]==1'"
    (environment / "transtailor").unlink()
    assert command("status", "a b") == "python -m transtailor status 'a b'"


def test_anothers_program_of_that_name_on_the_path_is_not_meant(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "transtailor").symlink_to(environment / "transtailor")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert command("status") == ".venv/bin/transtailor status"


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("/x/bin/transtailor", ".venv/bin/transtailor run 'my spec.toml' --only 1"),
        ("/x/transtailor/__main__.py", ".venv/bin/transtailor run 'my spec.toml' --only 1"),
        ("sweeps/launch.py", ".venv/bin/python sweeps/launch.py run 'my spec.toml' --only 1"),
    ],
)
@pytest.mark.usefixtures("environment")
def test_what_was_typed_can_be_typed_again(script: str, line: str) -> None:
    typed = [script, "run", "my spec.toml"]
    assert rerun(typed, "--only", "1") == line
    assert launch_words(typed) == (typed[1:] if script.endswith("launch.py") else ["my spec.toml"])
