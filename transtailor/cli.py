"""What all commands are made of: `command` makes one of a function, `Commands` is a group that loads them when needed.

@cli.command(example="runs/demo --lines 5")
@cli.run_argument
@cli.option("--lines", default=20, help="how many")
def logs(run: Path, lines: int) -> Iterator[str]:
    '''The last lines of a run's logs.'''
    yield f"the last {lines} lines of {run}"
"""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click import argument, option

from transtailor.errors import INTERRUPTED, MISTAKE, SUCCESS, ExplainedError, is_of_the_machine
from transtailor.garbage import import_uncollected
from transtailor.names import did_you_mean
from transtailor.terminal import ignore_closed_stdout, say
from transtailor.validation import fraction

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "FILE",
    "FOLDER",
    "FRACTION",
    "PATH",
    "RUN",
    "Command",
    "Commands",
    "Entry",
    "Function",
    "argument",
    "command",
    "complete",
    "option",
    "run_argument",
    "typed",
    "typed_run",
]

RUNS = Path("runs")
"""Where runs are, unless `--runs` says otherwise; a run below it can be given by its name alone."""

Answer = Iterable[object] | int | None
"""What the function of a command returns: the lines to print, or the exit code; None: success."""

Function = TypeVar("Function", bound=Callable[..., Any])
"""What a decorator of a command returns as it got it."""

_TYPED = f"{__name__}.typed"
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


class Command(click.Command):
    """A command that prints the lines of its function, or ends with the exit code that the function returns.

    A mistake of the user is explained on standard error, without a traceback: exit code 2, or that of the error.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words that were typed, and keep them for `typed`."""
        ctx.meta[_TYPED] = shlex.join([*ctx.command_path.split(), *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> None:
        """Call the function, print, and end."""
        code = SUCCESS
        try:
            with ignore_closed_stdout():
                code = _print(super().invoke(ctx))
        except ExplainedError as error:
            code = _explain(error, error.exit_code)
        except OSError as error:
            if not is_of_the_machine(error):
                raise
            code = _explain(error, MISTAKE)
        except KeyboardInterrupt:
            say("interrupted", to=sys.stderr)
            code = INTERRUPTED
        ctx.exit(code)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example in a line of its own, which is never broken."""
        if self.epilog is not None:
            formatter.write(f"\nexample: {ctx.command_path} {self.epilog}".rstrip() + "\n")


def typed() -> str:
    """Return the running command as it was typed, to paste: "transtailor trial run trial.toml --save models"."""
    words: str = click.get_current_context().meta[_TYPED]
    return words


def _print(answer: Answer) -> int:
    """Print the lines of a command as they come; return its exit code."""
    if isinstance(answer, int):
        return answer
    for line in answer or ():
        say(line)
    return SUCCESS


def _explain(error: Exception, code: int) -> int:
    say(f"error: {error}", to=sys.stderr)
    return code


def command(*, example: str, cls: type[Command] = Command) -> Callable[[Callable[..., Answer]], click.Command]:
    """Make a command of a function, whose docstring is its help.

    Args:
        example: arguments that work; the help shows them behind the name of the command.
    """
    return click.command(cls=cls, epilog=example, context_settings=_CONTEXT)


@dataclass(frozen=True, order=True)
class Entry:
    """A command of a group, as the help of the group lists it without importing it.

    Attributes:
        module: its last word is the name of the command's function, too.
        text: what it is for.
        section: of the list.
        commands: of a group; None: it is a command.
    """

    module: str
    text: str
    section: str
    commands: "Mapping[str, Entry] | None" = None


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def __init__(self, name: str, text: str, entries: Mapping[str, Entry], **more: Any) -> None:
        super().__init__(name, help=text, context_settings=_CONTEXT, **more)
        self.entries = entries

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands, in their order."""
        return list(self.entries)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None: there is none of this name."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        if entry.commands is not None:
            return Commands(cmd_name, entry.text, entry.commands)
        found = getattr(import_uncollected(entry.module), entry.module.rpartition(".")[2])
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed. Raises UsageError, which names the nearest one: there is none."""
        typed = args[0]
        if not typed.startswith("-") and typed not in self.entries:
            hint = did_you_mean(typed, self.entries)
            ctx.fail(f"no command {typed!r}; {hint}to list them, type: {ctx.command_path} --help")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of commands for each section, those of groups with the name of their group."""
        for section in dict.fromkeys(entry.section for entry in self.entries.values()):
            with formatter.section(section):
                formatter.write_dl([*_listed({n: e for n, e in self.entries.items() if e.section == section})])

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write it as it is: lines to paste are never broken."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")


def _listed(entries: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each command, those of groups with the name of their group in front."""
    for name, entry in entries.items():
        if entry.commands is None:
            yield name, entry.text
        else:
            yield from ((f"{name} {inner}", text) for inner, text in _listed(entry.commands))


class _Fraction(click.ParamType[float]):
    """A number from 0 to below 1."""

    name = "fraction"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; a percentage is refused with what to type."""
        try:
            return fraction(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Path(click.Path):
    """A path as it was typed, which need not exist: what is wrong with it is said by who opens it."""

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> Path:
        """Make a path of the text."""
        return Path(value)


class _Run(click.Path):
    """The folder of a run, or its name below runs/."""

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> Path:
        """Return the folder: as typed, or the one of this name below runs/ if only that one exists."""
        typed = Path(value)
        if not typed.exists() and typed.name == str(value) and (RUNS / typed).is_dir():
            return RUNS / typed
        return typed

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """Complete the names of runs below runs/, and folders."""
        from click.shell_completion import CompletionItem

        known = [path.parent.name for path in sorted(RUNS.glob("[!.]*/plan.json"))]
        names = [CompletionItem(name) for name in known if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="dir")]


FRACTION = _Fraction()
PATH, FILE, FOLDER = _Path(), _Path(dir_okay=False), _Path(file_okay=False)
RUN = _Run()

run_argument = argument("run", type=RUN)
"""The argument of every command on one run."""


def typed_run(ctx: click.Context) -> Path | None:
    """Return the run that was typed, for completions; None: there is none yet.

    In front of an option whose value is being typed, click has not looked at the arguments.
    """
    words = shlex.split(ctx.meta.get(_TYPED, ""))[1:]
    given = (RUN.convert(word, None, None) for word in words if not word.startswith("-"))
    return ctx.params.get("run") or next((path for path in given if (path / "plan.json").is_file()), None)


Words = Callable[[click.Context], Iterable[str]]


def complete(words: Words) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Make a completion of a function that lists all words; nothing is completed where it cannot."""

    def completed(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        with suppress(OSError, ValueError, ExplainedError), Path(os.devnull).open("w") as nowhere:
            sys.stderr, before = nowhere, sys.stderr
            try:
                return [word for word in words(ctx) if word.startswith(incomplete)]
            finally:
                sys.stderr = before
        return []

    return completed
