"""`transtailor`: the one command; each subcommand is run by the room that has it, which is imported only then.

transtailor run demo
transtailor status runs/demo
transtailor status --help
"""

import transtailor.start  # first: it checks that the rooms are ours  # isort: skip
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path

import click
from click.shell_completion import CompletionItem

import transtailor
from transtailor.exit_codes import INTERRUPTED, SUCCESS
from transtailor.shell import COMMAND

COMPLETION = f'Completion in bash: eval "$(_{COMMAND.upper()}_COMPLETE=bash_source {COMMAND})"; zsh and fish alike.'


@dataclass(frozen=True)
class Entry:
    """A subcommand: what it is for, and which room's `main` runs it."""

    group: str
    text: str
    main: str  # module
    words: tuple[str, ...]  # arguments that `main` receives before the user's own
    example: str  # arguments after the name of the command


def _entries() -> Iterator[tuple[str, Entry]]:
    """Yield the name of each command and its entry, from `commands.json`; most have the same name in their room."""
    table = json.loads(Path(__file__).with_name("commands.json").read_bytes())
    for group, commands in table.items():
        for name, facts in commands.items():
            words = facts.pop("words", name.removeprefix("trial ").removeprefix("model ").split())
            yield name, Entry(group=group, words=tuple(words), **facts)


ENTRIES = dict(_entries())
GROUPS = {"trial": "one trial without a sweep", "model": "saved sub-models", "data": "data sets of your own images"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that was typed; returns the exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        _command().main(typed, prog_name=COMMAND)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else SUCCESS if end.code is None else 1
    return SUCCESS


class _Door(click.Command):
    """Passes its arguments unchanged to the room's own parser."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name.split()[-1], short_help=entry.text, add_help_option=False)
        self._name, self._entry = name, entry

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments for the room."""
        ctx.args = [*args]
        return []

    def invoke(self, ctx: click.Context) -> None:
        """Call the room and end with its exit code."""
        if self._name == "plan":  # suggested commands are made from `sys.argv`
            sys.argv[1:] = ["run", *self._entry.words, *ctx.args]
        try:
            ctx.exit(self._answer(ctx.args))
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        finally:
            if {"-h", "--help"} & set(ctx.args):
                click.echo(f"\nexample: {COMMAND} {self._name} {self._entry.example}".rstrip())

    def shell_complete(self, _: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete options from the room's help, and everything else as a path."""
        if not incomplete.startswith("-"):
            return [CompletionItem(incomplete, type="file")]
        with redirect_stdout(StringIO()) as text, suppress(SystemExit):
            self._answer(["--help"])
        options = dict.fromkeys(re.findall(r"--[a-z][a-z-]*", text.getvalue()))
        return [CompletionItem(option) for option in options if option.startswith(incomplete)]

    def _answer(self, words: Sequence[str]) -> int:
        room = import_module(self._entry.main)
        prog = f"{COMMAND} {self._name}".removesuffix(" ".join(self._entry.words)).rstrip()
        code: int = room.main([*self._entry.words, *words], prog)
        return code


class _Grouped(click.Group):
    """A click group whose help lists the commands by subject."""

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list for each subject."""
        for group in dict.fromkeys(entry.group for entry in ENTRIES.values()):
            with formatter.section(group):
                formatter.write_dl([(name, entry.text) for name, entry in ENTRIES.items() if entry.group == group])


def _command() -> click.Group:
    top = _Grouped(
        help="Which sub-network of a pre-trained model transfers best? Sweeps that prune and fine-tune, and their"
        f" results.\n\nBegin with: {COMMAND} run demo",
        epilog=f"Help for a command: {COMMAND} COMMAND --help.  {COMPLETION}",
        params=[click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version,
                             help="Show the version and exit.")],
    )  # fmt: skip
    groups = {name: click.Group(name, help=text) for name, text in GROUPS.items()}
    for group in groups.values():
        top.add_command(group)
    for name, entry in ENTRIES.items():
        groups.get(name.split()[0], top).add_command(_Door(name, entry))
    return top


def _version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        click.echo(f"{COMMAND} {transtailor.__version__}")
        ctx.exit()


if __name__ == "__main__":
    sys.exit(main())
