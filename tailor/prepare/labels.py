"""A folder of images without a folder for each class, and a table that says the class of each image."""

import csv
import io
from dataclasses import replace
from pathlib import Path

from tailor.core.errors import ConfigError
from tailor.prepare import listing
from tailor.prepare.folder import enter
from tailor.prepare.listing import FileListing, from_lists, normal_form
from transtailor.documents import DocumentError, read_text
from transtailor.names import nearest

DELIMITERS = ",;\t"
SPLIT_COLUMN = "split"


def list_labelled(roots: tuple[Path, ...], table: Path) -> FileListing:
    """The images that a table names: below one folder, by name with or without the suffix.

    The first column of the table is the name, the second one the class. If the first line names the columns, and one of
    them is `split`, that says train, val or test.

    Raises:
        ConfigError: no such table, or one whose lines do not fit the images; the text says which line.
    """
    root = enter(roots)
    images = [path.name for path in listing.images_in(root)]
    name_of = {normal_form(Path(name).stem): name for name in images} | {normal_form(name): name for name in images}
    lines = _rows(table)
    columns = lines[0][1]
    is_an_image = normal_form(columns[0]) in name_of or (root / columns[0]).is_file()
    if is_an_image:  # the first line names no columns
        columns = ["image", "class", *columns[2:]]
    else:
        lines = lines[1:]
    place_of_split = next((place for place, name in enumerate(columns) if name.lower() == SPLIT_COLUMN), None)
    listed = []
    for number, row in lines:
        if len(row) != len(columns) or not row[0] or not row[1]:
            raise ConfigError(
                f"{table}, line {number}: {', '.join(row)!r} where a value is expected for each of "
                f"{', '.join(columns)}; correct the line"
            )
        split = "" if place_of_split is None else _split(row[place_of_split], f"{table}, line {number}")
        listed.append((name_of.get(normal_form(row[0]), row[0]), normal_form(row[1]), split))
    found = from_lists(root, listed, remedy=f"correct {table}")
    left_out = set(images).difference(file.name for file in found.files)
    return replace(found, left_out=tuple(sorted(left_out)))


def _rows(table: Path) -> list[tuple[int, list[str]]]:
    """The lines of the table that are not empty, with their numbers."""
    try:
        text = read_text(table)
    except (OSError, DocumentError) as error:
        raise ConfigError(f"--labels {table}: {error}; give a CSV file") from error
    first_line = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=first_line.count))
    rows = [(reader.line_num, [word.strip() for word in row]) for row in reader if row]
    if not rows or len(rows[0][1]) < 2:
        raise ConfigError(
            f"{table} is not a table of images and their classes; expected a first line such as image,class and then a "
            "line for each image"
        )
    return rows


def _split(word: str, where: str) -> str:
    try:
        return listing.SPLIT_NAMES[word.lower()]
    except KeyError:
        raise ConfigError(f"{where}: no such split: {word!r}{nearest(word, listing.SPLIT_NAMES)}") from None
