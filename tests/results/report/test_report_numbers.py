"""The numbers of the page are those that queries and `results.statistics` give, computed here again in plain loops."""

import html
import json
import math
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from results.arms.counts import trial_counts
from results.arms.findings import Findings, findings_of
from results.arms.trial_settings import trial_rows
from results.questions import images, layers
from results.questions.layers import compared_filters
from results.render.blocks import Figure, TableBlock, Words
from results.report import now, write_report
from results.report.now import TO_COME
from results.report.overview import headline, overview
from results.report.serve import ReportServer
from results.statistics.means import mean_interval
from results.statistics.pairs import compare_pairs
from results.store.reader import Run, load
from results.store.writer import Writer
from tests.changed_rows import change_rows
from tests.results.exact_run import Trial, write_run, write_search
from tests.results.halved_run import Tried, write_halved
from tests.results.many_trials import write_many
from tests.results.report_page import figures_of, tables_of, text_of
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


def test_the_images_that_divide_two_arms_are_those_of_a_loop(run: Path, page: str) -> None:
    (table, sql) = next((rows, sql) for rows, sql in tables_of(page) if "wrong_answers" in sql)
    with load(run) as opened:
        answers: dict[tuple[int, str, int], list[bool]] = defaultdict(list)
        network = opened.rows("SELECT min(network) AS network FROM compared_points")[0]["network"]
        rows = opened.rows(
            "SELECT image_id, seed, point.label AS arm, p.label = prediction AS is_right FROM compared_points AS point"
            " JOIN predictions AS p USING (trial_id, point) WHERE split = 'test' AND network = ? AND (point.label ="
            " 'fine_tune' OR point.label = 'transtailor' AND round(asked_removed_macs_fraction, 9) = 0.2)", [network],
        )  # fmt: skip
    for row in rows:
        answers[row["image_id"], row["arm"], row["seed"]].append(row["is_right"])
    right: dict[tuple[int, str], float] = defaultdict(float)
    for (image, arm, _), of_trials in answers.items():
        right[image, arm] += sum(of_trials) / len(of_trials)
    wanted = {image: (right[image, "transtailor"], right[image, "fine_tune"]) for image, _ in right}
    shown = {int(cells[0]): (float(cells[2]), float(cells[3])) for cells in table}
    assert shown == {image: two for image, two in wanted.items() if two[0] != two[1]}
    distances = [abs(one - two) for one, two in shown.values()]
    assert distances == sorted(distances, reverse=True) and distances[0] > 0


def test_images_are_counted_over_the_seeds_that_both_arms_have(tmp_path: Path) -> None:
    """Ten seeds of one arm and four of the other: of those four both are right alike, but for image 99 in two."""
    ours = [Trial(label="transtailor", method="transtailor", seed=seed, right=(80,)) for seed in range(10)]
    base = [
        Trial(label="fine_tune", method="fine_tune", seed=seed, asked=(0.0,), right=([*range(80), *[99] * (seed < 2)],))
        for seed in range(4)
    ]
    with load(write_run(tmp_path / "some", [*ours, *base])) as opened:
        _, block = images.section(findings_of(opened)).blocks
    assert isinstance(block, TableBlock)
    assert [row[:4] for row in block.table.rows] == [["99", "1", "0", "2"]]
    with load(write_run(tmp_path / "none", [*ours[4:], *base])) as opened:
        assert images.section(findings_of(opened)).blocks == []


def test_images_are_counted_by_seeds_also_where_a_seed_has_several_trials(tmp_path: Path) -> None:
    """Image 80 is right in one of the two trials of each seed, and the base has one trial: 1.5 seeds of three."""
    ours = [Trial(label="prune", seed=seed, right=(80 + x,), config={"x": x}) for x in (0, 1) for seed in range(3)]
    base = [Trial(label="fine_tune", method="fine_tune", seed=seed, right=(80,), asked=(0.0,)) for seed in range(3)]
    with load(write_run(tmp_path, [*ours, *base])) as opened:
        _, block = images.section(findings_of(opened)).blocks
    assert isinstance(block, TableBlock)
    assert block.table.rows == [["80", "0", "1.5", "0", "9"]]


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
        blocks = [*layers.kept_filters_section(found).blocks, *images.section(found).blocks]
        return [block.data if isinstance(block, Figure) else block for block in blocks]  # data are rounded

    with load(run) as opened:
        found = findings_of(opened)
        before = shown(found)
        assert {type(block) for block in before} == {Markup, TableBlock}
        for table, where in (("kept_filters", compared_filters(found)),
                             ("predictions", images.compared_predictions(found))):  # fmt: skip
            rows = opened.rows(f"SELECT count(*) AS n FROM {table}")
            opened.hold(table, where=where)
            assert opened.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] < rows[0]["n"]
        assert shown(found) == before


@pytest.mark.check
def test_a_trial_in_two_runs_counts_once_and_runs_can_be_told_apart(tmp_path: Path, synthetic: Any) -> None:
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
    assert main(["report", *both, "--apart", "colour", "--out", str(tmp_path / "colour.html")]) == 0
    assert 'data-arm="b: transtailor"' in (tmp_path / "colour.html").read_text()
    panels = figures_of(write_report(both, apart="panel", out=tmp_path / "panel.html").read_text())["pareto-figure"]
    assert len(panels.data["spec"]["concat"]) == 2


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
    """Two run: one of them was stopped, and continues. The live page is the same."""
    scores = {"finished": (0.7, 0.8, 0.9), "running": ()}
    tried = [Tried(scores=scores.get(state, (0.5,)), state=state, values={"x": n}) for n, state in enumerate(STATES)]
    run = write_halved(tmp_path / "run", tried)
    with ReportServer([run]) as server:
        pages = [write_report(run).read_text(), server.page()[1]]
    for said in map(text_of, pages):
        assert (
            "8 trials planned · 1 trial finished · 2 trials stopped · 3 trials resting · 0 trials failed · 2 trials"
            " missing"
        ) in said
        assert re.search(
            r"Still to come: 2, expected to take less than 0\.1 hours, or less than 0\.1 hours with 2 at once\.", said
        )
        assert "Resting at a rung, from which the best continue: 3. Stopped by the search: 2." in said
        assert "neither finished nor failed: 2 of 8." in said
    with load(run) as loaded:
        (count,) = trial_counts(loaded).values()
        shown = {row["trial_id"]: row["status"] for row in trial_rows(loaded)}
    assert str(count) == "8 planned, 1 finished, 0 failed, 2 stopped, 3 resting, 2 missing"
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


@pytest.mark.check
def test_a_confirmed_setting_with_a_failed_trial_is_not_the_winner(tmp_path: Path) -> None:
    said = text_of(write_report(write_search(tmp_path, 2, failed=1)).read_text())
    assert "2 confirmed with new seeds, arm, proposal 0 is best by validation: test accuracy 80.50%" in said


@pytest.mark.check
def test_a_search_without_confirmed_settings_has_no_winner(tmp_path: Path) -> None:
    said = text_of(write_report(write_search(tmp_path, 0)).read_text())
    assert "Of 3 settings searched, none is confirmed with new seeds ([confirm]): nothing can be compared." in said


def curves_of(folder: Path, losses: Sequence[Sequence[tuple[float, float | None]]]) -> list[list[Any]]:
    """What the panel draws of a trial's two stages, of whose epochs these are the training and validation losses."""
    trial = Trial(label="arm", seed=0, right=(80,))
    run = write_run(folder, [trial])
    with load(run) as opened:
        keys = [row["stage_key"] for row in opened.rows('SELECT stage_key FROM stages ORDER BY "order"')]
    of = {"trial_id": trial.trial_id, "code_digest": "c", "learning_rate": 0.1, "head_learning_rate": 0.1,
          "order": 0, "images": 50, "seconds": 1.0, "train_accuracy_fraction": 0.5}  # fmt: skip
    change_rows(run, "epochs", [
        {**of, "stage_key": key, "kind": kind, "epoch": epoch, "train_loss": train, "validation_loss": validation}
        for key, kind, of_stage in zip(keys, ("train_source", "tune"), losses, strict=True)
        for epoch, (train, validation) in enumerate(of_stage)
    ])  # fmt: skip
    (text,) = re.findall(r'id="trials">(.*?)</script>', write_report(run).read_text(), flags=re.DOTALL)
    curves = json.loads(text)["curves"]
    return [curves["stages"][place] for place in curves["of"][trial.trial_id]]


@pytest.mark.check
def test_curves_have_every_fifth_and_the_last_epoch_and_each_whose_validation_loss_was_measured(tmp_path: Path) -> None:
    """Also where a loss is no number: the last epoch tells how long the stage was."""
    plain = [(1.0 + epoch, None) for epoch in range(7)]
    validated = [(1.0 + epoch, 2.0 + epoch if epoch % 3 == 2 else None) for epoch in range(7)]
    assert curves_of(tmp_path / "validated", [plain, validated]) == [
        ["train_source", [1, 6, 7], [1.0, 6.0, 7.0]],
        ["tune", [1, 3, 6, 7], [1.0, 3.0, 6.0, 7.0], [None, 4.0, 7.0, None]],
    ]
    diverged = [[(math.nan, None)] * 2, [*[(1.0, None)] * 6, (math.inf, None)]]
    assert curves_of(tmp_path / "diverged", diverged) == [
        ["train_source", [2], [None]],
        ["tune", [1, 6, 7], [1.0, 1.0, None]],
    ]


def test_the_panel_of_a_trial_has_its_curves_and_its_widths(run: Path, page: str) -> None:
    (text,) = re.findall(r'id="trials">(.*?)</script>', page, flags=re.DOTALL)
    data = json.loads(text)
    with load(run) as opened:
        rows = opened.rows("""SELECT trial_id, list(width ORDER BY "order") AS widths FROM layers JOIN (
            SELECT trial_id, max(point) AS point FROM layers GROUP BY ALL) USING (trial_id, point) GROUP BY ALL""")
        losses = opened.rows("""SELECT stage_key, epoch, any_value(train_loss) AS loss FROM epochs
            WHERE epoch % 5 = 0 OR (stage_key, epoch) IN (SELECT (stage_key, max(epoch)) FROM epochs GROUP BY stage_key)
            GROUP BY ALL""")
    assert {row["trial_id"]: row["widths"] for row in rows} == {id: of[1] for id, of in data["widths"]["of"].items()}
    assert sum(len(epochs) for _, epochs, _ in data["curves"]["stages"]) == len(losses)
    drawn = sorted(loss for *_, stage in data["curves"]["stages"] for loss in stage)
    assert drawn == pytest.approx(sorted(row["loss"] for row in losses), rel=0.01)


def test_the_headline_speaks_of_all_budgets_with_the_words_of_the_tables(tmp_path: Path) -> None:
    """Ahead at 20%, level at 40%, behind at 60%."""
    right = {0.2: lambda seed: 90 + seed % 2, 0.4: lambda seed: 79 + 2 * (seed % 2), 0.6: lambda seed: 70 - seed % 2}
    trials = [
        Trial(label="transtailor", method="transtailor", seed=seed, asked=tuple(right),
              right=tuple(of(seed) for of in right.values()))
        for seed in range(6)
    ]  # fmt: skip
    trials += [Trial(label="fine_tune", method="fine_tune", seed=seed, asked=(0.0,), right=(80,)) for seed in range(6)]
    with load(write_run(tmp_path, trials)) as run:
        findings = findings_of(run)
        text = headline(findings)
        (block,) = overview(findings)
    assert text.startswith("transtailor at 20% fewer MACs is better than fine_tune, by 10.50 points")
    assert text.endswith(
        "transtailor at its other budgets: at 40% inconclusive (+0.00 points), at 60% worse (-10.50 points)."
    )
    words = {row[block.table.headings.index("verdict")] for row in block.table.rows}
    assert words == {"–", "better", "inconclusive", "worse"}


def test_the_headline_is_of_the_arm_of_transtailor_with_the_most_pairs(tmp_path: Path) -> None:
    trials = [
        Trial(label=label, method=label.lower(), seed=seed, right=(80 + seed % 2,))
        for label, seeds in (("transtailor", 2), ("TransTailor", 6), ("fine_tune", 6)) for seed in range(seeds)
    ]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        assert headline(findings_of(run)).startswith("TransTailor at 20% fewer MACs and fine_tune at")


def test_the_headline_counts_the_problems_that_it_pools(tmp_path: Path) -> None:
    trials = [
        Trial(label=label, method=label, seed=seed, dataset=dataset, right=(80 + seed + 9 * (label == "transtailor"),))
        for label in ("transtailor", "fine_tune") for dataset in ("birds", "dogs") for seed in range(3)
    ]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        text = headline(findings_of(run))
    assert "Pooled over 2 problems." in text and "networks" not in text  # one network, on two data sets


def test_the_best_so_far_counts_the_seeds_in_its_mean(tmp_path: Path) -> None:
    trials = [Trial(label="a", seed=seed, right=(80,), validation=(score,)) for seed, score in
              enumerate((0.8, 0.9, math.nan))]  # fmt: skip
    trials.append(Trial(label="a", seed=3, right=(), ended="missing"))
    with load(write_run(tmp_path, trials)) as run:
        section = now.section(findings_of(run))
    assert section is not None
    assert any("85.00% over 2 of 4 seeds." in block.text for block in section.blocks if isinstance(block, Words))
