"""Make the files of a release from the last commit, and try them as a user would; nothing is published.

    python -m tools.release                         # builds, installs the wheel, runs the demo: some minutes
    python -m tools.release --test --python 3.13    # in addition `make test` of the sdist, with that Python

The folder `dist/` gets the sdist, the wheel, `SHA256SUMS` and `sbom.cdx.json`, a list of all packages that the wheel
installs, in CycloneDX. Sdist and wheel are built twice and must be equal byte for byte. Needs git, uv, and the package
index for installing.
"""

import argparse
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from transtailor.errors import UserError
from transtailor.files import make_folder, write_file

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
SBOM = "sbom.cdx.json"
SUMS = "SHA256SUMS"
STEP_LIMIT_S = 3600.0
UV = (sys.executable, "-m", "uv")
BUILD = "from setuptools import build_meta; build_meta.build_sdist('dist'); build_meta.build_wheel('dist')"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make and try a release; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.11", metavar="X.Y", help="the Python to try it with (default: 3.11)")
    parser.add_argument("--test", action="store_true", help="also run `make test` of the sdist")
    options = parser.parse_args(arguments)
    try:
        refuse_unready(ROOT)
        built = build_twice(ROOT)
        write_release(built, DIST)
        with tempfile.TemporaryDirectory(prefix="release-") as folder:
            try_wheel(DIST, Path(folder), options.python)
            if options.test:
                try_sdist(DIST, Path(folder), options.python)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{DIST} has the release; to publish it is another step")
    return 0


def refuse_unready(root: Path) -> None:
    """Raise UserError unless everything is committed and all files name the same version."""
    changes = _output(["git", "status", "--porcelain"], root)
    if changes:
        raise UserError(f"these files are not committed, and a release is made from a commit:\n{changes}")
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    cited = re.findall(r"^version: (.+)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    if cited != [version]:
        raise UserError(f"pyproject.toml has version {version}, CITATION.cff {', '.join(cited)}; let both be equal")
    if f"## {version}" not in (root / "CHANGELOG.md").read_text():
        raise UserError(f"CHANGELOG.md has no section '## {version}'; write what the version has")


def build_twice(root: Path) -> dict[str, bytes]:
    """Build sdist and wheel from the last commit in two folders; return name -> content.

    Raises:
        UserError: the two builds differ.
    """
    commit_s = int(_output(["git", "log", "-1", "--format=%ct"], root))
    builds = []
    for number in (1, 2):
        print(f"build {number} of 2", flush=True)
        builds.append(build(root, commit_s))
    first, second = builds
    differing = [name for name in first if first[name] != second.get(name)]
    if differing:
        raise UserError(f"two builds of one commit differ in {', '.join(differing)}; what depends on time or place?")
    return first


def build(root: Path, commit_s: int) -> dict[str, bytes]:
    """Build sdist and wheel from the last commit; return name -> content. All times in them are `commit_s`."""
    with tempfile.TemporaryDirectory(prefix="build-") as folder:
        words = ["git", "archive", "HEAD"]
        archive = subprocess.run(words, cwd=root, check=True, capture_output=True, timeout=STEP_LIMIT_S).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as sources:
            sources.extractall(folder, filter="data")
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(commit_s)}
        _run([sys.executable, "-c", BUILD], Path(folder), environment, is_quiet=True)
        built = {path.name: path.read_bytes() for path in sorted(Path(folder, "dist").iterdir())}
    return {
        name: with_times(content, commit_s) if name.endswith(".tar.gz") else content for name, content in built.items()
    }


def with_times(sdist: bytes, time_s: int) -> bytes:
    """Return the same sdist with its members sorted, all of one time and of no user.

    setuptools takes times and users from the build.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(sdist)) as old, tarfile.open(fileobj=content, mode="w") as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime = time_s
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(content.getvalue(), mtime=time_s)


def write_release(built: Mapping[str, bytes], folder: Path) -> None:
    """Write the built files and their SHA-256 sums; files of an earlier release are removed."""
    make_folder(folder)
    for path in folder.iterdir():
        path.unlink()
    for name, content in built.items():
        write_file(folder / name, content)
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in built.items()]
    write_file(folder / SUMS, "".join(sums))
    print("".join(sums), end="", flush=True)


def try_wheel(dist: Path, folder: Path, python: str) -> None:
    """Install the wheel in an environment of its own, list what that has, and run the demo.

    Writes:
        the list of packages (SBOM) into `dist`.
    """
    (wheel,) = dist.glob("*.whl")
    programs = _environment(folder / "of_wheel", python, [str(wheel)])
    lister = ["tool", "run", "--from", "cyclonedx-bom", "cyclonedx-py", "environment", "--output-reproducible"]
    _run([*UV, *lister, "--output-file", str(dist / SBOM), str(programs / "python")], folder)
    work = folder / "work"
    work.mkdir()
    _run([str(programs / "transtailor"), "run", "demo"], work, _shell(programs))
    for name in ("report.html", "points.parquet"):
        if not (work / "runs" / "demo" / name).is_file():
            raise UserError(f"the demo of the wheel wrote no {name}")


def try_sdist(dist: Path, folder: Path, python: str) -> None:
    """Unpack the sdist, install it for development, and run its `make test`."""
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    _environment(source / ".venv", python, ["--editable", f"{source}[dev]"])
    (source / ".venv" / ".ready").touch()  # the Makefile installs nothing then
    _run(["make", "test"], source)


def _environment(place: Path, python: str, what: Sequence[str]) -> Path:
    """Make a virtual environment with this Python and install into it; return its folder of programs."""
    programs = place / "bin"
    _run([*UV, "venv", "--quiet", "--python", python, str(place)], place.parent)
    print(f"installing {what[-1]} with Python {python}", flush=True)
    _run([*UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(programs / "python"), *what],
         place.parent)  # fmt: skip
    return programs


def _shell(programs: Path) -> dict[str, str]:
    """Return the variables of a shell in which this environment is activated."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return inherited | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def _output(words: Sequence[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True, timeout=STEP_LIMIT_S)
    return done.stdout.strip()


def _run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, *, is_quiet: bool = False
) -> None:
    """Run a command that must succeed; its output goes to the screen. Raises CalledProcessError, TimeoutExpired."""
    output = subprocess.DEVNULL if is_quiet else None
    subprocess.run(words, cwd=folder, env=environment, check=True, stdout=output, timeout=STEP_LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
