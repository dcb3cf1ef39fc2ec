"""A fresh environment with the product installed as users install it, and with the libraries of this environment."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.product import ROOMS, ROOT

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
BUILD = "import os, sys; from setuptools import build_meta; os.chdir(sys.argv[1]); build_meta.build_{}(sys.argv[2])"
OFFLINE = ["--no-deps", "--no-index"]


def sources(folder: Path) -> Path:
    """A copy of the packaged files, because building writes files next to the sources."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def environment(folder: Path, wheel: Path) -> Path:
    """A virtual environment with this wheel; returns the folder of its programs."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    run([*PIP, "--python", str(folder), "install", *OFFLINE, str(wheel)])
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    return folder / "bin"


def build_wheel(source: Path, folder: Path, *, editable: bool = False) -> Path:
    """The wheel of these sources, or the one that `pip install --editable` would make of them."""
    kind = "editable" if editable else "wheel"
    run([sys.executable, "-c", BUILD.format(kind), str(source), str(folder)])
    (wheel,) = folder.glob("*.whl")
    return wheel


def run(words: list[str]) -> None:
    """Runs a program that must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def shell(programs: Path) -> dict[str, str]:
    """The variables of a shell in which only this environment is activated."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return inherited | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
