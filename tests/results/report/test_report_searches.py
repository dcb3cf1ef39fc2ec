"""The report of searches: what each rung predicts, figures in per cent, several searches apart, all drawn."""

import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

import results
from results.errors import ResultsError
from results.questions import search
from results.report import write_report
from results.store.reader import load
from tests.install import no_chromium
from tests.results.chromium import IS_LEFT_OUT, chromium
from tests.results.halved_run import Tried, write_halved
from tests.results.report.report_page import DRAWN, until
from tests.results.report_page import figures_of, text_of

WARNED = (
    "Search, rung 0 (1 epoch): rank correlation with the end -0.40 over 4 trials; this is weak: leave this rung out, or"
    " choose a later one."
)
HARDLY = "This rung hardly predicts the scores that came later: halving there stops good settings."
RATES = (0.5, 0.001, 0.02, 1.0, 0.1, 0.3)
SCORES = ((0.9, 0.6, 0.7), (0.6, 0.7, 0.8), (0.8, 0.8, 0.9), (0.7, 0.9, 1.0), (0.5,), (0.4,))
"""The first rung puts the four that end in another order than the end does, the second one does not."""
FIGURES = ["search-history", "search-rungs", "search-settings", "search-front", "search-latency-front"]


def tried(scores: Any = SCORES, criteria: str = "ab") -> list[Tried]:
    return [
        Tried(
            scores=several, state="finished" if len(several) == 3 else "stopped", removed=place / 10,
            pruning_latency_ms=9 - place,
            values={"lr": RATES[place], "criterion": criteria[place % len(criteria)], "fixed": 1},
        )
        for place, several in enumerate(scores)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_halved(tmp_path_factory.mktemp("halved") / "run", tried(), {3: 80, 2: 70})


def test_each_rung_has_its_rank_correlation_and_a_weak_one_is_warned_of(halved: Path) -> None:
    page = write_report(halved).read_text()
    said = text_of(page)
    assert WARNED in said and said.count(HARDLY) == 1
    assert re.search(r"rung 0 \(1 epoch\) 1 the end -0\.40 4 rung 1 \(4 epochs\) the end 1\.00 4", said)
    assert [name for name in figures_of(page) if name.startswith("search-")] == FIGURES


def test_scores_are_in_per_cent_and_no_axis_goes_beyond_a_hundred(halved: Path) -> None:
    plot = results.load(halved).plot
    charts = [
        plot.search_history(),
        plot.search_rungs(),
        plot.search_front(),
        plot.search_front(cost="pruning_latency_ms"),
    ]
    for chart in charts:
        (domain,) = set(re.findall(r'"domain": (\[[\d., ]+\])', json.dumps(chart.spec)))
        low, high = json.loads(domain)
        assert 30 < low < 100 * min(chart.data.column("score")) and high == 100.0
        assert "validation accuracy (%)" in json.dumps(chart.spec)
    lines = plot.search_settings().tables["lines"]
    assert sorted({line["shown"] for line in lines}) == pytest.approx([40, 50, 60, 70, 80, 90])


def test_settings_are_lines_through_their_values_in_order(halved: Path) -> None:
    """Rates by size, names in order; what all have in common has no axis; those that ended are marked."""
    chart = results.load(halved).plot.search_settings()
    found = {(line["axis"], line["number"]): line for line in chart.tables["lines"]}
    assert {axis for axis, _ in found} == {"lr", "criterion"}
    by_place = sorted(range(6), key=lambda number: found["lr", number]["place"])
    assert [RATES[number] for number in by_place] == sorted(RATES)
    assert [found["criterion", number]["place"] for number in range(6)] == [0, 1, 0, 1, 0, 1]
    assert [found["lr", number]["ended"] for number in range(6)] == [True] * 4 + [False] * 2
    assert chart.title == "All settings, coloured by their validation accuracy after 1 epoch"


def test_a_front_is_over_the_cost_that_is_asked_for(halved: Path) -> None:
    """What removes more has the higher score here: by either cost one setting beats all others."""
    plot = results.load(halved).plot
    assert plot.search_front().tables["front"] == [{"million_macs": pytest.approx(0.0007), "score": 1.0}]
    assert plot.search_front(cost="pruning_latency_ms").tables["front"] == [{"pruning_latency_ms": 6.0, "score": 1.0}]
    with pytest.raises(ResultsError, match=r"cost 'latency': did you mean 'pruning_latency_ms'\?"):
        plot.search_front(cost="latency")


@pytest.mark.check
def test_a_setting_whose_score_is_not_a_number_is_in_no_figure_and_is_told(halved: Path, tmp_path: Path) -> None:
    """One diverged from the start, one at its end; all else is drawn as without them."""
    lost = [
        Tried(scores=scores, values={"lr": rate, "criterion": "a", "fixed": 1}, removed=0.9, pruning_latency_ms=1)
        for rate, scores in ((7.0, (math.nan, math.nan, math.nan)), (8.0, (0.5, 0.6, math.inf)))
    ]
    run = write_halved(tmp_path / "run", [*lost, *tried()])
    page = write_report(run).read_text()
    assert [name for name in figures_of(page) if name.startswith("search-")] == FIGURES
    assert "Scores that are not numbers are left out: of 2 trials." in text_of(page)
    plot, whole = results.load(run).plot, results.load(halved).plot
    for name in ("search_history", "search_front"):
        columns = [getattr(one, name)().data.column("score") for one in (plot, whole)]
        assert columns[0] == columns[1]
    (row,) = [row for row in plot.search_settings().data.records if row["number"] == 1]
    assert (row["score"], row["end_score"]) == (0.5, None)


@pytest.mark.check
def test_two_searches_on_one_page_have_a_history_each(halved: Path, tmp_path: Path) -> None:
    """They share a trial, and each has confirmed its proposal 3, which is another setting in the other run."""
    other = write_halved(tmp_path / "other", [tried()[0], *tried(SCORES[1:3], "c")], {2: 60})
    runs = [halved, other]
    page = write_report(runs, out=tmp_path / "both.html").read_text()
    figures = figures_of(page)
    for place, run in enumerate(runs):
        alone = figures_of(write_report(run, out=tmp_path / "alone.html").read_text())
        for name in FIGURES:
            if name in alone:
                assert figures[f"{name}{place}"].data["columns"] == alone[name].data["columns"], name
    said = text_of(page)
    assert "Of 9 settings searched in 2 runs and 3 confirmed with new seeds, run: arm, proposal 3 is best" in said
    assert {"run: arm, proposal 2", "other: arm, proposal 2"} <= set(re.findall(r'data-arm="(.*?)"', page))
    assert "Run run, rung 0 (1 epoch)" in said
    plot = results.load(runs).plot
    assert len(plot.search_history(run="other").data.records) == 3
    with pytest.raises(ResultsError, match="2 runs that search fit; expected one of: run='run' or run='other'"):
        plot.search_rungs()


def test_a_run_that_does_not_search_says_so(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    for name in ("search_history", "search_rungs", "search_settings", "search_front"):
        with pytest.raises(ResultsError, match=r"this run has no .*(search|rungs)"):
            getattr(results.load(tmp_path).plot, name)()
    with load(tmp_path) as run:
        assert search.searching(run) == []


@pytest.mark.check
@pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium()))
def test_a_browser_draws_each_figure_of_a_search_and_shows_the_warning(halved: Path) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium(Path(folder)) as browser:
        browser.size(1280, 800)
        browser.open(write_report(halved))
        until(browser, DRAWN)
        marks = [browser.run(f"document.querySelectorAll('#{name} .plot .role-mark > *').length") for name in FIGURES]
        fronts = [1 + 4, 1 + 4]  # a line and the settings that ended
        assert marks == [1 + 4, 6 + 14, 6 + 6 + 2, *fronts]  # trials and points; settings and the values of two axes
        browser.run("document.querySelector('.warnings').open = true; 0")
        assert WARNED in browser.run("document.querySelector('.warnings').innerText")
        assert HARDLY in browser.run("document.querySelector('#search').innerText")
        assert browser.complaints == []
