"""Commands that a user can paste into the shell, with every word quoted for it."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND = "transtailor"


def command(*words: object) -> str:
    """`transtailor` with these words; with its path, unless PATH finds this installation.

    >>> command("status", "my runs/demo").rpartition("transtailor ")[2]
    "status 'my runs/demo'"
    """
    return shlex.join([*_program(), *map(str, words)])


def pip(*words: str) -> str:
    """The command that calls pip for the environment of this Python: `install` or `uninstall`, and packages."""
    return shlex.join([_python(), "-m", "pip", *words])


def rerun(argv: Sequence[str], *more: str) -> str:
    """The command that was typed (`sys.argv`) with more words, to paste."""
    if _is_command(argv[0]):
        return command(*argv[1:], *more)
    return shlex.join([_python(), *argv, *more])


def launch_words(argv: Sequence[str]) -> list[str]:
    """The words of a typed launch after `sweeps/launch.py` or `transtailor run`.

    >>> launch_words(["/usr/bin/transtailor", "run", "demo", "--plan"])
    ['demo', '--plan']
    """
    return [*argv[2 if _is_command(argv[0]) else 1 :]]


def _is_command(script: str) -> bool:
    """Whether this is `transtailor`, also by `python -m`, and not a program of a room."""
    return Path(script).name == COMMAND or Path(script).parts[-2:] == (COMMAND, "__main__.py")


def _program() -> list[str]:
    script = Path(sys.executable).with_name(COMMAND)
    return [_program_name(script)] if script.exists() else [_python(), "-m", COMMAND]


def _python() -> str:
    return _program_name(Path(sys.executable).with_name("python"))


def _program_name(program: Path) -> str:
    """Its name if PATH finds it, or else its path, relative to the working folder if it is below."""
    known = shutil.which(program.name)
    if known is not None and Path(known).parent.resolve() == program.parent.resolve():
        return program.name
    is_below = Path.cwd() in program.parents[1:]
    return os.fspath(program.relative_to(Path.cwd()) if is_below else program)
