"""Commands as they can be pasted into the shell that somebody has open, with every word quoted for it."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND = "transtailor"


def command(*words: object) -> str:
    """`transtailor` with these words, by its path where the shell would not find this installation's by its name."""
    return shlex.join([*_program(), *map(str, words)])


def pip(*words: str) -> str:
    """The command that calls pip for the environment of this Python: `install` or `uninstall`, and packages."""
    return shlex.join([_python(), "-m", "pip", *words])


def rerun(argv: Sequence[str], *more: str) -> str:
    """What was typed (`sys.argv`), with more words, as it can be typed again."""
    if _is_command(argv[0]):
        return command(*argv[1:], *more)
    return shlex.join([_python(), *argv, *more])


def launch_words(argv: Sequence[str]) -> list[str]:
    """Of a launch that was typed, the words behind `sweeps/launch.py` or `transtailor run`."""
    return [*argv[2 if _is_command(argv[0]) else 1 :]]


def _is_command(script: str) -> bool:
    """Whether that is `transtailor`, also by `python -m`, and not a program of a room."""
    return Path(script).name == COMMAND or Path(script).parts[-2:] == (COMMAND, "__main__.py")


def _program() -> list[str]:
    script = Path(sys.executable).with_name(COMMAND)
    return [_found(script)] if script.exists() else [_python(), "-m", COMMAND]


def _python() -> str:
    return _found(Path(sys.executable).with_name("python"))


def _found(program: Path) -> str:
    """Its name where PATH leads to it, or else its path, relative to the working folder if it is below."""
    known = shutil.which(program.name)
    if known is not None and Path(known).parent.resolve() == program.parent.resolve():
        return program.name
    is_below = Path.cwd() in program.parents[1:]
    return os.fspath(program.relative_to(Path.cwd()) if is_below else program)
