"""The wheel holds all that its commands need: built, unpacked into an empty place and used from another folder."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.import_graph import ROOMS, ROOT

OLD_RUN = ROOT / "tests" / "fixtures" / "run_0_1" / "run.tar.xz"
BUILD = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
USES = {
    "the embedded sweep is planned": [
        "-c",
        "from sweeps.commands.launch import main; raise SystemExit(main(['--plan']))",
    ],
    "a trial is planned": ["-m", "tailor", "plan", "trial.toml"],
    "the shipped site is found": ["-m", "hpc", "sites"],
    "a run is reported": ["-m", "results", "report", "runs/kept"],
    "a run's status is shown": ["-m", "sweeps", "status", "runs/kept"],
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was unpacked into."""
    made = tmp_path_factory.mktemp("wheel")
    for room in ROOMS:  # building writes beside the sources
        shutil.copytree(ROOT / room, made / "source" / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, made / "source" / name)
    done = subprocess.run(
        [*BUILD, "--wheel-dir", str(made), str(made / "source")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = made.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(made / "site")
    return made / "site"


def test_it_holds_the_rooms_and_nothing_else(installed: Path) -> None:
    names = {path.name for path in installed.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == set(ROOMS)


def test_every_file_of_the_rooms_is_in_it(installed: Path) -> None:
    suffixes = {".py", ".json", ".toml", ".j2", ".css", ".js", ".html", ".typed"}
    missing = [
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in suffixes and not (installed / path.relative_to(ROOT)).is_file()
    ]
    assert missing == []


@pytest.mark.slow
def test_its_commands_work(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "trial.toml").write_text('[method]\nname = "head_only"\n')
    with tarfile.open(OLD_RUN) as archive:
        archive.extractall(tmp_path, filter="data")
    environment = os.environ | {"PYTHONPATH": str(installed)}  # before the checkout that this Python has installed
    where = "import hpc, results, sweeps, tailor; print({m.__file__ for m in (hpc, results, sweeps, tailor)})"
    for what, words in {"the modules are the wheel's": ["-c", where], **USES}.items():
        done = subprocess.run(
            [sys.executable, "-P", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{what}: {done.stdout}{done.stderr}"
        if words[-1] == where:
            assert done.stdout.count(str(installed)) == 4, done.stdout
    assert (tmp_path / "runs" / "kept" / "report.html").is_file()
