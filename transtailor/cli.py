"""What all commands are made of: `command` turns a function into one, `Commands` is a group that imports them lazily.

@cli.command(example="runs/demo --lines 5")
@cli.run_argument
@cli.option("--lines", default=20, help="how many")
def logs(run: Path, lines: int) -> Iterator[str]:
    '''The last lines of a run's logs.'''
    yield f"the last {lines} lines of {run}"
"""

import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click import argument, option

from transtailor.errors import INTERRUPTED, MISTAKE, SUCCESS, ExplainedError, is_of_the_machine, misfit_of, reason_of
from transtailor.garbage import import_uncollected
from transtailor.names import did_you_mean
from transtailor.sources import line_of_user
from transtailor.terminal import ignore_closed_stdout, say

__all__ = [
    "COUNT",
    "FILE",
    "FOLDER",
    "FRACTION",
    "PATH",
    "RUN",
    "Command",
    "Commands",
    "Function",
    "GivenOnce",
    "argument",
    "command",
    "option",
    "run_argument",
    "typed",
]

RUNS = Path("runs")
"""Where runs are, unless `--runs` says otherwise. The user can give a run below it by its name alone."""

Answer = Iterable[object] | int | None
"""What the function of a command returns: the lines to print, or the exit code. None means success."""

Function = TypeVar("Function", bound=Callable[..., Any])
"""A function that a decorator returns unchanged."""

_TYPED = f"{__name__}.typed"  # key in click's `meta`
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


class Command(click.Command):
    """A command that prints the lines of its function, or ends with the exit code that the function returns.

    If the user made a mistake, also one in a module of their own, it explains this on standard error without a
    traceback, and ends with exit code 2 or the one of the error.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words that were typed, and keep them for `typed`."""
        ctx.meta[_TYPED] = shlex.join([*ctx.command_path.split(), *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> None:
        """Call the function, print its answer, and end with the exit code."""
        exit_code = SUCCESS
        try:
            with ignore_closed_stdout():
                exit_code = _print(super().invoke(ctx))
        except ExplainedError as error:
            _explain(error)
            exit_code = error.exit_code
        except (Exception, SystemExit) as error:  # a user's code may exit
            line = line_of_user(error)
            if misfit := misfit_of(error):
                _explain(misfit)
            elif line:
                _explain(f"{line}: {type(error).__name__}: {error}")
            elif isinstance(error, OSError) and is_of_the_machine(error):
                _explain(reason_of(error))
            else:
                raise
            exit_code = MISTAKE
        ctx.exit(exit_code)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example in a line of its own, without line breaks, so that it can be pasted."""
        if self.epilog is not None:
            formatter.write(f"\nexample: {ctx.command_path} {self.epilog}".rstrip() + "\n")


def typed() -> str:
    """Return the running command as it was typed, to paste: "transtailor trial run trial.toml --save models"."""
    words: str = click.get_current_context().meta[_TYPED]
    return words


def _print(answer: Answer) -> int:
    """Print the lines of a command as they come; return the exit code."""
    if isinstance(answer, int):
        return answer
    for line in answer or ():
        say(line)
    return SUCCESS


def _explain(error: Exception | str) -> None:
    say(f"error: {error}", to=sys.stderr)


def command(*, example: str, cls: type[Command] = Command) -> Callable[[Callable[..., Answer]], click.Command]:
    """Return a decorator that turns a function into a command, whose help is the function's docstring.

    Args:
        example: arguments that work. The help shows them behind the name of the command.
    """
    return click.command(cls=cls, epilog=example, context_settings=_CONTEXT)


Sections = Mapping[str, Mapping[str, tuple[str, str]]]
"""Section of the help -> command -> "module:name" of it, and what it is for. Two words: a command of a group."""


class GivenOnce(Command):
    """Refuses an option that counts once and is given twice: else the last one would count, without a word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words that were typed."""
        words_left = super().parse_args(ctx, [*args])  # which takes the words out of its list
        _values, _words, given = self.make_parser(ctx).parse_args([*args])
        for one in given:
            if isinstance(one, click.Option) and not one.multiple and given.count(one) > 1:
                ctx.fail(f"{one.opts[0]} is given {given.count(one)} times; give it once")
        return words_left


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def __init__(self, name: str, sections: Sections, **more: Any) -> None:
        super().__init__(name, context_settings=_CONTEXT, **more)
        self.sections = sections
        self.entries = {name: entry for entries in sections.values() for name, entry in entries.items()}

    def invoke(self, ctx: click.Context) -> None:
        """Call the command that was typed. Ctrl-C ends it with its exit code, also while the command is imported."""
        try:
            super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted", to=sys.stderr)
            ctx.exit(INTERRUPTED)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands and groups, in their order."""
        return list(dict.fromkeys(name.partition(" ")[0] for name in self.entries))

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or return a group; None if there is none of this name."""
        if cmd_name not in self.entries:
            prefix = f"{cmd_name} "
            below: dict[str, dict[str, tuple[str, str]]] = {}
            for section, entries in self.sections.items():
                found = {name.removeprefix(prefix): entries[name] for name in entries if name.startswith(prefix)}
                if found:
                    below[section] = found
            return Commands(cmd_name, below) if below else None
        module, _, function = self.entries[cmd_name][0].partition(":")
        imported = getattr(import_uncollected(module), function)
        assert isinstance(imported, click.Command)
        return imported

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed. If there is none, raise UsageError, which names the nearest one."""
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            hint = did_you_mean(name, dict.fromkeys([*self.list_commands(ctx), *self.entries]))
            ctx.fail(f"no command {name!r}; {hint}to list them, type: {ctx.command_path} --help")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of commands for each section."""
        for section, entries in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(name, text) for name, (_function, text) in entries.items()])

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog without line breaks of click's own, because its lines are to be pasted."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")


class _Fraction(click.ParamType):  # type: ignore[type-arg]  # only newer versions of click know the argument
    """A number from 0 to below 1."""

    name = "fraction"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < 1:
            self.fail(f"{value!r}: expected a fraction below 1, such as 0.2", param, ctx)
        return number


class _Path(click.Path):
    """A path as it was typed. It is not checked here: the code that opens it knows what to say if it does not exist."""

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> Path:
        """Return the text as a path."""
        return Path(value)


class _Run(click.Path):
    """The folder of a run, or its name below runs/."""

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> Path:
        """Return the folder as it was typed, or the one of this name below runs/ if only that one exists."""
        folder = Path(value)
        is_plain_name = folder.name == str(value)
        # Those of Path raise for a text longer than a name may be, such as SQL.
        if is_plain_name and not os.path.exists(folder) and os.path.isdir(RUNS / folder):  # noqa: PTH110, PTH112
            return RUNS / folder
        return folder


COUNT = click.IntRange(min=1)
FRACTION = _Fraction()
PATH = _Path()
FILE = _Path(dir_okay=False)
FOLDER = _Path(file_okay=False)
RUN = _Run()

run_argument = argument("run", type=RUN)
"""The argument of every command on one run."""
