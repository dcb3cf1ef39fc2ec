"""What the view of measured points says beside the rows themselves."""

from pathlib import Path

from results.reader import load
from tests.results.exact_run import Trial, write_run


def test_points_say_where_nothing_was_removed(tmp_path: Path) -> None:
    """0.3 was asked for where 0.34 were gone already; where a rule decides, nothing was asked."""
    asked, removed = (0.0, 0.1, 0.2, 0.3, 0.4), (0.0, 0.12, 0.34, 0.34, 0.41)
    budgets = Trial(label="a", seed=0, right=[90] * 5, asked=asked, removed=removed)
    rule = Trial(label="b", seed=0, right=[90] * 2, asked=(0.0, None), removed=(0.0, 0.0))
    again = [write_run(tmp_path / name, [budgets, rule]) for name in ("first", "second")]
    for runs in (again[0], again):  # alone, and two runs of the same trials
        with load(runs) as run:
            found = run.rows("SELECT label, point FROM measured_points WHERE removed_nothing")
            assert len(run.rows("FROM measured_points")) == 7
        assert found == [{"label": "a", "point": 3}]
