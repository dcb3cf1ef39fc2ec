"""How many distinct trainings stand behind an n, and how many trials behind an arm."""

from pathlib import Path

from results.arms.counts import count_lines, planned_seeds, trial_counts
from results.arms.shared_training import shared_training_lines, shared_trainings
from results.store.reader import load
from tests.results.exact_run import Trial, write_run


def test_a_source_that_seeds_share_is_one_draw(tmp_path: Path) -> None:
    several = [Trial(label="own", seed=s, right=(90,)) for s in range(3)]
    several += [Trial(label="shared", seed=s, right=(90,), network="other", shared_source=True) for s in range(3)]
    several.append(Trial(label="alone", seed=0, right=(90,), network="other", shared_source=True))
    with load(write_run(tmp_path, several)) as run:
        draws = shared_trainings(run)
    assert [(draw.arm, draw.kind, draw.distinct, draw.seeds) for draw in draws] == [("shared", "train_source", 1, 3)]
    (line,) = shared_training_lines(draws, {draws[0].problem})
    assert line.startswith("train source: 3 seeds share one training (shared)")
    assert shared_training_lines(draws, []) == []


def test_seeds_that_share_several_sources_share_so_many_also_where_one_seed_has_one_of_them(tmp_path: Path) -> None:
    """It said that they share one, and nothing where the seeds had not all the same ones."""
    several = [
        Trial(label="l1", seed=seed, right=(90,), shared_source=True, config={"source.seed": source})
        for seed in range(2) for source in range(2)
    ]  # fmt: skip
    for number in (3, 4):
        with load(write_run(tmp_path / str(number), several[:number])) as run:
            draws = shared_trainings(run)
        assert [str(draw) for draw in draws] == ["train source: 2 seeds share 2 distinct trainings"]


def test_every_trial_is_counted_once(tmp_path: Path) -> None:
    several = [Trial(label="a", seed=seed, right=(90,)) for seed in range(2)]
    several += [
        Trial(label="a", seed=2, right=(50,), ended="failed"),
        Trial(label="a", seed=3, right=(), ended="missing"),
    ]
    with load(write_run(tmp_path, several)) as run:
        counts, seeds = trial_counts(run), planned_seeds(run)
    ((key, count),) = counts.items()
    assert (count.planned, count.finished, count.failed, count.missing) == (4, 2, 1, 1)
    assert seeds[key] == {0, 1, 2, 3}
    assert count_lines(counts, [key[0]]) == [
        "Trials: 4 planned, 2 finished, 1 failed, 1 missing.",
        f"a, {key[0]}: 4 planned, 2 finished, 1 failed, 1 missing; means are over those that did not fail.",
    ]
    assert "none was planned" in count_lines(counts, [])[0]
