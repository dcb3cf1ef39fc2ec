"""Which columns of a table of labels have the image, its class and its split: by their names, never by their places."""

import re
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailor.common.errors import ConfigError
from transtailor.names import nearest
from transtailor.plural import first_few

Line = tuple[int, list[str]]
"""Number of a line in its file, from 1, and its values."""

_OF_IMAGE = ("", "id", "name", "index", "number", "file", "filename", "path")
_IMAGE_WORDS = frozenset(word + end for word in ("image", "img", "photo", "picture") for end in _OF_IMAGE)
IMAGE_WORDS = _IMAGE_WORDS | {"file", "filename", "fname", "filepath", "path"}
ID_WORDS = frozenset({"id", "idcode", "name"})  # of the image, if no column has one of IMAGE_WORDS
_CLASS_WORDS = frozenset(word + end for word in ("class", "label", "category") for end in ("", "id", "name"))
CLASS_WORDS = _CLASS_WORDS | {"labels", "findinglabels", "target", "species", "breed", "diagnosis", "dx"}
_EXAMPLES = {
    "image": "image, image_id, filename, path, id, ...",
    "class": "class, label, category, target, species, ...",
}
FOLDER_WORDS = frozenset({
    "relativepath", "folder", "foldername", "folderpath", "imagefolder", "subfolder", "directory", "dir", "dirname",
    "imagedir",
})  # fmt: skip
ONE = ("1", "1.0", "true")
ZERO = ("0", "0.0", "false")
BLANK = r"\s\u00ad\u200b\u200e\u200f\u2060\ufeff"  # in a pattern: spaces, and what has no width, as copied texts have
LIKE_LATIN = str.maketrans("авекмнорстухіјѕαεικορτυχ", "abekmhopctyxijsaeikoptyx")  # noqa: RUF001
_SHOWN = 20  # names of columns in a message


@dataclass(frozen=True, kw_only=True)
class AskedColumns:
    """What the user typed; None: the names of the columns decide."""

    image: str | None = None
    class_: str | None = None


@dataclass(frozen=True, kw_only=True)
class LabelColumns:
    """The columns of a table, by their indices."""

    names: tuple[str, ...]  # of all columns
    image: int
    classes: tuple[int, ...]  # one; or one for each class, with 1 in the lines of its images and 0 in all others
    split: int | None = None
    folder: int | None = None  # of each image
    are_named: bool = True  # by the first line of the table

    @property
    def is_one_hot(self) -> bool:
        """Whether each class has a column."""
        return len(self.classes) > 1

    def description(self) -> str:
        """Return a sentence that says which columns are read, and which are not."""
        if not self.are_named:
            return "its first line names no columns: the first one is the image, the second one its class"
        class_names = ", ".join(self.names[index] for index in self.classes)
        kind = f"its class the one of {class_names} that is 1" if self.is_one_hot else f"its class {class_names!r}"
        parts = [f"the image is column {self.names[self.image]!r}", kind]
        if self.folder is not None:
            parts.append(f"its folder {self.names[self.folder]!r}")
        if self.split is not None:
            parts.append(f"its split {self.names[self.split]!r}")
        if self.unread:
            parts.append(f"not read: {first_few([self.names[index] for index in self.unread], _SHOWN)}")
        return ", ".join(parts)

    def elsewhere(self) -> str:
        """Return the end of a message on an image that is not in the folder of its line; "" if no column has it."""
        if self.folder is None:
            return ""
        image, folder = self.names[self.image], self.names[self.folder]
        read_from = f"each image is read from the folder in {folder!r}"
        return f"; {read_from}: if that is another one, write it into {image!r} of every line"

    @property
    def unread(self) -> list[int]:
        """The columns with a name that are not read."""
        read = {self.image, *self.classes, self.split, self.folder}
        return [index for index, name in enumerate(self.names) if name and index not in read]

    def image_of(self, values: Sequence[str]) -> str:
        """Return the image that a line says, with its folder if that has a column."""
        folder = "" if self.folder is None else values[self.folder].replace("\\", "/").rstrip("/")
        return f"{folder}/{values[self.image]}" if folder else values[self.image]

    def class_of(self, values: Sequence[str]) -> str:
        """Return the class that a line says; "" if its cell is empty.

        Raises:
            ValueError: not exactly one of the columns of classes is 1.
        """
        if not self.is_one_hot:
            return values[self.classes[0]]
        ones = [self.names[index] for index in self.classes if values[index].casefold() in ONE]
        if len(ones) != 1:
            several = f"{len(ones)} of its classes are 1 ({', '.join(ones)}); remove columns that are no classes"
            raise ValueError(several if ones else "none of its classes is 1")
        return ones[0]


UNNAMED = LabelColumns(names=("image", "class"), image=0, classes=(1,), are_named=False)


def has_names(table: str, lines: Sequence[Line], asked: AskedColumns, is_image: Callable[[str], bool]) -> bool:
    """Return whether the first line of a table names its columns, rather than an image and its class.

    It does if a column has a known name of an image's column; it does not if it has an image, or a value that also
    stands below it.

    Args:
        table: its path, for messages.
        lines: all lines of the table that are not empty.
        asked: the columns that the user named, which then are names.
        is_image: whether a value is the name of an image.

    Raises:
        ConfigError: both or neither is the case.
    """
    if asked != AskedColumns():
        return True
    _, first = lines[0]
    known = _known_names(first)
    like_data = _sign_of_data(lines, is_image)
    if known and not like_data:
        return True
    if like_data and not known:
        return False
    title_ends = next((number for number, values in lines[1:] if _known_names(values)), None)
    if not known and title_ends is not None:
        raise ConfigError(f"{table}: line {title_ends} names the columns; remove what is above it")
    again = [str(number) for number, values in lines[1:] if known and values == first]
    if again:  # where tables were put together
        raise ConfigError(f"{table} names its columns again (line {first_few(again, _SHOWN)}); remove that")
    if known:
        doubt = f"{known[0]!r} may be the name of a column, but {like_data}"
        example = known[0]
    else:
        doubt = f"none of them is known as the image's ({_EXAMPLES['image']})"
        example = "NAME"
    raise ConfigError(
        f"{table}: whether its first line ({first_few(first, _SHOWN)}) names the columns is not clear: {doubt}; if it "
        f"does, add --image-column {shlex.quote(example)} and --class-column NAME, with two of these names; if it "
        "is an image and its class, write the line image,class above it"
    )


def _known_names(values: Sequence[str]) -> list[str]:
    """Return the values that are known as the name of an image's column."""
    return [value for value in values if word_of(value) in IMAGE_WORDS | ID_WORDS]


def _sign_of_data(lines: Sequence[Line], is_image: Callable[[str], bool]) -> str:
    """Return why the first line looks like the lines below it; "" if it does not."""
    _, first = lines[0]
    for column, value in enumerate(first):
        if value and is_image(value):
            return f"{value!r} is the name of an image"
        for number, values in lines[1:]:
            if value and column < len(values) and values[column] == value:
                return f"{value!r} is also in line {number}"
    return ""


def choose(
    table: str, names: Sequence[str], lines: Sequence[Line], asked: AskedColumns, is_file: Callable[[str], bool]
) -> LabelColumns:
    """Return the columns to read of a table.

    Args:
        table: its path, for messages.
        names: of the columns.
        lines: the lines below the names, each with a value for each column.
        asked: the columns that the user named.
        is_file: whether a value is the whole name of an image that is there.

    Raises:
        ConfigError: the names leave a doubt; the text has all names, and what to type.
    """
    image = _asked(table, names, "--image-column", asked.image)
    class_ = _asked(table, names, "--class-column", asked.class_)
    if image is not None and image == class_:
        raise ConfigError(f"--image-column and --class-column are both {asked.image!r}; name two columns")
    splits = [index for index, name in enumerate(names) if word_of(name) == "split" and index not in (image, class_)]
    if len(splits) > 1:
        raise ConfigError(f"{table} has {len(splits)} columns called split; remove all but one")
    split = splits[0] if splits else None
    named = [index for index, name in enumerate(names) if name and index != split]
    if image is None:
        of_files = [index for index in named if any(is_file(values[index]) for _, values in lines)]
        image = _image_among(table, names, [index for index in named if index != class_], of_files, class_ is not None)
    if class_ is None:
        classes = _classes_among(table, names, [index for index in named if index != image], lines)
    else:
        classes = (class_,)
    return LabelColumns(names=tuple(names), image=image, classes=classes, split=split)


def _image_among(
    table: str, names: Sequence[str], free: Sequence[int], of_files: Sequence[int], class_is_known: bool
) -> int:
    """Return the column of the image, of those that are free; without a known name, it is the only one."""
    candidates = _with_words(names, free, IMAGE_WORDS) or _with_words(names, free, ID_WORDS)
    if not set(candidates) & set(of_files):  # a line's number, say, may be the name of another line's image
        candidates = sorted({*candidates, *of_files})
    if not candidates and class_is_known and len(free) == 1:
        return free[0]
    return _only(table, names, candidates, "image")


def _classes_among(table: str, names: Sequence[str], free: Sequence[int], lines: Sequence[Line]) -> tuple[int, ...]:
    """Return the column of the class, of those that are free, or those of all classes."""
    candidates = _with_words(names, free, CLASS_WORDS)
    if not candidates and (len(free) == 1 or _are_zeros_and_ones(lines, free)):
        return tuple(free)
    return (_only(table, names, candidates, "class"),)


def trimmed(text: str) -> str:
    """Return a text without spaces, and without what is not shown, at its ends."""
    return re.sub(rf"^[{BLANK}]+|[{BLANK}]+$", "", text)


def word_of(name: str) -> str:
    """Return a name for comparing: without case, blanks, dashes, quotes and what is not shown, look-alikes as Latin.

    >>> word_of("Image Index"), word_of("file_name"), word_of("'gl\\u0430ss'\\u200b")
    ('imageindex', 'filename', 'glass')
    """
    shown = unicodedata.normalize("NFKC", name).casefold().translate(LIKE_LATIN)
    return re.sub(rf"[{BLANK}_'\"\u2018-\u201f\u2010-\u2015-]+", "", shown)


def _with_words(names: Sequence[str], indices: Sequence[int], words: frozenset[str]) -> list[int]:
    return [index for index in indices if word_of(names[index]) in words]


def _are_zeros_and_ones(lines: Sequence[Line], columns: Sequence[int]) -> bool:
    """Whether several columns have nothing but 0 and 1, as where each class has a column."""
    if len(columns) < 2:
        return False
    return all(values[column].casefold() in ONE + ZERO for _, values in lines for column in columns)


def _asked(table: str, names: Sequence[str], option: str, name: str | None) -> int | None:
    """Return the column that the user named; None if none was named."""
    if name is None:
        return None
    found = [index for index, column in enumerate(names) if column == name]
    found = found or [index for index, column in enumerate(names) if word_of(column) == word_of(name)]
    if len(found) != 1:
        if found:
            fault = f"{len(found)} columns of this name; give each a name of its own"
        else:
            fault = f"no such column{nearest(name, [column for column in names if column])}"
        raise ConfigError(f"{option} {name!r}: {table} has {fault}")
    return found[0]


def _only(table: str, names: Sequence[str], candidates: Sequence[int], kind: str) -> int:
    """Return the only candidate; raise ConfigError with all columns and what to type if it is not the only one."""
    if len(candidates) == 1:
        return candidates[0]
    option = f"--{kind}-column"
    if candidates:
        doubt = f"several may be the {kind}'s"
        candidate_names = [names[index] for index in candidates]
        remedy = "add " + " or ".join(f"{option} {shlex.quote(name)}" for name in candidate_names)
        if len(set(candidate_names)) < len(candidates):
            remedy = "give each column a name of its own"
    else:
        doubt = f"none of them is known as the {kind}'s ({_EXAMPLES[kind]})"
        remedy = f"add {option} NAME with one of these names"
        if kind == "class":
            remedy += (
                "; if each class has a column of its own, write 1 for its images and 0 for all others, and remove the "
                "columns that are neither classes nor the image"
            )
    columns = first_few([name for name in names if name], _SHOWN)
    raise ConfigError(f"{table} has the columns {columns}: {doubt}; {remedy}")
