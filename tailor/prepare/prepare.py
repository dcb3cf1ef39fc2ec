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


class _GivenOnce(cli.Command):
    """Refuses an option that counts once and is given twice: else the last one would count, without a word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words that were typed."""
        words_left = super().parse_args(ctx, [*args])  # which takes the words out of its list
        _values, _words, given = self.make_parser(ctx).parse_args([*args])
        for option in given:
            if isinstance(option, click.Option) and not option.multiple and given.count(option) > 1:
                ctx.fail(f"{option.opts[0]} is given {given.count(option)} times; give it once")
        return words_left


@cli.command(example="mine --from photographs --to datasets", cls=_GivenOnce)
@cli.argument("name")
@cli.option(
    "--from",
    "origins",
    type=cli.PATH,
    required=True,
    multiple=True,
    metavar="FOLDER_OR_ARCHIVE",
    help="folder, or .zip, .tar, .tar.gz, .tgz; several for an official data set",
)
@cli.argument("more", type=cli.PATH, nargs=-1, metavar="")
@cli.option("--to", "root", type=cli.FOLDER, required=True, metavar="ROOT", help="folder of data sets")
@cli.option("--also", multiple=True, metavar="NAME", help="another name for the same images, which take no more disk")
@cli.option("--layout", default="folder", help=f"folder, or of an official set: {', '.join(OFFICIAL)}")
@cli.option(
    "--labels",
    type=cli.FILE,
    metavar="FILE.csv",
    help="table of the images and their classes, if there is no folder for each class",
)
@cli.option("--image-column", metavar="NAME", help="its column of the image (default: one called image, file, id, ...)")
@cli.option("--class-column", metavar="NAME", help="its column of the class (default: one called class, label, ...)")
@cli.option("--image-px", default=176, help="side of the images in pixels")
@cli.option(
    "--source-classes", multiple=True, metavar="A,B,...", help='the source task; write "A, B" for one with a comma'
)
@cli.option("--source-from", type=cli.PATH, metavar="FOLDER_OR_ARCHIVE", help="images of the source task")
@cli.option(
    "--test-fraction", type=cli.FRACTION, help="test share of each class, if there is no test split (default: 0.2)"
)
@cli.option(
    "--test-split",
    type=click.Choice(["fixed", "trial"]),
    default="fixed",
    help="fixed: the data set's own or drawn now; trial: each trial draws its own by data.split_seed",
)
@cli.option("--split-seed", type=int, help="seed of that split (default: 0)")
@cli.option(
    "--unofficial",
    is_flag=True,
    help="with --layout: also prepare what is not the published version, or not complete",
)
@cli.option(
    "--threads",
    type=cli.COUNT,
    default=lambda: min(MOST_THREADS, usable_cores()),
    show_default="cores, at most 4",
    help="images decoded at once",
)
def prepare(
    name: str,
    origins: tuple[Path, ...],
    more: tuple[Path, ...],
    root: Path,
    image_column: str | None,
    class_column: str | None,
    source_classes: tuple[str, ...],
    test_split: str,
    split_seed: int | None,
    threads: int,
    **settings: Any,
) -> int:
    """Make a data set of a folder or an archive of images, once; NAME is what trials will call it."""
    from tailor.prepare.label_columns import AskedColumns
    from tailor.prepare.preparation import Request
    from tailor.prepare.preparation import prepare as prepare_data_set

    by_trial = test_split == "trial"
    if by_trial and split_seed is not None:
        raise ConfigError(
            f"--split-seed {split_seed} has no effect with --test-split trial: each trial draws its test "
            "split by its own data.split_seed; leave --split-seed out"
        )
    lines = csv.reader(lines_of("\n".join(source_classes)), skipinitialspace=True)
    request = Request(
        name=name,
        origins=(*origins, *more),  # a shell that expands a pattern behind --from gives it one path, and us the others
        root=root,
        label_columns=AskedColumns(image=image_column, class_=class_column),
        source_classes=tuple(word.strip() for line in lines for word in line if word.strip()),
        split_seed=split_seed,
        threads=threads,
        test_by_trial=by_trial,
        **settings,
    )
    try:
        data_set = prepare_data_set(request, sys.stdout)
    except KeyboardInterrupt:
        say("interrupted; the same command resumes")
        return INTERRUPTED
    for line in describe(data_set):
        say(line)
    say(f"to verify it (with --all, to list every copy, too), type: {command('data', 'check', root / name)}")
    return SUCCESS
