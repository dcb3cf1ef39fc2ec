"""Whether what is executed is this user's alone, as ssh asks of its keys, and what leads out of a folder."""

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def refuse_shared(paths: Iterable[Path], error: type[Exception], *, secret: bool = False) -> None:
    """Do nothing if these belong to this user, or to root, and nobody else may write to them; what is not there may.

    Args:
        paths: files and folders; of a link also what it leads to.
        error: to raise.
        secret: nobody else may read them either.

    Raises:
        Exception: `error`; the text says what to type.
    """
    closed = stat.S_IRWXG | stat.S_IRWXO if secret else WRITABLE_BY_OTHERS
    for path in paths:
        try:
            own, found = path.lstat(), path.stat()
        except FileNotFoundError:
            continue
        for owner in (own.st_uid, found.st_uid):
            if owner not in (os.getuid(), 0):
                raise error(
                    f"{path} belongs to another user (id {owner}), who would decide what you execute; "
                    "name one of your own instead"
                )
        if found.st_mode & closed:
            can, change = ("read", "go-rwx") if secret else ("write to", "go-w")
            raise error(
                f"others can {can} {path} (mode {stat.S_IMODE(found.st_mode):o}), which decides what you execute; "
                f"type: chmod {change} {shlex.quote(str(path))}"
            )


def refuse_outside(folder: Path, paths: Iterable[Path], error: type[Exception]) -> None:
    """Do nothing if these are below a folder, also where links on the way lead.

    Args:
        folder: which may be a link itself: whoever named it meant what it leads to.
        paths: files and folders, which need not be there; the last name of each may be a link only to what is below.
        error: to raise.

    Raises:
        Exception: `error`; one of them is elsewhere.
    """
    root = folder.resolve()
    for path in paths:
        if not (found := path.resolve()).is_relative_to(root):
            raise error(
                f"{path} leads out of {folder}, to {found}: nothing is written or removed there; if it comes from "
                "somebody else, do not use it; if the link is yours, put the files themselves in its place"
            )
