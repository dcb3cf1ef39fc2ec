"""`python -m tailor data prepare | check`: its arguments and what it prints."""

import argparse
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
PAIRS_SHOWN = 20


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


def run(arguments: argparse.Namespace, out: TextIO) -> int:
    """Run the command; the exit code: 0, or 130 if interrupted.

    Raises:
        ConfigError: the user's mistake, or a fault in the files.
    """
    try:
        if arguments.data_command == "prepare":
            _prepare(arguments, out)
        else:
            _check(arguments.folder, out)
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
    )
    made = prepare(request, out)
    for line in _description(made):
        say(line, to=out)
    say(f"to verify it, type: {command('data', 'check', arguments.root / arguments.name)}", to=out)


def _check(folder: Path, out: TextIO) -> None:
    from tailor.catalogue import manifest
    from tailor.prepare import arrays, duplicates, progress

    root, name = folder.resolve().parent, folder.resolve().name
    stored = manifest.read(root, name).files.values()
    with progress.show_progress(out, f"verifying {name}", sum(file.size_bytes for file in stored), "bytes") as advance:
        found = arrays.verify(root, name, advance)
    for line in _description(found):
        say(line, to=out)
    say("all files are unchanged", to=out)
    if not found.sha256:
        say(
            "note: this version of the manifest has no digest of itself, so trials do not notice a digest or a class "
            f"name that was changed by hand; for one that has it, {manifest.remedy(folder)}",
            to=out,
        )
    count = found.source_images + found.target_images
    with progress.show_progress(out, "looking for images that are in it twice", count, "images") as advance:
        alike = duplicates.find(root, name, advance)
    for groups, pairs in alike.items():
        say(f"{groups}: {len(pairs)} pair(s) of images look alike", to=out)
        for pair in pairs[:PAIRS_SHOWN]:
            say(f"  {pair.left} = {pair.right} ({pair.bits} bits differ)", to=out)
        if len(pairs) > PAIRS_SHOWN:
            say(f"  and {len(pairs) - PAIRS_SHOWN} more", to=out)


def _description(found: "DataManifest") -> Iterator[str]:
    channels, height, width = found.input_shape
    yield f"data set {found.name}: {channels} x {height} x {width} pixels, digest {found.digest}"
    yield f"  source: {found.source_images} images of {found.source_classes} classes"
    yield (
        f"  target: {found.target_images} images of {found.target_classes} classes, "
        f"{found.test_images} of them test images" + (", drawn by each trial" if found.pool else "")
    )
