"""The whole SHA-256 of weights whose file names have its first digits: published, or of the first fetch to a folder.

The latter is in the file SHA256SUMS in the folder of the weights, as `sha256sum` writes and checks it.
"""

import json
import re
from functools import lru_cache
from pathlib import Path

from tailor.core.errors import ConfigError
from transtailor.documents import DocumentError, read_text
from transtailor.files import write_file
from transtailor.lines import lines_of

# At least two independent projects have published the same digest of such a file.
KNOWN_FILE = Path(__file__).parent / "torchvision_sha256.json"
LOCK = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def other_pin(path: Path, sha256: str) -> str | None:
    """Why weights with this whole SHA-256 cannot be those of a path, as a message; None: they can be.

    Raises:
        ConfigError: the folder's file of digests cannot be read.
    """
    lock = path.parent / LOCK
    for sums, known in ((KNOWN_FILE, known_sha256()), (lock, _read(lock))):
        if (expected := known.get(path.name, sha256)) != sha256:
            return f"{sums} says {expected}"
    return None


def pin(path: Path, sha256: str) -> bool:
    """Require this whole SHA-256 of the weights at a path from now on; whether it is new.

    Raises:
        ConfigError: the folder's file of digests cannot be read.
        OSError: it cannot be written.
    """
    lock = path.parent / LOCK
    if path.name in known_sha256() | _read(lock):
        return False
    before = lock.read_text() if lock.exists() else ""
    write_file(lock, f"{before.rstrip()}\n{sha256}  {path.name}\n".lstrip())
    return True


@lru_cache(maxsize=1)
def known_sha256() -> dict[str, str]:
    """File name -> whole SHA-256, of files whose whole digest has been published."""
    found: dict[str, str] = json.loads(KNOWN_FILE.read_bytes())
    return found


def _read(sums: Path) -> dict[str, str]:
    """File name -> whole SHA-256."""
    try:
        lines = lines_of(read_text(sums))
    except FileNotFoundError:
        return {}
    except (OSError, DocumentError) as error:
        raise ConfigError(f"{sums} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match:
            found.setdefault(match[2], match[1])
        elif line.strip() and not line.startswith("#"):
            raise ConfigError(f"{sums}, line {number}: expected a line of sha256sum, 64 digits and a file's name")
    return found
