"""What `make test` calls, and what it installs with CI set."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.install import PARTS

ROOT = Path(__file__).parents[1]
MISSING = [reason for _, missing in PARTS.values() if (reason := missing()) is not None]
PYTEST = "python -m pytest -n 5 --no-loadscope-reorder --durations=60 -m not long"
PYTHON = """#!/bin/sh
echo "python $*, SLURM_TESTS=$SLURM_TESTS, CHROMIUM_TESTS=$CHROMIUM_TESTS"
[ "$2" != tests.install ] || exit 1
"""
REQUIRED = "SLURM_TESTS=required, CHROMIUM_TESTS=required"
HALF = "SLURM_TESTS=optional, CHROMIUM_TESTS=required"


@pytest.mark.parametrize(
    ("variables", "called"),
    [
        ({}, [f"{PYTEST}, SLURM_TESTS=, CHROMIUM_TESTS="]),
        ({"CI": "1"}, [f"python -m tests.install, {REQUIRED}", f"{PYTEST}, {REQUIRED}"]),
        ({"CI": "1", "SLURM_TESTS": "optional"}, [f"python -m tests.install, {HALF}", f"{PYTEST}, {HALF}"]),
    ],
)
def test_with_ci_set_slurm_and_a_browser_are_required(
    tmp_path: Path, variables: dict[str, str], called: list[str]
) -> None:
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    # Without what a `make check` that runs this test has set for its own `make test`.
    set_outside = ("CI", "SLURM_TESTS", "CHROMIUM_TESTS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in set_outside}
    words = ["make", "--silent", "test", f"BIN={tmp_path}", "READY="]
    done = subprocess.run(words, cwd=ROOT, env=environment | variables, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == called


def test_constraints_name_versions_and_digests_and_no_address() -> None:
    head, *packages = re.split(r"\n(?=\S)", (ROOT / "constraints.txt").read_text().strip())
    assert head.startswith("#")
    found = {}
    for package in packages:
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+)( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", package)
        assert match, package[:200]
        found.setdefault(match[1], match[2])
    # Registries offer other files of one version of these.
    assert not {"torch", "torchvision", "triton"} & set(found)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["dev"]])
    named = {asking.name: asking.specifier for asking in asked if asking.name in found}
    assert len(named) > 20
    assert {name: found[name] for name, allowed in named.items() if found[name] not in allowed} == {}


UV = """#!/bin/sh
echo "uv $*" >&2
case "$*" in *--dry-run*) exit $DRY;; *) exit 3;; esac
"""


@pytest.mark.parametrize(
    ("ci", "dry", "code", "by_pip"), [("1", "0", 2, False), ("1", "2", 0, True), ("", "0", 0, True)]
)
def test_ci_installs_what_constraints_say_or_fails(tmp_path: Path, ci: str, dry: str, code: int, by_pip: bool) -> None:
    """A file with another digest ends it; where uv finds no packages at all, pip looks for them."""
    for name, text in (("python", PYTHON), ("uv", UV)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    words = [
        "make",
        "--silent",
        f"BIN={tmp_path}",
        f"PYTHON={tmp_path}/python",
        f"READY={tmp_path}/ready",
        f"{tmp_path}/ready",
    ]
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"CI": ci, "DRY": dry}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "pip install --quiet --editable" in done.stdout) == (code, by_pip), done.stderr
    assert ("uv pip install" in done.stderr) == bool(ci)
    assert done.stderr.count("--constraints constraints.txt") == len(
        [line for line in done.stderr.splitlines() if "uv pip" in line]
    )


@pytest.mark.parametrize(
    ("apt_get", "limit_s", "said"),
    [
        ("exit 0", "60", "that need a real SLURM cannot run here: no munged"),
        (
            "echo no route to host >&2; exit 100",
            "60",
            "cannot run here: apt-get install failed: no route to host; no munged",
        ),
        ("exec sleep 60", "0.5", "cannot run here: apt-get update took more than 0.5 s; no munged"),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="others than root install nothing")
def test_where_nothing_can_be_installed_a_line_for_each_part_says_so(
    tmp_path: Path, apt_get: str, limit_s: str, said: str
) -> None:
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\n{apt_get}\n")
    (tmp_path / "apt-get").chmod(0o755)
    (tmp_path / "sleep").symlink_to("/bin/sleep")
    words = [sys.executable, "-m", "tests.install", "--limit-s", limit_s]
    done = subprocess.run(
        words, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert said in done.stdout and done.stdout.count("\n") == len(PARTS)


@pytest.mark.skipif(MISSING != [], reason="; ".join(MISSING))
def test_where_all_is_there_nothing_is_installed(tmp_path: Path) -> None:
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    (tmp_path / "apt-get").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.install"], cwd=ROOT, env=os.environ | {"PATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert not (tmp_path / "called").exists()
