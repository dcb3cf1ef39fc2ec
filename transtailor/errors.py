"""How commands end: the base class of errors that they print without a traceback, and their exit codes.

The codes are for what started them: a shell, a script, SLURM, or another program of ours.

>>> [SUCCESS, FAILED, MISTAKE, TRY_AGAIN, INTERRUPTED]
[0, 1, 2, 75, 130]
"""

import errno
import os
import shlex
from pathlib import Path

SUCCESS = 0
FAILED = 1  # the command ran, and something failed: trials, a training, a check of a cluster
MISTAKE = 2  # in what was typed or in a file; click uses it too
TRY_AGAIN = 75  # EX_TEMPFAIL: the input is fine, and starting the command again may succeed
INTERRUPTED = 130  # 128 + SIGINT, as shells count

_OF_THE_MACHINE = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG,
)  # fmt: skip


class ExplainedError(Exception):
    """An error whose text is all that a user needs: commands print it without a traceback.

    Attributes:
        exit_code: with which the command ends.
    """

    exit_code = MISTAKE


class UserError(ExplainedError):
    """A mistake that a user can fix; the text says what was given, what is valid and what to type next."""


def is_of_the_machine(error: OSError) -> bool:
    """Whether a disk, a quota or permissions refuse something, so that the user has to act.

    >>> is_of_the_machine(PermissionError("read-only")), is_of_the_machine(ConnectionResetError("bug"))
    (True, False)
    """
    return isinstance(error, PermissionError) or error.errno in _OF_THE_MACHINE


def misfit_of(error: BaseException) -> str:
    """Return what to do where torchvision was made for another torch, of which it says an operator; "" otherwise.

    >>> misfit_of(RuntimeError("operator torchvision::nms does not exist")).partition(": ")[2]
    'install both by one command: docs/install.md'
    """
    if not (isinstance(error, RuntimeError) and str(error).startswith("operator torchvision::")):
        return ""
    from importlib.metadata import version  # takes longer than the rest of this module

    versions = " and ".join(f"{name} {version(name)}" for name in ("torch", "torchvision"))
    return f"{versions} do not fit together ({error}): install both by one command: docs/install.md"


def reason_of(error: OSError, path: Path | None = None) -> str:
    """Return what the machine refused, with its path, and for permissions what shows whose it is.

    >>> reason_of(PermissionError(errno.EACCES, "Permission denied", "/a b"))
    "/a b: Permission denied; ask its owner for the right; to see who that is, type: namei -l '/a b'"

    >>> reason_of(PermissionError(errno.EACCES, "Permission denied", "runs/a/.points.parquet.0f3c.tmp"))
    'runs/a: Permission denied; ask its owner for the right; to see who that is, type: namei -l runs/a'

    Args:
        path: the file, where the error does not name it, such as pyarrow's.
    """
    name = path if error.filename is None else error.filename
    if name is None or error.errno is None:
        return str(error)
    place = Path(os.fsdecode(name))
    if isinstance(error, PermissionError) and place.name.startswith(".") and place.suffix == ".tmp":
        name = str(place.parent)  # the file has this name only while it is written
    text = f"{name}: {os.strerror(error.errno)}"
    if isinstance(error, PermissionError):
        text += f"; ask its owner for the right; to see who that is, type: namei -l {shlex.quote(os.fsdecode(name))}"
    return text
