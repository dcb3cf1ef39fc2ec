"""The numbers of the page are those that queries and `results.statistics` give, computed here again in plain loops."""

import html
import math
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from results.arms.counts import trials_line
from results.arms.findings import Findings, findings_of
from results.arms.trial_settings import trial_rows
from results.questions import classes, layers
from results.questions.layers import compared_filters
from results.render.blocks import Figure, TableBlock, Words
from results.report import now, write_report
from results.report.now import TO_COME
from results.report.overview import headline, overview
from results.statistics.means import mean_interval
from results.statistics.pairs import compare_pairs
from results.store.reader import Run, load
from results.store.writer import Writer
from tests.results.exact_run import Trial, write_run, write_search
from tests.results.halved_run import Tried, write_halved
from tests.results.many_trials import write_many
from tests.results.report_page import figures_of, text_of
from transtailor.__main__ import main

NUMBERS = 200


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many(tmp_path_factory.mktemp("numbers") / "many", 96)


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return write_report(run).read_text()


def scores_by_seed(opened: Run) -> dict[tuple[str, str, float], dict[int, float]]:
    """Network, label and asked budget -> seed -> test score; a seed's trials are averaged."""
    rows = opened.rows(
        "SELECT network, label, round(asked_removed_macs_fraction, 9) AS asked, seed, avg(test_score) AS score"
        " FROM compared_points WHERE test_score IS NOT NULL GROUP BY ALL"
    )
    found: dict[tuple[str, str, float], dict[int, float]] = defaultdict(dict)
    for row in rows:
        found[row["network"], row["label"], row["asked"]][row["seed"]] = row["score"]
    return found


def first_screen(page: str) -> dict[str, list[list[str]]]:
    """Network -> the lines of its table of arms, each with its label first."""
    found = {}
    for title, body in re.findall(r"<h3>(\w+) on flowers.*?</h3>\s*<div class=\"wide arms\">.*?<tbody>(.*?)</tbody>",
                                  page, flags=re.DOTALL):  # fmt: skip
        lines, label = [], ""
        for line in re.findall(r"<tr.*?</tr>", body, flags=re.DOTALL):
            label = html.unescape((re.findall('data-arm="(.*?)"', line) or [label])[0])
            lines.append([label, *map(html.unescape, re.findall(r'<td class="n">(.*?)</td>', line))])
        found[title] = lines
    return found


def test_two_hundred_numbers_are_those_of_queries_and_statistics(run: Path, page: str) -> None:
    """Means, intervals, differences and their intervals of the first screen, and rows and means of the main figure."""
    checked = 0
    with load(run) as opened:
        scores = scores_by_seed(opened)
        for network, lines in first_screen(page).items():
            baseline = scores[network, "fine_tune", 0.0]
            means = {key[1:]: mean_interval(list(seeds.values())) for key, seeds in scores.items() if key[0] == network}
            for label, _removed, test, of_test, seeds, difference, interval, *_ in lines:
                (asked,) = [asked for (name, asked), mean in means.items()
                            if name == label and f"{100 * (mean.mean or 0):.2f}" == test]  # fmt: skip
                assert str(len(scores[network, label, asked])) == seeds
                mean = means[label, asked]
                if mean.low is not None and mean.high is not None:
                    assert f"{100 * mean.low:.2f} … {100 * mean.high:.2f}" == of_test
                checked += 3
                if difference == "–":
                    continue
                paired = compare_pairs(scores[network, label, asked], baseline).difference
                assert f"{100 * (paired.mean or 0):+z.2f}" == difference
                if paired.low is not None and paired.high is not None:
                    assert f"{100 * paired.low:+z.2f} … {100 * paired.high:+z.2f}" == interval
                checked += 3
        figure = figures_of(page)["pareto-figure"]
        rows = opened.rows(figure.query)
        for row in random.Random(0).sample(range(len(rows)), 30):
            for column in figure.data["columns"]:
                shown = column["texts"][column["places"][row]] if "texts" in column else column["values"][row]
                wanted = rows[row][column["name"]]
                assert shown == (pytest.approx(wanted, rel=1e-5) if isinstance(wanted, float) else wanted)
                checked += isinstance(wanted, int | float)
    assert checked >= NUMBERS


def test_trials_that_failed_are_counted_with_their_number_of_training_images(tmp_path: Path) -> None:
    few, many = (
        [
            Trial(label=label, method=label, seed=seed, right=(80 + seed,), train_images=images,
                  config={"images": images}, ended="failed" if images == 50 and seed < lost else "finished")
            for label, lost in (("transtailor", 2), ("fine_tune", 0)) for seed in range(4)
        ]
        for images in (50, 200)
    )  # fmt: skip
    doomed = Trial(label="doomed", seed=0, right=(), ended="failed", config={"images": 50})
    with load(write_run(tmp_path, [*few, *many, doomed])) as opened:
        shown = {
            block.title.partition(",")[0]: {record["arm"]: record["failed"] for record in block.table.records}
            for block in overview(findings_of(opened))
        }
    assert shown == {
        "net on digits (50 training images)": {
            "transtailor": "2 failed or NaN",
            "fine_tune": "",
            "doomed": "1 failed or NaN",
        },
        "net on digits (200 training images)": {"transtailor": "", "fine_tune": ""},
    }


@pytest.mark.check
def test_the_rows_that_are_not_held_are_in_no_section(run: Path) -> None:
    def shown(found: Findings) -> list[object]:
        blocks = [*layers.kept_filters_section(found).blocks, *classes.section(found).blocks]
        return [block.data if isinstance(block, Figure) else block for block in blocks]  # data are rounded

    with load(run) as opened:
        found = findings_of(opened)
        before = shown(found)
        assert {type(block) for block in before} == {Markup, TableBlock}
        for table, where in (("kept_filters", compared_filters(found)),
                             ("predictions", classes.compared_predictions(found))):  # fmt: skip
            rows = opened.rows(f"SELECT count(*) AS n FROM {table}")
            opened.hold(table, where=where)
            assert opened.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] < rows[0]["n"]
        assert shown(found) == before


@pytest.mark.check
def test_a_trial_in_two_runs_counts_once(tmp_path: Path, synthetic: Any) -> None:
    synthetic(seeds=(0, 1, 2)).write(tmp_path / "a")
    synthetic(seeds=(1, 2, 3)).write(tmp_path / "b")
    synthetic(seeds=(0, 1, 2, 3)).write(tmp_path / "whole")
    both = [str(tmp_path / name) for name in "ab"]
    whole = figures_of(write_report(tmp_path / "whole").read_text())["pareto-figure"]
    together = write_report(both, out=tmp_path / "both.html").read_text()
    figure = figures_of(together)["pareto-figure"]
    assert "8 trials planned" in together and "trials in several runs: 4" in text_of(together).lower()
    assert means_of(figure.data) == means_of(whole.data)
    assert {"name": "run"}.items() <= figure.data["extra"][1].items()


def means_of(data: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The means of the main figure, without the order of computing in their last digits."""
    columns = {one["name"]: one for one in data["tables"]["means"]}
    texts = [columns["arm"]["texts"][place] for place in columns["arm"]["places"]]
    return sorted((text, round(x, 3), round(y, 3)) for text, x, y in zip(
        texts, columns["x"]["values"], columns["y"]["values"], strict=True))  # fmt: skip


def test_a_page_of_several_runs_needs_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [str(write_run(tmp_path / name, [Trial(label="a", seed=0, right=(9,))])) for name in "ab"]
    assert main(["report", *both]) == 2  # the page of a run is of that run alone
    assert "several runs: name their page with --out FILE" in capsys.readouterr().err
    assert not Path(both[0], "report.html").exists()


def test_a_sweep_that_runs_tells_what_is_to_come_and_the_best_so_far(tmp_path: Path, synthetic: Any) -> None:
    """Two of the six trials are missing; each trial that has ended took 90 s."""
    ends = {("transtailor", 2): "missing", ("fine_tune", 2): "missing"}
    synthetic(end=lambda label, seed: ends.get((label, seed), "finished")).write(tmp_path)
    said = text_of(write_report(tmp_path).read_text())
    (took, left) = re.findall(
        r"have ended took ([\d.]+) minutes\. Still to come: 2, expected to take ([\d.]+) minutes", said
    )[0]
    assert (float(took), float(left)) == (pytest.approx(6.0), pytest.approx(3.0))
    with load(tmp_path) as opened:
        best = opened.rows("SELECT label, asked_removed_macs_fraction AS asked, avg(validation_score) AS score"
                           " FROM compared_points GROUP BY ALL ORDER BY score DESC LIMIT 1")[0]  # fmt: skip
    assert math.isclose(float(re.findall(r"Best so far .*?, ([\d.]+)%", said)[0]), 100 * best["score"], abs_tol=0.005)
    assert "over 2 of 3 seeds" in said


@pytest.mark.parametrize("names", [("small", "large"), ("one", "one")])
def test_a_trial_to_come_is_expected_to_take_as_long_as_those_on_its_data(tmp_path: Path, names: Sequence[str]) -> None:
    several = [
        Trial(label="arm", seed=seed, right=(80,) * (1 - seed), dataset=data, train_images=images,
              config={"n": images}, ended="missing" if seed else "finished")
        for data, images in zip(names, (9, 50), strict=True) for seed in (0, 1) if (images, seed) != (9, 1)
    ]  # fmt: skip
    run = write_run(tmp_path / "run", several)
    with load(run) as loaded:
        (row,) = loaded.rows("SELECT * EXCLUDE (written_at) FROM trials WHERE trial_id = ?", [several[1].trial_id])
    Writer(run / "tables").write("trials", [row | {"seconds": 7200.0}])  # on the large data; 1 s on the small
    with load(run) as loaded:
        assert loaded.rows(TO_COME)[0]["hours_to_come"] == 2.0


STATES = ("finished", "stopped", "stopped", "resting", "resting", "resting", "running", "continued")


@pytest.mark.check
def test_what_a_search_has_stopped_and_what_rests_is_not_still_to_come(tmp_path: Path) -> None:
    """Two run: one of them was stopped, and continues."""
    scores = {"finished": (0.7, 0.8, 0.9), "running": ()}
    tried = [Tried(scores=scores.get(state, (0.5,)), state=state, values={"x": n}) for n, state in enumerate(STATES)]
    run = write_halved(tmp_path / "run", tried)
    said = text_of(write_report(run).read_text())
    counts = "1 trial finished · 2 trials stopped · 3 trials resting · 0 trials failed · 2 trials missing"
    assert f"8 trials planned · {counts}" in said
    assert re.search(
        r"Still to come: 2, expected to take less than 0\.1 hours, or less than 0\.1 hours with 2 at once\.", said
    )
    assert "Resting at a rung, from which the best continue: 3. Stopped by the search: 2." in said
    assert "neither finished nor failed: 2 of 8." in said
    with load(run) as loaded:
        line = trials_line(loaded)
        shown = {row["trial_id"]: row["status"] for row in trial_rows(loaded)}
    assert line == "Trials: 8 planned, 1 finished, 0 failed, 2 stopped, 3 resting, 2 missing."
    expected = [{"running": "missing", "continued": "missing"}.get(one.state, one.state) for one in tried]
    assert [shown[one.trial.trial_id] for one in tried] == expected


def test_the_verdict_of_a_search_reads_the_confirmed_settings_only(tmp_path: Path) -> None:
    said = text_of(write_report(write_search(tmp_path, 2)).read_text())
    scores, other = [0.86, 0.85, 0.86, 0.85, 0.86, 0.85], [0.81, 0.80, 0.81, 0.80, 0.81, 0.80]
    mean, paired = mean_interval(scores), compare_pairs(dict(enumerate(scores)), dict(enumerate(other)))
    assert (
        "Of 3 settings searched and 2 confirmed with new seeds, arm, proposal 1 is best by validation: test accuracy"
        f" {100 * (mean.mean or 0):.2f}% [{100 * (mean.low or 0):.2f} … {100 * (mean.high or 0):.2f}], n = 6, on"
    ) in said
    assert (
        f"arm, proposal 1 is better than arm, proposal 0, by 5.00 points on average over 6 pairs (p = {paired.p:.3g};"
        in said
    )
    assert "99.00" not in said


def test_the_headline_is_of_the_arm_of_transtailor_with_the_most_pairs(tmp_path: Path) -> None:
    trials = [
        Trial(label=label, method=label.lower(), seed=seed, right=(80 + seed % 2,))
        for label, seeds in (("transtailor", 2), ("TransTailor", 6), ("fine_tune", 6)) for seed in range(seeds)
    ]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        assert headline(findings_of(run)).startswith("TransTailor at 20% fewer MACs and fine_tune at")


def test_the_best_so_far_counts_the_seeds_in_its_mean(tmp_path: Path) -> None:
    trials = [Trial(label="a", seed=seed, right=(80,), validation=(score,)) for seed, score in
              enumerate((0.8, 0.9, math.nan))]  # fmt: skip
    trials.append(Trial(label="a", seed=3, right=(), ended="missing"))
    with load(write_run(tmp_path, trials)) as run:
        section = now.section(findings_of(run))
    assert section is not None
    assert any("85.00% over 2 of 4 seeds." in block.text for block in section.blocks if isinstance(block, Words))
