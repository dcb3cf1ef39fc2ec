"""Refuse to execute files that others can change, as ssh does for its keys, and paths that lead out of a folder."""

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def refuse_shared(paths: Iterable[Path], error: type[Exception], *, secret: bool = False) -> None:
    """Raise `error` unless these belong to this user or to root, and no other user may write to them.

    Args:
        paths: files and folders, which may be absent; for a link also its target.
        error: to raise.
        secret: no other user may read them either.

    Raises:
        Exception: `error`; the text says what to type.
    """
    closed = stat.S_IRWXG | stat.S_IRWXO if secret else WRITABLE_BY_OTHERS
    for path in paths:
        try:
            own, target = path.lstat(), path.stat()
        except FileNotFoundError:
            continue
        for owner in (own.st_uid, target.st_uid):
            if owner not in (os.getuid(), 0):
                raise error(
                    f"{path} belongs to another user (id {owner}), who would decide what you execute; "
                    "name a file of yours instead"
                )
        if target.st_mode & closed:
            can, change = ("read", "go-rwx") if secret else ("write to", "go-w")
            raise error(
                f"others can {can} {path} (mode {stat.S_IMODE(target.st_mode):o}), which decides what you execute; "
                f"type: chmod {change} {shlex.quote(str(path))}"
            )


def refuse_outside(folder: Path, paths: Iterable[Path], error: type[Exception]) -> None:
    """Raise `error` unless these paths, with links resolved, are below a folder.

    Args:
        folder: may be a link itself; then its target counts.
        paths: files and folders, which may be absent; the last name of each may be a link only to what is below.
        error: to raise.

    Raises:
        Exception: `error`; one of them is elsewhere.
    """
    root = folder.resolve()
    for path in paths:
        if not (target := path.resolve()).is_relative_to(root):
            raise error(
                f"{path} leads out of {folder}, to {target}: nothing is written or removed there; if it comes from "
                "another user, do not use it; if the link is yours, replace it by the files themselves"
            )
