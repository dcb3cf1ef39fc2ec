"""The commands about many trials at once: compare, table, effects, power, stops, front, images."""

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from results.cli.output import add_output
from results.errors import ResultsError
from results.text.page import Note, Part
from transtailor.terminal import CommandParser
from transtailor.validation import fraction

if TYPE_CHECKING:
    from results.store.reader import Run
Command = Callable[["Run", argparse.Namespace], Iterator[Part]]


def add_statistics(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    """Add them to `python -m results`; each imports what it needs when it runs."""
    compare = _command(commands, "compare", "print every arm against one of them, paired by seed", _compare)
    _add_against(compare)
    compare.add_argument(
        "--at", type=fraction, metavar="FRACTION",
        help="only this budget, such as 0.2, and arms that prune nothing; without it all budgets are shown",
    )  # fmt: skip
    _add_over(compare)
    table = _command(
        commands, "table", "methods x data sets with intervals, the best and its ties marked by test", _table
    )
    table.add_argument(
        "--metric", default="test_score", metavar="SCORE", help="test_score (default) or validation_score"
    )
    _add_at(table)
    _add_over(table)
    table.add_argument(
        "--equal-cost", action="store_true",
        help="compare at exactly that share of removed MACs, interpolated along each path, not at the asked budget",
    )  # fmt: skip
    effects = _command(commands, "effects", "which settings matter: analysis of variance with effect sizes", _effects)
    _add_at(effects)
    effects.add_argument(
        "--of", action="append", default=[], metavar="SETTING",
        help="such as optimisation.learning_rate or label (repeatable; default: all that vary)",
    )  # fmt: skip
    power = _command(commands, "power", "how many more seeds would settle each comparison with an arm", _power)
    _add_against(power)
    _add_over(power)
    _add_at(power)
    power.add_argument(
        "--difference", type=float, metavar="SCORE",
        help="the difference worth finding, such as 0.01 for a point of accuracy (default: the measured one)",
    )  # fmt: skip
    stops = _command(commands, "stops", "what each stop rule would have chosen on the recorded paths", _stops)
    stops.add_argument("--label", metavar="LABEL", help="only arms with this label, or the arm of this name")
    front = _command(commands, "front", "which arms are worth their cost, and how certain that is", _front)
    front.add_argument(
        "--cost", default="macs", metavar="COLUMN",
        help="macs (default), params, latency_ms, peak_memory_bytes, device_hours, ...",
    )  # fmt: skip
    front.add_argument("--metric", default="test_score", metavar="SCORE", help="test_score or validation_score")
    _add_over(front)
    images = _command(commands, "images", "two arms on the same test images: McNemar, and class by class", _images)
    images.add_argument("first", metavar="ARM", help="an arm, by its name, or by a label that only it has")
    images.add_argument("second", metavar="ARM", help="another one")
    _add_at(images)


def _command(commands: Any, name: str, text: str, page: Command) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    add_output(parser)
    parser.set_defaults(page=partial(_page_of_whole_run, page))
    return parser


def _page_of_whole_run(page: Command, given: argparse.Namespace) -> Iterator[Part]:
    """Yield the page of a run. Raises ResultsError: rows of it are lost, so its means would be of fewer trials."""
    from results.store.completeness import refuse_gaps
    from results.store.reader import load

    with load(given.run) as run:
        refuse_gaps(run)
        yield from _averaged(run, getattr(given, "over", []))
        yield from page(run, given)


def _averaged(run: "Run", over: list[str]) -> Iterator[Part]:
    """Average over these settings in what follows, and yield the sentences that say so."""
    from results.arms.over import NAMED, average_over

    if over:
        run.hold(*NAMED)
        yield from map(Note, average_over(run, over))
        yield ""


def _add_against(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against", required=True, metavar="ARM",
        help="the arm that all others are compared with: its name, or a label that only it has",
    )  # fmt: skip


def _add_over(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--over", action="append", default=[], metavar="SETTING",
        help="average over this setting, such as optimisation.learning_rate, instead of telling arms apart by it "
        "(repeatable)",
    )  # fmt: skip


def _add_at(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at", type=fraction, metavar="FRACTION", help="share of the MACs to remove, such as 0.2")


def _compare(run: "Run", given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.versus_arm import versus_arm_page

    return versus_arm_page(run, given.against, given.at)


def _table(run: "Run", given: argparse.Namespace) -> Iterator[Part]:
    from results.publish.published_table import published_table
    from results.publish.published_text import published_page

    return published_page(published_table(run, score=given.metric, asked=given.at, equal_cost=given.equal_cost))


def _effects(run: "Run", given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.effects import effects_page

    return effects_page(run, given.at, given.of)


def _power(run: "Run", given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.seeds_needed import seeds_needed_page

    difference = given.difference
    if difference is not None and (not math.isfinite(difference) or not difference):
        raise ResultsError(f"--difference {difference:g}: expected a number other than 0, such as 0.01")
    return seeds_needed_page(run, given.against, given.at, difference)


def _stops(run: "Run", given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.stopping import stops_page

    return stops_page(run, given.label)


def _front(run: "Run", given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.pareto import front_page

    return front_page(run, given.cost, given.metric)


def _images(run: "Run", given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.by_image import image_page

    return image_page(run, given.first, given.second, given.at)
