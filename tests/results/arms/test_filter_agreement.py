"""Agreement on filters: by hand, against the slow and obvious count, and none where filters are not the same."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.arms.filter_agreement import MOST_SEEDS, OF_ARMS, OF_SEEDS, agreement_sql
from results.questions.layers import OVER_DATA, WIDTHS
from results.store.reader import Run, load
from results.store.writer import Writer
from tests.results.conftest import CODE, START, sha

FILTERS = {"features.0": 10, "features.2": 100}
HERE = {"where": "network = 'n'", "asked": 0.2}
Kept = Mapping[str, list[int]]


def write(
    folder: Path, label: str, seed: int, kept: Kept, *, source: str = "source", score: float = 0.5, budget: float = 0.2
) -> None:
    """One trial with one operating point; layers that are not in `kept` have all filters."""
    common = {"trial_id": sha(label, seed, source, score, budget)[:16], "code_digest": CODE}
    point = {**common, "point": 0}
    writer = Writer(folder / "tables")
    writer.write("stages", [{
        **common, "stage_key": key, "kind": "k", "kind_version": 1, "order": order, "parents": parents, "cached": False,
        "compute_s": 1.0, "device": "cpu", "ranks": 1, "torch_version": "2", "stored_bytes": 1,
        "tensors_sha256": key,
    } for order, (key, parents) in enumerate([(source, []), (sha(common["trial_id"]), [source])])])  # fmt: skip
    writer.write("operating_points", [{
        **point, "sweep": "s", "label": label, "arm": label, "method": "prune", "network": "n", "dataset": "d",
        "seed": seed, "stage_key": "p", "model_key": "m", "protocol": "validation",
        "asked_removed_macs_fraction": budget, "removed_macs_fraction": budget,
        "macs": 1, "original_macs": 1, "params": 1, "trained_epochs": 1, "trained_macs": 1.0,
        "metric": "accuracy", "validation_score": score, "deciding_score": score, "validation_loss": 1.0,
        "validation_images": 1,
    }])  # fmt: skip
    writer.write("trials", [{
        **common, "status": "finished", "attempts": 1, "started_at": START, "ended_at": START, "seconds": 1.0,
        "error": None,
    }])  # fmt: skip
    writer.write("layers", [
        {**point, "layer": layer, "order": order, "width": len(kept.get(layer, range(filters))),
         "original_width": filters, "macs": 1}
        for order, (layer, filters) in enumerate(FILTERS.items())
    ])  # fmt: skip
    writer.write("kept_filters", [{**point, "layer": layer, "filters": filters} for layer, filters in kept.items()])


def labels(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row.pop("arm"), row.pop("other_arm")): row for row in run.rows(agreement_sql(run, OF_ARMS, **HERE))}


def kappa(filters: int, one: list[int], other: list[int]) -> float:
    """Cohen's, from its definition, filter by filter."""
    both = [(place in one, place in other) for place in range(filters)]
    observed = sum(a == b for a, b in both) / filters
    ones, others = (sum(side) / filters for side in zip(*both, strict=True))
    chance = ones * others + (1 - ones) * (1 - others)
    return (observed - chance) / (1 - chance)


def test_it_is_what_a_count_by_hand_gives(tmp_path: Path) -> None:
    """Of 10 filters a keeps 0 to 4 and b 3 to 8: 2 in both, 5 x 6 / 10 = 3 by chance.

    Alike are the 2 in both and filter 9 in none: p_o = 3/10; p_e = 0.5 x 0.6 + 0.5 x 0.4 = 0.5; kappa = -0.2 / 0.5.
    """
    write(tmp_path, "a", 0, {"features.0": [0, 1, 2, 3, 4]})
    write(tmp_path, "b", 0, {"features.0": [3, 4, 5, 6, 7, 8], "features.2": [7]})
    with load(tmp_path) as run:
        assert labels(run) == {
            ("a", "b"): {
                "layers": 1, "pairs": 1, "overlap_fraction": pytest.approx(2 / 5),
                "overlap_by_chance_fraction": pytest.approx(3 / 5), "kappa": pytest.approx(-0.4),
            }
        }  # fmt: skip
        assert run.rows(agreement_sql(run, OF_SEEDS, **HERE)) == []


def test_seeds_of_an_arm_are_compared_pair_by_pair(tmp_path: Path) -> None:
    """The same filters: 1; the other half: -1; so of three seeds the mean is -1/3."""
    low, high = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]
    for seed, kept in enumerate((low, low, high)):
        write(tmp_path, "a", seed, {"features.0": kept})
    with load(tmp_path) as run:
        (found,) = run.rows(agreement_sql(run, OF_SEEDS, **HERE))
        of_labels = labels(run)
    assert found == {
        "arm": "a", "layer": "features.0", "order": 0, "filters": 10, "pairs_of_seeds": 3, "mean_kept": 5.0,
        "mean_shared": pytest.approx(5 / 3), "shared_by_chance": 2.5, "kappa": pytest.approx(-1 / 3),
    }  # fmt: skip
    assert of_labels.keys() == {("a", "a")}
    assert of_labels["a", "a"]["kappa"] == pytest.approx(-1 / 3)


def test_random_selections_agree_as_chance_has_it_whatever_their_sizes(tmp_path: Path) -> None:
    """And each mean is that of the slow and obvious count."""
    numbers = np.random.default_rng(0)
    drawn: dict[tuple[str, int], list[int]] = {}
    for label, size in (("few", 20), ("many", 90)):
        for seed in range(20):
            drawn[label, seed] = sorted(numbers.permutation(100)[:size].tolist())
            write(tmp_path, label, seed, {"features.2": drawn[label, seed]})
    with load(tmp_path) as run:
        found = {pair: row["kappa"] for pair, row in labels(run).items()}
    expected = {
        (label, label): np.mean([kappa(100, drawn[label, a], drawn[label, b]) for a, b in combinations(range(20), 2)])
        for label in ("few", "many")
    }
    expected["few", "many"] = np.mean([kappa(100, drawn["few", seed], drawn["many", seed]) for seed in range(20)])
    assert found == pytest.approx(expected)
    assert all(abs(value) < 0.05 for value in found.values())


def test_filters_of_different_sources_are_not_compared(tmp_path: Path) -> None:
    kept = {"features.0": [1, 2]}
    write(tmp_path, "a", 0, kept, source="first")
    write(tmp_path, "a", 1, kept, source="second")
    write(tmp_path, "b", 1, kept, source="second")
    with load(tmp_path) as run:
        assert run.rows(agreement_sql(run, OF_SEEDS, **HERE)) == []
        assert labels(run).keys() == {("a", "b")}
        assert run.rows(agreement_sql(run, OF_ARMS, where="network = 'other'", asked=0.2)) == []


def test_the_best_by_validation_stands_for_a_seed_and_another_budget_counts_not(tmp_path: Path) -> None:
    write(tmp_path, "a", 0, {"features.0": [1, 2]}, score=0.9)
    write(tmp_path, "a", 0, {"features.0": [8, 9]}, score=float("nan"))
    write(tmp_path, "a", 0, {"features.0": [3, 4]}, score=0.8)
    write(tmp_path, "b", 0, {"features.0": [1, 2]})
    write(tmp_path, "c", 0, {"features.0": [1, 2]}, budget=0.4)
    with load(tmp_path) as run:
        assert {pair: row["kappa"] for pair, row in labels(run).items()} == {("a", "b"): 1.0}


def test_of_many_seeds_the_first_are_compared(tmp_path: Path) -> None:
    for seed in range(MOST_SEEDS + 2):
        write(tmp_path, "a", seed, {"features.0": [1, 2]})
    with load(tmp_path) as run:
        assert labels(run)["a", "a"]["pairs"] == MOST_SEEDS * (MOST_SEEDS - 1) // 2


def test_what_a_trial_wrote_before_it_failed_is_not_compared(tmp_path: Path, trial_row: Any) -> None:
    for label in ("a", "b", "failed"):
        write(tmp_path, label, 0, {"features.0": [0, 1, 2]})
    lost = sha("failed", 0, "source", 0.5, 0.2)[:16]
    Writer(tmp_path / "tables").write("trials", [trial_row(trial_id=lost, status="failed", error="RuntimeError: no")])
    with load(tmp_path) as run:
        assert {label for pair in labels(run) for label in pair} == {"a", "b"}
        of = "network = 'n'"
        widths = run.rows(WIDTHS.format(problem=of, asked=0.2))
        over_data = run.rows(OVER_DATA.format(network="'n'", arm="'failed'", asked=0.2) + "SELECT * FROM kept")
    assert ({row["arm"] for row in widths}, over_data) == ({"a", "b"}, [])
