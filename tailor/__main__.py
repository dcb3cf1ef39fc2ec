"""One trial without a sweep: `python -m tailor run trial.toml`, also under `torchrun --nproc-per-node 2 -m tailor`.

`python -m tailor export | time` exports a saved sub-model and measures its cost;
`python -m tailor data prepare | check` makes data sets of folders and archives of images;
`python -m tailor fetch` downloads weights by name, before trials run on machines without a network;
`python -m tailor check-gpu` checks that a GPU computes what the CPU computes.
"""

import transtailor.start  # noqa: F401  # first: it checks which rooms are imported  # isort: skip
import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailor.commands import check_gpu, fetch, model, run
from tailor.commands import data as data_command
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError, TrainingError
from tailor.execution.plugins import load
from tailor.execution.weights_check import refuse_missing
from transtailor.documents import DocumentError, describe_fault, find_line, read_text, read_toml
from transtailor.errors import FAILED, MISTAKE, SUCCESS, UserError
from transtailor.shell import command as to_type
from transtailor.terminal import CommandParser, say


def main(argv: list[str] | None = None, prog: str = "python -m tailor") -> int:
    """Run the command line; the exit code: 0, 1 if training failed, 2 for the user's mistake.

    `prog`: what was typed before the arguments.
    """
    typed = sys.argv[1:] if argv is None else argv
    arguments = _parser(prog).parse_args(typed)
    try:
        if arguments.command == "data":
            return data_command.run(arguments, sys.stdout)
        if arguments.command == "fetch":
            return fetch.run(arguments, sys.stdout)
        if arguments.command == "check-gpu":
            return check_gpu.run(arguments, sys.stdout)
        for module in arguments.imports:
            load(module)
        if arguments.command in model.RUN:
            model.RUN[arguments.command](arguments, sys.stdout)
            return SUCCESS
        config = parse_trial(_read(arguments.trial), lambda keys: _place(arguments.trial, keys))
        refuse_missing([config])
        if arguments.command == "plan":
            _plan(config)
        else:
            run.run(config, arguments, shlex.join([*prog.split(), *typed]))
    except UserError as error:
        say(f"error: {error}", to=sys.stderr)
        return MISTAKE
    except TrainingError as error:
        say(f"error: {error}", to=sys.stderr)
        return FAILED
    return SUCCESS


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description="One trial without a sweep.")
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run a trial and print its operating points")
    plan = commands.add_parser("plan", help="print a trial's id and stages without running it")
    export = commands.add_parser("export", help="write a saved sub-model as a program for torch alone, or as ONNX")
    timed = commands.add_parser("time", help="measure a saved sub-model's latency, throughput and memory here")
    model.add_export_to(export)
    model.add_time_to(timed)
    for command in (runs, plan):
        command.add_argument("trial", type=Path, help="TOML file with the trial's settings, e.g. [method] name = ...")
    for command in (runs, plan, export, timed):
        command.add_argument(
            "--import", action="append", default=[], type=Path, metavar="FILE", dest="imports",
            help="your own module with a method, criterion, network, data set, ... (repeatable)",
        )  # fmt: skip
    fetch.add_to(commands.add_parser("fetch", help="bring weights by name to this machine, and check what trials read"))
    check_gpu.add_to(commands.add_parser("check-gpu", help="check that a GPU computes what the CPU computes"))
    data_command.add_to(commands.add_parser("data", help="prepare images for training, and check what was prepared"))
    runs.add_argument("--cache", type=Path, default=Path("cache"), help="folder of finished stages (default: cache)")
    runs.add_argument("--save", type=Path, help="folder to save each operating point's sub-model in")
    runs.add_argument("--licence", metavar="TEXT", help="the line on the licence in each saved sub-model's card")
    runs.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    runs.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of each rank (default: 1)")
    return parser


def _read(path: Path) -> dict[str, Any]:
    try:
        read = read_toml(path)
    except FileNotFoundError as error:
        sweep = to_type("run", path)
        raise ConfigError(f"no such file: {path}; type the path of a TOML file. A sweep is run by: {sweep}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    except DocumentError as error:
        raise ConfigError(f"{path} {describe_fault(path, error)}") from error
    if {"trial", "axes", "variants"} & read.keys():
        raise ConfigError(
            f"{path} is the spec of a sweep, not the settings of one trial; to run it, type: {to_type('run', path)}"
        )
    return read


def _place(path: Path, keys: Sequence[str]) -> str:
    line = find_line(read_text(path), keys)
    return str(path) if line is None else f"{path}, line {line}"


def _plan(config: TrialConfig) -> None:
    from tailor.execution.dry_run import dry_run

    walked = dry_run(config)
    say(f"trial {walked.trial_id}: {len(walked.stages)} stages")
    for number, stage in enumerate(walked.stages):
        point = "" if stage.point is None else f"  operating point {stage.point}"
        say(f"{number:3}  {stage.key[:12]}  {stage.kind}{point}")


if __name__ == "__main__":
    sys.exit(main())
