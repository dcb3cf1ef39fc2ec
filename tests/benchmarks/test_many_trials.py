"""The benchmark of ten thousand trials: a trial that costs more the more there were is told, and it does run."""

from pathlib import Path

import pytest

from benchmarks.many_trials import COLUMNS, Sample, table
from tests.benchmarks.looks import rows_in, run


def cells(growth: float, memory_mb: float) -> list[dict[str, object]]:
    """The table of 400 trials of which each hundred takes so many times as long as the one before."""
    ends_s, looks, now_s = [], [], 0.0
    for trial in range(400):
        now_s += 0.02 * growth ** (trial // 100)
        ends_s.append(now_s)
        if trial % 10 == 0:
            looks.append(Sample(trials=trial + 1, cpu_s=now_s / 2, driver_mb=memory_mb * trial / 390, head_mb=50.0))
    return [dict(zip(COLUMNS, row, strict=True)) for row in table(looks, ends_s, parts=4, most_files=2).rows]


def test_a_cost_that_grows_and_memory_beyond_the_goal_are_missed() -> None:
    *parts, memory, cost, _ = cells(growth=1.2, memory_mb=2500.0)
    assert [part["trials"] for part in parts] == ["until 100", "until 200", "until 300", "until 400"]
    assert parts[1]["s_per_trial"] == pytest.approx(0.024) and parts[3]["s_per_trial"] == pytest.approx(0.02 * 1.2**3)
    assert parts[3]["driver_cpu_s_per_trial"] == pytest.approx(0.01 * 1.2**3)
    assert memory["driver_mb"] == 2500.0 and memory["verdict"] == "missed"
    assert cost["s_per_trial"] == pytest.approx(1.44) and cost["verdict"] == "missed"


def test_a_steady_cost_is_met() -> None:
    *_, memory, cost, files = cells(growth=1.0, memory_mb=400.0)
    assert (memory["verdict"], cost["verdict"], files["verdict"]) == ("met", "met", "met")


def test_parts_that_nobody_saw_are_refused() -> None:
    with pytest.raises(ValueError, match="0 sample.* in the 100 trials before 200: give more trials"):
        table(
            [Sample(trials=n, cpu_s=n, driver_mb=1.0, head_mb=1.0) for n in (1, 99, 250)],
            range(400),
            parts=4,
            most_files=2,
        )


@pytest.mark.long
def test_a_look_at_a_few_hundred(tmp_path: Path) -> None:
    done = run("many_trials.py", tmp_path, "--quick")
    assert done.returncode == 0, done.stderr
    *parts, memory, _, _ = rows_in(tmp_path)
    assert [part["trials"] for part in parts] == ["until 400", "until 800"]
    assert all(float(part["s_per_trial"]) > 0 < float(part["driver_cpu_s_per_trial"]) for part in parts)
    assert all(20 < float(part["head_mb"]) < 1000 for part in parts) and memory["verdict"] == "met"
