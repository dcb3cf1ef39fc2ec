"""Whether the files and the images of an official data set are those that its publisher offers."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from tailor.common.errors import ConfigError
from tailor.facts.official import ALGORITHMS, OfficialFile, OfficialSet
from tailor.prepare.listing import FileListing, some
from tailor.prepare.progress import show_progress
from transtailor.terminal import say

BLOCK_BYTES = 1 << 20
UNOFFICIAL = "--unofficial"
_NUMBERED = re.compile(r"(\d{3})(\..+)?")  # class 001 of Flowers, 001.ak47 of Caltech-256


def refuse_html(path: Path) -> None:
    """Raise ConfigError for a web page, which servers send in the place of a file that has moved or needs a click."""
    with path.open("rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<script")):
        raise ConfigError(
            f"{path} is a web page (HTML), not the file that its name says: open it in a browser to see what the "
            "server says, and download the file again"
        )


def verify_files(
    official: OfficialSet | None, origins: Sequence[Path], out: TextIO, *, unofficial: bool
) -> dict[str, dict[str, str]]:
    """Compare the files of an official data set with what is published, and print what cannot be compared.

    Args:
        official: the data set; None: not an official one.
        origins: files, and folders, of which nothing is known.
        unofficial: print differences as warnings instead of refusing them.

    Returns:
        Name of each file -> its SHA-256, and where its checksum is published ("" if nowhere).

    Raises:
        ConfigError: a file has another size or checksum; the text names it.
    """
    if official is None:
        return {}
    file_of_name = {file.name.lower(): file for file in official.files}
    digests = {}
    for path in origins:
        published = file_of_name.get(path.name.lower())
        if path.is_dir():
            say(f"note: {path} is a folder, so unverified: only archives as downloaded have checksums", to=out)
            continue
        if published is None or published.algorithm is None:
            say(f"note: {path} is unverified: no checksum of such a file is published", to=out)
            published = published or OfficialFile(name=path.name)
        digests[path.name] = _verified(path, published, official, out, unofficial=unofficial)
    return digests


def _verified(
    path: Path, published: OfficialFile, official: OfficialSet, out: TextIO, *, unofficial: bool
) -> dict[str, str]:
    size_bytes = path.stat().st_size
    problem = ""
    if published.size_bytes is not None and size_bytes != published.size_bytes:
        problem = f"has {size_bytes:,} bytes, and the published file has {published.size_bytes:,}"
        if size_bytes < published.size_bytes:
            problem += ": it may have been cut off"
        _refuse_or_warn(f"{path} {problem}; it is another version, or damaged", official, out, unofficial=unofficial)
    algorithm = published.algorithm or "sha256"
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", algorithm}}
    with show_progress(out, f"verifying {path.name}", size_bytes, "bytes") as advance, path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            for one in hashes.values():
                one.update(block)
            advance(len(block))
    digest = hashes[algorithm].hexdigest()
    is_published = published.algorithm is not None and digest == published.digest
    if published.algorithm is not None and not is_published and not problem:
        name = ALGORITHMS[algorithm]
        problem = f"has {name} {digest}, and the published file has {published.digest} ({published.published_in})"
        _refuse_or_warn(f"{path} {problem}; it is another version, or damaged", official, out, unofficial=unofficial)
    return {
        "sha256": hashes["sha256"].hexdigest(),
        "published_in": published.published_in if is_published else "",
    }


def _refuse_or_warn(text: str, official: OfficialSet, out: TextIO, *, unofficial: bool) -> None:
    if unofficial:
        say(f"warning: {text}", to=out)
        return
    raise ConfigError(
        f"{text}. Download it again from {official.page}. To prepare it nevertheless, under a name that says so, "
        f"type {UNOFFICIAL}"
    )


def check_counts(official: OfficialSet | None, listing: FileListing, out: TextIO, *, unofficial: bool) -> None:
    """Compare the classes and images of a listing with those of the complete official data set.

    Raises:
        ConfigError: the numbers differ, and `unofficial` is false; the text names what can be named.
    """
    if official is not None and (differences := "; ".join(_differences(official, listing))):
        text = f"these are not the images of the complete {official.title}: {differences}"
        _refuse_or_warn(text, official, out, unofficial=unofficial)


def _differences(official: OfficialSet, listing: FileListing) -> Iterator[str]:
    classes = {file.class_name for file in listing.files}
    if len(classes) != official.classes:
        text = f"{len(classes):,} classes, and there are {official.classes:,}"
        numbers = {int(name.group(1)) for name in map(_NUMBERED.fullmatch, classes) if name is not None}
        missing = sorted(set(range(1, official.classes + 1)) - numbers)
        if numbers and missing:
            text += f" (missing: {some(f'{number:03d}' for number in missing)})"
        yield text
    if len(listing.files) != official.images:
        text = f"{len(listing.files):,} images, and there are {official.images:,}"
        odd = _named_unlike_the_others([file.name for file in listing.files])
        if len(listing.files) > official.images and odd:
            text += f" (named unlike the others: {some(odd)})"
        yield text


def _named_unlike_the_others(names: Sequence[str]) -> list[str]:
    """Return the few names whose digits and letters are in an order that is rare: `001_0001 (1).jpg`.

    >>> _named_unlike_the_others([*(f"a/{number}.jpg" for number in range(99)), "a/1 (1).jpg"])
    ['a/1 (1).jpg']
    """
    shape_of = {name: re.sub(r"\d+", "0", PurePosixPath(name).name) for name in names}
    count_of: Counter[Any] = Counter(shape_of.values())
    usual = {shape for shape, count in count_of.items() if count * 20 >= len(names)}
    return [name for name, shape in shape_of.items() if shape not in usual] if usual else []
