"""The images of a task decoded into one .npy file, chunk by chunk, so that an interrupted call loses one chunk.

A journal has, of each decoded image, its index and the digests of its file and of its pixels. A later call keeps an
image if both are still the same, wherever it now is among the images: some may have been removed or replaced meanwhile.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
    place: int  # its index in the array
    file_sha256: str
    fingerprint: str
    pixels_sha256: str
    is_transparent: bool
    frames: int
    shorter_side_px: int


@dataclass(frozen=True, kw_only=True)
class DecodedTask:
    """The results of decoding the images of a task."""

    images: tuple[Decoded, ...]  # without the pixels, which are on the disk
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
    journal_entries = _begin(out, journal, header, image_px)
    image_bytes = 3 * image_px * image_px
    images: list[Decoded] = []
    kept_images = 0
    with out.open("r+b") as stream, journal.open("a", encoding="utf-8") as lines, ThreadPoolExecutor(threads) as pool:
        stream.write(header)
        stream.flush()

        def keep_or_decode(file: ImageFile) -> tuple[Decoded, bool]:
            """Return the image, and whether it was kept."""
            entry = journal_entries.get(file.name)
            kept = None if entry is None else _read_kept(file, entry, image_px, stream.fileno(), len(header))
            return (decode.decode(file.path, image_px), False) if kept is None else (kept, True)

        for start in range(0, len(files), CHUNK_IMAGES):
            chunk = files[start : start + CHUNK_IMAGES]
            # All of them, before the chunk is written where the pixels of some may be.
            results = list(pool.map(keep_or_decode, chunk))
            chunk_images = [image for image, _is_kept in results]
            must_write = False  # True if an image of the chunk is new or was at another index
            for index, (file, (_image, is_kept)) in enumerate(zip(chunk, results, strict=True), start=start):
                if is_kept:
                    kept_images += 1
                if not is_kept or journal_entries[file.name].place != index:
                    must_write = True
            if must_write:
                _write_chunk(stream, len(header) + start * image_bytes, chunk_images, image_px)
                _write_entries(lines, chunk, start, chunk_images)
            images += [replace(image, pixels=None) for image in chunk_images]
            advance(len(chunk))
        stream.truncate(len(header) + len(files) * image_bytes)
        os.fsync(stream.fileno())
    return DecodedTask(images=tuple(images), kept_images=kept_images)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _begin(out: Path, journal: Path, header: bytes, image_px: int) -> dict[str, JournalEntry]:
    """Return the journal of earlier calls, by name of the image.

    If these calls had other settings, both files begin anew and the result is empty.
    """
    settings = hashlib.sha256(json.dumps([image_px, len(header), decode.versions()]).encode()).hexdigest()
    if out.exists() and journal.exists():
        # The last line is cut off if its writer was killed.
        lines = lines_of(journal.read_text(encoding="utf-8"), only_ended=True)
        if lines and lines[0] == settings:
            entry_of_line = {line: entry for line in lines[1:] if (entry := _entry(line)) is not None}
            journal.write_text("".join(f"{line}\n" for line in (settings, *entry_of_line)), encoding="utf-8")
            return {entry.name: entry for entry in entry_of_line.values()}
    out.write_bytes(b"")
    journal.write_text(f"{settings}\n", encoding="utf-8")
    return {}


def _entry(line: str) -> JournalEntry | None:
    """Return a line of the journal as a record; None if it is damaged."""
    try:
        return JournalEntry.from_json(line)
    except DocumentError:
        return None


def _read_kept(file: ImageFile, entry: JournalEntry, image_px: int, handle: int, first_byte: int) -> Decoded | None:
    """Return the image as an earlier call decoded it; None if its file or its pixels are not the same any more."""
    image_bytes = 3 * image_px * image_px
    try:
        pixels = os.pread(handle, image_bytes, first_byte + entry.place * image_bytes)
        has_same_pixels = hashlib.sha256(pixels).hexdigest() == entry.pixels_sha256
        if not has_same_pixels or file_sha256(file.path) != entry.file_sha256:
            return None
    except OSError:  # of a file that cannot be read: `decode` will say so
        return None
    array = np.frombuffer(pixels, np.uint8).reshape(3, image_px, image_px)
    return Decoded(
        pixels=array,
        sha256=entry.file_sha256,
        fingerprint=entry.fingerprint,
        problem="",
        is_transparent=entry.is_transparent,
        frames=entry.frames,
        shorter_side_px=entry.shorter_side_px,
    )


def _write_chunk(stream: BinaryIO, first_byte: int, images: Sequence[Decoded], image_px: int) -> None:
    zeros = np.zeros((3, image_px, image_px), np.uint8)
    stream.seek(first_byte)
    for image in images:
        pixels = zeros if image.pixels is None else image.pixels
        stream.write(pixels.data)
    stream.flush()


def _write_entries(journal: TextIO, files: Sequence[ImageFile], start: int, images: Sequence[Decoded]) -> None:
    """Write a line for each image of a chunk that has pixels."""
    for index, (file, image) in enumerate(zip(files, images, strict=True), start=start):
        if image.pixels is not None:
            entry = JournalEntry(
                name=file.name,
                place=index,
                file_sha256=image.sha256,
                fingerprint=image.fingerprint,
                pixels_sha256=hashlib.sha256(image.pixels.data).hexdigest(),
                is_transparent=image.is_transparent,
                frames=image.frames,
                shorter_side_px=image.shorter_side_px,
            )
            journal.write(f"{entry.to_json()}\n")
    journal.flush()
