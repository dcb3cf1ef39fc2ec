"""`transtailor`: the tree of all commands.

transtailor run demo
transtailor status demo
transtailor status --help

Each command is a file in the folder `commands` (or `questions`) of the room that has it, with a function of the file's
name that `cli.command` or `question` decorates. It is imported only when it is called: the first line of its docstring
is the text in the list. A folder in `commands` is a group of commands.
"""

import transtailor.start  # first: it checks that the rooms are ours  # isort: skip
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import click

import transtailor
from transtailor.cli import Commands, Entry
from transtailor.errors import SUCCESS
from transtailor.shell import COMMAND

SECTIONS = {
    "Sweeps": ("sweeps.commands",),
    "Results": ("results.questions", "results.commands"),
    "Single trials, models and data": ("tailor.commands",),
    "Clusters": ("hpc.commands",),
}
"""Section of the help -> packages whose commands are in it."""
DECORATORS = ("\n@cli.command(", "\n@question(")
"""What makes a command of a function, as it stands in a file."""
COMPLETION = f'Completion in bash: eval "$(_{COMMAND.upper()}_COMPLETE=bash_source {COMMAND})"; zsh and fish alike.'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that was typed; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        tree().main(words, prog_name=COMMAND)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else SUCCESS if end.code is None else 1
    return SUCCESS


@cache
def tree() -> Commands:
    """Return the group of all commands."""
    entries = {
        name: entry
        for section, packages in SECTIONS.items()
        for name, entry in sorted(
            (name, entry) for package in packages for name, entry in _entries(package, section).items()
        )
    }
    return Commands(
        COMMAND,
        "Which sub-network of a pre-trained model transfers best? Sweeps that prune and fine-tune, and their"
        f" results.\n\nBegin with: {COMMAND} run demo",
        entries,
        epilog=f"Help for a command: {COMMAND} COMMAND --help\n{COMPLETION}",
        params=[
            click.Option(
                ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
                help="Show the version and exit.",
            )
        ],
    )  # fmt: skip


def _entries(package: str, section: str = "Commands") -> dict[str, Entry]:
    """Return the commands of a package by name: its files, and its folders as groups."""
    folder = Path(transtailor.__file__).parents[1].joinpath(*package.split("."))
    found = {}
    for path in sorted(folder.iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if path.name.startswith(("_", ".")) or source.suffix != ".py" or not source.is_file():
            continue
        text = source.read_text(encoding="utf-8")
        commands = _entries(f"{package}.{path.name}") if path.is_dir() else None
        if commands or any(decorator in text for decorator in DECORATORS):
            first_line = text.partition("\n")[0].strip('"').rstrip(".")
            found[path.stem.replace("_", "-")] = Entry(f"{package}.{path.stem}", first_line, section, commands)
    return found


def _print_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        click.echo(f"{COMMAND} {transtailor.__version__}")
        ctx.exit()


if __name__ == "__main__":
    sys.exit(main())
