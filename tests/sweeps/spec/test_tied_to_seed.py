"""Seeds that are tied to the trial's: what they draw is drawn anew with each seed."""

from pathlib import Path

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
