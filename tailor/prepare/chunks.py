"""The images of a task decoded into one .npy file, chunk by chunk, so that an interrupted call loses one chunk.

A journal has the digests of each finished chunk's image files and of its pixels. A call that resumes keeps a chunk only
if both are still the same.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from tailor.core.errors import ConfigError
from tailor.prepare import decode
from tailor.prepare.arrays import file_sha256
from tailor.prepare.listing import ImageFile, some
from transtailor.documents import DocumentError, Record
from transtailor.lines import lines_of

CHUNK_IMAGES = 128


@dataclass(frozen=True, kw_only=True)
class Chunk(Record):
    """A finished chunk, as in the journal."""

    number: int
    files: tuple[str, ...]  # SHA-256 of each image file
    pixels: str  # SHA-256 of the chunk's pixels


def decode_files(
    files: Sequence[ImageFile], image_px: int, out: Path, journal: Path, threads: int, advance: Callable[[int], None]
) -> tuple[tuple[str, ...], int]:
    """Decode images into `out`, a .npy file of uint8 (N, 3, image_px, image_px).

    Args:
        files: the images, in their order in the file.
        image_px: side of the images.
        out: the .npy file; finished chunks of an earlier call are verified and kept.
        journal: the file that lists the finished chunks.
        threads: images decoded at once (Pillow releases the lock of the interpreter).
        advance: called with the number of images done since the last call.

    Returns:
        SHA-256 of each image file, and how many images of an interrupted call were kept.

    Raises:
        ConfigError: some files are not complete images; the text has their number and the first names.
    """
    header = _npy_header((len(files), 3, image_px, image_px))
    finished = _begin(out, journal, header, files, image_px)
    image_bytes = 3 * image_px * image_px
    hashes: list[str] = []
    problems: list[str] = []
    kept_images = 0
    with out.open("r+b") as stream, journal.open("a") as notes, ThreadPoolExecutor(threads) as pool:
        for number, start in enumerate(range(0, len(files), CHUNK_IMAGES)):
            paths = [file.path for file in files[start : start + CHUNK_IMAGES]]
            place = len(header) + start * image_bytes
            old = finished.get(number)
            if old and _is_unchanged(old, stream, place, len(paths) * image_bytes, pool.map(file_sha256, paths)):
                kept_images += len(paths)
                hashes += old.files
            else:
                decoded = list(pool.map(lambda path: decode.decode(path, image_px), paths))
                hashes += [one.sha256 for one in decoded]
                broken = [one.problem for one in decoded if one.pixels is None]
                problems += broken
                if not broken:
                    _write_chunk(stream, place, decoded, number, notes)
            advance(len(paths))
        os.fsync(stream.fileno())
    if problems:
        raise ConfigError(
            f"{len(problems)} file(s) cannot be read as whole images: {some(problems)}; replace or remove them"
        )
    return tuple(hashes), kept_images


def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _begin(out: Path, journal: Path, header: bytes, files: Sequence[ImageFile], image_px: int) -> dict[int, Chunk]:
    """The chunks that an earlier call finished; if it had other images or settings, none, and both files are new."""
    identity = hashlib.sha256(
        json.dumps([image_px, CHUNK_IMAGES, decode.versions(), [file.name for file in files]]).encode()
    ).hexdigest()
    if out.exists() and journal.exists():
        lines = lines_of(journal.read_text(), only_ended=True)  # the last one is cut off if its writer was killed
        if lines and lines[0] == identity:
            chunks = {line: chunk for line in lines[1:] if (chunk := _chunk(line))}
            journal.write_text("".join(f"{line}\n" for line in (identity, *chunks)))
            return {chunk.number: chunk for chunk in chunks.values()}
    out.write_bytes(header)
    journal.write_text(f"{identity}\n")
    return {}


def _chunk(line: str) -> Chunk | None:
    """A line of the journal; None if it is damaged."""
    try:
        return Chunk.from_json(line)
    except DocumentError:
        return None


def _is_unchanged(old: Chunk, stream: BinaryIO, place: int, size_bytes: int, files: Iterable[str]) -> bool:
    stream.seek(place)
    return old.files == tuple(files) and hashlib.sha256(stream.read(size_bytes)).hexdigest() == old.pixels


def _write_chunk(stream: BinaryIO, place: int, decoded: Sequence[decode.Decoded], number: int, notes: TextIO) -> None:
    pixels = np.stack([one.pixels for one in decoded if one.pixels is not None])
    stream.seek(place)
    stream.write(pixels.data)
    chunk = Chunk(
        number=number, files=tuple(one.sha256 for one in decoded), pixels=hashlib.sha256(pixels.data).hexdigest()
    )
    stream.flush()
    notes.write(f"{chunk.to_json()}\n")
    notes.flush()
