"""The two forms in which a user gives images: a folder for each class, and a table; nothing is guessed.

What is in doubt becomes a problem, and then no data set is made.
"""

import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tailor.common.errors import ConfigError
from tailor.common.texts import as_text, normal_form, some
from tailor.prepare.problems import Problems
from transtailor.documents import DocumentError, read_text
from transtailor.lines import lines_of
from transtailor.names import nearest
from transtailor.plural import counted

TRAIN = "train"
VALIDATION = "val"
TEST = "test"
SPLITS = (TRAIN, VALIDATION, TEST)
POOL = "pool"  # the split of all images of a target that trials divide
SPLIT_NAMES = {
    "train": TRAIN, "training": TRAIN,
    "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
"""Name of a folder, or value of a column, in lower case -> its split."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
OTHER_SUFFIXES = (
    ".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".ppm", ".pgm", ".tga", ".ico", ".dng", ".nef", ".cr2", ".cr3",
    ".arw", ".jfif", ".jpe", ".svg", ".icloud",
)  # fmt: skip
"""Of images that are not read."""
HEADS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")  # of images without a suffix
OF_SYSTEMS = {
    "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found", "@eadir",
    "#recycle", "@recycle", "#snapshot", "__pycache__", ".git", ".ipynb_checkpoints", ".thumbnails", ".trashes",
}  # fmt: skip
"""Names in lower case of what systems put beside a user's folders."""
NO_CLASS = {"", "nan", "<na>", "nat", "null", "none", "na", "n/a", "#n/a", "#ref!", "#value!"}  # how programs write it
ALL_BUT_CLASSES = {"images", "jpegimages", "labels", "annotations", "masks", "segmentationclass", *SPLIT_NAMES}
OF_GROUPS = re.compile(
    r"(group|patient|subject|animal|individual|person|participant|case|specimen|plant|field|site|location|plot|camera|"
    r"session|video|sequence|burst|slide|donor)s?[\s_-]*(id|name|no|nr|number|code)?",
    re.IGNORECASE,
)
"""How a column may be called whose images belong together."""
FIELDS = ("image", "class", "split", "group")  # what columns of a table are called, unless others are typed
FETCH = "fetch what it links to (git annex get, dvc pull, ...), or remove it"


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image on disk."""

    path: Path
    name: str  # below its folder or archive, with slashes, as text: what images.csv keeps
    class_name: str  # as text, in NFC: programs that read tables compare names letter by letter
    split: str = ""  # train, val or test; pool if trials draw theirs; "" if the data set has no splits
    group: str = ""  # what it shows, such as an animal, of which all images are in one split; "" if not said


def list_folder(given: Path, problems: Problems) -> list[ImageFile]:
    """Return the images of root/<class>/*, or root/{train,val,test}/<class>/*. Raises ConfigError: there are none."""
    expected = f"expected a folder for each class with its images, or folders {', '.join(SPLITS)} of such folders"
    root = given
    left: list[Path] = []  # files that are no images
    folders = _subfolders(root, left, problems)
    ends = {name for name, split in SPLIT_NAMES.items() if split != VALIDATION}
    while len(folders) == 1 and not _images_in(folders[0]) and folders[0].name.casefold() not in ends:
        root = folders[0]  # a folder that has nothing but a folder is entered, as archives often have one
        folders = _subfolders(root, left, problems)
    if not folders:
        archives = [path.name for path in left if path.suffix in (".zip", ".tar", ".tgz", ".gz")]
        advice = f"; unpack its archives into one folder: {some(archives)}" if archives else ""
        advice += "; or give a table of its images and their classes in --labels" if _images_in(root) else ""
        raise ConfigError(f"{given} has no folders; {expected}{advice}")
    of_split = {split: folder for folder in folders if (split := SPLIT_NAMES.get(folder.name.casefold()))}
    files = [] if of_split else _class_folders(folders, root, "", left, problems)
    names = ", ".join(folder.name for folder in of_split.values())
    if of_split and TRAIN not in of_split:
        raise ConfigError(f"{given} has the splits {names}, but not {TRAIN!r}; add it, or call one of them so")
    remedy = f"move it away, or call it as another split ({', '.join(SPLIT_NAMES)}); a class may not be called so"
    others = [folder for folder in folders if of_split and folder not in of_split.values()]
    problems.add("folder", f"beside the splits {names}", remedy, others)
    for split in filter(of_split.get, SPLITS):
        classes = _subfolders(of_split[split], left, problems)
        if not classes:
            advice = "; a test split without labels is of no use here: move it away" if split == TEST else ""
            in_split = "expected a folder for each class with its images, or, in --labels, a table with a column split"
            raise ConfigError(f"{of_split[split]} has no folders; {in_split}{advice}")
        files += _class_folders(classes, root, split, left, problems)
    if left:
        shown = some(_name(path, given) for path in left)
        problems.note(f"{counted(len(left), 'file')} that are no images are left out: {shown}")
    return files


def _class_folders(
    folders: Sequence[Path], root: Path, split: str, left: list[Path], problems: Problems
) -> list[ImageFile]:
    """Return the images directly in folders of classes, with names below `root`; adds other files to `left`."""
    files: list[ImageFile] = []
    for folder in folders:
        class_name = normal_form(as_text(folder.name))
        if fault := _fault_of_class(class_name):
            problems.add("folder", "whose name is no class", "rename it, or move it away", [folder], fault)
        try:
            entries = _visible(folder)
            below = [path for entry in entries if entry.is_dir() for path in files_below(entry)]
        except OSError as error:
            remedy = "make it readable for you (chmod u+rX), or give a folder without it"
            problems.add("folder", "that cannot be read", remedy, [Path(error.filename)], str(error.strerror))
            continue
        dead = list(filter(_is_dead, (*entries, *below)))
        problems.add("link", "to what is not there", FETCH, dead)
        nested = [path for path in below if is_image(path)]
        remedy = "move it up into the folder of its class, or give a table of images and classes in --labels"
        problems.add("image", "in a folder inside of a class", remedy, nested)
        images = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
        others = [path for path in entries if path.suffix.lower() not in SUFFIXES and path.is_file()]
        unread = [path for path in others if is_image(path)]
        remedy = f"convert it to JPEG or PNG, with one of the suffixes {', '.join(SUFFIXES)}, or move it away"
        problems.add("file", "that may be an image and is not called as one that is read", remedy, unread)
        if not (images or nested or unread or dead):
            remedy = f"put some there, or remove it; the names of splits are {', '.join(SPLIT_NAMES)}"
            problems.add("class", "without images", remedy, [folder])
        left += [path for path in others if path not in unread]
        files += [ImageFile(path=at, name=_name(at, root), class_name=class_name, split=split) for at in images]
    return files


def _subfolders(folder: Path, left: list[Path], problems: Problems) -> list[Path]:
    """Return the folders in one that has the classes, or the splits; adds its files to `left`, or to the problems."""
    try:
        folders = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower() not in OF_SYSTEMS)
        entries = _visible(folder)
        dotted = [path for path in folders if path.name.startswith(".") and _images_in(path)]
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}; make it readable for you") from error
    remedy = "give a class a name without the dot, or move the folder away"
    problems.add("folder", "with images whose name begins with a dot", remedy, dotted)
    problems.add("link", "to what is not there", FETCH, [path for path in entries if _is_dead(path)])
    visible = [path for path in folders if path in entries]
    for path in filter(Path.is_file, entries):
        if visible and is_image(path):
            problems.add("image", "beside the folders of classes", "move it into one, or away", [path])
        else:
            left.append(path)
    return visible


def _visible(folder: Path) -> list[Path]:
    """Return what is in a folder, by name, without what systems put there."""
    return sorted(path for path in folder.iterdir() if not _is_hidden(path.name))


def _is_hidden(name: str) -> bool:
    return name.lower() in OF_SYSTEMS or (name.startswith(".") and not name.endswith(".icloud"))


def _is_dead(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _images_in(folder: Path) -> list[Path]:
    with suppress(OSError):  # of a folder that cannot be read, which is said where it is listed
        return [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return []


def _name(path: Path, root: Path) -> str:
    return as_text(path.relative_to(root).as_posix())


def is_image(path: Path) -> bool:
    """Whether a file may be an image, by its suffix or, without one, by how its content begins."""
    suffix = path.suffix.lower()
    if suffix or not path.is_file():
        return suffix in SUFFIXES or suffix in OTHER_SUFFIXES
    with suppress(OSError), path.open("rb") as file:
        return file.read(16).startswith(HEADS)
    return False


def files_below(entry: Path) -> list[Path]:
    """Return all files below a folder, by name; links are followed once. Raises OSError: a folder is unreadable."""
    files: list[Path] = []
    seen: set[str] = set()

    def cannot_be_read(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(entry, onerror=cannot_be_read, followlinks=True):
        real_place = os.path.realpath(place)
        is_new = real_place not in seen
        seen.add(real_place)
        folders[:] = [name for name in folders if is_new and not _is_hidden(name)]
        files += [Path(place, name) for name in names if is_new and not _is_hidden(name)]
    return sorted(files)


def list_table(given: Path, table: Path, columns: Mapping[str, str], problems: Problems) -> list[ImageFile]:
    """Return the images of a table, by its columns image, class and, if there, split and group, or those typed.

    Raises ConfigError: no such table, one without these columns, or a folder of images that cannot be read.
    """
    names, lines = _read_table(table)
    fields = [field for field in FIELDS if field in columns or field in names or field in FIELDS[:2]]
    read = {field: _column(table, names, columns.get(field, field)) for field in fields}
    problems.note(f"{table}: {', '.join(f'its {field} is {names[at]!r}' for field, at in read.items())}")
    # Say that a column is not read, if it may have the groups or the splits
    for at in sorted(set(range(len(names))) - set(read.values())):
        name = names[at]
        if "group" not in read and OF_GROUPS.fullmatch(name):
            problems.note(
                f"the column {name!r} is not read. If its images belong together (of one animal, of one patient), type "
                f"--group-column {name!r}, so that they are in one split: else scores are too good"
            )
        if "split" not in read and {values[at].lower() for _, values in lines} <= SPLIT_NAMES.keys():
            problems.note(f"the column {name!r} is not read. If it has the splits, type --split-column {name!r}")
    entries = [entry for line in lines if (entry := _entry(table, line, read, problems)) is not None]
    classes = {entry.class_name for entry in entries}
    for entry in entries:
        parts = {part for part in re.split(r"[|;,\s]+", entry.class_name) if part}
        if len(parts) > 1 and (parts < classes or re.search(r"[|;]", entry.class_name)):
            remedy = "give an image one class: remove the others or the line, or join their names with _ in all lines"
            problems.add("line", "with several classes", remedy, [entry.path], entry.class_name)
    wanted = {normal_form(str(PurePosixPath(entry.name))) for entry in entries}
    best: tuple[int, Path, dict[str, Path]] = (-1, given, {})
    root = given
    while True:  # names may begin in a folder that has all of the images
        on_disk = on_disk_below(root)
        if (found := len(wanted & on_disk.keys())) > best[0]:
            best = found, root, on_disk
        folders = {PurePosixPath(name).parts[0] for name, path in on_disk.items() if is_image(path)}
        if len(folders) != 1 or not (root / (folder := folders.pop())).is_dir():
            break
        root = root / folder
    _, root, on_disk = best
    others = [name for name, path in on_disk.items() if name not in wanted and is_image(path)]
    column = names[read["image"]]
    remedy = (
        f"write it as below {root}{f', such as {min(others)}' if others else ''}, or remove the line. If names differ "
        f"in folder and suffix, by pandas: root = pathlib.Path({str(root)!r}); "
        "paths = {path.stem: path.relative_to(root) for path in root.rglob('*.*')}; "
        f"table[{column!r}] = [paths[pathlib.Path(name).stem] for name in table[{column!r}]]; "
        f"table.to_csv({str(table)!r}, index=False)"
    )
    if others:
        problems.note(f"{counted(len(others), 'image')} in no line of {table} are left out: {some(others)}")
    return find_images(entries, on_disk, root, remedy, problems)


def _read_table(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of a table's columns, and number and values of each line below that is not empty."""
    import pandas

    try:
        text = read_text(table)
        first = next(iter(lines_of(text)), "")
        separators = [separator for separator in ",;\t" if separator in first]
        if len(separators) != 1:
            raise ValueError("its first line does not name columns, with one of comma, semicolon or tab between them")
        cells = pandas.read_csv(
            io.StringIO(text), sep=separators[0], header=None, dtype=str, keep_default_na=False, skip_blank_lines=False,
            skipinitialspace=True,
        )  # fmt: skip
    except (OSError, DocumentError, ValueError) as error:  # among them pandas' ParserError
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        expected = "expected CSV in UTF-8 with a first line such as image,class and then a line for each image"
        raise ConfigError(f"--labels {table}: {reason}; {expected}") from error
    rows = [[str(value).strip() for value in values] for values in cells.values.tolist()]
    if repeated := [name for name, count in Counter(rows[0]).items() if count > 1]:
        raise ConfigError(f"--labels {table}: several columns are called {some(map(repr, repeated))}; rename them")
    return rows[0], [(number, values) for number, values in enumerate(rows[1:], 2) if any(values)]


def _column(table: Path, names: Sequence[str], name: str) -> int:
    """Return the place of a column. Raises ConfigError: there is none of this name."""
    if name in names:
        return names.index(name)
    raise ConfigError(
        f"--labels {table} has no column {name!r}{nearest(name, names)}; its first line is {', '.join(names)}. Call "
        "its columns image and class (and, if there, split and group), or type --image-column, --class-column, "
        "--split-column, --group-column NAME. Columns of 0 and 1 for each class become one by pandas: "
        'table["class"] = table[["cat", "dog"]].astype(int).idxmax(axis=1); table.to_csv("labels.csv", index=False)'
    )


def _entry(table: Path, line: tuple[int, list[str]], read: Mapping[str, int], problems: Problems) -> ImageFile | None:
    """Return what a line says, its path being the line; None, and a problem more, if it does not say all of it."""
    number, cells = line
    place = Path(f"{table}, line {number}")
    values = {field: normal_form(cells[at]) for field, at in read.items()}
    empty = [field for field, value in values.items() if not value or "\n" in value]
    split = values.get("split", TRAIN).lower()
    if empty:
        remedy = "write one value, without quotes that stay open, or remove the line"
        problems.add("line", "without a value", remedy, [place], ", ".join(empty))
    elif fault := _fault_of_class(values["class"]):
        problems.add("line", "whose class is none", "write another name, or remove the line", [place], fault)
    elif split not in SPLIT_NAMES:
        remedy = f"write {', '.join(SPLITS)}, or remove the column"
        problems.add("line", "whose split is none", remedy, [place], f"{split!r}{nearest(split, SPLIT_NAMES)}")
    else:
        split = SPLIT_NAMES[split] if "split" in read else ""
        group, image = values.get("group", ""), values["image"]
        return ImageFile(path=place, name=image, class_name=values["class"], split=split, group=group)
    return None


def on_disk_below(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by name, in NFC. Raises ConfigError: it cannot be read."""
    try:
        return {normal_form(_name(path, folder)): path for path in files_below(folder)}
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}; make it readable for you") from error


def find_images(
    entries: Iterable[ImageFile], on_disk: Mapping[str, Path], root: Path, remedy: str, problems: Problems
) -> list[ImageFile]:
    """Return the images that lines name, of those on the disk by name; adds lines without one, and two of one."""
    line_of: dict[Path, Path] = {}
    files = []
    for entry in entries:
        path = on_disk.get(normal_form(str(PurePosixPath(entry.name))))
        if path is None or _is_dead(path):
            problems.add("line", "whose image is not there", remedy, [entry.path], entry.name)
        elif path in line_of:
            detail = f"{entry.name}, as {line_of[path].name}"
            problems.add("line", "of an image that has another line", "remove one of them", [entry.path], detail)
        else:
            line_of[path] = entry.path
            files.append(replace(entry, path=path, name=_name(path, root)))
    return files


def _fault_of_class(name: str) -> str:
    """Return why a name is none of a class, or ""."""
    if name.casefold() in NO_CLASS:
        return f"{name!r} is what programs write where there is no value"
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in name):
        return f"{name!r} has a line end or another control character"
    hidden = r"[\s\u200b\ufeff]"
    return f"{name!r} begins or ends with a blank" if re.search(f"^{hidden}|{hidden}$", name) else ""


def check_classes(files: Sequence[ImageFile], problems: Problems) -> None:
    """Add classes that may be no classes to the problems: two spellings of one, splits, masks, numbers."""
    path_of = {file.class_name: file.path.parent for file in reversed(files)}
    alike = defaultdict[str, list[str]](list)
    for name in sorted(path_of):
        key = re.sub(r"[\s_-]+", "", name.casefold())
        alike[re.sub(r"^0*(\d+)([.,]0+)?$", r"\1", key)].append(name)  # numbers: 01 and 1.0 are 1
    for names in alike.values():
        if len(names) > 1:
            remedy = "give them one name, or names that differ in more than capitals, blanks, zeros, - and _"
            places = [path_of[names[0]]]
            problems.add("class", "in two spellings", remedy, places, " and ".join(map(repr, names)))
    are_splits = all(re.search("train|val|test", name.casefold()) for name in path_of)
    remedy = "call splits train, val and test, and move masks and labels away; if it is a class, call it otherwise"
    for name in path_of:
        if are_splits or name.casefold() in ALL_BUT_CLASSES:
            problems.add("class", "that is none by its name", remedy, [path_of[name]], repr(name))
    if path_of and all(re.fullmatch(r"-?\d+[.,]\d+", name) for name in path_of):
        remedy = "each is a class without an order; to predict values, write a data set of your own: docs/extend.md"
        problems.add("class", "called by measured numbers", remedy, path_of.values(), stops=False)
