"""Commands that a user can paste into the shell, with every word quoted for it."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND = "transtailor"


def command(*words: object) -> str:
    """Return the command `transtailor` with these words; with its path, unless PATH finds this installation.

    >>> command("status", "my runs/demo").rpartition("transtailor ")[2]
    "status 'my runs/demo'"
    """
    arguments = [str(word) for word in words]
    return shlex.join([*_program(), *arguments])


def pip(*words: str) -> str:
    """Return the command that calls pip for the environment of this Python, such as `pip("install", "ray")`."""
    return shlex.join([_python(), "-m", "pip", *words])


def rerun(argv: Sequence[str], *more: str) -> str:
    """Return the command that was typed (`sys.argv`) with more words, to paste."""
    if _is_command(argv[0]):
        return command(*argv[1:], *more)
    return shlex.join([_python(), *argv, *more])


def launch_words(argv: Sequence[str]) -> list[str]:
    """Return the words of a typed launch after `sweeps/launch.py` or `transtailor run`.

    >>> launch_words(["/usr/bin/transtailor", "run", "demo", "--plan"])
    ['demo', '--plan']
    """
    words_before = 2 if _is_command(argv[0]) else 1
    return list(argv[words_before:])


def _is_command(script: str) -> bool:
    """Whether a script is `transtailor`, also when started by `python -m`, and not `sweeps/launch.py`."""
    return Path(script).name == COMMAND or Path(script).parts[-2:] == (COMMAND, "__main__.py")


def _program() -> list[str]:
    """Return the words that start `transtailor`: its script, or `python -m transtailor` if that is not installed."""
    script = Path(sys.executable).with_name(COMMAND)
    if script.exists():
        return [_program_name(script)]
    return [_python(), "-m", COMMAND]


def _python() -> str:
    return _program_name(Path(sys.executable).with_name("python"))


def _program_name(program: Path) -> str:
    """Return the name of a program if PATH finds it; else its path, relative to the working folder if it is below."""
    on_path = shutil.which(program.name)
    if on_path is not None and Path(on_path).parent.resolve() == program.parent.resolve():
        return program.name
    is_below = Path.cwd() in program.parents[1:]
    return os.fspath(program.relative_to(Path.cwd()) if is_below else program)
