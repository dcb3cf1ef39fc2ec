"""A paper's table in small, one command each: an archive in an official layout, a reduced spec, its verdict."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors.torch

from tailor.facts import manifest
from tailor.facts.weights import sha256_of
from tailor.networks import building
from tests.commands import launch, transtailor_command
from tests.tailor.prepare.pictures import fill, pack

PER_CLASS = 10
SPEC = """
name = "small"
extends = "transtailor_efficientnet_b0"
tied_to_seed = []
[trial]
network = "resnet18"
data.image_px = 36
data.crop_px = 32
source = {{ weights = "{weights}", weights_sha256 = "{sha256}" }}
[trial.optimisation]
epochs = 1
head_epochs = 1
batch_size = 8
[axes]
seed = [0, 1]
data = [{{ name = "birds", layout = "cub200", sha256 = "{digest}", train_images = 6 }}]
[[variants]]
method.name = "head_only"
[[variants]]
method.name = "fine_tune"
[[printed]]
paper = "A paper (2021)"
place = "Table 1"
network = "resnet18"
dataset = "birds"
label = "fine_tune"
n = 3
points = [{{ value = 0.5 }}, {{ against = "head_only", difference = 0.1 }}]
[[printed]]
paper = "A paper (2021)"
place = "Table 1"
network = "resnet18"
dataset = "birds"
label = "fine_tune"
against = "head_only"
claim = "ahead"
"""


def birds(folder: Path) -> Path:
    """An archive in the layout of CUB-200-2011 with two classes."""
    names = [f"{name}/{name}_{number}.jpg" for name in ("001.Albatross", "002.Auklet") for number in range(PER_CLASS)]
    base = folder / "CUB_200_2011"
    fill(base / "images", names)
    (base / "images.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names, 1)))
    (base / "train_test_split.txt").write_text(
        "".join(f"{number} {number % 2}\n" for number in range(1, len(names) + 1))
    )
    return pack(folder, folder.with_name("CUB_200_2011.tgz"))


@pytest.mark.check
def test_from_an_archive_to_a_verdict_by_three_commands(tmp_path: Path) -> None:
    archive = birds(tmp_path / "unpacked")
    words = ["data", "prepare", "birds", "--layout", "cub200", "--image-px", 36, "--from", archive, "--to", "datasets"]
    refused = transtailor_command(*map(str, words), folder=tmp_path)
    assert refused.returncode == 2 and not (tmp_path / "datasets" / "birds").exists()
    done = transtailor_command(*map(str, words), "--unofficial", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    digest = manifest.read(tmp_path / "datasets", "birds").files_digest
    weights = tmp_path / "resnet18.safetensors"
    safetensors.torch.save_file(building.build("resnet18", 7, seed=5).state_dict(), weights)
    text = SPEC.format(weights=weights, sha256=sha256_of(weights), digest=digest)
    (tmp_path / "other.toml").write_text(text.replace(digest, "0" * 64))
    other = launch("other.toml", "--site", "serial", folder=tmp_path)
    assert other.returncode == 2 and digest in other.stderr and "0" * 64 in other.stderr
    (tmp_path / "small.toml").write_text(text)
    run = launch("small.toml", "--site", "serial", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    points = pq.read_table(tmp_path / "runs" / "small" / "points.parquet").to_pylist()
    assert {point["data_sha256"] for point in points} == {digest}
    provenance = json.loads((tmp_path / "runs" / "small" / "provenance.json").read_text())
    assert [*provenance["created"]["data_files"].values()] == [digest]
    said = transtailor_command("printed", "runs/small", "--format", "json", folder=tmp_path)
    assert said.returncode == 0, said.stderr
    tables = json.loads(said.stdout)["tables"]
    numbers = tables["printed"]
    assert [(row["seeds"], row["tests"], row["against"]) for row in numbers] == [(2, 2, None), (2, 2, "head_only")]
    assert {row["verdict"] for row in numbers} <= {"within", "not within", "cannot say yet"}
    assert [(row["seeds"], row["datasets"]) for row in tables["claims"]] == [(2, 1)]
