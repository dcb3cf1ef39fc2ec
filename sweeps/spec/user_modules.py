"""User modules of a sweep: imported here for the plan, and copied into the run folder for the ranks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.errors import SpecError
from tailor.execution.plugins import load, origin_of


@dataclass(frozen=True, kw_only=True)
class UserModule:
    """A module as it was when imported; later edits of its file do not affect the run."""

    stem: str  # of its file's name
    sha256: str
    content: bytes
    origin: Path  # of the file, beside which its neighbours are

    @property
    def file(self) -> Path:
        """The path of its copy below the run's folder of imports; another content has another path."""
        return Path(self.sha256) / f"{self.stem}.py"


def load_modules(paths: Sequence[str]) -> tuple[UserModule, ...]:
    """Import these files, in their order.

    Raises:
        ConfigError: one of them cannot be imported, or registers a name that is taken.
        SpecError: one of them was changed at the same moment.
    """
    modules = []
    for path in map(Path, paths):
        sha256 = load(path)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise SpecError(f"{path} was changed while it was imported; launch again")
        modules.append(UserModule(stem=path.stem, sha256=sha256, content=content, origin=origin_of(path)))
    return tuple(modules)
