"""The commands as a shell would run them, but in this process: a new process would import for seconds."""

import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import click
import pytest

from tests.forked_ranks import ForkServer, forking

Said = subprocess.CompletedProcess[str]
ROOT = Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "sweeps" / "launch.py"
COMMAND = ROOT / ".venv" / "bin" / "transtailor"


def launch(*arguments: object, folder: Path) -> Said:
    """`python sweeps/launch.py ...`; not for sweeps with user modules, which stay registered."""
    from hpc.ranks import process_ranks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_ranks, "subprocess", forking((), lambda *rank: _server().fork(*rank)))
        return _call(LAUNCH, arguments, folder, before=("run",))


def transtailor_command(*arguments: object, folder: Path) -> Said:
    """`transtailor ...`, in a folder."""
    return _call(COMMAND, arguments, folder)


def parsed(words: Sequence[str]) -> dict[str, object]:
    """What the command's own parser makes of `transtailor WORDS...`; ClickException: it refuses them."""
    from transtailor.__main__ import tree

    context, left = click.Context(tree()), list(words)
    while isinstance(context.command, click.Group):
        name, found, left = context.command.resolve_command(context, left)
        assert found is not None
        if not isinstance(found, click.Group):
            return found.make_context(name, left, parent=context).params
        context = click.Context(found, parent=context, info_name=name)
    raise AssertionError(words)


def in_own_process(*words: object, folder: Path) -> Said:
    """`python ...`, for tests that need a separate process."""
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=500, check=False
    )


def _call(program: Path, arguments: Sequence[object], folder: Path, before: Sequence[str] = ()) -> Said:
    from transtailor.__main__ import main

    typed = [str(program), *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), _argv(typed), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([*before, *typed[1:]])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return Said(typed, code, out.getvalue(), err.getvalue())


@cache
def _server() -> ForkServer:
    return ForkServer()


@contextmanager
def _argv(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before
