"""The image files with their classes and splits, as every layout returns them."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tailor.common.errors import ConfigError
from transtailor.plural import counted, first_few

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
"""Name of a folder, in lower case -> its split."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
OTHER_SUFFIXES = (".ppm", ".pgm", ".tga", ".ico", ".dng", ".nef", ".cr2", ".arw", ".icloud")
"""Of images that are not read; other formats are known by how their files begin."""
SHOWN = 5  # names in an error message
OF_SYSTEMS = {  # names in lower case of what systems, editors and archivers put beside a user's folders
    "__macosx", "thumbs.db", "desktop.ini", ".ds_store", ".appledouble", ".trashes", ".spotlight-v100", ".fseventsd",
    "$recycle.bin", "system volume information", "lost+found", "@eadir", "#recycle", "@recycle",
    "#snapshot", ".snapshot", ".snapshots", ".zfs", ".thumbnails", ".picasaoriginals", ".dropbox.cache", ".stfolder",
    ".stversions", ".ipynb_checkpoints", "__pycache__", ".git", ".svn", ".hg", ".dvc", ".cache", ".idea", ".vscode",
    ".venv",
}  # fmt: skip
OF_TRASH = (".trash", "._", ".nfs")  # how other such names begin
HEADS_OF_IMAGES = (
    b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"8BPS", b"\xff\n", b"\0\0\0\x0cJXL",
    b"\0\0\0\x0cjP  ",
)  # fmt: skip
KINDS_OF_IMAGES = (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1", b"ftypavi", b"ftypcrx")  # from byte 4: HEIC, ...


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image on disk."""

    path: Path
    name: str  # below its folder or archive, with slashes, as text: what images.csv keeps
    class_name: str  # as text, in NFC: programs that read tables compare names letter by letter
    split: str  # train, val or test; pool if trials draw theirs; "" if the layout has no splits


@dataclass(frozen=True, kw_only=True)
class FileListing:
    """All images of a folder."""

    files: tuple[ImageFile, ...]
    left_out: tuple[str, ...] = ()  # names of other files, which are not read
    left_out_images: tuple[str, ...] = ()  # of these the images: in no class, in a folder in a class, of other formats
    note: str = ""  # what was read of a table of labels


@dataclass(frozen=True)
class Refused:
    """A file or folder that the user must see to, and why."""

    path: Path
    reason: str


class FilesRefused(ConfigError):
    """Some files keep a data set from being made; `prepare` writes all of them to a file, so none is cut here.

    What is refused is listed again without these files, so that the next kind of fault is found by the same call.
    """

    def __init__(self, text: str, refused: Sequence[Refused]) -> None:
        """Take `text`, which says what is wrong and what to do, and `refused`, in the order of the files."""
        super().__init__(text)
        self.refused = tuple(refused)


_set_aside: ContextVar[frozenset[Path]] = ContextVar("set_aside", default=frozenset())


@contextmanager
def setting_aside(refused: Iterable[Refused]) -> Iterator[None]:
    """List without what was refused, as if the user had moved it away."""
    token = _set_aside.set(frozenset(fault.path for fault in refused))
    try:
        yield
    finally:
        _set_aside.reset(token)


def is_set_aside(path: Path) -> bool:
    """Whether a file, folder or line of a table was refused, and the listing goes on without it."""
    return path in _set_aside.get()


def is_any_set_aside() -> bool:
    """Whether anything was refused, so that what classes lack may follow from it."""
    return bool(_set_aside.get())


def some(names: Iterable[str], shown: int = SHOWN) -> str:
    """Return the first few names, and the number of the others.

    >>> some(["c", "a", "b"]), some("abcdefg")
    ('a, b, c', 'a, b, c, d, e and 2 more')
    """
    return first_few([in_one_line(name) for name in sorted(names)], shown)


def in_one_line(name: str) -> str:
    r"""Return a name as a message shows it: line ends and tabs in it are escaped.

    >>> in_one_line("a\nb.jpg")
    'a\\nb.jpg'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)


def as_text(name: str) -> str:
    r"""Return a name from the disk as text for images.csv and the manifest, which other programs read as UTF-8.

    Disks of older systems have names in other encodings. Bytes of a name that are not UTF-8 are written as \xe9.

    >>> as_text(os.fsdecode(b"caf\xe9"))
    'caf\\xe9'
    """
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def normal_form(name: str) -> str:
    """Return a name for comparing, sorting and drawing: in NFC, because macOS and archives made there may write NFD.

    >>> normal_form("cafe\\u0301") == "caf\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


@contextmanager
def errors_explained() -> Iterator[None]:
    """Raise FilesRefused with the path of a folder or file that cannot be read."""
    try:
        yield
    except OSError as error:
        raise FilesRefused(
            f"{error.filename} cannot be read: {error.strerror}; make it readable for you, or give a folder without it",
            [Refused(Path(error.filename), str(error.strerror))],
        ) from error


def is_of_system(path: Path) -> bool:
    """Whether a file or folder was made by a system or an archiver, not by the user."""
    name = path.name.casefold()
    return name in OF_SYSTEMS or name.startswith(OF_TRASH)


def is_hidden(path: Path) -> bool:
    """Whether a file or folder was made by a system, or is set aside."""
    return is_of_system(path) or is_set_aside(path)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name.

    Raises:
        FilesRefused: one that has images begins with a dot, so that it may be a class or what a program put there; or a
            link that may be a class leads nowhere.
    """
    entries = [path for path in folder.iterdir() if not is_hidden(path)]
    refuse_dead_links(entries)
    folders = sorted(path for path in entries if path.is_dir())
    doubtful = [path for path in folders if path.name.startswith(".") and images_in(path)]
    if doubtful:
        names = some(f"{as_text(path.name)!r} ({len(images_in(path))} images)" for path in doubtful)
        raise FilesRefused(
            f"{folder} has folders with images whose names begin with a dot: {names}; give classes names without the "
            "dot, and move other folders away",
            [Refused(path, "its name begins with a dot") for path in doubtful],
        )
    return [path for path in folders if not path.name.startswith(".")]


def split_of(folder: Path) -> str | None:
    """Return the split that a folder has the name of; None for any other folder."""
    return SPLIT_NAMES.get(folder.name.casefold())


def images_in(folder: Path) -> list[Path]:
    """Return the images directly in a folder, by name, also those set aside: they say what kind of folder it is."""
    entries = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in entries if path.is_file() and not is_of_system(path))


def refuse_dead_links(paths: Iterable[Path]) -> None:
    """Raise FilesRefused for symbolic links to what is not there, which may be images or classes."""
    dead = sorted(path for path in paths if path.is_symlink() and not path.exists() and not path.name.startswith("."))
    if dead:
        raise FilesRefused(
            f"{counted(len(dead), 'symbolic link')} to what is not there: "
            f"{some(f'{as_text(str(path))} -> {as_text(str(path.readlink()))}' for path in dead)}; fetch what they "
            "link to (by git annex get, dvc pull, ...), or remove them",
            [Refused(path, f"links to {as_text(str(path.readlink()))}, which is not there") for path in dead],
        )


def loose_files(folder: Path) -> list[Path]:
    """Return the files directly in a folder."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not is_hidden(path))


def listing_of(files: Iterable[ImageFile], others: Sequence[Path], root: Path) -> FileListing:
    """Return a listing of these images, with the names of other files from `root`."""
    return FileListing(
        files=tuple(files),
        left_out=tuple(_name(path, root) for path in others),
        left_out_images=tuple(_name(path, root) for path in others if is_image(path)),
    )


def list_class_folders(folder: Path, root: Path, split: str = "", classes: Sequence[Path] | None = None) -> FileListing:
    """List the images of `folder`/<class>/, without those of deeper folders and of `folder` itself.

    Args:
        folder: the folder of the classes.
        root: the folder that names of images are relative to.
        split: the split of all of them.
        classes: the folders of classes; None: all folders.

    Raises:
        ConfigError: no classes, or classes without images.
    """
    files: list[ImageFile] = []
    others = loose_files(folder)
    class_folders = subfolders(folder) if classes is None else classes
    if not class_folders:
        advice = (
            "; if tables say their classes, give one of all, with a column called split, in --labels; or its own "
            f"there, and {folder} alone, unpacked, in --from"
        )
        if split == TEST:
            advice = f"; if its images have no labels, move {folder.name} away: a test split is then drawn"
        raise ConfigError(f"{folder} has no folders; expected a folder for each class, with its images{advice}")
    entries_of = {path: [entry for entry in path.iterdir() if not is_hidden(entry)] for path in class_folders}
    refuse_dead_links(entry for entries in entries_of.values() for entry in entries)
    empty: list[Path] = []
    for class_folder, entries in entries_of.items():
        images = [path for path in images_in(class_folder) if not is_set_aside(path)]
        if not images and not any(map(is_set_aside, class_folder.iterdir())):
            empty.append(class_folder)
        class_name = normal_form(as_text(class_folder.name))
        files += [ImageFile(path=path, name=_name(path, root), class_name=class_name, split=split) for path in images]
        image_paths = set(images)
        others += [path for entry in sorted(entries) if entry not in image_paths for path in files_below(entry)]
    if empty:
        _refuse_empty(empty, split)
    return listing_of(files, others, root)


def files_below(entry: Path) -> list[Path]:
    """Return a file itself, or all files in a folder and its folders, by name; links to folders are followed once.

    Raises:
        OSError: a folder cannot be read.
    """
    if not entry.is_dir():
        return [entry]
    files: list[Path] = []
    seen: set[str] = set()

    def cannot_be_read(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(entry, onerror=cannot_be_read, followlinks=True):
        real_place = os.path.realpath(place)
        folders[:] = [name for name in folders if not is_hidden(Path(name))]
        if real_place in seen:
            folders.clear()
            continue
        seen.add(real_place)
        files += [Path(place, name) for name in names if not is_hidden(Path(name))]
    return sorted(path for path in files if path.is_file() or path.is_symlink())


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix, or by how its content begins."""
    is_file = path.is_file()  # not so: a pipe or a device, which may wait for ever, or a link to what is not there
    if path.suffix.lower() in SUFFIXES:
        return is_file or path.is_symlink()
    if not is_file:
        return False
    if path.suffix.lower() in OTHER_SUFFIXES:
        return True
    with path.open("rb") as file:
        head = file.read(16)
    return head.startswith(HEADS_OF_IMAGES) or head[4:].startswith(KINDS_OF_IMAGES)


def _name(path: Path, root: Path) -> str:
    return as_text(path.relative_to(root).as_posix())


def _refuse_empty(folders: Sequence[Path], split: str) -> None:
    """Raise FilesRefused for the folders of classes without images."""
    have = f"class {as_text(folders[0].name)!r} has" if len(folders) == 1 else f"{len(folders)} classes have"
    message = (
        f"{have} no images: none of {', '.join(SUFFIXES)} is directly in {some(map(str, folders))}; put them there, or "
        f"remove {'the folder' if len(folders) == 1 else 'the folders'}"
    )
    images_below = {folder: [path for path in files_below(folder) if is_image(path)] for folder in folders}
    below = [path for images in images_below.values() for path in images]
    if below:
        message += (
            f"; {len(below)} images are in folders inside of them, or have no such suffix: {some(map(str, below), 2)}; "
            "a table of their classes (--labels) reads images of any folder"
        )
    holders = [folder.name for folder, images in images_below.items() if images]
    if len(holders) == 1:
        give = "move them one folder up, and remove it" if split else "give that folder, unpacked, in --from"
        message += f"; if the folders in {as_text(holders[0])!r} are the classes, {give}"
    if not split:
        message += f"; names of splits are {', '.join(SPLIT_NAMES)}"
    raise FilesRefused(message, [Refused(folder, "a class without images") for folder in folders])


def from_lists(
    folder: Path,
    listed: Iterable[tuple[str, str, str]],
    remedy: str = "download the lists again",
    in_refused: Set[str] = frozenset(),
    elsewhere: str = "",
) -> FileListing:
    """Return the images that lists name.

    Args:
        folder: the folder that names in the lists are relative to.
        listed: name, class and split of each image.
        remedy: what to do if the lists are wrong.
        in_refused: images that lines name which are refused.
        elsewhere: what to do about an image in another folder, where no line names folder and image in one text.

    Raises:
        FilesRefused: an image is listed twice, or is not in `folder`.
    """
    entries = [entry for entry in listed if not is_set_aside(folder / entry[0])]
    times_listed = Counter(name for name, _class_name, _split in entries)
    path_of = _paths(folder, times_listed)
    missing = [name for name in times_listed if name not in path_of]
    used = set(path_of.values())
    if missing:
        unused = [path for path in files_below(folder) if path not in used and not is_set_aside(path)]
        others = sorted({_name(path, folder) for path in unused if is_image(path)} - in_refused)
        there = f"; there are {len(others)} others, such as {in_one_line(others[0])}" if others else ""
        there += elsewhere or (
            _alike(missing, others, str.casefold, "capitals")
            or _alike(missing, others, _word, "folder, suffix, capitals, leading zeros, or an upload's number")
        )
        raise FilesRefused(
            f"{len(missing)} of {len(times_listed)} listed images are not in {folder}: {some(missing)}{there}; give "
            f"the whole archive of images, or {remedy}",
            [Refused(folder / name, "listed, but not there") for name in missing],
        )
    listed_twice = [name for name, times in times_listed.items() if times > 1]
    if listed_twice:
        raise FilesRefused(
            f"splits overlap: {some(listed_twice)} are in the lists more than once; {remedy}, each image may "
            "belong to one split",
            [Refused(folder / name, "listed more than once") for name in listed_twice],
        )
    files = (
        ImageFile(path=path_of[name], name=_name(path_of[name], folder), class_name=class_name, split=split)
        for name, class_name, split in entries
    )
    return FileListing(files=tuple(files))


def _alike(missing: Sequence[str], others: Sequence[str], word_of: Callable[[str], str], but_for: str) -> str:
    """Return the end of a message: what to write for a listed name, if others have the same word; else ""."""
    words = Counter(map(word_of, missing))
    alike = [name for name in others if word_of(name) in words]
    if not alike:
        return ""
    words += Counter(map(word_of, alike))
    word = max(map(word_of, alike), key=words.__getitem__)  # of several files or names, if there is one
    there_are = [name for name in alike if word_of(name) == word]
    names = [name for name in missing if word_of(name) == word]
    pair = in_one_line(f"{' or '.join(there_are[:2])} for {' or '.join(names[:2])}")
    which = "whichever is meant" if words[word] > 2 else "if they are the same images"
    return f"; {len(alike)} have a listed name but for {but_for}: write {pair}, {which}"


def _word(name: str) -> str:
    """Return an image's name without its folder, suffix, capitals, leading zeros, and what Label Studio puts before it.

    >>> _word("Station1/IMG_0010.JPG"), _word("/data/upload/1/a1b2c3d4-IMG_10.JPG")
    ('img_10', 'img_10')
    """
    return re.sub(r"^[0-9a-f]{8}-|(?<!\d)0+(?=\d)", "", PurePosixPath(name).stem.lower())


def is_file_below(folder: Path, name: str) -> bool:
    """Whether there is a file of this name below a folder; False if it leads out, or no file can be called so."""
    path = PurePosixPath(name)
    leads_out = path.is_absolute() or ".." in path.parts
    return not leads_out and os.path.isfile(folder / name)  # noqa: PTH113  # Path.is_file raises for a long address


def _paths(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the path of each listed name that is there, also of one that the disk has in another Unicode form."""
    path_of = {name: folder / name for name in names if is_file_below(folder, name)}
    perhaps_in_another_form = [name for name in names if name not in path_of and not name.isascii()]
    if perhaps_in_another_form:
        on_disk = {normal_form(_name(path, folder)): path for path in folder.rglob("*") if path.is_file()}
        for name in perhaps_in_another_form:
            if normal_form(name) in on_disk:
                path_of[name] = on_disk[normal_form(name)]
    return path_of
