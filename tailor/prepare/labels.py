"""A folder of images without a folder for each class, and a table that says the class of each image."""

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tailor.common.errors import ConfigError
from tailor.prepare import label_columns, listing
from tailor.prepare.folder import enter
from tailor.prepare.label_columns import FOLDER_WORDS, AskedColumns, LabelColumns, Line, trimmed, word_of
from tailor.prepare.listing import FileListing, FilesRefused, Refused, from_lists, normal_form, some
from transtailor.documents import DocumentError, read_text
from transtailor.lines import lines_of
from transtailor.names import nearest
from transtailor.plural import counted, first_few

DELIMITERS = ",;\t"
NO_VALUES = frozenset(  # of pandas, R, spreadsheets and databases
    {"nan", "<na>", "nat", "null", "#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!"}
)
ONE_CLASS = "an image may have one class here: give each image one class, or remove its lines"


def list_labelled(roots: tuple[Path, ...], table: Path, asked: AskedColumns) -> FileListing:
    """Return the images that a table names: below one folder, by name with or without the suffix.

    The names of its columns say which one is the image, the class and the split (train, val or test), unless `asked`
    does. If its first line names no columns, there are two: the image and its class.

    Raises:
        ConfigError: no such table, one whose columns are in doubt, or lines that do not fit the images (then it is
            FilesRefused); the text says which line or columns.
    """
    root = enter(roots, has_class_folders=False)
    paths = [path for path in listing.files_below(root) if path.suffix.lower() in listing.SUFFIXES]
    image_names = [path.relative_to(root).as_posix() for path in paths]
    names_of_stem = defaultdict[str, list[str]](list)
    for name in image_names:
        names_of_stem[normal_form(str(PurePosixPath(name).with_suffix("")))].append(name)
    full_name_of = {normal_form(name): name for name in image_names}
    for stem, names in names_of_stem.items():
        if stem not in full_name_of:  # a whole name goes before another one's stem
            full_name_of[stem] = names[0]
    lines = []
    in_refused: set[str] = set()
    for line in _lines(table):
        if listing.is_set_aside(_place(table, line)):
            in_refused |= {full_name_of.get(normal_form(value), "") for value in line[1]}
        else:
            lines.append(line)
    _refuse_open_quotes(table, lines, full_name_of)
    columns, lines = _columns(table, lines, asked, full_name_of)
    folder = _folder_of_names(root, [values[columns.image] for _, values in lines], full_name_of)
    for _, values in lines:
        values[columns.image] = _below(folder, values[columns.image])
    listed = [entry for entry in _entries(table, lines, columns) if not listing.is_set_aside(root / entry[0])]
    _refuse_doubtful_stems(root, table, listed, names_of_stem, full_name_of)
    listed = [(full_name_of.get(normal_form(image), image), class_, split) for image, class_, split in listed]
    listed = [entry for entry in listed if not listing.is_set_aside(root / entry[0])]
    there = set(image_names)
    _refuse_several_classes(root, table, [entry for entry in listed if entry[0] in there])
    unique_entries = dict.fromkeys(listed)  # a line for each object in an image repeats its class
    remedy = f"correct {table}, as it is read now: {columns.description()}"
    file_listing = from_lists(root, unique_entries, remedy, in_refused, columns.elsewhere())
    read_files = {file.path for file in file_listing.files}
    left_out = [path for path in listing.files_below(roots[0]) if listing.is_image(path) and path not in read_files]
    note = f"{table}: {columns.description()}{_notes_of_splits(columns, lines)}"
    folder_names = {normal_form(PurePosixPath(name).parent.name) for name in image_names}
    if contradicted := [
        f"{file.name} ({file.class_name})"
        for file in file_listing.files
        if file.class_name in folder_names and file.class_name != normal_form(file.path.parent.name)
    ]:
        note += f"; images in a folder that is not called as their class, as others are: {some(contradicted)}"
    if folder:
        note += f"; its images are read without the folder that all of them begin with: {folder}"
    if len(unique_entries) < len(listed):
        note += f"; lines that repeat an image and its class: {len(listed) - len(unique_entries)}"
    left_out_names = tuple(listing.as_text(path.relative_to(roots[0]).as_posix()) for path in left_out)
    return replace(file_listing, left_out=left_out_names, note=note)


def _notes_of_splits(columns: LabelColumns, lines: Sequence[Line]) -> str:
    """Return what to say of the columns that are not read, and of folders, that may have the split."""
    values_of = {f"column {columns.names[index]!r}": {values[index] for _, values in lines} for index in columns.unread}
    if columns.split is None:
        folders = {part for _, values in lines for part in PurePosixPath(values[columns.image]).parts[:-1]}
        values_of["the folder of each image"] = {name for name in folders if name.casefold() in listing.SPLIT_NAMES}
    notes = ""
    for what, values in values_of.items():
        words = sorted(values - {""})
        text = " ".join([what, *words])
        if 1 < len(words) <= listing.SHOWN and re.search(r"train|test|valid|fold(?!er)|holdout", text, re.IGNORECASE):
            notes += (
                f"; {what} ({', '.join(words)}) may say the split: to use it, give it in a column called split, with "
                f"{', '.join(listing.SPLITS)} in its lines"
            )
    return notes


def _lines(table: Path) -> list[Line]:
    """Return the lines of the table that are not empty."""
    try:
        text = read_text(table)
    except (OSError, DocumentError) as error:
        raise ConfigError(f"--labels {table}: {error}; give a CSV file") from error
    first_line = next((line for line in lines_of(text) if set(DELIMITERS) & set(line)), "")
    delimiter = max(DELIMITERS, key=first_line.count)
    names_delimiter = re.fullmatch(r"sep=[,;\t]", first_line)  # Excel's
    lines = []
    csv.field_size_limit(max(len(text), csv.field_size_limit()))  # masks are long, and so is a quote that nobody closed
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    end = 0
    for values in reader:
        begin, end = end + 1, reader.line_num  # a cell may have line ends
        # Excel writes ="..." to keep a text; others quote by '...'
        stripped = [trimmed(re.sub(r"""^(?:="(.*)"|'(.*)')$""", r"\1\2", trimmed(value))) for value in values]
        if any(stripped) and not (names_delimiter and begin == 1):  # also none of what spreadsheets add
            lines.append((begin, stripped))
    if text.lstrip().startswith(("[", "{", "<")) or all(len(values) < 2 for _, values in lines):  # JSON, XML, ...
        raise ConfigError(
            f"{table} is not a table of images and their classes, separated by commas, semicolons or tabs; expected "
            "CSV, with a first line such as image,class and then a line for each image"
        )
    return lines


def _refuse_open_quotes(table: Path, lines: Sequence[Line], full_name_of: Mapping[str, str]) -> None:
    """Raise ConfigError for lines with a quote that is closed late, or nowhere: a cell has lines of other images."""
    _, first = lines[0]

    def is_of_image(text: str) -> bool:
        values = [normal_form(value.strip()) for value in re.split(f"[{DELIMITERS}]", text)]
        names = [*values, *(re.split(r"[/\\]", value)[-1] for value in values)]
        return len(values) == len(first) and any(name in full_name_of for name in names)

    faults = []
    for number, values in lines:
        taken = [_begin(text.strip()) for value in values for text in value.split("\n")[1:] if is_of_image(text)]
        if taken:
            faults.append(f"line {number}: a quote opens a cell with other lines, such as {taken[0]!r}")
    if faults:
        raise ConfigError(f"{table}, {first_few(faults, between='; ')}; close it, or write it twice")


def _columns(
    table: Path, lines: list[Line], asked: AskedColumns, full_name_of: Mapping[str, str]
) -> tuple[LabelColumns, list[Line]]:
    """Return the columns to read, and the lines without the one that names them, with each image in its folder."""
    _, first = lines[0]

    def is_image(value: str) -> bool:
        return normal_form(value) in full_name_of or Path(value).suffix.lower() in listing.SUFFIXES

    file_names = {PurePosixPath(name).name for name in full_name_of.values()}

    def is_file(value: str) -> bool:
        return re.split(r"[/\\]", value)[-1] in file_names

    are_named = label_columns.has_names(str(table), lines, asked, is_image)
    if are_named:
        names, lines = first, lines[1:]
        if not lines:
            raise ConfigError(f"{table} has nothing below the names of its columns; write a line for each image")
    else:
        names = list(label_columns.UNNAMED.names)
        if len(first) != len(names):
            raise ConfigError(
                f"{table}: its first line ({', '.join(first)}) names no columns, and there are {len(first)}; write a "
                "first line that names them, such as image,class,split"
            )
    _refuse_lines(table, [_misfit(line, names) for line in lines if len(line[1]) != len(names)])
    columns = label_columns.choose(str(table), names, lines, asked, is_file) if are_named else label_columns.UNNAMED
    columns = _with_folders(columns, lines, full_name_of)
    for _, values in lines:
        values[columns.image] = columns.image_of(values)
    return columns, lines


def _with_folders(columns: LabelColumns, lines: Sequence[Line], full_name_of: Mapping[str, str]) -> LabelColumns:
    """Return the columns with that of the images' folders, as tables of camera traps have one; as they are if none is.

    In a column that is called like that, one image that is there suffices, for others may be missing; else all count,
    or most if none is there without its folder.
    If it leads to none, and images' names have no folders, it counts, too: images elsewhere may have the same names.
    """
    doubtful = columns
    for index, name in enumerate(columns.names):
        in_some = [values for _, values in lines if values[index]]
        if index == columns.image or not in_some:
            continue
        in_folders = replace(columns, folder=index)
        are_there = [normal_form(in_folders.image_of(values)) in full_name_of for values in in_some]
        are_most = sum(are_there) > len(are_there) / 2
        is_needed = not any(normal_form(values[columns.image]) in full_name_of for values in in_some)
        is_called_folder = word_of(name) in FOLDER_WORDS
        if any(are_there) if is_called_folder else all(are_there) or (are_most and is_needed):
            return in_folders
        if is_called_folder and not any(re.search(r"[/\\]", values[columns.image]) for values in in_some):
            doubtful = in_folders
    return doubtful


def _folder_of_names(root: Path, names: Sequence[str], full_name_of: Mapping[str, str]) -> str | None:
    """Return the folder that all names begin with and `root` does not have: one of another machine, or `root` itself.

    No image is there under its whole name, and at least one is there under what follows the folder, with "/". None: the
    names are as they should be, or no such folder makes them so. Another relative folder may be one that is missing.
    """

    def is_there(name: str) -> bool:
        return normal_form(name) in full_name_of or listing.is_file_below(root, name)

    if any(map(is_there, names)):
        return None
    parts_of_names = [name.replace("\\", "/").split("/") for name in names]
    common_parts = os.path.commonprefix([parts[:-1] for parts in parts_of_names])
    for count in range(len(common_parts) + 1):
        if any(is_there("/".join(parts[count:])) for parts in parts_of_names):
            folders = common_parts[:count]
            is_of_machine = not folders or folders[0] in ("", ".", "..") or folders[0].endswith(":")
            if root.name.lower() in map(str.lower, folders):  # what follows it is a folder of its own
                is_of_machine = folders[-1].lower() == root.name.lower()
            return "".join(f"{part}/" for part in folders) if is_of_machine else None
    return None


def _below(folder: str | None, name: str) -> str:
    """Return an image's name below `folder`, in the one way of several to write it."""
    if folder is not None:
        name = name.replace("\\", "/").removeprefix(folder)
    return name if not name or "://" in name else str(PurePosixPath(name))


def _entries(table: Path, lines: Sequence[Line], columns: LabelColumns) -> list[tuple[str, str, str]]:
    """Return image, class and split of each line, as they are written. Raises FilesRefused: some have none."""
    entries = []
    faults = []
    for line in lines:
        try:
            entries.append(_entry(line, columns))
        except ValueError as error:
            faults.append((line, str(error)))
    _refuse_lines(table, faults)
    return entries


def _entry(line: Line, columns: LabelColumns) -> tuple[str, str, str]:
    """Return image, class and split of a line. Raises ValueError: what is wrong, and what to do."""
    _, values = line
    try:
        class_name = columns.class_of(values)
    except ValueError as error:
        raise ValueError(f"{error}; {ONE_CLASS}") from error
    image = values[columns.image]
    if not image or not class_name:
        _, misfit = _misfit(line, [columns.names[index] for index in (columns.image, *columns.classes)])
        raise ValueError(misfit)
    if class_name.casefold() in NO_VALUES:
        raise ValueError(
            f"the class of {image} is {class_name!r}, which programs write where there is no value; give it a class, "
            "or remove the line"
        )
    split = "" if columns.split is None else _split(values[columns.split])
    return image, normal_form(class_name), split


def _misfit(line: Line, names: Iterable[str]) -> tuple[Line, str]:
    text = f"{_begin(', '.join(line[1]))!r} where a value is expected for each of {', '.join(names)}; correct the line"
    return line, text


def _begin(text: str) -> str:
    """Return how a text begins, for a message."""
    return text if len(text) <= 100 else f"{text[:100]}..."


def _place(table: Path, line: Line) -> Path:
    """Return how a line is called in a list of files."""
    return Path(f"{table}, line {line[0]}")


def _refuse_lines(table: Path, faults: Sequence[tuple[Line, str]]) -> None:
    """Raise FilesRefused for the lines that are at fault, with what is wrong with each."""
    if faults:
        lines_of = defaultdict[str, list[str]](list)
        for line, fault in faults:
            lines_of[fault].append(str(line[0]))
        shown = []
        for fault, numbers in list(lines_of.items())[: listing.SHOWN]:
            shown.append(f"{'line' if len(numbers) == 1 else 'lines'} {first_few(numbers)}: {fault}")
        others = len(lines_of) - len(shown)
        rest = f"; and {counted(others, 'other fault')}" if others else ""
        raise FilesRefused(
            f"{table}, {'; '.join(shown)}{rest}",
            [Refused(_place(table, line), fault) for line, fault in faults],
        )


def _refuse_doubtful_stems(
    root: Path,
    table: Path,
    listed: Iterable[tuple[str, str, str]],
    names_of_stem: Mapping[str, list[str]],
    full_name_of: Mapping[str, str],
) -> None:
    """Raise FilesRefused for names without a suffix that are the ones of several images, such as 1.jpg and 1.png."""
    doubtful = {}
    for image, _class_name, _split_name in listed:
        names = names_of_stem.get(normal_form(image), [])
        if len(names) > 1 and normal_form(full_name_of[normal_form(image)]) != normal_form(image):
            doubtful[image] = f"{image} may be {' or '.join(names)}"
    if doubtful:
        raise FilesRefused(
            f"{table}: {some(doubtful.values())}; write the whole names, or move the other images away",
            [Refused(root / image, text) for image, text in doubtful.items()],
        )


def _split(word: str) -> str:
    try:
        return listing.SPLIT_NAMES[word.lower()]
    except KeyError:
        raise ValueError(
            f"no such split: {word!r}{nearest(word, listing.SPLIT_NAMES)}; write one in each line, or remove the column"
        ) from None


def _refuse_several_classes(root: Path, table: Path, listed: Iterable[tuple[str, str, str]]) -> None:
    """Raise FilesRefused for images with several classes: in several lines, or in one cell."""
    classes_of = defaultdict[str, dict[str, None]](dict)
    for name, class_name, _split_name in listed:
        classes_of[name][class_name] = None
    class_names = {class_name for classes in classes_of.values() for class_name in classes}
    parted = {name: labels for name in sorted(class_names) if len(labels := labels_in(name, class_names)) > 1}
    several = {}
    for name, classes in classes_of.items():
        labels = [label for class_name in classes for label in parted.get(class_name, [class_name])]
        if len(labels) > 1:
            several[name] = f"{name} ({', '.join(labels)})"
    if several:
        as_one = [f"; if {name!r} is one class, call it {'_'.join(labels)}" for name, labels in parted.items()][:1]
        raise FilesRefused(
            f"{table}: {counted(len(several), 'image')} with several classes: {some(several.values())}; "
            f"{ONE_CLASS}{''.join(as_one)}",
            [Refused(root / name, f"several classes: {text}") for name, text in several.items()],
        )


def labels_in(class_name: str, class_names: Set[str]) -> list[str]:
    """Return the labels that a cell has, usually one.

    `|` and `;` part labels. Commas and spaces, which names of classes have too, do so if every part is a class of other
    images.

    >>> labels_in("scab|rust", {"scab|rust"}), labels_in("scab rust", {"scab", "rust", "scab rust"})
    (['scab', 'rust'], ['scab', 'rust'])
    >>> labels_in("No Finding", {"No Finding", "Mass"})
    ['No Finding']
    """
    labels = _parts(r"[|;]", class_name)
    if len(labels) > 1:
        return labels
    for separator in (",", r"[,\s]"):
        labels = _parts(separator, class_name)
        if len(labels) > 1 and class_names >= set(labels):
            return labels
    return [class_name]


def _parts(separator: str, text: str) -> list[str]:
    stripped = [part.strip() for part in re.split(separator, text)]
    return [part for part in stripped if part]
