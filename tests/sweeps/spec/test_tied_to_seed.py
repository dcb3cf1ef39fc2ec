"""Seeds that are tied to the trial's: what they draw is drawn anew with each seed."""

from pathlib import Path

import pytest

from sweeps.errors import SpecError
from sweeps.spec.expand import expand
from sweeps.spec.spec import load_spec
from tailor.execution.dry_run import dry_run
from tests.sweeps.conftest import WriteSpec

TIED = """
name = "tied"
tied_to_seed = ["source.seed", "data.split_seed"]
[trial]
method.name = "head_only"
[axes]
seed = [0, 5]
"""


def test_tied_seeds_have_the_value_of_the_trials(write_spec: WriteSpec) -> None:
    configs = [trial.config for trial in expand(load_spec(write_spec(TIED)))]
    assert [(c.seed, c.source.seed, c.data.split_seed) for c in configs] == [(0, 0, 0), (5, 5, 5)]
    first, second = ({stage.key for stage in dry_run(config).stages} for config in configs)
    assert not first & second  # each has a source network of its own


def test_a_spec_that_is_written_ties_them_too(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = load_spec(write_spec(TIED))
    (tmp_path / "again.toml").write_text(spec.to_toml())
    assert [t.config for t in expand(load_spec(tmp_path / "again.toml"))] == [t.config for t in expand(spec)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tied_to_seed = "data.split_seed"', r"tied_to_seed: given 'data.split_seed'; .* a list, in"),
        ('tied_to_seed = ["source.sed"]', r"tied_to_seed.1: given 'source.sed'; .* did you mean 'source.seed'\?"),
        ('tied_to_seed = ["source.seed"]\ntrial.source.seed = 3', "source.seed is 3 here, and tied_to_seed ties it"),
        ('[[variants]]\ntied_to_seed = ["source.seed"]', "unknown key 'tied_to_seed'"),
    ],
)
def test_what_cannot_be_tied_is_refused(text: str, message: str, write_spec: WriteSpec) -> None:
    path = write_spec(f'name = "tied"\n{text}\n[trial.method]\nname = "head_only"\n')
    with pytest.raises(SpecError, match=message):
        list(expand(load_spec(path)))
