"""`transtailor`: the one command; each subcommand is run by the room that has it, which is imported only then.

transtailor run demo
transtailor status runs/demo
transtailor status --help
"""

import transtailor.start  # first: it checks that the rooms are ours  # isort: skip
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from itertools import takewhile

import click
from click.shell_completion import CompletionItem

import transtailor
from transtailor.errors import INTERRUPTED, SUCCESS
from transtailor.garbage import import_uncollected
from transtailor.shell import COMMAND

SWEEPS, RESULTS, TRIALS, CLUSTERS = "Sweeps", "Results", "Single trials, models and data", "Clusters"
COMPLETION = f'Completion in bash: eval "$(_{COMMAND.upper()}_COMPLETE=bash_source {COMMAND})"; zsh and fish alike.'


@dataclass(frozen=True)
class Entry:
    """A subcommand: what it is for, and which room's `main` runs it."""

    group: str
    text: str
    main: str  # module
    words: tuple[str, ...]  # arguments that `main` receives before the user's own
    example: str  # arguments after the name of the command


def _entries(group: str, main: str, commands: Mapping[str, tuple[str, str]]) -> dict[str, Entry]:
    """Entries of commands that have the same name in their room."""
    return {
        name: Entry(group, text, main, tuple(name.removeprefix("trial ").removeprefix("model ").split()), example)
        for name, (text, example) in commands.items()
    }


LAUNCH = "sweeps.commands.launch"
ENTRIES = {
    "run": Entry(SWEEPS, "run a sweep; the same command resumes it", LAUNCH, (), "demo"),
    "plan": Entry(SWEEPS, "show the trials and the cost of a sweep; run nothing", LAUNCH, ("--plan",), "demo"),
    **_entries(
        SWEEPS,
        "sweeps.__main__",
        {
            "status": ("the state of a run", "runs/demo"),
            "logs": ("the logs of a trial, or of the jobs of a run", "runs/demo 3f2a"),
            "stop": ("end a run cleanly", "runs/demo"),
            "cancel": ("end the SLURM jobs of a run at once", "runs/demo"),
            "retry": ("try failed trials of a run again", "runs/demo --failed"),
            "explain": ("why two trials differ", "3f2a 81bc"),
            "replay": ("make every decision of a search again", "runs/search"),
            "reproduce": ("run one trial again and save its sub-model", "runs/demo 3f2a --save models"),
            "time": ("measure the latency of a run's sub-models here", "runs/demo"),
            "clean": ("remove what a run or a cache no longer needs", "runs/demo --dry-run"),
            "compact": ("bring the tables of a killed run to rest: each row once", "runs/demo"),
        },
    ),
    **_entries(
        RESULTS,
        "results.__main__",
        {
            "report": ("write a run's page of figures and tables", "runs/demo"),
            "serve": ("the page in your browser, live while the sweep runs", "runs/demo"),
            "query": ("query a run's tables in SQL", "runs/demo 'SELECT status, count(*) FROM trials GROUP BY ALL'"),
            "points": ("write one table of all operating points and their settings", "runs/demo"),
            "best": ("the best sub-model under a limit", "runs/demo --under macs=0.8"),
            "compare": ("compare every arm with one of them, paired by seed", "runs/demo --against fine_tune"),
            "table": ("methods x data sets, as for a paper", "runs/demo --format latex"),
            "effects": ("which settings matter", "runs/demo"),
            "power": ("how many more seeds would settle a comparison", "runs/demo --against fine_tune"),
            "stops": ("what each stop rule would have chosen", "runs/demo"),
            "front": ("which arms are worth their cost", "runs/demo --cost params"),
            "images": ("two arms on the same test images", "runs/demo transtailor fine_tune"),
            "diff": ("what differs between two runs", "runs/demo runs/more_seeds"),
            "export": ("a run's tables as CSV, or for TensorBoard, MLflow, W&B", "runs/demo --to csv"),
        },
    ),
    **_entries(
        TRIALS,
        "tailor.__main__",
        {
            "trial run": ("run one trial without a sweep", "trial.toml --save models"),
            "trial plan": ("the stages of one trial; runs nothing", "trial.toml"),
            "model export": ("a saved sub-model as a program for plain torch, or as ONNX", "models/point_1 --to onnx"),
            "model time": ("latency and memory of a saved sub-model here", "models/point_1"),
            "data prepare": ("make a data set of a folder or an archive", "mine --from photographs --to datasets"),
            "data check": ("verify a prepared data set", "datasets/mine"),
            "fetch": ("download weights, for nodes without a network", "trial.toml"),
            "check-gpu": ("check that a GPU computes what the CPU computes", "--device cpu"),
        },
    ),
    **_entries(
        CLUSTERS,
        "hpc.__main__",
        {
            "init": ("read this cluster's settings and write a first site file", "--name mycluster"),
            "doctor": ("check what a sweep needs at a site", "--site mycluster"),
            "sites": ("the sites that have a name", ""),
            "script": ("the text of a job for a site", "mycluster -- nvidia-smi"),
        },
    ),
}  # fmt: skip
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
            if {"-h", "--help"} & {*takewhile(lambda word: word != "--", ctx.args)}:  # behind it: another command's
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
        room = import_uncollected(self._entry.main)
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
