"""`transtailor`: the tree of all commands.

transtailor run demo
transtailor status demo
transtailor status --help

A command is a function with `cli.command` (or `question`) in the file that does its work; here is the list of all. Its
file is imported when it is called, and not for the help.
"""

import transtailor.start  # first: it checks that the rooms are ours  # isort: skip
import re
import shlex
import sys
from collections.abc import Sequence
from functools import cache

import click

import transtailor
from transtailor.cli import RUN, Commands
from transtailor.errors import FAILED, MISTAKE, SUCCESS
from transtailor.shell import COMMAND, command
from transtailor.terminal import make_writable, say

COMMANDS = {
    "Sweeps": {
        "plan": ("sweeps.operations.launch:plan_command", "Show the trials and the cost of a sweep; run nothing"),
        "run": ("sweeps.operations.launch:run_command", "Run a sweep; the same command resumes it"),
        "status": ("sweeps.operations.runs:status_command", "The state of a run, or of all runs in a folder"),
        "stop": ("sweeps.operations.control:stop_command", "End a run cleanly"),
        "logs": ("sweeps.operations.control:logs_command", "The logs of a trial, or of the jobs of a run"),
        "clean": ("sweeps.operations.clean:clean_command", "Remove what a run or a cache no longer needs"),
        "reproduce": ("sweeps.operations.reproduce:reproduce_command", "Run one trial again and save its sub-model"),
        "time": ("sweeps.operations.latencies:time_command", "Measure the latency of a run's sub-models here"),
    },
    "Results": {
        "best": ("results.best:best", "The best sub-model under a limit"),
        "classes": ("results.questions.classes:classes", "Which classes pay: two arms class by class"),
        "compare": ("results.questions.compare:compare", "Compare every arm with one of them, paired by seed"),
        "effects": ("results.questions.effects:effects", "Which settings matter"),
        "export": ("results.export:export", "A run's curves and points for TensorBoard, MLflow, W&B"),
        "front": ("results.questions.front:front", "Which arms are worth their cost"),
        "printed": ("results.questions.printed:printed", "Whether the papers' numbers are reproduced"),
        "query": ("results.query:query", "Query a run's tables in SQL"),
        "report": ("results.report.command:report", "Write a run's page of figures and tables"),
        "table": ("results.questions.table:table", "Methods x data sets, as for a paper"),
    },
    "Data, models and single trials": {
        "data prepare": ("tailor.prepare.prepare:prepare", "Make a data set of a folder or an archive"),
        "data check": ("tailor.prepare.check:check", "Verify a prepared data set"),
        "fetch": ("tailor.networks.fetch:fetch", "Download weights, for nodes without internet"),
        "model export": (
            "tailor.deploy.export_saved:export",
            "A saved sub-model as a program for plain torch, or as ONNX",
        ),
        "model table": ("tailor.deploy.time_blocks:table", "Time each block of a network on this CPU"),
        "model time": ("tailor.deploy.time_saved:time", "Latency and memory of a saved sub-model here"),
        "trial run": ("tailor.trial_run:run", "Run one trial without a sweep, or show its stages"),
    },
    "Clusters": {
        "init": ("hpc.slurm.first_site:init", "Read this cluster's settings and write a first site file"),
        "doctor": ("hpc.doctor.doctor:doctor", "Check what a sweep needs at a site"),
    },
}
"""Section of the help -> command -> the function of a module, and what it is for. Two words: a command of a group."""
GONE = {
    "cancel": "transtailor stop RUN --now",
    "retry": "transtailor run RUN --retry",
    "runs": "transtailor status",
    "sites": "transtailor plan --site '?'",
    "trial plan": "transtailor trial run TRIAL --plan",
    "serve": "transtailor report RUN --every 60",
    "settled": "transtailor compare RUN",
    "power": "transtailor compare RUN",
    "images": "transtailor classes RUN ARM CONTROL",
    "points": "ls RUN/points.parquet",
    "diff": "diff RUN/spec.toml RUN/spec.toml",
    "check-gpu": "transtailor doctor --site mycluster",
}
"""Command of an earlier version -> what to type; the capitals are what was typed behind it."""
USUAL = {"RUN": "runs/demo", "TRIAL": "trial.toml", "ARM": "transtailor", "CONTROL": "fine_tune"}
"""What stands for capitals if nothing was typed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that was typed, or show the help if nothing was; return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    make_writable()
    instead = _instead_of(words)
    if instead is not None:
        say(f"error: there is no such command any more; type: {instead}", to=sys.stderr)
        return MISTAKE
    try:
        tree().main(words or ["--help"], prog_name=COMMAND)
    except SystemExit as end:
        # The exit code is the one that Python itself would end with
        if end.code is None:
            return SUCCESS
        if isinstance(end.code, int):
            return end.code
        return FAILED  # the code is a message
    return SUCCESS


def _instead_of(words: Sequence[str]) -> str | None:
    """Return what to type in place of a command that went; None if none was typed."""
    gone = next((name for name in GONE if list(words[: len(name.split())]) == name.split()), None)
    if gone is None:
        return None
    words_behind = words[len(gone.split()) :]
    given = iter([str(RUN.convert(word, None, None)) for word in words_behind if not word.startswith("-")])
    filled = [
        re.sub("|".join(USUAL), lambda place: next(given, USUAL[place[0]]), part) for part in shlex.split(GONE[gone])
    ]
    program, *parts = filled
    return command(*parts) if program == COMMAND else shlex.join(filled)


@cache
def tree() -> Commands:
    """Return the group of all commands, in the order of `COMMANDS`."""
    return Commands(
        COMMAND,
        COMMANDS,
        help="Which sub-network of a pre-trained model transfers best? Sweeps that prune and fine-tune, and their"
        f" results.\n\nBegin with: {COMMAND} run demo",
        epilog=f"Help for a command: {COMMAND} COMMAND --help",
        params=[
            click.Option(
                ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
                help="Show the version and exit.",
            )
        ],
    )  # fmt: skip


def _print_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        click.echo(f"{COMMAND} {transtailor.__version__}")
        ctx.exit()


if __name__ == "__main__":
    sys.exit(main())
