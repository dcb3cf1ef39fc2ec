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
    """Return the images that a table names: below one folder, by name with or without the suffix.

    The first column of the table is the name, the second one the class. If the first line names the columns, and one of
    them is `split`, that says train, val or test.

    Raises:
        ConfigError: no such table, or one whose lines do not fit the images; the text says which line.
    """
    root = enter(roots)
    image_names = [path.name for path in listing.images_in(root)]
    full_name_of = {normal_form(Path(name).stem): name for name in image_names}
    full_name_of |= {normal_form(name): name for name in image_names}  # a whole name goes before another one's stem
    rows = _rows(table)
    _, columns = rows[0]
    first_line_is_an_image = normal_form(columns[0]) in full_name_of or (root / columns[0]).is_file()
    if first_line_is_an_image:  # and names no columns
        columns = ["image", "class", *columns[2:]]
    else:
        rows = rows[1:]
    lower_case_columns = [column.lower() for column in columns]
    split_index = lower_case_columns.index(SPLIT_COLUMN) if SPLIT_COLUMN in lower_case_columns else None
    listed = []
    for number, values in rows:
        if len(values) != len(columns) or not values[0] or not values[1]:
            raise ConfigError(
                f"{table}, line {number}: {', '.join(values)!r} where a value is expected for each of "
                f"{', '.join(columns)}; correct the line"
            )
        split = "" if split_index is None else _split(values[split_index], f"{table}, line {number}")
        name = full_name_of.get(normal_form(values[0]), values[0])
        listed.append((name, normal_form(values[1]), split))
    file_listing = from_lists(root, listed, remedy=f"correct {table}")
    left_out = set(image_names).difference(file.name for file in file_listing.files)
    return replace(file_listing, left_out=tuple(sorted(left_out)))


def _rows(table: Path) -> list[tuple[int, list[str]]]:
    """Return number and values of each line of the table that is not empty."""
    try:
        text = read_text(table)
    except (OSError, DocumentError) as error:
        raise ConfigError(f"--labels {table}: {error}; give a CSV file") from error
    first_line = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first_line.count)
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    for values in reader:
        if values:
            rows.append((reader.line_num, [value.strip() for value in values]))
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
