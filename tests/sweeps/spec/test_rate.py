"""`rate` in [axes] and [tuning]: the learning rate that the method of each arm reads, which the spec must name."""

from typing import Any

import pytest

from sweeps.errors import SpecError
from sweeps.planning.plan import make_plan
from sweeps.run.run_folder import RunFolder
from sweeps.search.run_search import RunSearch
from sweeps.spec.expand import expand
from sweeps.spec.spec import Spec, spec_of

TRIAL = {"network": "digits_vgg", "method": "fine_tune"}
NAMES = ["fine_tune", "head_only"]
RATES = [0.01, 0.1]


def spec(**tables: Any) -> Spec:
    return spec_of({"name": "s", "trial": TRIAL, **tables}, "s.toml")


def test_each_variant_has_the_rate_of_its_method() -> None:
    variants = [{"method": {"name": name}} for name in NAMES]
    trials = list(expand(spec(axes={"rate": RATES}, variants=variants)))
    rates = [trial.config.optimisation for trial in trials]
    assert [one.learning_rate for one in rates[:2]] == RATES == [one.head_learning_rate for one in rates[2:]]


@pytest.mark.parametrize(
    "tables",
    [
        {"axes": {"method": NAMES, "rate": RATES}},
        {"axes": {"method.name": NAMES}, "tuning": {"rate": RATES}},
        {"axes": {"rate": RATES}, "tuning": {"method.name": NAMES}},
        {"axes": {"rate": RATES}, "variants": [{"axes": {"method.name": NAMES}}]},
    ],
)
def test_where_the_method_varies_too_it_is_refused(tables: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"rate: which setting it is depends on method\S*, which varies too"):
        make_plan(spec(**tables))


@pytest.mark.parametrize("variants", [[], [{"axes": {"method.name": NAMES}}]])
def test_a_search_refuses_it_too(variants: list[dict[str, Any]], tmp_path: Any) -> None:
    axes = {"rate": RATES} | ({} if variants else {"method": NAMES})
    with pytest.raises(SpecError, match=r"rate: which setting it is depends on method\S*, which varies too"):
        RunSearch(spec(axes=axes, variants=variants, search={"trials": 2}), RunFolder(tmp_path / "s"))
