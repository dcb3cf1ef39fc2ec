"""`transtailor`: the tree of all commands.

transtailor run demo
transtailor status demo
transtailor status --help

A command is a function with `cli.command` (or `question`) in the file that does its work; here is the list of all. Its
file is imported when it is called, and not for the help.
"""

import transtailor.start  # first: it checks that the rooms are ours  # isort: skip
import sys
from collections.abc import Sequence
from functools import cache

import click

import transtailor
from transtailor.cli import Commands, Entry
from transtailor.errors import FAILED, SUCCESS
from transtailor.shell import COMMAND
from transtailor.terminal import make_writable

COMMANDS = {
    "Sweeps": {
        "cancel": ("sweeps.operations.control:cancel_command", "End the SLURM jobs of a run at once"),
        "clean": ("sweeps.operations.clean:clean_command", "Remove what a run or a cache no longer needs"),
        "diff": ("sweeps.operations.explain:diff", "What differs between two runs, or why two trials differ"),
        "logs": ("sweeps.operations.control:logs_command", "The logs of a trial, or of the jobs of a run"),
        "plan": ("sweeps.operations.launch:plan_command", "Show the trials and the cost of a sweep; run nothing"),
        "reproduce": ("sweeps.operations.reproduce:reproduce_command", "Run one trial again and save its sub-model"),
        "retry": ("sweeps.operations.control:retry_command", "Try failed trials of a run again"),
        "run": ("sweeps.operations.launch:run_command", "Run a sweep; the same command resumes it"),
        "runs": ("sweeps.operations.runs:runs_command", "The runs below a folder, and their state"),
        "status": ("sweeps.operations.status:status_command", "The state of a run"),
        "stop": ("sweeps.operations.control:stop_command", "End a run cleanly"),
        "time": ("sweeps.operations.latencies:time_command", "Measure the latency of a run's sub-models here"),
    },
    "Results": {
        "best": ("results.best:best", "The best sub-model under a limit"),
        "compare": ("results.questions.compare:compare", "Compare every arm with one of them, paired by seed"),
        "effects": ("results.questions.effects:effects", "Which settings matter"),
        "export": ("results.export.updates:export", "A run's tables as CSV, or for TensorBoard, MLflow, W&B"),
        "front": ("results.questions.front:front", "Which arms are worth their cost"),
        "images": ("results.questions.images:images", "Two arms on the same test images"),
        "points": ("results.store.points:points", "Write one table of all operating points and their settings"),
        "power": ("results.questions.power:power", "How many more seeds would settle a comparison"),
        "printed": ("results.questions.printed:printed", "Whether the papers' numbers are reproduced"),
        "query": ("results.query:query", "Query a run's tables in SQL"),
        "report": ("results.report.command:report", "Write a run's page of figures and tables"),
        "serve": ("results.report.serve:serve", "The page in your browser, live while the sweep runs"),
        "settled": ("results.questions.settled:settled", "The verdict of each comparison of a run with [settle]"),
        "table": ("results.questions.table:table", "Methods x data sets, as for a paper"),
    },
    "Single trials, models and data": {
        "check-gpu": ("tailor.gpu_check.check_gpu:check_gpu", "Check that a GPU computes what the CPU computes"),
        "data check": ("tailor.prepare.check:check", "Verify a prepared data set"),
        "data prepare": ("tailor.prepare.prepare:prepare", "Make a data set of a folder or an archive"),
        "fetch": ("tailor.prepare.fetch:fetch", "Download weights, for nodes without internet"),
        "model export": (
            "tailor.deploy.export_saved:export",
            "A saved sub-model as a program for plain torch, or as ONNX",
        ),
        "model table": ("tailor.deploy.time_blocks:table", "Time each block of a network on this CPU"),
        "model time": ("tailor.deploy.time_saved:time", "Latency and memory of a saved sub-model here"),
        "trial plan": ("tailor.trial_run:plan", "The stages of one trial; runs nothing"),
        "trial run": ("tailor.trial_run:run", "Run one trial without a sweep"),
    },
    "Clusters": {
        "doctor": ("hpc.doctor.doctor:doctor", "Check what a sweep needs at a site"),
        "init": ("hpc.slurm.first_site:init", "Read this cluster's settings and write a first site file"),
        "sites": ("hpc.sites.site:sites", "List the named sites"),
    },
}
"""Section of the help -> command -> the function of a module, and what it is for. Two words: a command of a group."""
GROUPS = {"data": "Data sets of your own images", "model": "Saved sub-models", "trial": "One trial without a sweep"}
COMPLETION = f'Completion in bash: eval "$(_{COMMAND.upper()}_COMPLETE=bash_source {COMMAND})"; zsh and fish alike.'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that was typed, or show the help if nothing was; return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    make_writable()
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
    """Return the group of all commands, in the order of `COMMANDS`."""
    entries: dict[str, Entry] = {}
    groups: dict[str, dict[str, Entry]] = {}
    for section, commands in COMMANDS.items():
        for words, (function, text) in commands.items():
            group, _, name = words.rpartition(" ")
            if group and group not in groups:
                groups[group] = {}
                entries[group] = Entry("", GROUPS[group], section, groups[group])
            (groups[group] if group else entries)[name] = Entry(function, text, section)
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


def _print_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        click.echo(f"{COMMAND} {transtailor.__version__}")
        ctx.exit()


if __name__ == "__main__":
    sys.exit(main())
