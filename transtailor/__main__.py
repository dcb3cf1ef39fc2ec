"""`transtailor`: the tree of all commands.

transtailor run demo
transtailor status demo
transtailor status --help

Each command is a file in the folder `commands` (or `questions`) of its room. The file has a function of the same name,
decorated with `cli.command` or `question`. A command is imported only when it is called; until then only the first line
of its file is read, which is its text in the list. A folder in `commands` is a group of commands.
"""

import transtailor.start  # first: it checks that the rooms are ours  # isort: skip
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import click

import transtailor
from transtailor.cli import Commands, Entry
from transtailor.errors import FAILED, SUCCESS
from transtailor.shell import COMMAND

SECTIONS = {
    "Sweeps": ("sweeps.commands",),
    "Results": ("results.questions", "results.commands"),
    "Single trials, models and data": ("tailor.commands",),
    "Clusters": ("hpc.commands",),
}
"""Section of the help -> packages whose commands it lists."""
DECORATORS = ("\n@cli.command(", "\n@question(")
"""The text by which a file is recognised as a command without importing it."""
COMPLETION = f'Completion in bash: eval "$(_{COMMAND.upper()}_COMPLETE=bash_source {COMMAND})"; zsh and fish alike.'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that was typed, or show the help if nothing was; return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        tree().main(words or ["--help"], prog_name=COMMAND)
    except SystemExit as end:
        return _exit_code(end)
    return SUCCESS


def _exit_code(end: SystemExit) -> int:
    """Return the exit code that Python itself would end with."""
    if end.code is None:
        return SUCCESS
    if isinstance(end.code, int):
        return end.code
    return FAILED  # the code is a message


@cache
def tree() -> Commands:
    """Return the group of all commands: section by section, sorted by name in each."""
    entries: dict[str, Entry] = {}
    for section, packages in SECTIONS.items():
        in_section: dict[str, Entry] = {}
        for package in packages:
            in_section |= _entries(package, section)
        for name in sorted(in_section):
            entries[name] = in_section[name]
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
    """Return the commands of a package by name: one for each file, and a group for each folder."""
    folder = Path(transtailor.__file__).parents[1].joinpath(*package.split("."))
    entries = {}
    for path in sorted(folder.iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if path.name.startswith(("_", ".")) or source.suffix != ".py" or not source.is_file():
            continue
        text = source.read_text(encoding="utf-8")
        group_commands = _entries(f"{package}.{path.name}") if path.is_dir() else None
        is_command = any(decorator in text for decorator in DECORATORS)
        if not group_commands and not is_command:
            continue
        name = path.stem.replace("_", "-")
        summary = text.partition("\n")[0].strip('"').rstrip(".")
        entries[name] = Entry(f"{package}.{path.stem}", summary, section, group_commands)
    return entries


def _print_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        click.echo(f"{COMMAND} {transtailor.__version__}")
        ctx.exit()


if __name__ == "__main__":
    sys.exit(main())
