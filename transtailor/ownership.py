"""Refuse to execute files that others can change, as ssh does for its keys, and paths that lead out of a folder."""

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from transtailor.files import is_there

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def refuse_shared(paths: Iterable[Path], error: type[Exception], *, secret: bool = False) -> None:
    """Raise `error` unless these files belong to this user or to root, and no other user may write to them.

    Args:
        paths: files and folders, which may be absent; of a link both the link and its target are checked.
        error: to raise.
        secret: other users may have no rights at all.

    Raises:
        Exception: `error`; the text says what to type.
    """
    forbidden_mode = WRITABLE_BY_OTHERS
    can = "write to"
    chmod = "go-w"
    if secret:
        forbidden_mode = stat.S_IRWXG | stat.S_IRWXO
        can = "read"
        chmod = "go-rwx"
    for path in paths:
        if not is_there(path):
            continue
        try:
            link = path.lstat()
            target = path.stat()
        except FileNotFoundError:  # removed meanwhile
            continue
        for owner in (link.st_uid, target.st_uid):
            if owner not in (os.getuid(), 0):
                raise error(
                    f"{path} belongs to another user (id {owner}), who would decide what you execute; "
                    "let its owner type this, or use a copy of yours"
                )
        if target.st_mode & forbidden_mode:
            raise error(
                f"others can {can} {path} (mode {stat.S_IMODE(target.st_mode):o}), which decides what you execute; "
                f"type: chmod {chmod} {shlex.quote(str(path))}"
            )


def refuse_outside(folder: Path, paths: Iterable[Path], error: type[Exception]) -> None:
    """Raise `error` unless these paths, with links resolved, are below a folder.

    Args:
        folder: may be a link itself; then its target counts.
        paths: files and folders, which may be absent; one may be a link to another file below the folder.
        error: to raise.

    Raises:
        Exception: `error`; one of them is elsewhere.
    """
    root = folder.resolve()
    for path in paths:
        target = path.resolve()
        if not target.is_relative_to(root):
            raise error(
                f"{path} leads out of {folder}, to {target}: nothing is written or removed there; if it comes from "
                "another user, do not use it; if the link is yours, replace it by the files themselves"
            )
