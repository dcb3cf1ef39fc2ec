"""Download weights by name, for nodes without internet. Without torch."""

import hashlib
import os
import sys
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, TextIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from tailor.common.errors import ConfigError
from tailor.facts import pins, weights
from transtailor import cli
from transtailor.documents import DocumentError, describe_fault, read_toml, walk
from transtailor.errors import INTERRUPTED, SUCCESS
from transtailor.files import make_folder, name_file
from transtailor.terminal import say

LIMIT_BYTES = 8 * 2**30  # of one file; the largest weights that torchvision publishes have 2.6 GB
ORIGIN = "https://download.pytorch.org/models"  # where torchvision's weights are published
BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60.0  # without a byte


@cli.command(example="trial.toml")
@cli.argument("what", nargs=-1, required=True)
@cli.option(
    "--to",
    type=cli.FOLDER,
    metavar="FOLDER",
    help=f"where the weights go (default: weights_folder, or {weights.FOLDER})",
)
@cli.option("--origin", default=ORIGIN, metavar="URL", help="where the files are: https, file, or http on this machine")
def fetch(what: tuple[str, ...], to: Path | None, origin: str) -> int:
    """Bring weights by name to this machine.

    WHAT is a TOML file of a trial or a sweep, or weights by name, such as ResNet18_Weights.IMAGENET1K_V1. What was
    fetched before a failure is whole.
    """
    _refuse_open(origin)
    try:
        places = places_of(what)
        if not places:
            say("no weights by name are asked for; `transtailor plan` checks files and data")
        for name, folder in dict.fromkeys((name, (to or folder).expanduser()) for name, folder in places):
            fetch_weights(name, folder, sys.stdout, origin)
    except KeyboardInterrupt:
        say("interrupted; no file is incomplete: type the same command again")
        return INTERRUPTED
    return SUCCESS


def _refuse_open(url: str) -> None:
    """Raise ConfigError unless the address is safe: only 8 to 10 digits of a file's SHA-256 may be known."""
    try:
        address = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{url} is no address: {error}") from error
    is_this_machine = address.hostname in ("127.0.0.1", "localhost")
    is_safe = address.scheme in ("https", "file") or (address.scheme == "http" and is_this_machine)
    if not is_safe:
        raise ConfigError(f"{url}: expected https://..., file://... or, only on this machine, http://127.0.0.1...")


def places_of(what: Sequence[str]) -> list[tuple[str, Path]]:
    """Return the weights by name that these names and TOML files need, each with the folder where it is looked for.

    A TOML file is searched for names of weights in all its values (a trial, an axis, a variant), and so is the file
    that it `extends`.

    Raises:
        ConfigError: a file that cannot be read, or an unknown name.
    """
    places: dict[tuple[str, Path], None] = {}
    for word in what:
        values = list(walk([word] if weights.is_name(word) else _read(Path(word))))
        folders = [
            str(value["weights_folder"]) for value in values if isinstance(value, dict) and "weights_folder" in value
        ]
        for name in values:
            if isinstance(name, str) and weights.is_name(name):
                weights.find(name)  # raises for an unknown name
                places |= {(name, Path(folder)): None for folder in folders or [weights.FOLDER]}
    return list(places)


def fetch_weights(name: str, folder: Path, out: TextIO, origin: str = ORIGIN) -> Path:
    """Download the weights of this name to a folder unless they are there, verify them, and return their file.

    The file gets its name only when it is complete and on disk. A damaged one is replaced.

    Raises:
        ConfigError: there are no such weights, they cannot be fetched, or the server sent something else.
    """
    info = weights.find(name)
    target = folder / info.file
    url = f"{origin.rstrip('/')}/{info.file}"
    if target.is_file():
        sha256 = weights.sha256_of(target)
        if sha256.startswith(info.sha256) and pins.other_pin(target, sha256) is None:
            say(f"{name} is there already: {target}, SHA-256 {sha256}{_pin(target, sha256)}", to=out)
            return target
    temporary = folder / f".{info.file}.{os.getpid()}.part"
    try:
        sha256 = _download(url, temporary, out)
        if not sha256.startswith(info.sha256):
            raise ConfigError(f"{url} has SHA-256 {sha256}, expected was one that begins with {info.sha256}; not kept")
        conflict = pins.other_pin(target, sha256)
        if conflict is not None:
            raise ConfigError(f"{url} has SHA-256 {sha256}, and {conflict}; not kept")
        pin_note = _pin(target, sha256)
        name_file(temporary, target)
    except ConfigError:
        raise
    except (OSError, HTTPException, ValueError) as error:  # the last: an invalid length or path
        reason = f"the server answers {error.code} {error.reason}" if isinstance(error, HTTPError) else str(error)
        raise ConfigError(
            f"cannot fetch {url}: {reason}. On a machine with a network, type the same command or download the file, "
            f"and copy it to {target}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    say(f"{name}: {target}, SHA-256 {sha256}{pin_note}", to=out)
    return target


def _pin(target: Path, sha256: str) -> str:
    """Require this SHA-256 from now on; return a note about it for the output, empty if it was required already."""
    try:
        is_new = pins.pin(target, sha256)
    except OSError as error:  # such as another user's folder
        return f"; only its first digits are published, and the whole digest could not be written down: {error}"
    if not is_new:
        return ""
    return f"; only its first digits are published: from now on {target.parent / pins.LOCK} requires the whole digest"


def _download(url: str, temporary: Path, out: TextIO) -> str:
    """Download a URL to a file, whose folder is made; return its SHA-256."""
    from tailor.common.progress import show_progress  # imports rich, which plans do without

    digest = hashlib.sha256()
    answer = urlopen(url, timeout=TIMEOUT_S)
    make_folder(temporary.parent)  # now that the server has answered: else a failure would leave an empty one
    with answer, temporary.open("wb") as file:
        _refuse_open(answer.url)  # after redirections
        length = answer.headers.get("Content-Length")
        size_bytes = int(length) if length is not None else None
        title = f"fetching {temporary.name[1:].partition('.pth')[0]}"
        with show_progress(out, title, size_bytes or 0, "bytes") as advance:
            while block := answer.read(BLOCK_BYTES):
                file.write(block)
                if file.tell() > LIMIT_BYTES:
                    raise ConfigError(f"{url} has more than {LIMIT_BYTES:,} bytes, the limit for weights; not kept")
                digest.update(block)
                advance(len(block))
        if size_bytes is not None and file.tell() != size_bytes:
            raise ConfigError(f"{url} ended after {file.tell()} of {size_bytes} bytes; not kept: type it again")
    return digest.hexdigest()


def _read(path: Path, extended_by: tuple[Path, ...] = ()) -> list[dict[str, Any]]:
    """Return the content of a TOML file, and of the files that it extends."""
    if path.resolve() in extended_by:
        raise ConfigError(f"{path}: extends itself")
    try:
        document = read_toml(path)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error}; expected a TOML file, or weights by name{weights.nearest_names(str(path))}"
        ) from error
    except DocumentError as error:
        raise ConfigError(f"{path}: {describe_fault(path, error)}") from error
    base = document.get("extends")
    if not isinstance(base, str):
        return [document]
    return [document, *_read(path.parent / base, (*extended_by, path.resolve()))]
