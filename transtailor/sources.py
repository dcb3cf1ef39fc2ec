"""The sources of this program: read for a copy, identified by a digest, and checked against a job's digest."""

import hashlib
import os
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
    """Path relative to `root` -> content of every source file of the packages, in a fixed order."""
    paths = (
        path.relative_to(root)
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.suffix in CODE_SUFFIXES and path.is_file()
    )
    return {path: (root / path).read_bytes() for path in sorted(paths)}


def code_digest(files: dict[Path, bytes]) -> str:
    """SHA-256 over the names and contents of `sources` without specs and sites; 64 hexadecimal digits.

    >>> code_digest({})[:12]
    'e3b0c44298fc'
    """
    digest = hashlib.sha256()
    for path, content in files.items():
        if path.suffix != ".toml" or path.parent not in NOT_CODE:
            digest.update(f"{path.as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def check_code(root: Path = ROOT) -> None:
    """Raise ForeignCodeError unless this process runs the sources that were launched.

    Without `DIGEST_VARIABLE` any sources are allowed.

    Raises:
        ForeignCodeError: they were changed since the launch, or another file is in their folder.
    """
    launched = os.environ.get(DIGEST_VARIABLE)
    if launched is None:
        return
    beside = sorted({path.name for path in root.iterdir()} - {*PACKAGES})
    if beside or code_digest(sources(root)) != launched:
        what = f"{beside[0]!r} was added to it" if beside else "its SHA-256 is another one"
        raise ForeignCodeError(
            f"{root} is not the copy of the code that was launched ({launched[:12]}): {what}; none of it is run. "
            "Move it away and launch again"
        )
