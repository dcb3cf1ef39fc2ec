"""An interrupted preparation goes on where it was, believes nothing unseen, and ends as an undisturbed one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tailor.prepare.chunks import CHUNK_IMAGES, DecodedTask, decode_files
from tailor.prepare.listing import ImageFile
from tailor.prepare.workspace import workspace
from tests.tailor.prepare.pictures import class_folders, encoded, fill, pack, prepare

IMAGES = 2 * CHUNK_IMAGES + 10


class Interrupted(Exception):
    pass


@pytest.fixture
def files(tmp_path: Path) -> list[ImageFile]:
    names = [f"a/{number}.jpg" for number in range(IMAGES)]
    fill(tmp_path / "images", names)
    return [ImageFile(path=tmp_path / "images" / name, name=name, class_name="a", split="") for name in names]


def decode_all(files: list[ImageFile], folder: Path, stop_after: int = IMAGES) -> DecodedTask:
    """Decodes the files, interrupted once more than `stop_after` images are done."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done > stop_after:
            raise Interrupted

    return decode_files(files, 16, folder / "images.npy", folder / "journal", 2, advance)


def straight(files: list[ImageFile], tmp_path: Path) -> bytes:
    (tmp_path / "straight").mkdir()
    assert decode_all(files, tmp_path / "straight").kept_images == 0
    return (tmp_path / "straight" / "images.npy").read_bytes()


def interrupted(files: list[ImageFile], tmp_path: Path) -> Path:
    """A folder in which two chunks are finished."""
    folder = tmp_path / "interrupted"
    folder.mkdir()
    with pytest.raises(Interrupted):
        decode_all(files, folder, stop_after=CHUNK_IMAGES)
    return folder


def test_finished_chunks_are_kept_and_the_end_is_the_same(files: list[ImageFile], tmp_path: Path) -> None:
    expected, folder = straight(files, tmp_path), interrupted(files, tmp_path)
    again = decode_all(files, folder)
    assert again.kept_images == 2 * CHUNK_IMAGES and len(again.images) == IMAGES
    assert (folder / "images.npy").read_bytes() == expected
    assert np.load(folder / "images.npy").shape == (IMAGES, 3, 16, 16)
    third = decode_all(files, folder)
    assert third.kept_images == IMAGES and [*map(vars, third.images)] == [*map(vars, again.images)]


def test_an_image_whose_pixels_were_damaged_is_decoded_anew(files: list[ImageFile], tmp_path: Path) -> None:
    expected, folder = straight(files, tmp_path), interrupted(files, tmp_path)
    with (folder / "images.npy").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"damage")
    assert decode_all(files, folder).kept_images == 2 * CHUNK_IMAGES - 1
    assert (folder / "images.npy").read_bytes() == expected


def test_an_image_whose_file_changed_is_decoded_anew(files: list[ImageFile], tmp_path: Path) -> None:
    folder = interrupted(files, tmp_path)
    files[3].path.write_bytes(encoded(7000))
    assert decode_all(files, folder).kept_images == 2 * CHUNK_IMAGES - 1
    assert (folder / "images.npy").read_bytes() == straight(files, tmp_path)


def test_a_line_that_was_cut_off_counts_for_nothing(files: list[ImageFile], tmp_path: Path) -> None:
    expected, folder = straight(files, tmp_path), interrupted(files, tmp_path)
    journal = folder / "journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert decode_all(files, folder).kept_images == 2 * CHUNK_IMAGES - 1
    assert (folder / "images.npy").read_bytes() == expected
    assert decode_all(files, folder).kept_images == IMAGES


def test_another_size_begins_anew(files: list[ImageFile], tmp_path: Path) -> None:
    folder = interrupted(files, tmp_path)
    found = decode_files(files, 17, folder / "images.npy", folder / "journal", 2, lambda _: None)
    assert found.kept_images == 0
    assert np.load(folder / "images.npy").shape == (IMAGES, 3, 17, 17)


@pytest.mark.parametrize("removed", [[0], [5, 6, 200], [IMAGES - 1], [*range(0, IMAGES, 3)]], ids=str)
def test_what_was_decoded_is_kept_when_other_files_are_removed(
    files: list[ImageFile], tmp_path: Path, removed: list[int]
) -> None:
    folder = tmp_path / "begun"
    folder.mkdir()
    decode_all(files, folder)
    left = [file for number, file in enumerate(files) if number not in removed]
    assert decode_all(left, folder).kept_images == len(left)
    assert (folder / "images.npy").read_bytes() == straight(left, tmp_path)


def test_files_that_are_added_or_moved_cost_few_of_the_others(files: list[ImageFile], tmp_path: Path) -> None:
    folder = tmp_path / "begun"
    folder.mkdir()
    decode_all(files[1:], folder)
    turned = [*files[200:], *files[:200]]
    for other in (files, turned):
        assert decode_all(other, folder).kept_images < IMAGES
        (tmp_path / "straight").mkdir(exist_ok=True)
        decode_all(other, tmp_path / "straight")
        assert (folder / "images.npy").read_bytes() == (tmp_path / "straight" / "images.npy").read_bytes()


def test_what_is_no_image_is_named_and_the_others_of_its_chunk_are_kept(files: list[ImageFile], tmp_path: Path) -> None:
    folder = tmp_path / "begun"
    folder.mkdir()
    broken = [3, 130, 131]
    for number in broken:
        files[number].path.write_bytes(b"no image")
    first = decode_all(files, folder)
    assert [number for number, problem in enumerate(image.problem for image in first.images) if problem] == broken
    for number in broken:
        files[number].path.write_bytes(encoded(5000 + number))
    assert decode_all(files, folder).kept_images == IMAGES - len(broken)
    assert (folder / "images.npy").read_bytes() == straight(files, tmp_path)


PROGRAM = """
import os, signal, sys
from pathlib import Path
from tailor.prepare import chunks
from tests.tailor.prepare.pictures import prepare

write_entries = chunks._write_entries

def write_and_stop(*arguments):
    write_entries(*arguments)
    os.kill(os.getpid(), signal.SIGSTOP)

chunks._write_entries = write_and_stop
prepare("animals", Path(sys.argv[1]), Path(sys.argv[2]), "--threads", 1)
"""


def start(origin: Path, root: Path) -> subprocess.Popen[bytes]:
    """A preparation in a process of its own, which stops itself after its first chunk."""
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(origin), str(root)], cwd=Path(__file__).parents[3])


@pytest.mark.check
def test_killed_and_typed_again_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    archive = pack(class_folders(tmp_path / "images", per_class=6 * CHUNK_IMAGES), tmp_path / "images.tar")
    root = tmp_path / "root"
    process = start(archive, root)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    with pytest.raises(ConfigError, match="prepared by another process"):
        prepare("animals", archive, root)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (root / "animals").exists()
    with pytest.raises(ConfigError, match="no data set 'animals' is prepared"):
        manifest.read(root, "animals")
    assert "decoded by an earlier call, verified and kept" in prepare("animals", archive, root)
    assert [path.name for path in root.iterdir()] == ["animals"]
    prepare("straight", tmp_path / "images", root)
    assert manifest.read(root, "animals").digest == manifest.read(root, "straight").digest


def test_a_workspace_is_kept_when_interrupted_and_gone_after_a_mistake(tmp_path: Path) -> None:
    for raised, is_kept in ((KeyboardInterrupt, True), (ConfigError, False), (MemoryError, True)):
        with pytest.raises(raised), workspace(tmp_path / "name") as work:
            (work / "file").touch()
            raise raised
        assert work.exists() == is_kept
