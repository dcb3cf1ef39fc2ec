"""The contrasts of the study on photographs, from runs whose answers are known."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import photographs_study
from benchmarks.photographs_study import AGAINST, FIRST, LABELS, answers_of, complete_seeds, results_table
from benchmarks.record import read_rows
from results.statistics.images import crossed_difference
from tests.results.exact_run import Trial, write_run

WRONG = {label: number for number, label in enumerate(LABELS)}  # each arm is wrong on more images than the one before


def trials(seeds: list[int]) -> list[Trial]:
    """Every arm at every seed: right on all images but `WRONG` of them and, in odd seeds, one more for other arms."""
    return [
        Trial(label=label, seed=seed, right=(list(range(WRONG[label] + (seed % 2 if label != FIRST else 0), 100)),))
        for label in LABELS
        for seed in seeds
    ]


def contrasts(folder: Path) -> list[tuple[object, ...]]:
    columns = results_table(some_answers(2), set()).columns
    return [tuple(row) for row in read_rows(folder / "table", columns)]


def some_answers(seeds: int) -> dict[tuple[str, int], dict[int, bool]]:
    return {(label, seed): {0: label == FIRST, 1: seed == 0} for label in LABELS for seed in range(seeds)}


def test_batches_of_seeds_are_added_and_the_contrasts_are_those_by_hand(tmp_path: Path) -> None:
    out = ["--rows", str(tmp_path / "rows"), "--out", str(tmp_path / "table")]
    for number, seeds in enumerate(([0, 1], [2, 3])):
        write_run(tmp_path / f"run{number}", trials(seeds))
        assert photographs_study.main([str(tmp_path / f"run{number}"), *out]) == 0
        assert not (tmp_path / "table.md").exists()  # nobody looks before all seeds have ended
    out.append("--incomplete")
    assert photographs_study.main(out) == 0
    rows = contrasts(tmp_path)
    assert [row[0] for row in rows] == [f"{FIRST} - {against}" for against in AGAINST]
    for row, against in zip(rows, AGAINST, strict=True):
        assert row[1] == 4  # the first batch's seeds too
        assert row[2] == pytest.approx(WRONG[against] + 0.5)  # points of 100 images
        assert row[7] == pytest.approx(2 / 2**4)
        assert row[8] == pytest.approx(3 * 2 / 2**4)
    before = (tmp_path / "table.csv").read_text()
    assert photographs_study.main(out) == 0  # from the committed rows alone
    assert (tmp_path / "table.csv").read_text() == before
    assert "Incomplete: 4 of 12 seeds" in (tmp_path / "table.md").read_text()


def test_a_seed_counts_once_all_its_arms_have_ended() -> None:
    answers = some_answers(5)
    assert complete_seeds(answers, set()) == [0, 1, 2, 3, 4]
    del answers[AGAINST[1], 3]
    assert complete_seeds(answers, set()) == [0, 1, 2]
    assert complete_seeds(answers, {(AGAINST[1], 3)}) == [0, 1, 2, 3, 4]
    with pytest.raises(SystemExit, match=r"1 seed\(s\) have ended in all arms"):
        results_table(some_answers(1), set())


def test_a_failed_trial_scores_nothing_and_is_named() -> None:
    answers = some_answers(3)
    del answers[FIRST, 2]
    found = results_table(answers, {(FIRST, 2)})
    table = photographs_study.difference(answers, AGAINST[0], [0, 1, 2])
    np.testing.assert_array_equal(table, [[1, 0], [1, 0], [0, 0]])
    assert found.rows[0][2] == pytest.approx(100 * (0.5 + 0.5 + 0) / 3)
    assert "transtailor, seed 2" in found.notes[-1]


def test_the_interval_over_images_reads_each_seeds_own_images() -> None:
    rows = [
        {"label": label, "seed": seed, "image_id": image, "is_right": (label == FIRST) ^ ((image + seed) % 3 == 0)}
        for label in LABELS
        for seed in range(4)
        for image in range(seed, seed + 10)
    ]
    answers = answers_of(rows)
    table = photographs_study.difference(answers, AGAINST[0], range(4))
    assert table.shape == (4, 13) and np.isnan(table).sum() == 4 * 3
    both = crossed_difference(table)
    assert both.low is not None
    assert results_table(answers, set()).rows[0][5] == pytest.approx(100 * both.low)


def test_a_trial_that_fails_before_its_first_point_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = trials([0, 1])
    given[0] = Trial(label=FIRST, seed=0, right=(), ended="failed")
    write_run(tmp_path / "run", given)
    out = ["--rows", str(tmp_path / "rows"), "--out", str(tmp_path / "table")]
    assert photographs_study.main([str(tmp_path / "run"), *out, "--incomplete"]) == 0
    assert "Failed trials, which score 0: transtailor, seed 0" in capsys.readouterr().out
