"""What a report weighs and takes: pages of several sizes, a browser that works in one, and the live page's server.

    python benchmarks/report.py --demo runs/demo    # a minute or more; without --demo that row is left out
    python benchmarks/report.py --quick             # small: for a look

Needs Debian's chromium, as the tests do. Every report is written in a process of its own.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.process import run_measured
from benchmarks.record import ROOT, Cell, Measured, parser_of, spread, verdict, write
from results.report.point_pages import PAGE_ROWS, PointPages
from results.report.serve import ReportServer
from results.store.reader import load
from results.store.schema import TABLES, arrow_schema
from results.store.writer import Writer
from tests.results.chromium import Browser, chromium
from tests.results.many_points import write_points
from tests.results.many_trials import write_many

COLUMNS = ("what", "measured", "unit", "quartiles", "times", "goal", "verdict")
DEMO_MB, THOUSAND_MB, THOUSAND_S = 1.3, 4.0, 6.0
NEW_ROWS_S, BRUSH_MS, ISOLATE_MS, ANSWER_S = 2.0, 50.0, 500.0, 0.5
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    trials: Sequence[int]
    points: int  # in the browser
    rows: int  # on the server
    times: int


USUAL = Sizes(trials=(100, 1000), points=100_000, rows=600_000, times=7)
QUICK = Sizes(trials=(40, 80), points=10_000, rows=6_000, times=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "report", quick="small")
    parser.add_argument("--demo", type=Path, metavar="RUN", help="a finished run of the spec demo, to weigh its page")
    options = parser.parse_args(arguments)
    sizes, rows = QUICK if options.quick else USUAL, list[tuple[Cell, ...]]()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        for row in _rows(Path(name), sizes, options.demo):
            print(", ".join(str(cell) for cell in row), file=sys.stderr, flush=True)
            rows.append(row)
    write(Measured(title="What a report weighs and takes", columns=COLUMNS, rows=tuple(rows), notes=NOTES), options.out,
          ("duckdb", "vl-convert-python"))  # fmt: skip
    return 0


def _row(what: str, values: Sequence[float], unit: str, goal: float | None = None) -> tuple[Cell, ...]:
    median = statistics.median(values)
    judged = (None, None) if goal is None else (f"{goal:g} {unit}", verdict(median <= goal))
    return (what, median, unit, spread(values) if len(values) > 1 else None, len(values), *judged)


def _rows(folder: Path, sizes: Sizes, demo: Path | None) -> Iterator[tuple[Cell, ...]]:
    if demo:
        yield from _page("the demo", demo.resolve(), 1, DEMO_MB, None)
    for trials in sizes.trials:
        run, is_goal = write_many(folder / str(trials), trials), trials == 1000
        yield from _page(
            f"{trials:,} trials", run, 3, THOUSAND_MB if is_goal else None, THOUSAND_S if is_goal else None
        )
    few = folder / str(sizes.trials[0])
    with chromium(folder) as browser:
        browser.size(1280, 1000)
        yield _row(f"new rows of {sizes.trials[0]} trials on the page", _new_rows(browser, few, sizes.times), "s",
                   NEW_ROWS_S)  # fmt: skip
        page = write_points(few / "report.html", sizes.points, folder / "points.html")
        for what, values, goal in _browser_times(browser, page, sizes.times):
            yield _row(f"{what} of {sizes.points:,} points", values, "ms", goal)
    yield from _answers(folder / "rows", sizes)


def _page(what: str, run: Path, times: int, mb: float | None, cpu_s: float | None) -> Iterator[tuple[Cell, ...]]:
    command = [sys.executable, "-m", "transtailor", "report", str(run)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    costs = [run_measured(command, run, environment) for _ in range(times)]
    yield _row(f"page of {what}", [(run / "report.html").stat().st_size / MB], "MB", mb)
    yield _row(f"writing it, {what}", [cost.wall_s for cost in costs], "s")
    yield _row(f"writing it, {what}: processor time", [cost.cpu_s for cost in costs], "s", cpu_s)
    yield _row(f"writing it, {what}: memory", [max(cost.peak_gb for cost in costs)], "GB")


def _wait_until(browser: Browser, condition: str) -> None:
    """Asks until an expression holds."""
    while not browser.poll(f"Boolean({condition})"):
        pass


def _new_rows(browser: Browser, run: Path, times: int) -> list[float]:
    """Seconds from rows that are durable to a page that shows them."""
    seconds = []
    with ReportServer([run]) as server, load(run) as opened:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        rows = opened.rows("SELECT * EXCLUDE (written_at) FROM planned LIMIT 1")
        (count,) = opened.rows("SELECT count(*) AS n FROM planned")
        drawn, lead = "document.querySelector('figure[data-drawn]')", "document.querySelector('.lead').textContent"
        shown = f"{drawn} && {lead}.startsWith('{{:,}} ')"
        browser.call("Page.navigate", url=server.link)
        _wait_until(browser, shown.format(count["n"]))
        for number in range(times):
            Writer(run / "tables").write("planned", [rows[0] | {"trial_id": f"{number:016x}"}])
            began = time.perf_counter()
            _wait_until(browser, shown.format(count["n"] + number + 1))
            seconds.append(time.perf_counter() - began)
        server.shutdown()
    return seconds


def _browser_times(browser: Browser, page: Path, times: int) -> Iterator[tuple[str, list[float], float]]:
    """Milliseconds of the page's main thread: its processor time, which other processes do not lengthen."""
    browser.open(page)
    _wait_until(browser, "document.querySelector('figure[data-drawn]')")
    browser.call("Performance.enable", timeDomain="threadTicks")

    def busy_ms(act: Callable[[], Any]) -> float:
        def task_ms() -> float:
            metrics = {metric["name"]: metric["value"] for metric in browser.call("Performance.getMetrics")["metrics"]}
            return 1000 * float(metrics["TaskDuration"])

        before = task_ms()
        act()
        browser.wait_for_picture()
        return task_ms() - before

    panel = "document.querySelector('#pareto .concat_0_group > g > path.background').getBoundingClientRect()"
    x, y = browser.run(f"(box => [box.left + box.width / 2, box.top + box.height / 2])({panel})")
    browser.point(x - 120, y - 60)
    browser.point(x - 120, y - 60, "mousePressed")
    moves = [busy_ms(partial(browser.drag_to, x - 60 + 3 * at, y - 20 + 2 * at)) for at in range(5 * times)]
    browser.point(x, y, "mouseReleased")
    yield "the table filtered by a brush", moves, BRUSH_MS
    browser.run("location.hash = 'cost=macs'; 0")
    labels = browser.run("Array.from(document.querySelectorAll('button.arm')).map(one => one.dataset.arm)")
    clicks = [f"document.querySelectorAll('button.arm')[{n % len(labels)}].click()" for n in range(times)]
    yield "an arm isolated", [busy_ms(partial(browser.run, click)) for click in clicks], ISOLATE_MS


def _answers(run: Path, sizes: Sizes) -> Iterator[tuple[Cell, ...]]:
    """What the live page's server takes for pages of points."""
    make_points(run, sizes.rows)
    pages = PointPages(load(run))
    first = json.loads(pages.answer("{}"))
    assert first["count"] == sizes.rows, first["count"]
    middle = json.dumps({"after": [50.0, f"{0:016x}", 0]})
    asked = {"the first page, with the count": "{}", "a page from the middle": middle,
             "a page filtered by words": '{"texts": ["arm 3"], "numbers": [["test_score", ">", 50], ["seed", "=", 1]]}',
             "a page sorted by a text": '{"sort": "arm"}'}  # fmt: skip
    for what, question in asked.items():
        times = [_cpu_s(lambda: pages.answer(question)) for _ in range(sizes.times)]  # noqa: B023
        yield _row(f"{what} of {sizes.rows:,} rows", times, "s", ANSWER_S)
    pages.close()


def make_points(run: Path, rows: int) -> None:
    """A run with this many operating points, six of each trial, each with one test image."""
    numbers = range(rows)
    moment, code = [datetime(2024, 5, 1, tzinfo=UTC)] * rows, ["0" * 64] * rows
    trials, points = [f"{n // 6:016x}" for n in numbers], [n % 6 for n in numbers]
    values: dict[str, dict[str, Any]] = {
        "operating_points": {
            "sweep": ["rows"] * rows, "label": [f"arm {n // 6 % 8}" for n in numbers],
            "arm": [f"arm {n // 6 % 8}" for n in numbers], "method": ["prune"] * rows,
            "network": ["net"] * rows, "dataset": ["digits"] * rows, "seed": [n // 48 % 10 for n in numbers],
            "asked_removed_macs_fraction": [n % 6 / 10 for n in numbers], "metric": ["accuracy"] * rows,
            "removed_macs_fraction": [n % 6 / 10 for n in numbers], "macs": [10**6 + n for n in numbers],
            "validation_score": [n * 7919 % 10007 / 10007 for n in numbers],
        },
        "predictions": {"split": ["test"] * rows, "image_id": [0] * rows, "label": [0] * rows,
                        "prediction": [n * 7907 % 2 for n in numbers]},
    }  # fmt: skip
    for table, its in values.items():
        schema, folder = arrow_schema(TABLES[table]), run / "tables" / table
        folder.mkdir(parents=True)
        cells = its | {"trial_id": trials, "point": points, "code_digest": code, "written_at": moment}
        columns = {name: cells.get(name, [_filler(schema.field(name).type)] * rows) for name in schema.names}
        pq.write_table(pa.table(columns, schema=schema), folder / f"20240501T000000.000000-{0:032x}.parquet")


def _filler(kind: pa.DataType) -> object:
    return "x" if pa.types.is_string(kind) else 1 if pa.types.is_integer(kind) or pa.types.is_floating(kind) else None


def _cpu_s(work: Callable[[], object]) -> float:
    """Seconds of processor time, of all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


NOTES = (
    "The runs are made up by `tests/results/many_trials.py`: every table is filled. 10,000 trials are in"
    " [large_run](large_run.md). The goal for writing is held against processor time, of all threads together.",
    "New rows: from a durable row to a browser that shows it, with its main figure drawn; the server looks for new"
    " rows five times a second and answers when their page is made.",
    "In the browser: processor time of the page's main thread until the second frame after a move of the mouse, held"
    " down, that makes a brush larger, with the table of the rows inside it; or after a click on an arm, with the dots"
    " painted again. The points are those of the smallest run again and again, scattered.",
    f"The server's pages have {PAGE_ROWS} rows and begin behind a key; times are processor time of"
    " all threads for the answer, without HTTP.",
    "New rows are the only goal held against the clock: with a load above the number of cores they take longer by so"
    " much. Processor time grows then, too, but by less: the caches are shared.",
)


if __name__ == "__main__":
    sys.exit(main())
