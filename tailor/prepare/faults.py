"""All faults in the files of a data set: each kind is collected, so that one call names them all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import TextIO, TypeVar

from tailor.common.errors import ConfigError
from tailor.prepare.listing import FilesRefused, Refused, as_text, errors_explained, in_one_line, setting_aside
from transtailor.files import write_file
from transtailor.terminal import printable, say

T = TypeVar("T")
SHOWN_CHARACTERS = 160  # of a fault while others are looked for; the error at the end has all


@dataclass(frozen=True)
class Faults:
    """What is wrong with the files, kind by kind."""

    kinds: list[FilesRefused] = field(default_factory=list)
    unpacked: dict[Path, Path] = field(default_factory=dict)  # folder -> the archive that it comes from

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Note what the block raises for files; behind such faults, others may come from them, and are not raised."""
        try:
            yield
        except FilesRefused as error:
            if str(error) not in map(str, self.kinds):
                self.kinds.append(error)
        except ConfigError as error:
            if not self.kinds:
                raise ConfigError(self._for_user(str(error))) from error

    def without(self, list_files: Callable[[], T], out: TextIO) -> T:
        """Return what is listed without the files that are refused; notes and prints each kind of fault.

        Raises:
            FilesRefused: what is refused cannot be left out.
        """
        refused: list[Refused] = []
        while True:
            try:
                with setting_aside(refused), errors_explained():
                    return list_files()
            except FilesRefused as error:
                if {entry.path for entry in error.refused} <= {entry.path for entry in refused}:
                    raise
                self.kinds.append(error)
                refused += error.refused
                text = shorten(self._for_user(str(error)), SHOWN_CHARACTERS)
                say(f"fault: {text}; looking for others", to=out)

    def refuse(self, file: Path, kept: str) -> None:
        """Raise FilesRefused with all faults, if there are any.

        Writes: `file`, each refused file with the reason, line by line.

        Args:
            file: the list.
            kept: what to say of the work that is done.
        """
        if not self.kinds:
            return
        refused = [entry for kind in self.kinds for entry in kind.refused]
        lines = [f"{in_one_line(self._for_user(str(at.path)))}\t{printable(at.reason)}\n" for at in refused]
        write_file(file, "".join(lines))
        texts = self._for_user("; and\n".join(map(str, self.kinds)))
        raise FilesRefused(f"{texts}; then type the same command again{kept}. {file} has each with the reason", refused)

    def _for_user(self, text: str) -> str:
        """Return a text with paths as the user knows them: below the folder that was given, or in an archive."""
        for folder, archive_path in self.unpacked.items():
            text = text.replace(f"{folder}/", f"{archive_path}: ").replace(str(folder), str(archive_path))
        return as_text(text)
