"""Verify a prepared data set."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tailor.common.errors import ConfigError
from transtailor import cli

if TYPE_CHECKING:
    from tailor.facts.manifest import DataManifest

SHOWN = 20  # classes, and copies of each kind, that are listed


@cli.command(example="datasets/mine")
@cli.argument("folder", type=cli.FOLDER, metavar="ROOT/NAME")
@cli.option("--all", "list_all", is_flag=True, help="list all copies, not only the first ones")
def check(folder: Path, list_all: bool) -> Iterator[str]:
    """Verify a prepared data set, and look for images that are in it twice."""
    from tailor.data import arrays
    from tailor.data.images_file import files_digest, read_images
    from tailor.facts import manifest
    from tailor.prepare import duplicates

    shown = sys.maxsize if list_all else SHOWN
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100  # a link to a data set has the name that trials give it
    root, name = absolute.parent, absolute.name
    data_set = verify(root, name)
    yield from describe(data_set)
    yield "all files are unchanged"
    images = read_images(manifest.folder_of(root, name) / manifest.IMAGES_FILE)
    expected = files_digest(images, data_set.input_shape[1], data_set.test_images)
    if data_set.files_digest not in ("", expected):
        digests = f"digest of files is {data_set.files_digest}, that of images.csv {expected}"
        raise ConfigError(f"{folder}: the manifest's {digests}; {manifest.remedy(folder)}")
    for where, remedy, names in duplicates.equal_files(images):
        yield f"warning: {len(names)} files have equal ones {where}: {duplicates.equal_names(names, shown)}; {remedy}"
    groups = arrays.load(root, name)[manifest.TARGET].group
    if groups is not None:
        yield duplicates.groups_text(groups, is_pool=bool(data_set.pool))
    for parts, pairs in duplicates.find(images).items():
        yield f"{parts}: {len(pairs)} pair(s) of images look alike"
        for pair in pairs[:shown]:
            yield f"  {pair.left} = {pair.right} ({pair.bits} bits differ)"
        if len(pairs) > shown:
            yield f"  and {len(pairs) - shown} more (--all lists them)"
    yield "there may be more: of copies that were resized or compressed again some are not found, of crops none"


def verify(root: Path, name: str) -> "DataManifest":
    """Read all files of a prepared data set, with progress; return its manifest. Raises as `arrays.verify`."""
    from tailor.common import progress
    from tailor.data import arrays
    from tailor.facts import manifest

    files_bytes = sum(file.size_bytes for file in manifest.read(root, name).files.values())
    with progress.show_progress(sys.stdout, f"verifying {name}", files_bytes, "bytes") as advance:
        return arrays.verify(root, name, advance)


def describe(data_set: "DataManifest") -> Iterator[str]:
    """Yield the lines that describe a prepared data set."""
    from tailor.common.texts import some
    from tailor.facts.manifest import TARGET

    channels, height, width = data_set.input_shape
    yield f"data set {data_set.name}: {channels} x {height} x {width} pixels"
    yield f"  digest of files {data_set.files_digest or 'unknown: prepared by an earlier version'} (data.sha256)"
    decoders = [f"{key} {data_set.made[key]}" for key in ("pillow", "jpeg") if key in data_set.made]
    yield f"  digest of pixels {data_set.digest}, as decoded by {' and '.join(decoders) or 'another version'}"
    yield f"  source: {data_set.source_images} images of {data_set.source_classes} classes"
    drawn_by_trials = ", drawn by each trial" if data_set.pool else ""
    names = some(data_set.classes[TARGET], SHOWN)
    target = f"{data_set.target_images} images of {data_set.target_classes} classes ({names})"
    yield f"  target: {target}, {data_set.test_images} of them test images{drawn_by_trials}"
