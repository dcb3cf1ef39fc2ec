"""What `make test` and `make check` call, and what is installed with CI set."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.install import PARTS
from tests.product import ROOT

MISSING = [reason for _, missing in PARTS.values() if (reason := missing()) is not None]
PYTEST = "python -m pytest --no-loadscope-reorder --durations=20"
PYTHON = """#!/bin/sh
echo "python $*, SLURM_TESTS=$SLURM_TESTS, CHROMIUM_TESTS=$CHROMIUM_TESTS, CLIENT_TESTS=$CLIENT_TESTS"
[ "$2" != tests.install ] || exit 1
"""
MAKE = """#!/bin/sh
echo "make $*"
"""
OPTIONAL = "SLURM_TESTS=, CHROMIUM_TESTS=, CLIENT_TESTS="
REQUIRED = "SLURM_TESTS=required, CHROMIUM_TESTS=required, CLIENT_TESTS=required"
HALF = "SLURM_TESTS=optional, CHROMIUM_TESTS=required, CLIENT_TESTS=required"
FIRST = [
    "make --no-print-directory --jobs=2 --output-sync format lint types examples",
    "make --no-print-directory test",
]


def program(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(text)
    path.chmod(0o755)


def without_make() -> dict[str, str]:
    """The variables of this process, without those that a `make check` around this test has set for its tests."""
    required = ("SLURM_TESTS", "CHROMIUM_TESTS", "CLIENT_TESTS")
    set_outside = ("CI", "SEED", *required, "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")
    return {name: value for name, value in os.environ.items() if name not in set_outside}


@pytest.mark.parametrize(
    ("words", "variables", "called"),
    [
        ("test", {}, [f"{PYTEST} -n 3 -m not check and not long, {OPTIONAL}"]),
        (
            "test SEED=7",
            {},
            [f"{PYTEST} -n 3 -p pytest_randomly --randomly-seed=7 -m not check and not long, {OPTIONAL}"],
        ),
        ("test", {"CI": "1"}, [f"{PYTEST} -n 3 -m not check and not long, {REQUIRED}"]),
        ("check", {}, [*FIRST, f"{PYTEST} -n 6 -m check and not long, {OPTIONAL}"]),
        (
            "check",
            {"CI": "1"},
            [*FIRST, f"python -m tests.install, {REQUIRED}", f"{PYTEST} -n 6 -m check and not long, {REQUIRED}"],
        ),
        (
            "check",
            {"CI": "1", "SLURM_TESTS": "optional"},
            [*FIRST, f"python -m tests.install, {HALF}", f"{PYTEST} -n 6 -m check and not long, {HALF}"],
        ),
    ],
)
def test_what_is_called(tmp_path: Path, words: str, variables: dict[str, str], called: list[str]) -> None:
    """With CI set, SLURM and a browser are installed for `make check`, and required."""
    program(tmp_path / "python", PYTHON)
    program(tmp_path / "make", MAKE)  # in the place of the `make` that the Makefile calls
    done = subprocess.run(
        ["make", "--silent", *words.split(), f"BIN={tmp_path}", "READY=", f"MAKE={tmp_path}/make"],
        cwd=ROOT, env=without_make() | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
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
    program(tmp_path / "python", PYTHON)
    program(tmp_path / "uv", UV)
    ready = tmp_path / "ready"
    words = ["make", "--silent", f"BIN={tmp_path}", f"PYTHON={tmp_path}/python", f"READY={ready}", str(ready)]
    variables = without_make() | {"CI": ci, "DRY": dry}
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, "pip install --quiet --editable" in done.stdout) == (code, by_pip), done.stderr
    calls_of_uv = [line for line in done.stderr.splitlines() if "uv pip" in line]
    assert bool(calls_of_uv) == bool(ci)
    assert all("--constraints constraints.txt" in line for line in calls_of_uv)


@pytest.mark.parametrize(
    ("apt_get", "limit_s", "said"),
    [
        ("exit 0", "60", "that need a real SLURM cannot run here: no munged"),
        ("echo no route >&2; exit 100", "60", "cannot run here: apt-get install failed: no route; no munged"),
        ("exec sleep 60", "0.5", "cannot run here: apt-get update took more than 0.5 s; no munged"),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="others than root install nothing")
def test_where_nothing_can_be_installed_a_line_for_each_part_says_so(
    tmp_path: Path, apt_get: str, limit_s: str, said: str
) -> None:
    program(tmp_path / "apt-get", f"#!/bin/sh\n{apt_get}\n")
    (tmp_path / "sleep").symlink_to("/bin/sleep")
    done = run_install("--limit-s", limit_s, path=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert said in done.stdout and done.stdout.count("\n") == len(PARTS)


@pytest.mark.skipif(MISSING != [], reason="; ".join(MISSING))
def test_where_all_is_there_nothing_is_installed(tmp_path: Path) -> None:
    program(tmp_path / "apt-get", f"#!/bin/sh\ntouch {tmp_path}/called\n")
    done = run_install(path=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert (done.returncode, done.stdout) == (0, "")
    assert not (tmp_path / "called").exists()


def run_install(*options: str, path: str) -> subprocess.CompletedProcess[str]:
    """`python -m tests.install` with this PATH."""
    return subprocess.run(
        [sys.executable, "-m", "tests.install", *options], cwd=ROOT, env=os.environ | {"PATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
