"""`python -m sweeps`: look at runs from any terminal, while they run too; nothing is started or changed."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from results.errors import ResultsError
from sweeps.errors import RunFolderError

SUCCESS, MISTAKE = 0, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was asked for; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        for line in _lines(options):
            print(line)
        sys.stdout.flush()
    except (RunFolderError, ResultsError, PermissionError) as error:
        print(error, file=sys.stderr)
        return MISTAKE
    except BrokenPipeError:  # `| head`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SUCCESS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sweeps", description="Look at runs.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="trials by state, who runs it, the best so far by validation")
    status.add_argument("run", type=Path, metavar="RUN", help="folder of a run, such as runs/demo")
    explain = commands.add_parser("explain", help="why two trials differ, setting by setting")
    explain.add_argument("first", metavar="A", help="id of a trial, or its first digits")
    explain.add_argument("second", metavar="B", help="id of another one")
    explain.add_argument(
        "--run", type=Path, action="append", dest="runs", metavar="RUN",
        help="folder of the run that they are in (repeatable; default: every run in runs/)",
    )  # fmt: skip
    return parser


def _lines(options: argparse.Namespace) -> Iterator[str]:
    if options.command == "status":
        from sweeps.run_folder import RunFolder
        from sweeps.status import status

        return status(RunFolder(options.run))
    from sweeps.explain import explain, find_trial

    runs = options.runs or sorted(path.parent for path in Path("runs").glob("[!.]*/plan.json"))
    return explain(find_trial(options.first, runs), find_trial(options.second, runs))


if __name__ == "__main__":
    sys.exit(main())
