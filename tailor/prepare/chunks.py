"""The images of a task decoded into one .npy file, chunk by chunk, so that an interrupted call loses one chunk.

A journal has, of each decoded image, its place and the digests of its file and of its pixels. A later call keeps an
image if both are still the same, wherever it now is among the images: some may have been removed or replaced meanwhile.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from tailor.prepare import decode
from tailor.prepare.arrays import file_sha256
from tailor.prepare.decode import Decoded
from tailor.prepare.listing import ImageFile
from transtailor.documents import DocumentError, Record
from transtailor.lines import lines_of

CHUNK_IMAGES = 128


@dataclass(frozen=True, kw_only=True)
class JournalEntry(Record):
    """An image that was decoded, as in the journal."""

    name: str
    place: int  # in the array
    file_sha256: str
    fingerprint: str
    pixels_sha256: str


@dataclass(frozen=True, kw_only=True)
class DecodedTask:
    """What decoding the images of a task gave, image by image."""

    hashes: tuple[str, ...]  # SHA-256 of each image file
    fingerprints: tuple[str, ...]  # empty for an image without pixels
    problems: tuple[str, ...]  # why an image has no pixels; empty if it has
    kept_images: int  # decoded by an earlier call


def decode_files(
    files: Sequence[ImageFile], image_px: int, out: Path, journal: Path, threads: int, advance: Callable[[int], None]
) -> DecodedTask:
    """Decode images into `out`, a .npy file of uint8 (N, 3, image_px, image_px); zeros where one cannot be read.

    Args:
        files: the images, in their order in the file.
        image_px: side of the images.
        out: the .npy file; images of an earlier call are verified and kept.
        journal: the file that lists the decoded images.
        threads: images decoded at once (Pillow releases the lock of the interpreter).
        advance: called with the number of images done since the last call.
    """
    header = _npy_header((len(files), 3, image_px, image_px))
    known = _begin(out, journal, header, image_px)
    image_bytes = 3 * image_px * image_px
    images: list[Decoded] = []
    kept_images = 0
    with out.open("r+b") as stream, journal.open("a", encoding="utf-8") as notes, ThreadPoolExecutor(threads) as pool:
        stream.write(header)
        stream.flush()
        take = partial(_take, image_px=image_px, known=known, handle=stream.fileno(), first_byte=len(header))
        for start in range(0, len(files), CHUNK_IMAGES):
            chunk = files[start : start + CHUNK_IMAGES]
            taken = list(pool.map(take, chunk))  # all of them, before the chunk is written where some of them may be
            moved = [
                not is_kept or known[file.name].place != place
                for place, (file, (_, is_kept)) in enumerate(zip(chunk, taken, strict=True), start=start)
            ]
            if any(moved):
                _write_chunk(stream, len(header) + start * image_bytes, [image for image, _ in taken], image_px)
                _note(notes, chunk, start, [image for image, _ in taken])
            kept_images += sum(is_kept for _, is_kept in taken)
            images += [replace(image, pixels=None) for image, _ in taken]
            advance(len(chunk))
        stream.truncate(len(header) + len(files) * image_bytes)
        os.fsync(stream.fileno())
    return DecodedTask(
        hashes=tuple(image.sha256 for image in images),
        fingerprints=tuple(image.fingerprint for image in images),
        problems=tuple(image.problem for image in images),
        kept_images=kept_images,
    )


def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _begin(out: Path, journal: Path, header: bytes, image_px: int) -> dict[str, JournalEntry]:
    """The images that earlier calls decoded, by name; if they had other settings, none, and both files are new."""
    settings = hashlib.sha256(json.dumps([image_px, len(header), decode.versions()]).encode()).hexdigest()
    if out.exists() and journal.exists():
        # The last line is cut off if its writer was killed.
        lines = lines_of(journal.read_text(encoding="utf-8"), only_ended=True)
        if lines and lines[0] == settings:
            entries = {line: entry for line in lines[1:] if (entry := _entry(line))}
            journal.write_text("".join(f"{line}\n" for line in (settings, *entries)), encoding="utf-8")
            return {entry.name: entry for entry in entries.values()}
    out.write_bytes(b"")
    journal.write_text(f"{settings}\n", encoding="utf-8")
    return {}


def _entry(line: str) -> JournalEntry | None:
    """A line of the journal; None if it is damaged."""
    try:
        return JournalEntry.from_json(line)
    except DocumentError:
        return None


def _take(
    file: ImageFile, *, image_px: int, known: dict[str, JournalEntry], handle: int, first_byte: int
) -> tuple[Decoded, bool]:
    """The image as an earlier call decoded it and True, if file and pixels are still the same; else decoded now."""
    old = known.get(file.name)
    if old is not None:
        shape = (3, image_px, image_px)
        size_bytes = 3 * image_px * image_px
        with suppress(OSError):  # of a file that cannot be read: `decode` says so
            pixels = os.pread(handle, size_bytes, first_byte + old.place * size_bytes)
            is_same = hashlib.sha256(pixels).hexdigest() == old.pixels_sha256
            if is_same and file_sha256(file.path) == old.file_sha256:
                array = np.frombuffer(pixels, np.uint8).reshape(shape)
                return Decoded(pixels=array, sha256=old.file_sha256, fingerprint=old.fingerprint, problem=""), True
    return decode.decode(file.path, image_px), False


def _write_chunk(stream: BinaryIO, first_byte: int, images: Sequence[Decoded], image_px: int) -> None:
    nothing = np.zeros((3, image_px, image_px), np.uint8)
    stream.seek(first_byte)
    for image in images:
        stream.write((nothing if image.pixels is None else image.pixels).data)
    stream.flush()


def _note(notes: TextIO, files: Sequence[ImageFile], start: int, images: Sequence[Decoded]) -> None:
    """Write a line for each image of a chunk that has pixels."""
    for place, (file, image) in enumerate(zip(files, images, strict=True), start=start):
        if image.pixels is not None:
            entry = JournalEntry(
                name=file.name,
                place=place,
                file_sha256=image.sha256,
                fingerprint=image.fingerprint,
                pixels_sha256=hashlib.sha256(image.pixels.data).hexdigest(),
            )
            notes.write(f"{entry.to_json()}\n")
    notes.flush()
