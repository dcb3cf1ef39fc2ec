"""`make test` with CI set: SLURM's packages are installed in limited time, and then its tests are required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.testbed import missing

ROOT = Path(__file__).parents[1]
PYTEST = "python -m pytest -n 2 --no-loadscope-reorder"  # and no test left out
PYTHON = """#!/bin/sh
echo "python $*, SLURM_TESTS=$SLURM_TESTS"
[ "$2" != tests.slurm.install ] || exit {code}
"""


@pytest.mark.parametrize(
    ("variables", "code", "called"),
    [
        ({}, 0, [f"{PYTEST}, SLURM_TESTS="]),
        ({"CI": "1"}, 0, ["python -m tests.slurm.install, SLURM_TESTS=", f"{PYTEST}, SLURM_TESTS=required"]),
        ({"CI": "1"}, 1, ["python -m tests.slurm.install, SLURM_TESTS=", f"{PYTEST}, SLURM_TESTS="]),
        (
            {"CI": "1", "SLURM_TESTS": "required"},
            1,
            ["python -m tests.slurm.install, SLURM_TESTS=required", f"{PYTEST}, SLURM_TESTS=required"],
        ),
    ],
)
def test_slurm_is_required_where_it_could_be_installed(
    tmp_path: Path, variables: dict[str, str], code: int, called: list[str]
) -> None:
    (tmp_path / "python").write_text(PYTHON.format(code=code))
    (tmp_path / "python").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "SLURM_TESTS")}
    words = ["make", "--silent", "test", f"BIN={tmp_path}", "READY="]
    done = subprocess.run(words, cwd=ROOT, env=environment | variables, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == called


@pytest.mark.parametrize(
    ("apt_get", "limit_s", "said"),
    [
        ("exit 0", "60", "here, its tests are skipped: no munged"),
        ("echo no route to host >&2; exit 100", "60", "skipped: apt-get install failed: no route to host; no munged"),
        ("exec sleep 60", "0.5", "skipped: apt-get update took more than 0.5 s; no munged"),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="others than root install nothing")
def test_where_nothing_can_be_installed_one_line_says_so(tmp_path: Path, apt_get: str, limit_s: str, said: str) -> None:
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\n{apt_get}\n")
    (tmp_path / "apt-get").chmod(0o755)
    (tmp_path / "sleep").symlink_to("/bin/sleep")
    words = [sys.executable, "-m", "tests.slurm.install", "--limit-s", limit_s]
    done = subprocess.run(
        words, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert said in done.stdout and done.stdout.count("\n") == 1


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_where_all_is_there_nothing_is_installed(tmp_path: Path) -> None:
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    (tmp_path / "apt-get").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.slurm.install"], cwd=ROOT, env=os.environ | {"PATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert not (tmp_path / "called").exists()
