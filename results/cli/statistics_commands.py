"""The commands about many trials at once: table, effects, power, stops, front, images."""

import argparse
import math
from collections.abc import Callable, Iterator
from typing import Any

from results.cli.output import add_output
from results.errors import ResultsError
from results.text.page import Part
from transtailor.validation import fraction


def add_statistics(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them to `python -m results`; each imports what it needs when it runs."""
    table = _command(
        commands, "table", "methods x data sets with intervals, the best and its ties marked by test", _table
    )
    table.add_argument(
        "--metric", default="test_score", metavar="SCORE", help="test_score (default) or validation_score"
    )
    _add_at(table)
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
    power.add_argument("--against", required=True, metavar="LABEL", help="the arm that all others are compared with")
    _add_at(power)
    power.add_argument(
        "--difference", type=float, metavar="SCORE",
        help="the difference worth finding, such as 0.01 for a point of accuracy (default: the measured one)",
    )  # fmt: skip
    stops = _command(commands, "stops", "what each stop rule would have chosen on the recorded paths", _stops)
    stops.add_argument("--label", metavar="LABEL", help="only this arm")
    front = _command(commands, "front", "which arms are worth their cost, and how certain that is", _front)
    front.add_argument(
        "--cost", default="macs", metavar="COLUMN",
        help="macs (default), params, latency_ms, peak_memory_bytes, device_hours, ...",
    )  # fmt: skip
    front.add_argument("--metric", default="test_score", metavar="SCORE", help="test_score or validation_score")
    images = _command(commands, "images", "two arms on the same test images: McNemar, and class by class", _images)
    images.add_argument("first", metavar="LABEL", help="an arm")
    images.add_argument("second", metavar="LABEL", help="another one")
    _add_at(images)


def _command(
    commands: Any, name: str, text: str, page: Callable[[argparse.Namespace], Iterator[Part]]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    add_output(parser)
    parser.set_defaults(page=page)
    return parser


def _add_at(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at", type=fraction, metavar="FRACTION", help="share of the MACs to remove, such as 0.2")


def _table(given: argparse.Namespace) -> Iterator[Part]:
    from results.publish.published_table import published_table
    from results.publish.published_text import published_page
    from results.store.reader import load

    with load(given.run) as run:
        table = published_table(run, score=given.metric, asked=given.at, equal_cost=given.equal_cost)
    yield from published_page(table)


def _effects(given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.effects import effects_page
    from results.store.reader import load

    with load(given.run) as run:
        yield from effects_page(run, given.at, given.of)


def _power(given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.seeds_needed import seeds_needed_page
    from results.store.reader import load

    difference = given.difference
    if difference is not None and (not math.isfinite(difference) or not difference):
        raise ResultsError(f"--difference {difference:g}: expected a number other than 0, such as 0.01")
    with load(given.run) as run:
        yield from seeds_needed_page(run, given.against, given.at, difference)


def _stops(given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.stopping import stops_page
    from results.store.reader import load

    with load(given.run) as run:
        yield from stops_page(run, given.label)


def _front(given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.pareto import front_page
    from results.store.reader import load

    with load(given.run) as run:
        yield from front_page(run, given.cost, given.metric)


def _images(given: argparse.Namespace) -> Iterator[Part]:
    from results.analysis.by_image import image_page
    from results.store.reader import load

    with load(given.run) as run:
        yield from image_page(run, given.first, given.second, given.at)
