"""`python -m tailor data prepare | check`: its arguments and what it prints."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tailor.core.errors import ConfigError
from transtailor.errors import INTERRUPTED, SUCCESS
from transtailor.machine import usable_cores
from transtailor.shell import command
from transtailor.terminal import say
from transtailor.validation import fraction

if TYPE_CHECKING:
    from tailor.catalogue.manifest import DataManifest

MOST_THREADS = 4  # unless the user asks for more: a login node is shared
SHOWN = 20  # copies of each kind that `check` lists


def add_to(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `data` its two commands."""
    commands = parser.add_subparsers(dest="data_command", required=True)
    prepare = commands.add_parser("prepare", help="make a data set of a folder or an archive of images, once")
    prepare.add_argument("name", metavar="NAME", help="what trials will call it")
    prepare.add_argument(
        "--from", dest="origins", type=Path, nargs="+", required=True, metavar="FOLDER_OR_ARCHIVE",
        help="folder, or .zip, .tar, .tar.gz, .tgz; an official data set's archives and lists together",
    )  # fmt: skip
    prepare.add_argument("--to", dest="root", type=Path, required=True, metavar="ROOT", help="folder of data sets")
    prepare.add_argument("--layout", default="folder", help="folder (default) or an official layout, see docs/data.md")
    prepare.add_argument(
        "--labels", type=Path, metavar="FILE.csv",
        help="images and their classes, line by line, for a folder without a folder for each class",
    )  # fmt: skip
    prepare.add_argument("--image-px", type=int, default=176, help="side of the images in pixels (default: 176)")
    prepare.add_argument("--source-classes", default="", metavar="A,B,...", help="classes that are the source task")
    prepare.add_argument("--source-from", type=Path, metavar="FOLDER_OR_ARCHIVE", help="images of the source task")
    prepare.add_argument(
        "--test-fraction", type=fraction, help="of each class, where there is no test split (default: 0.2)"
    )
    prepare.add_argument(
        "--test-split", choices=("fixed", "trial"), default="fixed",
        help="fixed: the data set's own or drawn now (default); trial: each trial draws its own by data.split_seed",
    )  # fmt: skip
    prepare.add_argument("--split-seed", type=int, help="draws that test split (default: 0)")
    prepare.add_argument(
        "--threads",
        type=int,
        default=min(MOST_THREADS, usable_cores()),
        help="images decoded at once (default: cores, at most 4)",
    )
    check = commands.add_parser("check", help="verify a prepared data set and look for images that are in it twice")
    check.add_argument("folder", type=Path, metavar="ROOT/NAME")
    check.add_argument("--all", action="store_true", help="list all copies, not only the first ones")


def run(arguments: argparse.Namespace, out: TextIO) -> int:
    """Run the command; the exit code: 0, or 130 if interrupted.

    Raises:
        ConfigError: the user's mistake, or a fault in the files.
    """
    try:
        if arguments.data_command == "prepare":
            _prepare(arguments, out)
        else:
            _check(arguments.folder, out, shown=sys.maxsize if arguments.all else SHOWN)
    except KeyboardInterrupt:
        say("interrupted; the same command resumes", to=out)
        return INTERRUPTED
    return SUCCESS


def _prepare(arguments: argparse.Namespace, out: TextIO) -> None:
    from tailor.prepare.preparation import Request, prepare

    if arguments.threads < 1:
        raise ConfigError(f"--threads is {arguments.threads}; expected 1 or more")
    by_trial = arguments.test_split == "trial"
    if by_trial and arguments.split_seed is not None:
        raise ConfigError(
            f"--split-seed {arguments.split_seed} has no effect with --test-split trial: each trial draws its test "
            "split by its own data.split_seed; leave --split-seed out"
        )
    request = Request(
        name=arguments.name,
        origins=tuple(arguments.origins),
        root=arguments.root,
        layout=arguments.layout,
        image_px=arguments.image_px,
        source_classes=tuple(name.strip() for name in arguments.source_classes.split(",") if name.strip()),
        source_from=arguments.source_from,
        test_fraction=arguments.test_fraction,
        split_seed=arguments.split_seed or 0,
        threads=arguments.threads,
        test_by_trial=by_trial,
        labels=arguments.labels,
    )
    made = prepare(request, out)
    for line in _description(made):
        say(line, to=out)
    check = command("data", "check", arguments.root / arguments.name)
    say(f"to verify it (with --all, to list every copy, too), type: {check}", to=out)


def _check(folder: Path, out: TextIO, *, shown: int) -> None:
    from tailor.catalogue import manifest
    from tailor.prepare import arrays, duplicates, progress
    from tailor.prepare.images_file import read_images
    from tailor.prepare.preparation import copies, groups_text

    there = Path(os.path.abspath(folder))  # noqa: PTH100  # a link to a data set has the name that trials give it
    root, name = there.parent, there.name
    stored = manifest.read(root, name).files.values()
    with progress.show_progress(out, f"verifying {name}", sum(file.size_bytes for file in stored), "bytes") as advance:
        found = arrays.verify(root, name, advance)
    for line in _description(found):
        say(line, to=out)
    say("all files are unchanged", to=out)
    images = read_images(manifest.folder_of(root, name) / manifest.IMAGES_FILE)
    for line in copies(images, shown=shown):
        say(line, to=out)
    groups = arrays.load(root, name)[manifest.TARGET].group
    if groups is not None:
        say(groups_text(groups), to=out)
    for parts, pairs in duplicates.find(images).items():
        say(f"{parts}: {len(pairs)} pair(s) of images look alike", to=out)
        for pair in pairs[:shown]:
            say(f"  {pair.left} = {pair.right} ({pair.bits} bits differ)", to=out)
        if len(pairs) > shown:
            say(f"  and {len(pairs) - shown} more (--all lists them)", to=out)


def _description(found: "DataManifest") -> Iterator[str]:
    channels, height, width = found.input_shape
    yield f"data set {found.name}: {channels} x {height} x {width} pixels, digest {found.digest}"
    yield f"  source: {found.source_images} images of {found.source_classes} classes"
    yield (
        f"  target: {found.target_images} images of {found.target_classes} classes, "
        f"{found.test_images} of them test images" + (", drawn by each trial" if found.pool else "")
    )
