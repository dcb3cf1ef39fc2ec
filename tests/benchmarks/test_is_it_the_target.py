"""The contrasts of the study, and which filters its donors keep, on made-up scores and filters."""

from pathlib import Path

import pytest

from benchmarks.is_it_the_target import (
    CONTROLS,
    OTHERS,
    OWN,
    RANDOM,
    TARGETS,
    filters_table,
    mean_scores,
    results_table,
    scores_of,
)
from results.store.writer import Writer
from tests.results.exact_run import COMMON, Trial, write_run

AHEAD = dict(zip(TARGETS, (0.02, 0.03, 0.01, 0.02), strict=True))  # of the own importance, before the others
BELOW = {"shuffled": 0.01, "scrambled": 0.05, "noise": 0.1, RANDOM: 0.2}  # the own one


def made_up() -> dict[tuple[str, str], dict[int, float]]:
    scores = {}
    for target in TARGETS:
        for seed in range(12):
            own = 0.7 + 0.01 * seed
            donors = {OWN: own} | {other: own - AHEAD[target] for other in TARGETS if other != target}
            for donor, score in (donors | {name: own - less for name, less in BELOW.items()}).items():
                scores.setdefault((target, donor), {})[seed] = score + 0.001 * (seed % 2) * (donor == OWN)
    return scores


def test_each_contrast_is_of_the_arms_that_it_names() -> None:
    table = results_table(made_up())
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    primary = rows[f"{OWN} - {OTHERS}"]
    assert primary["points"] == pytest.approx(2.05) and primary["seeds"] == 12
    assert primary["p"] == primary["p_corrected"] == pytest.approx(2 / 2**12)
    assert str(primary["clothing10"]).startswith("3.05 (")
    for donor in (*CONTROLS, RANDOM):
        row = rows[f"{OWN} - {donor}"]
        assert row["points"] == pytest.approx(100 * BELOW[donor] + 0.05)
        assert row["p_corrected"] == pytest.approx(5 * 2 / 2**12)
    assert rows[f"{OTHERS} - {RANDOM}"]["points"] == pytest.approx(20.0 - 2.0)
    of_trashnet6 = rows[f"{OWN} - trashnet6"]
    assert of_trashnet6["trashnet6"] is None and str(of_trashnet6["packages9"]).startswith("2.05 (")
    low, high = (float(text) for text in str(primary["new_target"])[:-1].partition("(")[2].split(" … "))
    assert low < 0 < high


def test_a_failed_trial_scores_0_and_the_others_are_three_sets() -> None:
    of = {"dataset": "fruit14", "seed": 0, "status": "finished"}
    points = [{**of, "donor": donor, "test_score": 0.6} for donor in TARGETS if donor not in ("fruit14", "packages9")]
    points.append({**of, "donor": "packages9", "test_score": None, "status": "failed"})
    assert mean_scores(scores_of(points), ["fruit14"], OTHERS) == {0: pytest.approx(0.4)}


def test_which_filters_each_donor_keeps(tmp_path: Path) -> None:
    """The own images keep the first half of ten filters, scrambled ones the second; another seed does not matter."""
    trials = [
        Trial(
            label="taylor", arm=f"taylor, scores_from = {donor}", seed=seed, dataset=target, right=(80,),
            shared_source=True, config={"pruning": {"scores_from": donor}},
        )
        for target in TARGETS for donor in (OWN, *TARGETS, *CONTROLS) for seed in (0, 1) if donor != target
    ]  # fmt: skip
    writer = Writer(write_run(tmp_path, trials) / "tables")
    points = [{"trial_id": trial.trial_id, "code_digest": COMMON["code_digest"], "point": 0} for trial in trials]
    layer = {"layer": "features.0", "order": 0, "width": 5, "original_width": 10, "macs": 1}
    writer.write("layers", [{**point, **layer} for point in points])
    writer.write("kept_filters", [
        {**point, "layer": "features.0", "filters": [*range(5, 10)] if "scrambled" in trial.arm else [*range(5)]}
        for trial, point in zip(trials, points, strict=True)
    ])  # fmt: skip
    table = filters_table(tmp_path)
    kappas = {row[0]: row[1:] for row in table.rows}
    assert kappas["scrambled"] == (-1.0,) * 4 and kappas["noise"] == (1.0,) * 4
    assert kappas["the target, another seed"] == (1.0,) * 4
    assert kappas["trashnet6"] == (None, 1.0, 1.0, 1.0) and "mean over 2 seeds" in table.notes[0]
