"""The rows of the table `planned`."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from results.store.points_view import settings_table
from results.store.writer import Writer
from sweeps.planning.plan import make_plan
from sweeps.planning.trial_data import files_digests_of
from sweeps.run.planned_rows import write_planned
from sweeps.spec.spec import load_spec
from tailor.facts import manifest
from tests.sweeps.conftest import WriteSpec
from tests.tailor.prepare.pictures import class_folders, prepare


def test_what_auto_stands_for_is_in_the_rows_and_not_in_the_ids(write_spec: WriteSpec, tmp_path: Path) -> None:
    text = 'name = "s"\n[trial.method]\nname = "transtailor"\n[axes]\nnetwork = ["digits_vgg", "digits_resnet"]\n'
    plan = make_plan(load_spec(write_spec(text)))
    write_planned(Writer(tmp_path / "tables"), plan, plan.trials, "0" * 64)
    rows = pq.read_table(tmp_path / "tables" / "planned").to_pylist()
    found = {row["network"]: json.loads(row["config_json"])["method"] for row in rows}
    assert (found["digits_vgg"]["beta"], found["digits_resnet"]["beta"]) == ("fold", "fold")
    assert {method["beta_normalisation"] for method in found.values()} == {"layer_mean"}
    assert {trial.settings.values["method"]["beta"] for trial in plan.trials} == {"auto"}


def test_what_a_trial_does_not_read_is_not_in_its_row(write_spec: WriteSpec, tmp_path: Path) -> None:
    """Then it is null in points.parquet: not a default that nobody chose."""
    allocation = (
        '{ name = "latency", asked_latency_fraction = 0.55, table = "t.json", table_sha256 = "' + "1" * 64 + '" }'
    )
    text = (
        f'name = "s"\n[[variants]]\nmethod = {{ name = "prune", allocation = {allocation} }}\n'
        '[[variants]]\nmethod = { name = "prune", criterion = "beta" }\n'
    )
    plan = make_plan(load_spec(write_spec(text)))
    write_planned(Writer(tmp_path / "tables"), plan, plan.trials, "0" * 64)
    rows = pq.read_table(tmp_path / "tables" / "planned")["config_json"].to_pylist()
    configs = [json.loads(text) for text in rows]
    assert [config["method"].get("asked_removed_macs_fraction") for config in configs] == [None, 0.2]
    assert settings_table(configs)["method_alpha_epochs"].to_pylist() == [None, 10]


def test_the_classes_of_a_data_set_have_their_names(write_spec: WriteSpec, tmp_path: Path) -> None:
    """A regression has no classes; a prepared data set is known by its folder."""
    images = class_folders(tmp_path / "images", 8, ("auk", "emu", "jay", "kea"))
    prepare("birds", images, tmp_path / "sets", "--source-classes", "auk,emu")
    birds = f'data = {{ name = "birds", root = "{tmp_path}/sets", train_images = 4 }}\n'
    text = (
        'name = "s"\n[trial]\nmethod = "head_only"\n[[variants]]\nlabel = "digits"\n[[variants]]\nlabel = "number"\n'
        f'network = "friedman_mlp"\ndata = {{ name = "friedman1" }}\n[[variants]]\nlabel = "birds"\n{birds}'
        'network = "resnet18"\n'
    )
    plan = make_plan(load_spec(write_spec(text)))
    for _ in range(2):  # as at a later launch
        write_planned(Writer(tmp_path / "tables"), plan, plan.trials, "0" * 64)
    planned = pq.read_table(tmp_path / "tables" / "planned").to_pylist()
    digests = {row["dataset"]: json.loads(row["config_json"])["data"]["sha256"] for row in planned}
    files_digest = manifest.read(tmp_path / "sets", "birds").files_digest
    assert len(files_digest) == 64 and digests == {"birds": files_digest, "digits": None, "friedman1": None}
    assert settings_table([json.loads(row["config_json"]) for row in planned])["data_sha256"]  # in points.parquet
    settings = [trial.settings for trial in plan.trials]
    assert files_digests_of(settings) == {f"{tmp_path}/sets/birds": files_digest}
    rows = pq.read_table(tmp_path / "tables" / "classes").to_pylist()
    names = [(row["dataset"], row["label"], row["name"]) for row in rows]
    assert sorted(names) == [
        ("birds", 0, "jay"), ("birds", 1, "kea"), *(("digits", label, str(label + 5)) for label in range(5))
    ]  # fmt: skip
