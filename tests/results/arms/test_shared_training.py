"""How many distinct trainings stand behind an n, and how many trials behind an arm."""

from pathlib import Path

from results.arms.counts import planned_seeds, trials_line
from results.arms.flags import Facts
from results.arms.problem import Problem
from results.store.reader import load
from tests.results.exact_run import Trial, write_run


def test_a_source_that_seeds_share_is_one_draw(tmp_path: Path) -> None:
    several = [Trial(label="own", seed=s, right=(90,)) for s in range(3)]
    several += [Trial(label="shared", seed=s, right=(90,), network="other", shared_source=True) for s in range(3)]
    several.append(Trial(label="alone", seed=0, right=(90,), network="other", shared_source=True))
    with load(write_run(tmp_path, several)) as run:
        assert {arm for _, arm in Facts(run).shares_training} == {"shared"}


def test_seeds_that_share_several_sources_share_so_many_also_where_one_seed_has_one_of_them(tmp_path: Path) -> None:
    """It said that they share one, and nothing where the seeds had not all the same ones."""
    several = [
        Trial(label="l1", seed=seed, right=(90,), shared_source=True, config={"source.seed": source})
        for seed in range(2) for source in range(2)
    ]  # fmt: skip
    for number in (3, 4):
        with load(write_run(tmp_path / str(number), several[:number])) as run:
            assert {arm for _, arm in Facts(run).shares_training} == {"l1"}


def test_every_trial_is_counted_once(tmp_path: Path) -> None:
    several = [Trial(label="a", seed=seed, right=(90,)) for seed in range(2)]
    several += [
        Trial(label="a", seed=2, right=(50,), ended="failed"),
        Trial(label="a", seed=3, right=(), ended="missing"),
    ]
    several.append(Trial(label="lost", seed=0, right=(), ended="failed"))
    with load(write_run(tmp_path, several)) as run:
        problem, seeds, line = Problem("net", "digits", 50), planned_seeds(run), trials_line(run)
        assert Facts(run).unfinished == {(problem, "a"), (problem, "lost")}
    assert seeds[problem, "a"] == {0, 1, 2, 3} and seeds[problem, "lost"] == {0}
    assert line.startswith("Trials: 5 planned, 2 finished, 2 failed, 1 missing.") and f"lost, {problem}" in line
