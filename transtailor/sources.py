"""The sources of this program: read for a copy, identified by a digest, and checked against a job's digest."""

import hashlib
import os
import sys
import traceback
from pathlib import Path

from transtailor.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hpc", "results", "sweeps", "tailor", "transtailor")
CODE_SUFFIXES = (".py", ".typed", ".toml", ".j2", ".css", ".js", ".json", ".txt")
# A run records its spec and its site separately, so a new spec or site is no change of the code.
NOT_CODE = (Path("sweeps/specs"), Path("hpc/sites"))
DIGEST_VARIABLE = "TRANSTAILOR_CODE"
"""Environment variable of a job: the digest of the code that it is to run."""


class ForeignCodeError(UserError):
    """The sources that run are not those that were launched."""


def sources(root: Path = ROOT) -> dict[Path, bytes]:
    """Return path relative to `root` -> content of every source file of the packages, sorted by path."""
    paths = []
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            if path.suffix in CODE_SUFFIXES and path.is_file():
                paths.append(path.relative_to(root))
    return {path: (root / path).read_bytes() for path in sorted(paths)}


def code_digest(files: dict[Path, bytes]) -> str:
    """Return the SHA-256 of the names and contents of `sources`, without specs and sites; 64 hexadecimal digits.

    >>> code_digest({})[:12]
    'e3b0c44298fc'
    """
    digest = hashlib.sha256()
    for path, content in files.items():
        is_spec_or_site = path.suffix == ".toml" and path.parent in NOT_CODE
        if not is_spec_or_site:
            digest.update(f"{path.as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def check_code(root: Path = ROOT) -> None:
    """Raise ForeignCodeError unless this process runs the sources that were launched.

    Without `DIGEST_VARIABLE` any sources are allowed.

    Raises:
        ForeignCodeError: the sources have changed since the launch, or something else is in their folder.
    """
    launched_digest = os.environ.get(DIGEST_VARIABLE)
    if launched_digest is None:
        return
    added_names = sorted({path.name for path in root.iterdir()} - set(PACKAGES))
    if added_names:
        fault = f"{added_names[0]!r} was added to it"
    elif code_digest(sources(root)) != launched_digest:
        fault = "its SHA-256 is another one"
    else:
        return
    raise ForeignCodeError(
        f"{root} is not the copy of the code that was launched ({launched_digest[:12]}): {fault}; none of it is run. "
        "Move it away and launch again"
    )


def line_of_user(error: BaseException) -> str:
    """Return the last line of a user's file in an error's traceback: "FILE, line N"; "" if there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_installed(frame.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def is_installed(file: str) -> bool:
    """Whether a file belongs to our packages, to a library or to Python."""
    path = Path(file)
    if file.startswith("<") or path.is_relative_to(sys.base_prefix):
        return True
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return True
    return any(path.is_relative_to(ROOT / room) for room in PACKAGES)
