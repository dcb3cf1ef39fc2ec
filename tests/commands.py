"""The commands as a shell would run them, but in this process: a new process would import for seconds."""

import io
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest

Said = subprocess.CompletedProcess[str]
ROOT = Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "sweeps" / "launch.py"
Main = Callable[[Sequence[str]], int]


def launch(*arguments: object, folder: Path) -> Said:
    """`python sweeps/launch.py ...`; not for sweeps with user modules, which stay registered."""
    from sweeps.commands.launch import main
    from sweeps.driver import driver

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "warm_process", _warm_process)
        return _call(main, LAUNCH, arguments, folder)


def sweeps_command(*arguments: object, folder: Path) -> Said:
    """`python -m sweeps ...`; not for a `retry` that tries again, which becomes another program."""
    from sweeps.__main__ import main

    return _call(main, ROOT / "sweeps" / "__main__.py", arguments, folder)


def results_command(*arguments: object, folder: Path) -> Said:
    """`python -m results ...`."""
    from results.__main__ import main

    return _call(main, ROOT / "results" / "__main__.py", arguments, folder)


def tailor_command(*arguments: object, folder: Path) -> Said:
    """`python -m tailor ...`."""
    from tailor.__main__ import main

    return _call(main, ROOT / "tailor" / "__main__.py", arguments, folder)


def transtailor_command(*arguments: object, folder: Path) -> Said:
    """`transtailor ...`."""
    from transtailor.__main__ import main

    return _call(main, ROOT / ".venv" / "bin" / "transtailor", arguments, folder)


def parsed(words: Sequence[str]) -> Namespace:
    """What the command's own parser makes of `transtailor WORDS...`; SystemExit: it refuses them."""
    from transtailor.__main__ import ENTRIES

    name = next(name for name in ENTRIES if [*words[: len(name.split())]] == name.split())
    room = import_module(ENTRIES[name].main)
    parser = getattr(room, "parser", None) or room._parser
    options: Namespace = parser("transtailor").parse_args([*ENTRIES[name].words, *words[len(name.split()) :]])
    return options


def in_own_process(*words: object, folder: Path) -> Said:
    """`python ...`, for tests that need a separate process."""
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=500, check=False
    )


def _call(main: Main, program: Path, arguments: Sequence[object], folder: Path) -> Said:
    typed = [str(program), *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), _argv(typed), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(typed[1:])
        except SystemExit as end:  # argparse's
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return Said(typed, code, out.getvalue(), err.getvalue())


class _Warm:
    """The warm process of this process's launches; another environment gets another one."""

    open = ExitStack()
    made_for: tuple[object, ...] = ()
    address = ""


def _warm_process(target: str) -> nullcontext[str]:
    """As `warm_process`, but launches have one together: each of their own would import torch for seconds."""
    from hpc.ranks.warm_process import warm_process

    os.umask(mask := os.umask(0))
    made_for = target, mask, {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    if _Warm.made_for != made_for:
        _Warm.open.close()
        _Warm.made_for, _Warm.address = made_for, _Warm.open.enter_context(warm_process(target))
    return nullcontext(_Warm.address)


@contextmanager
def _argv(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before
