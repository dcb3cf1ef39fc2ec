"""Verdicts on printed numbers of runs with known scores: right, wrong, too few, absent; differences and claims."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from results.arms.findings import findings_of
from results.arms.printed_verdicts import judge
from results.errors import ResultsError
from results.question import ask
from results.report.page import write_report
from results.statistics.equivalence import Printed, agree, ahead
from results.store.reader import load
from results.store.writer import Writer
from tests.commands import transtailor_command
from tests.results.exact_run import Trial, write_run

NETWORK = "net"


def printed_row(network: str, dataset: str, asked: float | None, **said: Any) -> dict[str, Any]:
    """A row of the table `printed`, of the label transtailor."""
    nothing = dict.fromkeys(("value", "against", "difference", "claim", "n", "deviation", "note", "method"))
    row = {"paper": "Paper & Co (2021)", "place": "Table 3", "label": "transtailor", "network": network}
    row |= {"dataset": dataset, "asked_removed_macs_fraction": asked, "metric": "accuracy", "code_digest": "c"}
    return {**nothing, **row, **said}


def run_of(folder: Path, rows: Sequence[dict[str, Any]], seeds: int = 6, ahead_by: int = 3) -> Path:
    """TransTailor is ahead of fine-tuning on both data sets, by points that are known; one seed for `rare`."""
    trials = []
    for dataset, base in (("birds", 80), ("dogs", 60)):
        for seed in range(seeds):
            spread = seed % 3 - 1
            tuned = Trial(label="fine_tune", dataset=dataset, seed=seed, right=(base + spread,), asked=(0.0,))
            right = (base + spread, base + ahead_by + spread + seed % 2)
            ours = Trial(label="transtailor", dataset=dataset, seed=seed, right=right, asked=(0.0, 0.2))
            trials += [tuned, ours]
    trials.append(Trial(label="rare", dataset="birds", seed=0, right=(90,)))
    run = write_run(folder, trials)
    Writer(run / "tables").write("printed", rows)
    return run


def test_numbers_are_within_not_within_or_open_and_the_family_is_the_papers_table(tmp_path: Path) -> None:
    rows = [
        printed_row(NETWORK, "birds", 0.2, value=0.835),
        printed_row(NETWORK, "dogs", 0.2, value=0.75),
        printed_row(NETWORK, "birds", None, value=0.8, label="rare"),
        printed_row(NETWORK, "cats", 0.2, value=0.8),
        printed_row(NETWORK, "dogs", 0.2, value=0.635, place="Table 1"),
    ]
    with load(run_of(tmp_path / "run", rows)) as run:
        records, _ = judge(findings_of(run), margin=0.03)
    found = {(record["place"], record["label"], record["dataset"]): record for record in records}
    birds = found["Table 3", "transtailor", "birds"]
    scores = [(80 + 3 + seed % 3 - 1 + seed % 2) / 100 for seed in range(6)]
    expected = agree(scores, Printed(value=0.835), margin=0.03, tests=4, least_deviation=0.01)
    assert (birds["verdict"], birds["seeds"], birds["tests"]) == (expected.verdict, 6, 4) == ("within", 6, 4)
    assert birds["measured"] == pytest.approx(0.835) and birds["off_low"] == pytest.approx(expected.low)
    assert found["Table 3", "transtailor", "dogs"]["verdict"] == "not within"
    rare, absent = found["Table 3", "rare", "birds"], found["Table 3", "transtailor", "cats"]
    assert (rare["verdict"], rare["seeds_needed"], rare["off"]) == ("cannot say yet", 2, pytest.approx(0.1))
    assert (absent["verdict"], absent["arm"], absent["measured"], absent["seeds"]) == ("cannot say yet", None, None, 0)
    assert found["Table 1", "transtailor", "dogs"]["tests"] == 1


def test_a_printed_difference_is_compared_with_paired_ones(tmp_path: Path) -> None:
    rows = [printed_row(NETWORK, "birds", 0.2, against="fine_tune", difference=0.035, n=3)]
    with load(run_of(tmp_path / "run", rows)) as run:
        ((record,), _) = judge(findings_of(run), margin=0.04)
    differences = [(3 + seed % 2) / 100 for seed in range(6)]
    expected = agree(differences, Printed(value=0.035, n=3), margin=0.04, least_deviation=0.01)
    assert (record["measured"], record["seeds"]) == (pytest.approx(0.035), 6)
    assert (record["verdict"], record["off_high"]) == (expected.verdict, pytest.approx(expected.high))
    assert record["verdict"] == "within"


@pytest.mark.parametrize(("ahead_by", "verdict"), [(3, "holds"), (-4, "does not hold"), (0, "cannot say yet")])
def test_a_claim_is_a_contrast_over_its_data_sets(tmp_path: Path, ahead_by: int, verdict: str) -> None:
    rows = [printed_row(NETWORK, name, 0.2, against="fine_tune", claim="ahead") for name in ("birds", "dogs")]
    with load(run_of(tmp_path / "run", rows, seeds=3 if not ahead_by else 6, ahead_by=ahead_by)) as run:
        numbers, (record,) = judge(findings_of(run))
        assert numbers == []
    assert (record["datasets"], record["tests"], record["verdict"]) == (2, 1, verdict)
    seeds = range(record["seeds"])
    expected = ahead([(ahead_by + seed % 2) / 100 for seed in seeds], least_deviation=0.005)
    assert record["difference"] == pytest.approx(expected.difference)
    assert record["difference_low"] == pytest.approx(expected.low)
    assert (record["seeds_needed"] is None) == (verdict != "cannot say yet")


def test_nothing_is_said_of_numbers_whose_trials_failed(tmp_path: Path) -> None:
    rows = [printed_row(NETWORK, "birds", asked, value=0.835) for asked in (0.2, None)]
    rows.append(printed_row(NETWORK, "birds", 0.2, against="fine_tune", difference=0.03))
    rows.append(printed_row(NETWORK, "birds", 0.2, against="fine_tune", claim="ahead"))
    run = run_of(tmp_path / "run", rows)
    write_run(run, [Trial(label="transtailor", dataset="birds", seed=9, right=(), asked=(0.0, 0.2), ended="failed")])
    with load(run) as opened:
        records = [record for of_kind in judge(findings_of(opened)) for record in of_kind]
        text = str(ask(opened, "printed"))
    assert {(record["verdict"], record["seeds_needed"], record["seeds"]) for record in records} == {
        ("incomplete", None, 6)
    }
    assert "Table 3: 3 incomplete." in text and "incomplete: trials failed" in text


def test_a_claim_about_a_set_without_the_arm_cannot_be_judged(tmp_path: Path) -> None:
    rows = [printed_row(NETWORK, name, 0.2, against="fine_tune", claim="ahead") for name in ("birds", "cats")]
    with load(run_of(tmp_path / "run", rows)) as run:
        _, (record,) = judge(findings_of(run))
    assert (record["verdict"], record["seeds"], record["difference"]) == ("cannot say yet", 0, None)


def test_the_command_and_the_report_say_it(tmp_path: Path) -> None:
    rows = [
        printed_row(NETWORK, "birds", 0.2, value=0.835),
        printed_row(NETWORK, "dogs", 0.2, value=0.75),
        printed_row(NETWORK, "birds", 0.2, against="fine_tune", claim="ahead"),
    ]
    run = run_of(tmp_path / "run", rows)
    done = transtailor_command("printed", str(run), "--margin", "0.03", "--format", "markdown", folder=tmp_path)
    assert done.returncode == 0
    assert "Paper & Co (2021), Table 3: 1 not within, 1 within." in done.stdout
    assert "holds" in done.stdout
    refused = transtailor_command("printed", str(run), "--margin", "0", folder=tmp_path)
    assert refused.returncode == 2 and "--margin 0: expected a number above 0" in refused.stderr
    in_points = transtailor_command("printed", str(run), "--margin", "3", folder=tmp_path)
    assert in_points.returncode == 2 and "--margin 3: scores are fractions; for 3 points type 0.03" in in_points.stderr
    text = write_report(run).read_text()
    assert "Reproduced?" in text and "not within" in text and "Claims" in text
    none = write_run(tmp_path / "none", [Trial(label="a", seed=0, right=(9,))])
    with load(none) as empty, pytest.raises(ResultsError, match="no printed numbers"):
        ask(empty, "printed")


def test_a_number_is_measured_as_the_comparisons_measure_it(tmp_path: Path) -> None:
    """By problem; of [tuning] the best by validation; and at the end of a path that has ended."""
    of: dict[str, Any] = {"label": "transtailor", "asked": (0.0, 0.2), "dataset": "birds"}
    trials = [Trial(seed=seed, train_images=9, right=(50, 60), **of) for seed in (0, 1)]
    trials += [
        Trial(seed=seed, right=(50, 70 + tried), config={"x": tried}, tuning_order=tried, **of)
        for seed in (0, 1) for tried in (0, 9)
    ]  # fmt: skip
    trials.append(Trial(**of | {"label": "running", "right": (10,), "seed": 0, "ended": "missing"}))
    rows = [printed_row(NETWORK, "birds", asked, value=0.8) for asked in (0.2, None)]
    rows.append(printed_row(NETWORK, "birds", None, value=0.8, label="running"))
    run = write_run(tmp_path, trials)
    Writer(run / "tables").write("printed", rows)
    with load(run) as opened:
        page = ask(opened, "printed")
    measured = page.tables["printed"].dropna(subset="arm").measured.tolist()
    assert measured == pytest.approx([0.6, 0.79, 0.6, 0.79]) and page.tables["printed"].arm.isna().sum() == 1
    assert "running, net on birds (50 training images)" in str(page)
