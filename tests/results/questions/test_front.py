"""Fronts of a run: costs of every kind, means over seeds, and costs that were not written down."""

import math
from pathlib import Path

import pytest

import results
from results.arms.findings import findings_of
from results.arms.fronts import DEVICE_HOURS, costs_of, fronts_of
from results.best import Limit, best_page, best_points
from results.errors import ResultsError
from results.questions.front import front_page
from results.questions.front_figure import front_chart, means_of
from results.render.chart import Chart
from results.report import write_report
from results.store.reader import load
from results.store.writer import Writer
from results.text.formats import markdown_lines
from tests.results.exact_run import Trial, write_run
from tests.results.report_page import figures_of, text_of

TIMING = {
    "device_name": "cpu a", "batch": 1, "threads": 2, "precision": "float32", "repeats": 9,
    "runtime": "eager", "memory_format": "contiguous", "versions": "torch 2", 
    "speed": 1.5, "speed_lower_quartile": 1.4, "speed_upper_quartile": 1.6, "whole_latency_ms": 3.0,
    "reference_latency_ms": 3.0, "widths": "as pruned", "is_steady": True, "latency_ms": 2.0,
    "latency_lower_quartile_ms": 0.5, "latency_upper_quartile_ms": 2.0, "peak_memory_bytes": 2**20, "code_digest": "c",
}  # fmt: skip


def write(folder: Path, seeds: int = 4) -> Path:
    """At 200 MACs less "small" is always the worse one; "bad" is dearer than "good" and never better."""
    arms = (("small", 80, 0.4), ("good", 90, 0.2), ("bad", 85, 0.1))
    return write_run(
        folder,
        [
            Trial(label=label, seed=seed, right=(right + seed,), asked=(asked,), seconds=1800.0)
            for label, right, asked in arms
            for seed in range(seeds)
        ],
    )


def test_the_front_and_its_shares_by_hand(tmp_path: Path) -> None:
    with load(write(tmp_path)) as run:
        ((_, front),) = fronts_of(run, "macs").items()
        text = "\n".join(markdown_lines(front_page(run, "macs")))
    assert [(point.arm.label, point.cost, point.is_on_front, point.share, point.seeds) for point in front] == [
        ("small", 600.0, True, 1.0, 4),
        ("good", 800.0, True, 1.0, 4),
        ("bad", 900.0, False, 0.0, 4),
    ]
    assert front[1].score == pytest.approx(0.915)
    assert "Trials: 12 planned, 12 finished" in text


def test_hours_count_every_rank_from_the_start_of_the_chain(tmp_path: Path) -> None:
    with load(write(tmp_path)) as run:
        costs = costs_of(run, DEVICE_HOURS)
        assert "on cpu" in "\n".join(markdown_lines(front_page(run, DEVICE_HOURS)))
    assert set(costs.values()) == {2 * 0.5 * 2}  # source and point, half an hour each, on two ranks


@pytest.mark.check
def test_a_front_by_latency_needs_timed_models_and_says_where_they_were_timed(tmp_path: Path) -> None:
    """Here "good" is the fastest, and no other is on the front; by MACs "small" is."""
    with load(write(tmp_path)) as run:
        with pytest.raises(ResultsError, match="no operating point has both .* time "):
            fronts_of(run, "latency_ms")
        points = run.rows("SELECT model_key, label FROM operating_points ORDER BY model_key")
    ms = {"small": 4.0, "good": 1.0, "bad": 2.0}
    timed = [TIMING | {"model_key": row["model_key"], "speed": 3.0 / ms[row["label"]]} for row in points]
    assert "latency_ms" not in costs_to_choose(write_report(tmp_path).read_text())
    Writer(tmp_path / "tables").write("timings", [*timed, timed[0] | {"batch": 8}])
    with load(tmp_path) as run:
        ((_, front),) = fronts_of(run, "latency_ms").items()
        text = "\n".join(markdown_lines(front_page(run, "latency_ms")))
        (best,) = best_points(run, limits=[Limit.parse("latency_ms=2.5")])
        fast_enough = "\n".join(markdown_lines(best_page(run, "validation_score", [Limit.parse("latency_ms=2.5")])))
        assert "one forward pass of 1 image in eager on cpu a" in fast_enough
        with pytest.raises(ResultsError, match="no operating point with at most 0.5 ms"):
            list(best_page(run, "validation_score", [Limit.parse("latency_ms=0.5")]))
    assert best["label"] == "good"
    assert [(point.arm.label, point.cost, point.is_on_front) for point in front] == [
        ("good", 1.0, True), ("bad", 2.0, False), ("small", 4.0, False)
    ]  # fmt: skip
    assert text.count("against latency_ms, 1 image in eager on cpu a, 2 threads, float32, contiguous, torch 2") == 1
    assert "8 images" not in text and "Timed in 1 more circumstances: table timings." in text
    page = write_report(tmp_path).read_text()
    assert {"macs", "latency_ms"} <= set(costs_to_choose(page))
    assert "models timed like this: 12" in text_of(page)


def costs_to_choose(page: str) -> list[str]:
    """The costs that the main figure offers."""
    return [one["column"] for one in figures_of(page)["pareto-figure"].data["spec"]["usermeta"]["costs"]]


def test_means_and_intervals_are_those_of_the_seeds_that_have_a_cost(tmp_path: Path) -> None:
    with load(write(tmp_path)) as run:
        points = run.rows("SELECT model_key FROM operating_points WHERE label = 'good' ORDER BY seed LIMIT 2")
    Writer(tmp_path / "tables").write("timings", [TIMING | point for point in points])
    with load(tmp_path) as run:
        (((only,),),) = [fronts_of(run, "latency_ms").values()]
    assert (only.seeds, only.score) == (2, pytest.approx(0.905))
    assert only.interval.n == 2
    assert only.interval.low < 0.905 < only.interval.high
    assert only.share == 1.0  # of resamples of the two
    (timed,) = points[:1]
    write(tmp_path / "one")
    Writer(tmp_path / "one" / "tables").write("timings", [TIMING | timed])
    with load(tmp_path / "one") as run:
        (((only,),),) = [fronts_of(run, "latency_ms").values()]
        text = "\n".join(markdown_lines(front_page(run, "latency_ms")))
    assert (only.seeds, only.share) == (1, None)
    assert "3 of 4 seeds of good at 20% fewer MACs, net on digits" in text
    assert "4 of 4 seeds of bad at 10% fewer MACs, net on digits" in text


def test_several_runs_of_which_one_is_timed_have_a_page_that_names_each_run_to_type(tmp_path: Path) -> None:
    both = [write(tmp_path / name) for name in ("timed", "untimed")]
    with load(both[0]) as run:
        key = run.rows("SELECT model_key FROM operating_points LIMIT 1")[0]
    Writer(both[0] / "tables").write("timings", [TIMING | key | {"is_steady": False}])
    page = text_of(write_report(both, out=tmp_path / "both.html").read_text())
    assert all(f" time {path} --again" in page for path in both)
    with results.load(both) as runs, pytest.raises(ResultsError, match=f"effects {both[0]} .*effects {both[1]} "):
        runs.compare(donors=True)


def test_the_axis_of_scores_has_every_point(tmp_path: Path) -> None:
    arms = {"good": (88, 88, 88), "wide": (98, 80, 62), "lost": (10, 11, 12)}
    trials = [
        Trial(label=label, seed=seed, right=(right,)) for label, several in arms.items()
        for seed, right in enumerate(several)
    ]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        found = findings_of(run)
        figure = front_chart(found, means_of(found))
    assert figure is not None
    low, high = domain_of(figure)
    assert low <= 10 and 98 < high <= 100


def domain_of(figure: Chart) -> list[float]:
    """The ends of the axis of scores of the first panel."""
    domain: list[float] = figure.spec["concat"][0]["layer"][0]["encoding"]["y"]["scale"]["domain"]
    return domain


def test_one_seed_has_a_front_and_no_share(tmp_path: Path) -> None:
    with load(write(tmp_path, seeds=1)) as run:
        ((_, front),) = fronts_of(run, "macs").items()
        assert "one seed" in "\n".join(markdown_lines(front_page(run, "macs")))
    assert [point.share for point in front] == [None] * 3


def test_a_front_tells_which_arms_lost_seeds(tmp_path: Path) -> None:
    several = [
        Trial(label=label, seed=seed, right=(80,), validation=(math.nan if (label, seed) == ("a", 0) else 0.8,))
        for label in "ab" for seed in range(3)
    ]  # fmt: skip
    with load(write_run(tmp_path, several)) as run:
        texts = ["\n".join(markdown_lines(front_page(run, "macs", f"{name}_score"))) for name in ("test", "validation")]
    assert ["\n- failed (1 of 2 rows): " in text for text in texts] == [False, True]
