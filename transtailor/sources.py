"""The sources of this program: read for a copy, known by a digest, and compared with the one that a job was told."""

import hashlib
import os
from pathlib import Path

from transtailor.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hpc", "results", "sweeps", "tailor", "transtailor")
CODE_SUFFIXES = (".py", ".typed", ".toml", ".j2", ".css", ".js", ".json")
# What a run was asked to do and where it ran is written down by itself; a new spec or site is no change of the code.
NOT_CODE = (Path("sweeps/specs"), Path("hpc/sites"))
DIGEST_VARIABLE = "TRANSTAILOR_CODE"
"""What a job is told of the copy that it runs: its digest, which stands in the job's text."""


class ForeignCodeError(UserError):
    """The sources that run are not those that were launched."""


def sources(root: Path = ROOT) -> dict[Path, bytes]:
    """Path relative to `root` -> content of every source file of the packages, in a fixed order."""
    found = (
        path.relative_to(root)
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.suffix in CODE_SUFFIXES and path.is_file()
    )
    return {path: (root / path).read_bytes() for path in sorted(found)}


def code_digest(files: dict[Path, bytes]) -> str:
    """SHA-256 over the names and contents of `sources`, specs and sites left out; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path, content in files.items():
        if path.suffix != ".toml" or path.parent not in NOT_CODE:
            digest.update(f"{path.as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def check_code(root: Path = ROOT) -> None:
    """Do nothing if this process runs the sources that it was told to run, or was told nothing.

    Raises:
        ForeignCodeError: they were changed since the launch, or something was put beside them.
    """
    told = os.environ.get(DIGEST_VARIABLE)
    if told is None:
        return
    beside = sorted({path.name for path in root.iterdir()} - {*PACKAGES})
    if beside or code_digest(sources(root)) != told:
        what = f"{beside[0]!r} was put into it" if beside else "its SHA-256 is another one"
        raise ForeignCodeError(
            f"{root} is not the copy of the code that was launched ({told[:12]}): {what}; nothing of it is run. "
            "Move it away and launch again"
        )
