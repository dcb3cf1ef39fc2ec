"""The command line: `python -m results report | query | best | compare | table | export | diff | ...`."""

import transtailor.start  # noqa: F401  # first: it looks whether the rooms are ours  # isort: skip
import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from results.cli.output import add_output, write
from results.cli.statistics_commands import add_statistics
from results.errors import ResultsError
from results.text.page import PageTable, Part
from transtailor.errors import INTERRUPTED, MISTAKE, SUCCESS, UserError
from transtailor.shell import command
from transtailor.terminal import CommandParser, ignore_closed_stdout, say


def main(arguments: Sequence[str] | None = None, prog: str = "python -m results") -> int:
    """Run a command; return the exit status: 0, 2 for a mistake of the user (explained on standard error), or 130."""
    given = _parser(prog).parse_args(arguments)
    try:
        with ignore_closed_stdout():
            for line in write(given.page(given), given) if "page" in given else given.lines(given):
                say(line)  # a command that follows a sweep prints from time to time
    except UserError as error:
        say(f"error: {error}", to=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        say("stopped; the same command resumes", to=sys.stderr)
        return INTERRUPTED
    return SUCCESS


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description="Read what a sweep wrote.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_report(commands)
    query = commands.add_parser("query", help="print the answer to a query on the tables of one or more runs")
    query.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run; with several, the column `run` names it"
    )
    query.add_argument("sql", metavar="SQL", help='such as "SELECT status, count(*) FROM trials GROUP BY ALL"')
    add_output(query)
    query.set_defaults(page=_query)
    best = commands.add_parser("best", help="the best operating point under a limit, and how to save its sub-model")
    best.add_argument("run", metavar="RUN", help="folder of the run")
    best.add_argument(
        "--by", default="validation_score", metavar="SCORE",
        help="validation_score (default), or test_score, which warns",
    )  # fmt: skip
    best.add_argument(
        "--under", action="append", default=[], metavar="COLUMN=LIMIT",
        help="macs=0.8 (up to 1: of the original's), macs=2e6, params=100000, latency_ms=2 (repeatable)",
    )  # fmt: skip
    best.set_defaults(lines=_best)
    points = commands.add_parser(
        "points", help="write RUN/points.parquet: a row for each operating point, with each setting as a column"
    )
    points.add_argument("run", type=Path, metavar="RUN", help="folder of the run, which may be running")
    points.set_defaults(lines=_points)
    diff = commands.add_parser("diff", help="print the differences of two runs")
    diff.add_argument("first", type=Path, metavar="RUN", help="folder of a run")
    diff.add_argument("second", type=Path, metavar="RUN", help="folder of another one")
    diff.set_defaults(lines=_diff)
    add_statistics(commands)
    export = commands.add_parser("export", help="a run as CSV files, or in TensorBoard, MLflow or Weights & Biases")
    export.add_argument("run", metavar="RUN", help="folder of the run, which may be running")
    export.add_argument("--to", type=str.lower, required=True, choices=("csv", "tensorboard", "mlflow", "wandb"))
    export.add_argument("--out", type=Path, metavar="FOLDER", help="folder to write to (default: RUN/export/TOOL)")
    export.add_argument("--follow", action="store_true", help="continue until the sweep has ended")
    export.set_defaults(lines=_export)
    return parser


def _add_report(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    report = commands.add_parser("report", help="write RUN/report.html and print its path")
    report.add_argument(
        "--out", type=Path, metavar="FILE", help="the page's path (default: report.html in the first RUN)"
    )
    report.add_argument(
        "--watch", nargs="?", type=float, const=30.0, metavar="SECONDS",
        help="write it again every SECONDS (default: 30) until the sweep has ended; the open page reloads itself",
    )  # fmt: skip
    report.add_argument(
        "--over", action="append", default=[], metavar="SETTING",
        help="average over this setting, such as optimisation.learning_rate, instead of telling arms apart by it "
        "(repeatable)",
    )  # fmt: skip
    report.set_defaults(lines=_report)
    serve = commands.add_parser("serve", help="serve RUN's report to this machine's browser; it follows the sweep")
    serve.add_argument("--port", type=int, default=0, metavar="PORT", help="to listen on (default: any that is free)")
    serve.set_defaults(lines=_serve)
    for command_of_runs in (report, serve):
        command_of_runs.add_argument(
            "runs", nargs="+", type=Path, metavar="RUN",
            help="folder of a run, such as runs/demo; several become one page, where a trial in two counts once",
        )  # fmt: skip
        command_of_runs.add_argument(
            "--apart", choices=("colour", "panel"),
            help="tell several runs apart, by colours or by panels (default: arms of one name are one arm)",
        )  # fmt: skip


def _report(given: argparse.Namespace) -> Iterator[str]:
    from results.report import watch, write_report

    run = given.runs if len(given.runs) > 1 else given.runs[0]
    _check_apart(given)
    if given.watch is None:
        yield str(write_report(run, apart=given.apart, over=given.over, out=given.out))
        return
    if given.over:
        raise ResultsError("--watch and --over: expected one of them; leave the other out")
    if len(given.runs) > 1:
        raise ResultsError(f"--watch: expected one run, given {len(given.runs)}; type: {command('serve', *given.runs)}")
    if not 0 < given.watch < math.inf:
        raise ResultsError(f"--watch {given.watch:g}: expected seconds above 0; type one such as --watch 30")
    for path in watch(run, given.watch, out=given.out):
        yield str(path)


def _check_apart(given: argparse.Namespace) -> None:
    if given.apart and len(given.runs) == 1:
        raise ResultsError(f"--apart {given.apart}: expected several runs, given 1; leave it out, or name another run")


def _serve(given: argparse.Namespace) -> Iterator[str]:
    from results.report.serve import serve_lines

    _check_apart(given)
    yield from serve_lines(given.runs, given.port, given.apart)


def _query(given: argparse.Namespace) -> Iterator[Part]:
    from results.store.completeness import refuse_gaps
    from results.store.reader import load, python_values

    with load(given.runs if len(given.runs) > 1 else given.runs[0]) as run:
        answer = run.arrow(given.sql)
        try:
            refuse_gaps(run)
        except ResultsError as error:
            say(f"warning: {error}", to=sys.stderr)
    columns = [python_values(column) for column in answer.columns]
    yield PageTable(columns=answer.column_names, rows=[*zip(*columns, strict=True)], words=None)


def _best(given: argparse.Namespace) -> Iterator[str]:
    from results.analysis.best import Limit, best_lines
    from results.store.reader import load

    if given.by == "test_score":
        say(
            "warning: the test score of a point chosen by it is too optimistic and is no estimate for new images;"
            " for an estimate, choose by validation_score",
            to=sys.stderr,
        )
    limits = [Limit.parse(text) for text in given.under]
    with load(given.run) as run:
        yield from best_lines(run, given.by, limits)


def _points(given: argparse.Namespace) -> Iterator[str]:
    from results.store.completeness import refuse_gaps
    from results.store.points import write_points
    from results.store.reader import load

    with load(given.run) as run:
        refuse_gaps(run)
        yield str(write_points(run))


def _diff(given: argparse.Namespace) -> Iterator[str]:
    from results.analysis.diff import run_lines

    for folder in (given.first, given.second):
        if not folder.is_dir():
            two_trials = command("explain", given.first, given.second)
            raise ResultsError(f"no folder {str(folder)!r}; for two trials, type: {two_trials}")
    yield from run_lines(given.first, given.second)


def _export(given: argparse.Namespace) -> Iterator[str]:
    from results.export.command import export_lines

    yield from export_lines(Path(given.run), given.to, given.out, follow=given.follow)


if __name__ == "__main__":
    sys.exit(main())
