"""Download weights, for nodes without a network.

Weights are fetched by name. Data sets and weights in your own files are only checked. Without torch.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TextIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from tailor.catalogue import datasets, pins, weights
from tailor.core.errors import ConfigError
from transtailor import cli
from transtailor.documents import DocumentError, describe_fault, read_toml, walk
from transtailor.errors import INTERRUPTED, SUCCESS
from transtailor.files import make_folder, name_file
from transtailor.terminal import say

LIMIT_BYTES = 8 * 2**30  # of one file; the largest weights that torchvision publishes have 2.6 GB
ORIGIN = "https://download.pytorch.org/models"  # where torchvision's weights are published
BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60.0  # without a byte


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the TOML files of trials or specs need."""

    names: tuple[str, ...]  # of weights
    folders: tuple[str, ...]  # where weights by name are looked for
    files: tuple[tuple[str, str], ...]  # the user's own weights and their SHA-256
    data: tuple[tuple[str, str], ...]  # name and root of prepared data sets


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
    """Bring weights by name to this machine, and check what trials read.

    WHAT is a TOML file of a trial or a sweep, or weights by name, such as ResNet18_Weights.IMAGENET1K_V1. What was
    fetched before a failure is whole.
    """
    _refuse_open(origin)
    try:
        _fetch_all(needs_of(what), to, origin, sys.stdout)
    except KeyboardInterrupt:
        say("interrupted; no file is incomplete: type the same command again")
        return INTERRUPTED
    return SUCCESS


def _refuse_open(url: str) -> None:
    """Raise ConfigError unless the address is safe: only 8 to 10 digits of a file's SHA-256 may be known."""
    try:
        at = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{url} is no address: {error}") from error
    if at.scheme not in ("https", "file") and not (at.scheme == "http" and at.hostname in ("127.0.0.1", "localhost")):
        raise ConfigError(f"{url}: expected https://..., file://... or, only on this machine, http://127.0.0.1...")


def _fetch_all(needs: Needs, to: Path | None, origin: str, out: TextIO) -> None:
    for name, root in needs.data:
        found = datasets.info(name, root)
        say(f"data set {name} is there, {found.target_images} images of the target", to=out)
    for file, sha256 in needs.files:
        weights.verify(Path(file), sha256)
        say(f"{file} is there", to=out)
    if not needs.names:
        say("no weights by name are asked for", to=out)
    for folder in [to] if to else [Path(found) for found in needs.folders or (weights.FOLDER,)]:
        for name in needs.names:
            fetch_weights(name, folder.expanduser(), out, origin)


def needs_of(what: Sequence[str]) -> Needs:
    """What these names and TOML files need, each once.

    A TOML file is searched for names of weights in all its values (a trial, an axis, a variant) and for tables
    `source` and `data`. So is the file that it `extends`.

    Raises:
        ConfigError: a file that cannot be read, or an unknown name.
    """
    tables: list[Any] = [given if weights.is_name(given) else _read(Path(given)) for given in what]
    names = [value for value in walk(tables) if isinstance(value, str) and weights.is_name(value)]
    for name in names:
        weights.find(name)
    found = [value for value in walk(tables) if isinstance(value, dict)]
    return Needs(
        names=tuple(dict.fromkeys(names)),
        folders=tuple(dict.fromkeys(str(t["weights_folder"]) for t in found if "weights_folder" in t)),
        files=tuple(
            (_own_path(t["weights"]), t["weights_sha256"])
            for t in found
            if isinstance(t.get("weights"), str) and isinstance(t.get("weights_sha256"), str)
            if not weights.is_name(t["weights"])
        ),
        data=tuple((t["name"], _own_path(t["root"])) for t in found if isinstance(t.get("root"), str) and "name" in t),
    )


def _own_path(place: str) -> str:
    """A file or folder with the user's own folder in place of ~, as trials read it."""
    return str(Path(place).expanduser())


def fetch_weights(name: str, folder: Path, out: TextIO, origin: str = ORIGIN) -> Path:
    """The file of the weights of this name in a folder, verified; downloaded unless it is there.

    The file gets its name only when it is complete and on disk. A damaged one is replaced.

    Raises:
        ConfigError: there are no such weights, they cannot be fetched, or the server sent something else.
    """
    info = weights.find(name)
    target, url = folder / info.file, f"{origin.rstrip('/')}/{info.file}"
    if target.is_file():
        found = weights.sha256_of(target)
        if found.startswith(info.sha256) and pins.other_pin(target, found) is None:
            say(f"{name} is there already: {target}, SHA-256 {found}{_pin(target, found)}", to=out)
            return target
    temporary = folder / f".{info.file}.{os.getpid()}.part"
    try:
        make_folder(folder)
        found = _download(url, temporary, out)
        if not found.startswith(info.sha256):
            raise ConfigError(f"{url} has SHA-256 {found}, expected was one that begins with {info.sha256}; not kept")
        if why := pins.other_pin(target, found):
            raise ConfigError(f"{url} has SHA-256 {found}, and {why}; not kept")
        pinned = _pin(target, found)
        name_file(temporary, target)
    except ConfigError:
        raise
    except (OSError, HTTPException, ValueError) as error:  # the last: an invalid length or path
        raise ConfigError(_why(error, url, target)) from error
    finally:
        temporary.unlink(missing_ok=True)
    say(f"{name}: {target}, SHA-256 {found}{pinned}", to=out)
    return target


def _pin(target: Path, found: str) -> str:
    """Require these digits from now on; a note about it for the output."""
    try:
        is_new = pins.pin(target, found)
    except OSError as error:  # such as another user's folder
        return f"; only its first digits are published, and the whole digest could not be written down: {error}"
    if not is_new:
        return ""
    return f"; only its first digits are published: from now on {target.parent / pins.LOCK} requires the whole digest"


def _download(url: str, temporary: Path, out: TextIO) -> str:
    """Download a URL to a file; its SHA-256."""
    from tailor.prepare.progress import show_progress  # imports rich, which plans do without

    digest = hashlib.sha256()
    with urlopen(url, timeout=TIMEOUT_S) as answer, temporary.open("wb") as file:
        _refuse_open(answer.url)  # after redirections
        length = answer.headers.get("Content-Length")
        size_bytes = int(length) if length is not None else None
        what = f"fetching {temporary.name[1:].partition('.pth')[0]}"
        with show_progress(out, what, size_bytes or 0, "bytes") as advance:
            for block in iter(lambda: answer.read(BLOCK_BYTES), b""):
                file.write(block)
                if file.tell() > LIMIT_BYTES:
                    raise ConfigError(f"{url} has more than {LIMIT_BYTES:,} bytes, the limit for weights; not kept")
                digest.update(block)
                advance(len(block))
        if size_bytes is not None and file.tell() != size_bytes:
            raise ConfigError(f"{url} ended after {file.tell()} of {size_bytes} bytes; not kept: type it again")
    return digest.hexdigest()


def _why(error: Exception, url: str, target: Path) -> str:
    reason = f"the server answers {error.code} {error.reason}" if isinstance(error, HTTPError) else str(error)
    return (
        f"cannot fetch {url}: {reason}. On a machine with a network, type the same command or download the file, and "
        f"copy it to {target}"
    )


def _read(path: Path, extended_by: tuple[Path, ...] = ()) -> list[dict[str, Any]]:
    """The tables of a TOML file and of those that it extends."""
    if path.resolve() in extended_by:
        raise ConfigError(f"{path}: extends itself")
    try:
        document = read_toml(path)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error}; expected a TOML file, or weights by name such as "
            "ResNet18_Weights.IMAGENET1K_V1"
        ) from error
    except DocumentError as error:
        raise ConfigError(f"{path}: {describe_fault(path, error)}") from error
    base = document.get("extends")
    return [document] + (_read(path.parent / base, (*extended_by, path.resolve())) if isinstance(base, str) else [])
