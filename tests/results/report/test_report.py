"""The report: right numbers, nothing from outside, nothing unescaped, at any moment of a sweep."""

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from results.arms.comparison import arms_of, compare, points_of
from results.errors import ResultsError
from results.report import write_report
from results.store.reader import load
from results.store.writer import Writer
from tests.changed_rows import change_rows
from tests.results.report_page import figures_of, parsed, text_of
from transtailor.__main__ import main
from transtailor.waiting import wait_for

LIMIT_S = 300.0
EVIL = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"&$a_b$'


def test_what_users_wrote_is_text_and_nothing_else(tmp_path: Path, synthetic: Any) -> None:
    """Labels, networks, errors, devices, settings and facts that would end the page's script, or begin one."""
    run = synthetic(
        labels=((EVIL, "transtailor"), ("fine_tune", "fine_tune")),
        networks=(EVIL,),
        error=f"first {EVIL}\nlast {EVIL}",
        device=lambda _label, seed: f"{EVIL}{seed}",
        end=lambda _label, seed: "failed" if seed == 2 else "finished",
        provenance={EVIL: {EVIL: [EVIL]}, "nested": {"a": {"b": 1}}},
    ).write(tmp_path)
    with load(run) as opened:
        planned = opened.rows("SELECT * EXCLUDE (written_at) FROM planned")
    for number, row in enumerate(planned):
        settings = json.dumps({EVIL: [EVIL, number], 'a"b': number})
        Writer(run / "tables").write("planned", [row | {"config_json": settings}])
    page = write_report(run).read_text()
    tags = parsed(page)
    assert tags.open == []
    assert tags.handlers == []
    assert "img" not in tags.tags
    assert tags.tags.count("script") == 2 + len(figures_of(page))
    text = text_of(page)
    assert text.count(EVIL) > 10
    assert "nested.a.b 1" in text
    assert EVIL in json.dumps(figures_of(page)["pareto-figure"].data, ensure_ascii=False).replace('\\"', '"')


def test_a_page_is_written_again_until_the_sweep_has_ended(tmp_path: Path, synthetic: Any) -> None:
    """As long as it has not, a browser loads the page again."""
    end = {("fine_tune", 1): "missing"}
    half = synthetic(seeds=(0, 1), test_images=5, end=lambda *trial: end.get(trial, "finished"))
    run = half.write(tmp_path / "run")
    page = run / "report.html"
    with ThreadPoolExecutor(1) as command:
        code = command.submit(main, ["report", str(run), "--every", "1"])
        wait_for(page.exists, "the first page", LIMIT_S)
        assert 'data-every-s="1"' in page.read_text() and "1 trial missing" in text_of(page.read_text())
        end.clear()
        half.write(run)
        assert code.result(LIMIT_S) == 0
    assert "data-every-s=" not in page.read_text() and "4 trials finished" in text_of(page.read_text())


def test_the_same_rows_give_the_same_bytes(tmp_path: Path, synthetic: Any) -> None:
    synthetic().write(tmp_path)
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing", "report.html", "tables"]


@pytest.mark.check
@pytest.mark.parametrize(
    ("words", "told"),
    [(("report", "--out", ""), "such as report.html"), (("report", "--out", "/"), "such as /report.html"),
     (("report", "--out", "RUN"), "such as RUN/report.html"),
     (("report", "--out", "/proc/x"), "type --out FILE, in a folder that is there"),
     (("report", "--every", "0"), "0 is not in the range x>=1")],
)  # fmt: skip
def test_a_page_that_cannot_be_made_is_refused_in_words(
    tmp_path: Path, synthetic: Any, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    run = str(synthetic(seeds=(0,), budgets=(0.0,), test_images=5).write(tmp_path))
    assert main([*(word.replace("RUN", run) for word in words), run]) == 2
    assert told.replace("RUN", run) in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_many_clear_seeds_settle_it_also_pooled(tmp_path: Path, synthetic: Any) -> None:
    synthetic(networks=("vgg11", "resnet18"), seeds=range(6), gain_fraction=0.15).write(tmp_path)
    text = text_of(write_report(tmp_path).read_text())
    assert (
        text.count("transtailor at 20% fewer MACs is better than fine_tune, by") == 4
    )  # the headline, each network, and pooled
    assert text.count(", against fine_tune") == 3  # each verdict says against what
    assert "over 12 pairs" not in text and text.count("over 6 pairs") == 4  # the seed is the unit when pooled, too


def test_where_it_was_computed_stays_out_of_the_page(tmp_path: Path, synthetic: Any) -> None:
    facts = {
        "folder": "/home/somebody",
        "host": "node7",
        "pid": 4711,
        "data": {"/home/somebody/birds": "ab"},
        "cores": 2,
    }
    run = synthetic(seeds=(0,), provenance={"created": facts, "history": [facts, facts]}).write(tmp_path)
    text = text_of(write_report(run).read_text())
    assert not {"node7", "4711"} & set(text.split()) and "/home/somebody" not in text
    assert "created.cores 2" in text and "history.1.cores 2" in text


@pytest.mark.check
def test_provenance_that_cannot_be_read_is_told(tmp_path: Path, synthetic: Any) -> None:
    synthetic(seeds=(0,)).write(tmp_path)
    for content, words in (("{", "cannot be read"), ("[1]", "expected a JSON object")):
        (tmp_path / "provenance.json").write_text(content)
        assert words in text_of(write_report(tmp_path).read_text())


def test_missing_and_failed_trials_stand_with_their_error(tmp_path: Path, synthetic: Any) -> None:
    ends = {("transtailor", 0): "missing", ("fine_tune", 1): "failed"}
    synthetic(end=lambda label, seed: ends.get((label, seed), "finished")).write(tmp_path)
    text = text_of(write_report(tmp_path).read_text())
    assert "6 trials planned · 4 trials finished · 1 trial failed · 1 trial missing" in text
    assert "Planned trials that have neither finished nor failed: 1 of 6." in text
    assert "RuntimeError: out of memory" in text[text.index("Missing and failed trials") :]


def test_what_makes_numbers_doubtful_is_marked(tmp_path: Path, synthetic: Any) -> None:
    """Mixed hardware, a missed budget (0.412 is removed where 0.4 is asked) and a score that is not a number.

    Then another code and another protocol, too.
    """
    synthetic(
        seeds=(0, 1), budgets=(0.0, 0.1, 0.4),
        device=lambda label, _seed: "NVIDIA H200" if label == "fine_tune" else "cpu",
        validation=lambda _label, seed, point: math.nan if (seed, point) == (1, 2) else None,
    ).write(tmp_path)  # fmt: skip
    text = text_of(write_report(tmp_path).read_text())
    mixed = "computed on mixed hardware, ranks or torch versions"
    assert f"The stages were {mixed} (NVIDIA H200, ranks: 1, torch 2.11.0" in text
    assert "fine_tune" in text and re.search(r"machines \(\d+ of \d+ rows\)", text)
    assert "by more than 1 point: transtailor at 40% fewer MACs (41.2% removed)." in text
    assert re.search(r"NaN \(1 of \d+ rows\)", text)
    assert "different code" not in text and "Rows are lost" not in text
    assert "protocol" not in text[: text.index("What was run")]
    with load(tmp_path) as run:
        (row, *_) = run.rows("SELECT * EXCLUDE (written_at) FROM operating_points")
    change_rows(tmp_path, "operating_points", [row | {"code_digest": "other", "protocol": "paper"}])
    text = text_of(write_report(tmp_path).read_text())
    assert "measured by different code: c0dec0dec0de (7 points), other (1 point)" in text
    assert "Operating points that follow the protocol 'paper': 1;" in text


def test_rows_that_no_section_shows_are_not_said_to_be_lost(tmp_path: Path, synthetic: Any) -> None:
    """Of the predictions of three arms the page holds those of two."""
    arms = ("prune", "transtailor", "fine_tune")
    synthetic(labels=tuple((method, method) for method in arms)).write(tmp_path)
    assert "Rows are lost" not in write_report(tmp_path).read_text()


@pytest.mark.check
def test_rows_that_are_lost_are_told(tmp_path: Path, synthetic: Any) -> None:
    synthetic(seeds=(0, 1)).write(tmp_path)
    next((tmp_path / "tables" / "operating_points").iterdir()).unlink()
    lost = "Rows are lost: 4 of 4 finished trials lack rows in operating_points."
    assert lost in text_of(write_report(tmp_path).read_text())


@pytest.mark.check
@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": (0,), "budgets": (0.0,)},
        {"end": lambda _label, _seed: "missing"},
        {"validation": lambda _label, _seed, _point: math.nan},
        {"test_images": 0},
        {"seeds": range(14), "budgets": (0.2,), "test_images": 10},
    ],
    ids=["one budget", "nothing ended", "no score is a number", "not tested", "14 seeds"],
)
def test_odd_runs_have_a_report(tmp_path: Path, synthetic: Any, changes: dict[str, Any]) -> None:
    """More of them are in test_report_shown.py, in a browser."""
    page = write_report(synthetic(**changes).write(tmp_path)).read_text()
    assert parsed(page).open == []


def test_a_run_without_rows_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    text = text_of(write_report(tmp_path).read_text())
    assert "0 trials planned" in text and "⚠" not in text


@pytest.mark.check
def test_a_run_that_grows_has_a_report_each_time(tmp_path: Path, synthetic: Any) -> None:
    """All parts of a run, brought in one after the other in the order of writing, with a report now and then."""
    source = synthetic(seeds=(0, 1), budgets=(0.0, 0.2), test_images=5).write(tmp_path / "source")
    parts = sorted(source.glob("tables/*/*.parquet"), key=lambda part: part.name)
    growing = tmp_path / "growing"
    for number, part in enumerate(parts):
        target = growing / part.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(part.read_bytes())
        if number % 5 == 0:
            write_report(growing)
    assert text_of(write_report(growing).read_text()).removeprefix("growing") != ""


def test_the_old_report_is_whole_until_the_new_one_is(tmp_path: Path, synthetic: Any) -> None:
    """Who reads the old one keeps all of it, and what cannot be read leaves it where it is."""
    before = write_report(synthetic(seeds=(0,)).write(tmp_path)).read_text()
    page = tmp_path / "report.html"
    with page.open() as old:
        write_report(synthetic(seeds=(1,)).write(tmp_path))
        assert old.read() == before
    after = page.read_bytes()
    assert after != before.encode()
    part = next(tmp_path.glob("tables/trials/*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ResultsError):
        write_report(tmp_path)
    (tmp_path / "tables").rename(tmp_path / "other")
    with pytest.raises(ResultsError):
        write_report(tmp_path)
    assert page.read_bytes() == after
    assert not list(tmp_path.glob(".report*"))


def test_r_squared_stands_as_it_is_and_accuracies_in_per_cent(tmp_path: Path, synthetic: Any) -> None:
    """The same run with the scores read as R squared: no per cent sign comes near them, in tables and figures."""
    synthetic(seeds=range(6), gain_fraction=0.2, test_images=0).write(tmp_path)
    with load(tmp_path) as run:
        points = run.rows("SELECT * EXCLUDE (written_at) FROM operating_points")
    estimated = {"metric": "r_squared", "validation_score": -0.25}
    change_rows(tmp_path, "operating_points", [row | estimated for row in points])
    writer = Writer(tmp_path / "tables")
    for place, row in enumerate(points):
        error = 0.1 if row["method"] == "transtailor" else 1.0 + place / 1000
        rows = [
            {"trial_id": row["trial_id"], "point": row["point"], "split": "test", "sample_id": number,
             "target": float(number), "estimate": number + error, "code_digest": "c"}
            for number in range(3)
        ]  # fmt: skip
        writer.write("estimates", rows)
    page = write_report(tmp_path).read_text()
    text = text_of(page)
    assert "0.9850 0.9850 … 0.9850" in text and "-0.2500" in text
    assert "validation R²" in text and "test R²" in text
    assert "test accuracy" not in page and "validation %" not in text
    assert re.search(
        r"transtailor at 20% fewer MACs is better than fine_tune, by 1\.5\d\d\d in R² on average over 6 pairs", text
    )
    specs = {name: json.dumps(figure.data["spec"], ensure_ascii=False) for name, figure in figures_of(page).items()}
    assert '"test R²"' in specs["pareto-figure"] and '"20% removed"' in specs["against0"]
    assert "difference in test R² to fine_tune" in text


@pytest.mark.check
def test_a_budget_that_a_rule_decided_has_no_number(tmp_path: Path, synthetic: Any, trial_row: Any) -> None:
    synthetic(seeds=(0, 1)).write(tmp_path)
    with load(tmp_path) as run:
        rows = run.rows(
            "SELECT * EXCLUDE (written_at) FROM operating_points WHERE method = 'transtailor' AND point = 3"
        )
    asked = [None, math.nan]
    for row, value in zip(rows, asked, strict=True):
        changes = {"label": "by rule", "arm": "by rule", "method": "by_rule", "trial_id": row["trial_id"] + "x"}
        writer = Writer(tmp_path / "tables")
        writer.add("operating_points", [row | changes | {"asked_removed_macs_fraction": value}])
        writer.add("trials", [trial_row(trial_id=changes["trial_id"])])
        writer.commit()
    text = text_of(write_report(tmp_path).read_text())
    assert re.search(r"by rule 30\.9 – – 0 ", text)  # one arm, not tested


@pytest.mark.check
def test_differences_of_two_metrics_are_not_pooled(tmp_path: Path, synthetic: Any) -> None:
    synthetic(networks=("vgg11", "mlp"), seeds=range(2)).write(tmp_path)
    with load(tmp_path) as run:
        rows = run.rows("SELECT * EXCLUDE (written_at) FROM operating_points WHERE network = 'mlp'")
    change_rows(tmp_path, "operating_points", [row | {"metric": "r_squared"} for row in rows])
    text = text_of(write_report(tmp_path).read_text())
    assert "Pooled over" not in text
    with load(tmp_path) as run:
        arms = arms_of(points_of(run), {})
    with pytest.raises(ValueError, match="pairs of one metric, given accuracy, r_squared"):
        compare([(arms[0], arms[0]), (arms[-1], arms[-1])])
