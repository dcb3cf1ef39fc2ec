"""Every draw comes from the generator that was handed over: the global one is neither read nor moved."""

from collections.abc import Callable

import numpy as np
import pytest

from results.statistics.fronts import resamples

DRAWING: dict[str, Callable[[np.random.Generator], object]] = {
    "resamples": lambda generator: resamples(20, generator).tolist(),
}


@pytest.mark.parametrize("name", DRAWING)
def test_the_given_generator_decides_and_the_global_one_is_neither_read_nor_moved(name: str) -> None:
    found = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002  # the global generator is what this is about
        before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
        found.append(DRAWING[name](np.random.default_rng(7)))
        assert (np.random.get_state()[1] == before).all()  # type: ignore[index]  # noqa: NPY002
    assert found[0] == found[1] != DRAWING[name](np.random.default_rng(8))
