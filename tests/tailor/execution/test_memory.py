"""A trial that is out of memory says which settings decide; torch's own failure, on the host."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tailor.common.errors import TrainingError
from tailor.execution.cache import Cache
from tailor.extend import CRITERIA, Criterion
from tests.tailor.trials import short_trial

Run = Callable[..., Any]


@pytest.fixture
def hungry() -> Iterator[str]:
    """A criterion that asks for more memory than there is anywhere."""
    CRITERIA.add("hungry", Criterion(compute=lambda _scoring: torch.empty(2**60), source="a test"))
    yield "hungry"
    CRITERIA._records.pop("hungry")


def test_it_names_the_stage_the_batch_size_and_what_to_set(hungry: str, run: Run, shared_cache: Cache) -> None:
    optimisation = {"epochs": 1, "head_epochs": 1, "batch_size": 32, "accumulation_steps": 2}
    trial = short_trial({"name": "prune", "criterion": hungry}, optimisation=optimisation, source={"epochs": 1})
    with pytest.raises(
        TrainingError, match=r"^stage \w+ .* cpu with optimisation.batch_size = 32 .*set a smaller batch_size"
    ):
        run(trial, shared_cache)
