"""Hours on a GPU before anything was measured there: from committed steps, in a range that holds what was measured."""

import csv
import json
from pathlib import Path

import pytest

from sweeps.planning.hours import TABLE_FILE, MeasuredSteps, measured_steps
from sweeps.planning.plan import make_plan
from sweeps.spec.spec import SPECS, load_spec
from tailor.execution.dry_run import PlannedStage
from tailor.facts.networks import NETWORKS
from transtailor.__main__ import main

EVIDENCE = Path(__file__).parents[3] / "docs" / "results" / "evidence" / "gpu_step.csv"
BATCHES_OF = 64


def stage(network: str, images: int = 10_000) -> PlannedStage:
    """A training of so many images, forward and backward."""
    work = images * NETWORKS[network].macs * 3.0
    return PlannedStage(key="k", kind="fine_tune", version=1, parents=(), work=work, stored_bytes=0, point=None)


def steps(*precisions: str, ranks: int = 1) -> MeasuredSteps:
    facts = json.loads(TABLE_FILE.read_bytes())
    return MeasuredSteps(**facts, precisions=frozenset(precisions), ranks=ranks)


def test_the_table_is_that_of_its_evidence() -> None:
    with EVIDENCE.open(newline="") as file:
        measured = {row["network"]: round(float(row["ours_images_per_s"]), 1) for row in csv.DictReader(file)}
    table = steps("bf16")
    assert table.images_per_s == measured
    text = EVIDENCE.with_suffix(".md").read_text()
    assert table.device in text and f"{BATCHES_OF} images in a step" in text and "bf16" in text


def test_the_range_holds_what_was_measured_and_scales_with_images_ranks_and_precision() -> None:
    bf16 = steps("bf16")
    for network, speed in bf16.images_per_s.items():
        least, most = bf16.range_s(stage(network), network)
        assert least <= 10_000 / speed * 1.000001 and 10_000 / speed <= most * 1.000001
        assert least < bf16.seconds(stage(network), network) < most
    one = stage("vgg16")
    least, most = bf16.range_s(one, "vgg16")
    assert bf16.range_s(stage("vgg16", images=20_000), "vgg16")[1] == pytest.approx(2 * most)
    assert steps("bf16", ranks=2).range_s(one, "vgg16")[1] == pytest.approx(most / 2)
    assert steps("float32").range_s(one, "vgg16") == pytest.approx((2 * least, 15 * most))
    assert steps("float32", "bf16").range_s(one, "vgg16") == pytest.approx((least, 15 * most))


def test_a_network_with_few_macs_may_take_as_long_for_an_image_as_the_smallest_measured_one() -> None:
    bf16 = steps("bf16")
    most_s = bf16.range_s(stage("efficientnet_b0"), "efficientnet_b0")[1]
    assert most_s == pytest.approx(bf16.range_s(stage("resnet50"), "resnet50")[1])


def test_the_plan_on_a_site_with_gpus_says_hours_before_anything_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text("cpus_per_node = 16\nmemory_gb = 100\ngpus_per_node = 4\nwalltime_min = 1440\n")
    assert main(["plan", "transtailor_vgg16", "--site", "mine.toml"]) == 0
    said = capsys.readouterr().out
    assert "training steps of resnet50, vit_b_16 on one NVIDIA H200" in said
    assert "docs/results/evidence/gpu_step.md" in said and "GPU-hours" in said
    assert "to measure one trial, type" in said and "--site mine.toml" in said
    assert main(["plan", "transtailor_vgg16"]) == 0
    assert "time      not known" in capsys.readouterr().out
    plan = make_plan(load_spec(SPECS / "transtailor_vgg16.toml"))
    assert measured_steps(plan).precisions == {"float32"}
