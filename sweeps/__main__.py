"""`python -m sweeps`: look at runs from any terminal, also while they run; stop them; reproduce a trial; time; clean.

`status` and `explain` start and change nothing.
"""

import transtailor.start  # noqa: F401  # first: it looks whether the rooms are ours  # isort: skip
import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpc.errors import SlurmError
from results.cli.output import add_output, write
from tailor.core.errors import TrainingError
from transtailor.errors import FAILED, MISTAKE, SUCCESS, UserError
from transtailor.terminal import CommandParser, ignore_closed_stdout, say


def main(arguments: Sequence[str] | None = None, prog: str = "python -m sweeps") -> int:
    """Run a command and return the exit code. `prog`: what was typed before the arguments."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(prog).parse_args(typed)
    try:
        with ignore_closed_stdout():
            for line in _lines(options, shlex.join([*prog.split(), *typed])):
                say(line)
    except (UserError, SlurmError, PermissionError) as error:
        say(error, to=sys.stderr)
        return MISTAKE
    except TrainingError as error:
        say(error, to=sys.stderr)
        return FAILED
    return SUCCESS


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description="Look at runs.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="trials by state, who runs it, the best so far by validation")
    status.add_argument("run", type=Path, metavar="RUN", help="folder of a run, such as runs/demo")
    add_output(status)
    explain = commands.add_parser("explain", help="why two trials differ, setting by setting")
    explain.add_argument("first", metavar="A", help="id of a trial, or its first digits")
    explain.add_argument("second", metavar="B", help="id of another one")
    explain.add_argument(
        "--run", type=Path, action="append", dest="runs", metavar="RUN",
        help="folder of the run that they are in (repeatable; default: every run in runs/)",
    )  # fmt: skip
    explain.add_argument("--imports", action="store_true", help="also import your own modules, from the runs")
    again = commands.add_parser("reproduce", help="run one trial again, compare it with the rows, save its sub-model")
    again.add_argument("run", type=Path, metavar="RUN", help="folder of its run")
    again.add_argument("trial", metavar="TRIAL", help="its id, or the first digits")
    again.add_argument("--point", type=int, metavar="N", help="end with operating point N (default: the last)")
    again.add_argument("--save", type=Path, metavar="FOLDER", help="save the sub-model of that point here")
    again.add_argument("--licence", metavar="TEXT", help="the line on the licence in its card")
    again.add_argument(
        "--cache", type=Path, default=Path("cache"), help="folder of finished stages; an empty one recomputes all"
    )
    replay = commands.add_parser("replay", help="make every decision of a search again, from the rows that it read")
    replay.add_argument("run", type=Path, metavar="RUN", help="folder of a run whose spec has [search]")
    _add_time(commands)
    _add_control(commands)
    clean = commands.add_parser("clean", help="remove what is not needed any more")
    clean.add_argument("folder", type=Path, metavar="RUN|CACHE", help="folder of a run, or of finished stages")
    clean.add_argument("--dry-run", action="store_true", help="print what would be removed; remove nothing")
    clean.add_argument(
        "--runs", type=Path, metavar="RUNS", help="for a cache: folder of all runs that may need its stages"
    )
    merge = commands.add_parser("compact", help="bring the tables of a run to rest: each row once")
    merge.add_argument("run", type=Path, metavar="RUN", help="folder of a run that is not running")
    return parser


def _add_time(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    time = commands.add_parser("time", help="latency and peak memory of each sub-model of a run on this machine")
    time.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    time.add_argument("--cache", type=Path, default=Path("cache"), help="folder of finished stages (default: cache)")
    time.add_argument("--batch", type=int, default=1, metavar="N", help="images of a forward pass (default: 1)")
    time.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    time.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: as many as torch takes)")
    time.add_argument("--repeats", type=int, default=50, metavar="N", help="forward passes timed (default: 50)")
    time.add_argument("--again", action="store_true", help="time also what was timed under the same conditions")


def _add_control(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    for name, text in (
        ("stop", "end a run cleanly, wherever it runs; launching it again resumes it"),
        ("cancel", "end all SLURM jobs of a run at once; launching it again resumes it"),
        ("retry", "launch a run again with its last options: trials that failed or never ended are tried again"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
        if name == "retry":
            which = command.add_mutually_exclusive_group()
            which.add_argument("--failed", action="store_true", help="only if one of its trials has failed")
            which.add_argument(
                "trials", nargs="*", default=[], metavar="TRIAL", help="only these: ids, or their first digits"
            )
    logs = commands.add_parser("logs", help="stages and scores of a trial, or the last lines of a run's logs")
    logs.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    logs.add_argument(
        "trial",
        nargs="?",
        metavar="TRIAL",
        help="id of a trial, or its first digits (default: the logs of jobs and trials that were written last)",
    )
    logs.add_argument("--lines", type=int, default=20, help="how many of each (default: 20)")
    logs.add_argument("--follow", action="store_true", help="print new lines until the sweep is no longer running")


def _control(options: argparse.Namespace) -> Iterator[str]:
    from sweeps.commands import control
    from sweeps.run.run_folder import RunFolder

    run = RunFolder(options.run)
    if options.command == "retry":
        return control.retry(run, failed=options.failed, trials=options.trials)
    if options.command == "logs":
        return control.logs(run, options.trial, options.lines, follow=options.follow)
    return control.stop(run) if options.command == "stop" else control.cancel(run)


def _reproduce(options: argparse.Namespace, command: str) -> Iterator[str]:
    from sweeps.commands.explain import find_trial
    from sweeps.commands.reproduce import Saving, reproduce
    from tailor.deploy.card import refuse_unsavable

    refuse_unsavable(options.save, options.licence)
    saving = None if options.save is None else Saving(folder=options.save, command=command, licence=options.licence)
    trial = find_trial(options.trial, [options.run])
    return reproduce(trial, cache=options.cache, point=options.point, saving=saving)


def _lines(options: argparse.Namespace, command: str) -> Iterator[str]:
    from sweeps.run.run_folder import RunFolder

    if options.command == "status":
        from sweeps.commands.status import status

        return write(status(RunFolder(options.run)), options)
    if options.command in ("stop", "cancel", "retry", "logs"):
        return _control(options)
    if options.command == "time":
        from sweeps.commands.latencies import How, time_models

        how = How(
            batch=options.batch, device=options.device, threads=options.threads, repeats=options.repeats,
            again=options.again,
        )  # fmt: skip
        return time_models(RunFolder(options.run), options.cache, how)
    if options.command == "clean":
        from sweeps.commands.clean import clean

        return clean(options.folder, options.runs, dry_run=options.dry_run)
    if options.command == "compact":
        from sweeps.commands.compact import compact

        return compact(RunFolder(options.run))
    if options.command == "replay":
        from sweeps.commands.replay import replay_lines

        return replay_lines(RunFolder(options.run))
    if options.command == "reproduce":
        return _reproduce(options, command)
    from sweeps.commands.explain import explain, find_trial

    runs = options.runs or sorted(path.parent for path in Path("runs").glob(f"[!.]*/{RunFolder(Path()).plan}"))
    return explain(find_trial(options.first, runs), find_trial(options.second, runs), imports=options.imports)


if __name__ == "__main__":
    sys.exit(main())
