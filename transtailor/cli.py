"""What all commands are made of: `command` turns a function into one, `Commands` is a group that imports them lazily.

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
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click import argument, option

from transtailor.errors import INTERRUPTED, MISTAKE, SUCCESS, ExplainedError, is_of_the_machine, misfit_of, reason_of
from transtailor.garbage import import_uncollected
from transtailor.names import closest, did_you_mean
from transtailor.sources import line_of_user
from transtailor.terminal import ignore_closed_stdout, say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "COUNT",
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
    "run_names",
    "typed",
    "typed_run",
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
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:  # click's own guess counts the dashes: for --gpus it is --runs
            options = [option for parameter in self.get_params(ctx) for option in parameter.opts]
            names = [option[2:] for option in options if option.startswith("--")]
            close = closest(error.option_name.lstrip("-"), names)
            hint = "" if close is None else f"; did you mean --{close}?"
            if close is None and "set" in names:
                hint = "; to change a setting, type --set KEY=VALUE; to resume a run, type its command again"
            ctx.fail(f"No such option {error.option_name!r}{hint}")

    def invoke(self, ctx: click.Context) -> None:
        """Call the function, print its answer, and end with the exit code."""
        exit_code = SUCCESS
        try:
            with ignore_closed_stdout():
                exit_code = _print(super().invoke(ctx))
        except ExplainedError as error:
            _explain(error)
            exit_code = error.exit_code
        except Exception as error:
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


@dataclass(frozen=True)
class Entry:
    """A command, or a group of commands, that is listed in the help without importing it.

    Attributes:
        function: "module:name" of the command; empty for a group.
        text: what it is for.
        section: heading of the list that it is in.
        commands: those of a group; None if this is a command.
    """

    function: str
    text: str
    section: str
    commands: "Mapping[str, Entry] | None" = None


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def __init__(self, name: str, text: str, entries: Mapping[str, Entry], **more: Any) -> None:
        super().__init__(name, help=text, context_settings=_CONTEXT, **more)
        self.entries = entries

    def invoke(self, ctx: click.Context) -> None:
        """Call the command that was typed. Ctrl-C ends it with its exit code, also while the command is imported."""
        try:
            super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted", to=sys.stderr)
            ctx.exit(INTERRUPTED)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands, in their order."""
        return list(self.entries)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or return a group; None if there is none of this name."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        if entry.commands is not None:
            return Commands(cmd_name, entry.text, entry.commands)
        module, _, function = entry.function.partition(":")
        imported = getattr(import_uncollected(module), function)
        assert isinstance(imported, click.Command)
        return imported

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed. If there is none, raise UsageError, which names the nearest one."""
        name = args[0]
        if not name.startswith("-") and name not in self.entries:
            whole_names = [whole_name for whole_name, _text in _list_lines(self.entries)]
            hint = did_you_mean(name, dict.fromkeys([*self.entries, *whole_names]))
            ctx.fail(f"no command {name!r}; {hint}to list them, type: {ctx.command_path} --help")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of commands for each section, those of groups with the name of their group."""
        entries_by_section: dict[str, dict[str, Entry]] = {}
        for name, entry in self.entries.items():
            entries_by_section.setdefault(entry.section, {})[name] = entry
        for section, entries in entries_by_section.items():
            with formatter.section(section):
                formatter.write_dl(list(_list_lines(entries)))

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog without line breaks of click's own, because its lines are to be pasted."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")


def _list_lines(entries: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each command, those of groups with the name of their group in front."""
    for name, entry in entries.items():
        if entry.commands is None:
            yield name, entry.text
        else:
            for inner_name, text in _list_lines(entry.commands):
                yield f"{name} {inner_name}", text


class _Fraction(click.ParamType):  # type: ignore[type-arg]  # only newer versions of click know the argument
    """A number from 0 to below 1."""

    name = "fraction"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. A percentage is refused; the message says what to type instead."""
        from transtailor.validation import fraction  # most commands, and the help, need no fraction

        try:
            return fraction(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


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

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """Complete the names of runs below runs/; if none begins like this, let the shell complete folders."""
        from click.shell_completion import CompletionItem

        items = [CompletionItem(name) for name in run_names() if name.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type="dir")]


COUNT = click.IntRange(min=1)
FRACTION = _Fraction()
PATH = _Path()
FILE = _Path(dir_okay=False)
FOLDER = _Path(file_okay=False)
RUN = _Run()

run_argument = argument("run", type=RUN)
"""The argument of every command on one run."""


def run_names() -> list[str]:
    """Return the names of the runs below runs/, sorted."""
    return sorted(plan.parent.name for plan in RUNS.glob("[!.]*/plan.json"))


def typed_run(ctx: click.Context) -> Path | None:
    """Return the run that was typed, for completions; None if there is none yet.

    While the value of an option is being typed, click has not parsed the arguments: then the words are searched.
    """
    run: Path | None = ctx.params.get("run")
    if run:
        return run
    words = shlex.split(ctx.meta.get(_TYPED, ""))[1:]
    for word in words:
        if word.startswith("-"):
            continue
        path = RUN.convert(word, None, None)
        if (path / "plan.json").is_file():
            return path
    return None


WordLister = Callable[[click.Context], Iterable[str]]


def complete(list_words: WordLister) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return a completion by the words that a function lists; if the function fails, nothing is completed."""

    def matching_words(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        with (
            suppress(OSError, ValueError, ExplainedError),
            Path(os.devnull).open("w") as nowhere,
            redirect_stderr(nowhere),  # a message would be in the middle of the line that is being typed
        ):
            return [word for word in list_words(ctx) if word.startswith(incomplete)]
        return []

    return matching_words
