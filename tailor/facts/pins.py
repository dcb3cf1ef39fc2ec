"""The whole SHA-256 of weights whose file names have its first digits: published, or of the first fetch to a folder.

The latter is in the file SHA256SUMS in the folder of the weights, as `sha256sum` writes and checks it.
"""

import json
import re
from functools import lru_cache
from pathlib import Path

from tailor.common.errors import ConfigError
from transtailor.documents import DocumentError, read_text
from transtailor.files import write_file
from transtailor.lines import lines_of

# At least two independent projects have published the same digest of such a file.
KNOWN_FILE = Path(__file__).parent / "torchvision_sha256.json"
LOCK = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def other_pin(path: Path, sha256: str) -> str | None:
    """Return why weights with this whole SHA-256 cannot be those of a path, as a message; None if they can be.

    Raises:
        ConfigError: the folder's file of digests cannot be read.
    """
    lock = path.parent / LOCK
    for digests_file, sha256_by_name in ((KNOWN_FILE, known_sha256()), (lock, _read(lock))):
        expected = sha256_by_name.get(path.name)
        if expected is not None and expected != sha256:
            return f"{digests_file} says {expected}"
    return None


def pin(path: Path, sha256: str) -> bool:
    """Require this whole SHA-256 of the weights at a path from now on. Return False if one was required already.

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
    """Return file name -> whole SHA-256, of files whose whole digest has been published."""
    sha256_by_name: dict[str, str] = json.loads(KNOWN_FILE.read_bytes())
    return sha256_by_name


def _read(lock: Path) -> dict[str, str]:
    """Return file name -> whole SHA-256, as the file SHA256SUMS of a folder has it; empty without this file."""
    try:
        lines = lines_of(read_text(lock))
    except FileNotFoundError:
        return {}
    except (OSError, DocumentError) as error:
        raise ConfigError(f"{lock} cannot be read: {error}") from error
    sha256_by_name: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match:
            sha256, name = match.groups()
            sha256_by_name.setdefault(name, sha256)
        elif line.strip() and not line.startswith("#"):
            raise ConfigError(f"{lock}, line {number}: expected a line of sha256sum, 64 digits and a file's name")
    return sha256_by_name
