"""Ranges of axes: a short form of a list, rounded so that values, and with them stages, come again."""

import pytest

from sweeps.errors import SpecError
from sweeps.spec.spec import load_spec
from tests.sweeps.conftest import WriteSpec

HEAD = 'name = "ranges"\n[trial.method]\nname = "head_only"\n[axes]\n'


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{ from = 5, to = 8 }", [5, 6, 7, 8]),
        ("{ from = 5, to = 12, step = 3 }", [5, 8, 11]),
        ("{ from = 0.1, to = 0.5, step = 0.1 }", [0.1, 0.2, 0.3, 0.4, 0.5]),  # not 0.30000000000000004
        ("{ from = 0.001, to = 0.1, log = true, step = 10.0 }", [0.001, 0.01, 0.1]),
        ("{ from = 1, to = 100, log = true, step = 10 }", [1, 10, 100]),
    ],
)
def test_a_range_is_the_list_of_its_values(text: str, values: list[float], write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(f"{HEAD}optimisation.epochs = {text}\n"))
    assert spec.axes == {"optimisation.epochs": values}
    written = load_spec(write_spec(spec.to_toml()))
    assert written.axes == spec.axes


def test_a_decade_has_ten_values_unless_a_step_is_given(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(f"{HEAD}optimisation.learning_rate = {{ from = 0.001, to = 0.1, log = true }}\n"))
    rates = spec.axes["optimisation.learning_rate"]
    assert (len(rates), rates[0], rates[10], rates[20]) == (21, 0.001, 0.01, 0.1)
    assert all(float(f"{rate:.3g}") == rate for rate in rates)


def test_a_range_can_be_typed_after_set(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(HEAD), ["axes.optimisation.epochs={ from = 1, to = 3 }"])
    assert spec.axes == {"optimisation.epochs": [1, 2, 3]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", r"is empty; type a list or \{ from = 5, to = 25 \}, or leave it out"),
        ("{ from = 3 }", r"to: Field required"),
        ("{ to = 3 }", r"from: Field required"),
        ("{ from = 3, to = 3 }", r"from = 3 is not less than to = 3; type a list of one value"),
        ("{ from = 9, to = 3 }", r"from = 9 is not less than to = 3; exchange them"),
        ("{ from = 0.1, to = 0.9 }", r"has no step; add one, such as step = 0.1, or log = true"),
        ("{ from = 0, to = 9, log = true }", r"log needs from > 0"),
        ("{ from = 1, to = 9, log = true, step = 1 }", r"step > 1"),
        ("{ from = 1, to = 9, step = -1 }", r"step = -1 is not more than 0"),
        ("{ from = 1, to = 9, stop = 1 }", r"stop: Extra inputs"),
        ("{ from = 1, to = 'a' }", r"to: Input should be"),
        ("{ from = 1, to = 9000000 }", r"more than 10,000 values"),
    ],
)
def test_an_impossible_range_is_refused(text: str, message: str, write_spec: WriteSpec) -> None:
    with pytest.raises(SpecError, match=rf"\[axes\] optimisation.epochs: .*{message}"):
        load_spec(write_spec(f"{HEAD}optimisation.epochs = {text}\n"))
