"""The rows of the table `planned`."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from sweeps.planning.plan import make_plan
from sweeps.run.planned_rows import write_planned
from sweeps.spec.spec import load_spec
from tests.sweeps.conftest import WriteSpec


def test_what_auto_stands_for_is_in_the_rows_and_not_in_the_ids(write_spec: WriteSpec, tmp_path: Path) -> None:
    text = 'name = "s"\n[trial.method]\nname = "transtailor"\n[axes]\nnetwork = ["digits_vgg", "digits_resnet"]\n'
    plan = make_plan(load_spec(write_spec(text)))
    write_planned(tmp_path, plan, plan.trials, "0" * 64)
    rows = pq.read_table(tmp_path / "planned").to_pylist()
    found = {row["network"]: json.loads(row["config_json"])["method"] for row in rows}
    assert (found["digits_vgg"]["beta"], found["digits_resnet"]["beta"]) == ("fold", "fold")
    assert {method["beta_normalisation"] for method in found.values()} == {"layer_mean"}
    assert {trial.settings.values["method"]["beta"] for trial in plan.trials} == {"auto"}
