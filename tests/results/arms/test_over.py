"""Arms that differ in one setting as one arm, and arms of one name in several runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard, get_args

import pytest
from pydantic import BaseModel

from results.arms.averaging import NAMED, arms_that_differ, average_over
from results.arms.comparison import arms_of, points_of
from results.arms.names import PLACES
from results.errors import ResultsError
from results.report.page import page_of
from results.store.reader import Run, load
from tailor.config.trial import TrialConfig
from tests.results.exact_run import Trial, write_run

RIGHT = {(0.01, 1): 60, (0.01, 9): 70, (0.1, 1): 80, (0.1, 9): 90}
"""Learning rate and epochs of an arm -> test images that are named rightly."""


def trials() -> Iterator[Trial]:
    """Two axes over settings, and a label that has neither."""
    for (rate, epochs), right in RIGHT.items():
        for seed in (0, 1):
            config: dict[str, Any] = {
                "optimisation": {"learning_rate": rate, "epochs": epochs},
                "source": {"seed": seed},
            }
            name = f"l1, learning_rate = {rate}, epochs = {epochs}"
            yield Trial(label="l1", arm=name, seed=seed, right=(right + seed,), config=config)
    yield Trial(label="plain", seed=0, right=(50,), asked=(None,), config={"optimisation": {"epochs": 3}})


def means(run: Run) -> dict[str, tuple[float, int]]:
    """The mean test score of each arm in per cent, and its seeds."""
    return {arm.name: (round(100 * (arm.test.mean or 0.0), 9), arm.test.n) for arm in arms_of(points_of(run), {})}


def test_arms_are_averaged_over_a_setting_seed_by_seed(tmp_path: Path) -> None:
    with load(write_run(tmp_path, [*trials()])) as run:
        assert means(run)["l1, learning_rate = 0.1, epochs = 9"] == (90.5, 2)
        run.hold(*NAMED)
        (said,) = average_over(run, ["optimisation.epochs"])
        assert said.startswith("Averaged over optimisation.epochs (1, 9):")
        assert means(run) == {
            "l1, learning_rate = 0.01": (65.5, 2), "l1, learning_rate = 0.1": (85.5, 2), "plain": (50.0, 1),
        }  # fmt: skip
    with load(tmp_path) as run:
        run.hold(*NAMED)
        assert len(average_over(run, ["optimisation.epochs", "optimisation.learning_rate"])) == 2
        assert means(run) == {"l1": (75.5, 2), "plain": (50.0, 1)}


def test_what_tells_no_arms_apart_cannot_be_averaged_over(tmp_path: Path) -> None:
    with load(write_run(tmp_path, [*trials()])) as run:
        run.hold(*NAMED)
        for key in ("optimisation.learning_rat", "seed", "source.seed", "network"):
            with pytest.raises(ResultsError, match="valid: optimisation.epochs, optimisation.learning_rate"):
                average_over(run, [key])


def following(criteria: dict[str, str]) -> list[Trial]:
    """Arms of some criteria, each with the normalisation that follows from it."""
    return [
        Trial(
            label="prune", arm=f"prune, {criterion}", seed=seed, right=(60,),
            config={"method": {"criterion": criterion, "normalisation": normalisation}},
        )
        for criterion, normalisation in criteria.items()
        for seed in (0, 1)
    ]  # fmt: skip


def test_an_average_says_where_another_setting_follows_from_its_own(tmp_path: Path) -> None:
    """A table that calls l1 `normalisation = mean` would otherwise be taken for an average over criteria."""
    with load(write_run(tmp_path / "two", following({"l1": "mean", "taylor": "none"}))) as run:
        run.hold(*NAMED)
        with pytest.raises(ResultsError, match=r"averages nothing: .* differ in method\.normalisation; .* add --over"):
            average_over(run, ["method.criterion"])
        assert len(average_over(run, ["method.criterion", "method.normalisation"])) == 2
    with load(write_run(tmp_path / "three", following({"l1": "mean", "l2": "mean", "taylor": "none"}))) as run:
        run.hold(*NAMED)
        said = average_over(run, ["method.criterion"])[1]
        assert "prune, normalisation = mean: 2; prune, normalisation = none: 1" in said
        assert "add --over method.normalisation" in said


def test_arms_of_one_name_with_other_settings_in_another_run_are_named(tmp_path: Path) -> None:
    for name, rate in (("a", 0.01), ("b", 0.1)):
        config = {"optimisation": {"learning_rate": rate}, "data": {"root": f"/{name}"}}
        write_run(tmp_path / name, [Trial(label="l1", seed=seed, right=(50,), config=config) for seed in (0, 1)])
    with load([tmp_path / "a", tmp_path / "b"]) as runs:
        (said,) = arms_that_differ(runs)
        assert "l1 (optimisation.learning_rate: 0.01 in a, 0.1 in b)" in said and "root" not in said
        assert said in page_of(runs).warnings
    write_run(tmp_path / "c", [Trial(label="l1", seed=2, right=(50,), config={"optimisation": {"learning_rate": 0.1}})])
    with load([tmp_path / "b", tmp_path / "c"]) as runs:
        assert not arms_that_differ(runs)


def is_table(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def in_no_id(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted keys of the settings that are in no trial's id."""
    for name, field in model.model_fields.items():
        table = next((one for one in (field.annotation, *get_args(field.annotation)) if is_table(one)), None)
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("in_no_id"):
            yield from [f"{prefix}{name}"] if table is None else (f"{prefix}{name}.{key}" for key in table.model_fields)
        elif table is not None:
            yield from in_no_id(table, f"{prefix}{name}.")


def test_settings_that_change_no_result_are_those_in_no_id() -> None:
    assert set(in_no_id(TrialConfig)) == set(PLACES)
