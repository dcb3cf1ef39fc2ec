"""docs/reading.md says what is so: its blocks run, from top to bottom, on a small made-up run."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results.arms.comparison import arms_of, environments_of, points_of
from results.store.points import write_points
from results.store.reader import load
from tests.pages import DOCS, blocks, run_block


@pytest.mark.check
def test_the_page_runs(
    tmp_path: Path,
    synthetic: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    networks = ("digits_vgg", "digits_resnet")  # as the demo has
    synthetic(networks=networks, seeds=(0, 1)).write(tmp_path / "runs" / "demo")
    synthetic(networks=networks, seeds=(1, 2)).write(tmp_path / "runs" / "more_seeds")
    write_points(load(tmp_path / "runs" / "demo"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(DOCS / "reading.md"):
        if block.kind in ("bash", "python") and block.not_run is None:
            run_block(block, tmp_path, names)
    assert names["trials"].to_dict("records") == [{"status": "finished", "trials": 8}]
    assert len(names["its_points"]) == names["table"].num_rows - 4 == 16
    assert len(names["points"]) == 20
    assert names["per_run"].to_dict("records") == [{"run": "demo", "trials": 8}, {"run": "more_seeds", "trials": 8}]
    assert len(names["operating_points"]) == len(names["macs"]) == names["table"].num_rows
    assert set(names["compared"]["pairs"]) == {2} and set(names["more"]["pairs"]) == {3}
    assert len(names["axes"].get_lines()) >= 2


CRITERIA, RATES = ("l1", "taylor"), (0.001, 0.01, 0.1)


def rates(synthetic: Any) -> Any:
    """A run whose arms are two criteria, each with three learning rates."""
    arms = {f"{criterion} {rate:g}": (criterion, rate) for criterion in CRITERIA for rate in RATES}
    return synthetic(
        labels=[(arm, "prune") for arm in arms],
        config=lambda label, seed: {
            "seed": seed,
            "method": {"name": "prune", "criterion": arms[label][0]},
            "optimisation": {"learning_rate": arms[label][1]},
        },
    )


def test_one_table_has_accuracy_against_learning_rate_with_the_numbers_of_compare(
    tmp_path: Path, synthetic: Any
) -> None:
    run = load(rates(synthetic).write(tmp_path / "run"))
    df = pd.read_parquet(write_points(run)).query("is_compared and asked_removed_macs_fraction == 0.2")
    found = df.groupby(["method_criterion", "optimisation_learning_rate"]).test_score.agg(["mean", "sem"])
    arms = [arm for arm in arms_of(points_of(run), environments_of(run)) if arm.asked == 0.2]
    expected = {arm.label: arm.test for arm in arms}
    assert len(found) == len(expected) == 6
    for criterion, rate in found.index:
        mean = expected[f"{criterion} {rate:g}"]
        assert found.loc[criterion, rate]["mean"] == pytest.approx(mean.mean, abs=1e-12)
        assert found.loc[criterion, rate]["sem"] == pytest.approx(mean.deviation / mean.n**0.5, abs=1e-12)
