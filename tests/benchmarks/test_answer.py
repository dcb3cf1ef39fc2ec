"""The benchmark of an answer: its verdicts and its errors, on scores whose truth is known, and what a process took."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import answer
from benchmarks.answer import (
    Answered,
    answer_in,
    differences_of,
    errors_of,
    judged_by_looks,
    judged_once,
    t_test,
    text_of,
)
from benchmarks.process import Taken
from results.statistics.pairs import sign_flip_p

TRUTH = {"l1": -0.10, "random": 0.0, "transtailor": 0.05}  # minus fine-tuning; Taylor is level with it
SPIN = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"


def made_up(seeds: int) -> dict[answer.Arm, dict[int, float]]:
    random = np.random.default_rng(0)
    common = 0.8 + 0.02 * random.standard_normal(seeds)
    scores = {("net", "fine_tune", None): dict(enumerate(common))}
    for label, difference in ({"taylor": 0.0} | TRUTH).items():
        noise = 0.01 * random.standard_normal(seeds)
        scores["net", label, 0.2] = dict(enumerate(common + difference + noise - noise.mean()))
    return scores


def test_each_arm_is_compared_with_both_and_the_truth_is_found() -> None:
    scores = made_up(50)
    assert set(differences_of(scores, "fine_tune")) == {(("net", arm, 0.2), "fine_tune") for arm in ("taylor", *TRUTH)}
    assert set(differences_of(scores, "taylor")) == {(("net", arm, 0.2), "taylor") for arm in TRUTH}
    verdicts = judged_once(scores, t_test)
    assert verdicts[("net", "l1", 0.2), "fine_tune"] == "worse" == verdicts[("net", "l1", 0.2), "taylor"]
    assert verdicts[("net", "transtailor", 0.2), "fine_tune"] == "better"
    assert verdicts[("net", "random", 0.2), "fine_tune"] == "open"
    assert judged_by_looks(scores, range(50))[("net", "random", 0.2), "fine_tune"] == "no difference that matters"


def test_a_judge_that_says_the_opposite_is_wrong_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "RESAMPLES", 20)
    scores = made_up(answer.REFERENCE_SEEDS)
    names = [name for against in answer.AGAINST for name in differences_of(scores, against)]
    opposite = {"l1": "better", "random": "open", "taylor": "open", "transtailor": "no difference that matters"}
    wrong, none = errors_of(lambda _scores, _order: {name: opposite[name[0][1]] for name in names}, scores, 10)
    assert (wrong, none) == (4 / 7, 3 / 7)
    wrong, none = errors_of(lambda of, order: judged_once(answer.drawn(of, order), sign_flip_p), scores, 10)
    assert wrong == 0.0 and none == pytest.approx(3 / 7, abs=0.1)


def test_arms_with_other_accuracies_in_the_script_are_named() -> None:
    scores = made_up(10)
    moved = {arm: {seed: v - 0.2 * (arm[1] == "l1") for seed, v in seeds.items()} for arm, seeds in scores.items()}
    taken = Taken(wall_s=1.0, cpu_s=1.0, peak_gb=1.0)
    ours = Answered(taken=taken, begun=1, finished=1, scores=moved, verdicts={})
    equal, others = answer.agreement_of(scores, {"ten seeds": ours})
    assert "in 4 of 5 arms" in equal and "l1 at 20% on net" in others
    assert len(list(answer.agreement_of(moved, {"ten seeds": ours}))) == 1


def test_what_was_measured_is_read_as_it_was_written() -> None:
    scores = made_up(3)
    kept = Answered(
        taken=Taken(wall_s=1.0, cpu_s=2.0, peak_gb=3.0), begun=4, finished=3, scores=scores,
        verdicts=judged_once(scores, sign_flip_p),
    )  # fmt: skip
    assert answer_in(text_of(kept)) == kept


def test_a_row_says_what_an_answer_costs() -> None:
    of = {"begun": 2, "finished": 2, "scores": {}, "verdicts": {(("net", "l1", 0.2), "taylor"): "worse"}}
    answers = {
        way: Answered(taken=Taken(wall_s=1.0, cpu_s=cpu_s, peak_gb=1.0), **of)
        for way, cpu_s in (("plain", 100.0), ("ten seeds", 80.0), ("settled", 60.0))
    }
    table = answer.results_table(answers)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["of plain"] for row in rows] == [1.0, 0.8, 0.6]
    assert [str(row["goal"]).rpartition(" ")[2] for row in rows] == ["", "met", "missed"]


def test_a_daemon_is_counted_and_waited_for(tmp_path: Path) -> None:
    """The command starts a process that outlives it; both take processor time. Measured by a process of its own."""
    child = [sys.executable, "-c", SPIN.format(2) + "\nopen('ended', 'w').close()"]
    command = [sys.executable, "-c", f"import subprocess\nsubprocess.Popen({child!r}, start_new_session=True)"]
    call = (
        f"from benchmarks.process import run_with_descendants as run\nprint(run({command!r}, {str(tmp_path)!r}).cpu_s)"
    )
    said = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert (tmp_path / "ended").exists()
    assert float(said.stdout) > 1.0
