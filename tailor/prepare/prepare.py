"""Make a data set of a folder or an archive."""

import csv
import sys
from pathlib import Path
from typing import Any

import click

from tailor.common.errors import ConfigError
from tailor.facts.official import OFFICIAL
from tailor.prepare.check import describe
from transtailor import cli
from transtailor.errors import INTERRUPTED, SUCCESS
from transtailor.lines import lines_of
from transtailor.machine import usable_cores
from transtailor.shell import command
from transtailor.terminal import say

MOST_THREADS = 4  # unless the user asks for more: a login node is shared


@cli.command(example="mine --from photographs --to datasets", cls=cli.GivenOnce)
@cli.argument("name")
@cli.option(
    "--from", "origins", type=cli.PATH, required=True, multiple=True, metavar="FOLDER_OR_ARCHIVE",
    help="folder, or .zip, .tar, .tar.gz, .tgz; several for a paper's data set; with --layout of torchvision its root",
)  # fmt: skip
@cli.argument("more", type=cli.PATH, nargs=-1, metavar="")
@cli.option("--to", "root", type=cli.FOLDER, required=True, metavar="ROOT", help="folder of data sets")
@cli.option("--also", multiple=True, metavar="NAME", help="another name for the same images, which take no more disk")
@cli.option(
    "--layout", default="folder", metavar="NAME",
    help=f"folder; a paper's set: {', '.join(OFFICIAL)}; or one of torchvision's, such as CIFAR10",
)  # fmt: skip
@cli.option("--labels", type=cli.FILE, metavar="FILE.csv", help="table of images and classes, if no folders say them")
@cli.option("--image-column", metavar="NAME", help="its column of the image, below --from (default: image)")
@cli.option("--class-column", metavar="NAME", help="its column of the class (default: class)")
@cli.option("--split-column", metavar="NAME", help="its column of train, val or test (default: split, if there)")
@cli.option("--group-column", metavar="NAME", help="its column of what is in one split (default: group, if there)")
@cli.option("--image-px", type=click.IntRange(16, 2048), default=176, help="side of the images in pixels")
@cli.option("--source-classes", multiple=True, metavar="A,B,...", help='the source task; "A, B" for one with a comma')
@cli.option("--source-from", type=cli.PATH, metavar="FOLDER_OR_ARCHIVE", help="images of the source task")
@cli.option("--test-fraction", type=cli.FRACTION, help="share of a test split that is drawn (default: 0.2)")
@cli.option(
    "--test-split", type=click.Choice(["fixed", "trial"]), default="fixed",
    help="fixed: the data set's own or drawn now; trial: each trial draws its own by data.split_seed",
)  # fmt: skip
@cli.option("--split-seed", type=int, help="seed of that split (default: 0)")
@cli.option("--unofficial", is_flag=True, help="also prepare a paper's set that is not the published one, or complete")
@cli.option(
    "--threads", type=cli.COUNT, default=lambda: min(MOST_THREADS, usable_cores()), show_default="cores, at most 4",
    help="images decoded at once",
)  # fmt: skip
def prepare(
    name: str,
    origins: tuple[Path, ...],
    more: tuple[Path, ...],
    root: Path,
    source_classes: tuple[str, ...],
    test_fraction: float | None,
    test_split: str,
    split_seed: int | None,
    **settings: Any,
) -> int:
    """Make a data set of a folder or an archive of images, once; NAME is what trials will call it."""
    from tailor.prepare.forms import FIELDS
    from tailor.prepare.preparation import Request
    from tailor.prepare.preparation import prepare as prepare_data_set
    from tailor.prepare.tasks import SplitRule

    by_trial = test_split == "trial"
    if by_trial and split_seed is not None:
        reason = "each trial draws its test split by its own data.split_seed; leave --split-seed out"
        raise ConfigError(f"--split-seed {split_seed} has no effect with --test-split trial: {reason}")
    columns = {field: typed for field in FIELDS if (typed := settings.pop(f"{field}_column"))}
    lines = csv.reader(lines_of("\n".join(source_classes)), skipinitialspace=True)
    request = Request(
        name=name,
        origins=(*origins, *more),  # a shell that expands a pattern behind --from gives it one path, and us the others
        root=root,
        columns=columns,
        source_classes=tuple(word.strip() for line in lines for word in line if word.strip()),
        test=SplitRule(fraction=test_fraction, seed=split_seed, by_trial=by_trial),
        **settings,
    )
    try:
        data_set = prepare_data_set(request, sys.stdout)
    except KeyboardInterrupt:
        say("interrupted; nothing is made: the same command begins again")
        return INTERRUPTED
    for line in describe(data_set):
        say(line)
    say(f"to verify it (with --all, to list every copy, too), type: {command('data', 'check', root / name)}")
    return SUCCESS
