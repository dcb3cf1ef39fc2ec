"""Weights by name and by file: the facts that come with them, ids, pins, and what is refused before anything runs."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.config.source import SourceConfig
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import dry_run
from tailor.execution.weights_check import refuse_missing
from tailor.facts import weights
from tailor.facts.datasets import DATASETS
from tailor.facts.pins import known_sha256
from tailor.facts.weights import WeightsInfo, find, refuse_other_network, table
from tests.commands import Said
from tests.tailor.trials import PHOTOGRAPHS

NAME = "MobileNet_V2_Weights.IMAGENET1K_V2"
DIGITS = "7ebf99e0"
SPECS = Path(__file__).parents[3] / "sweeps" / "specs"
IMAGENET = {"pixel_mean": (0.485, 0.456, 0.406), "pixel_std": (0.229, 0.224, 0.225)}


@pytest.fixture(autouse=True)
def photographs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(DATASETS._records, "photographs", PHOTOGRAPHS)  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)


def trial(network: str = "mobilenet_v2", **source: Any) -> TrialConfig:
    raw = {"network": network, "data": {"name": "photographs"}, "source": source, "method": {"name": "head_only"}}
    return parse_trial(raw, "test")


def identity(config: TrialConfig) -> tuple[str, list[str]]:
    walked = dry_run(config)
    return walked.trial_id, [stage.key for stage in walked.stages]


# --- the table ---


def test_the_table_is_what_torchvision_says() -> None:
    assert len(table()) > 100
    for name, info in table().items():
        given = models.get_weight(name)
        assert given.url == f"https://download.pytorch.org/models/{info.file}"
        assert f"-{info.sha256}.pth" in given.url
        assert len(info.sha256) >= 8
        assert given.meta["categories"] is not None


def test_weights_for_images_that_the_network_does_not_read_are_refused() -> None:
    with pytest.raises(ConfigError, match="are for 384 px, and vit_b_16 is only built for 224"):
        refuse_other_network("ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1", "vit_b_16")
    refuse_other_network("EfficientNet_B1_Weights.IMAGENET1K_V1", "efficientnet_b1")


def test_whole_digests_begin_as_the_names_say() -> None:
    digits = {info.file: info.sha256 for info in table().values()}
    for file, sha256 in known_sha256().items():
        assert re.fullmatch("[0-9a-f]{64}", sha256)
        assert sha256.startswith(digits[file])
    named = re.findall(r'"(\w+_Weights\.\w+)"', "".join(path.read_text() for path in SPECS.glob("*.toml")))
    assert {find(name).file for name in named} <= set(known_sha256())  # of what a shipped spec fetches


# --- by name ---


def test_a_name_brings_digits_pixels_and_folder(tmp_path: Path) -> None:
    source = trial(weights=NAME).source
    assert source.weights_sha256 == DIGITS == find(NAME).sha256
    assert {"pixel_mean": source.pixel_mean, "pixel_std": source.pixel_std} == IMAGENET
    assert source.weights_file == tmp_path / "weights" / "mobilenet_v2-7ebf99e0.pth"


def test_what_is_given_stays() -> None:
    own = trial(weights=NAME, pixel_mean=[0.5], pixel_std=[0.25], weights_sha256=DIGITS + "0" * 56).source
    assert (own.pixel_mean, own.pixel_std, own.weights_sha256) == ((0.5,), (0.25,), DIGITS + "0" * 56)


def test_a_trial_read_back_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks read the settings again, and run in other folders."""
    config = trial(weights=NAME)
    monkeypatch.chdir("/")
    again = TrialConfig.model_validate(config.model_dump(mode="json"))
    assert again == config
    assert again.source.weights_file == tmp_path / "weights" / "mobilenet_v2-7ebf99e0.pth"


def test_the_folder_is_in_no_id(tmp_path: Path) -> None:
    here, there = trial(weights=NAME), trial(weights=NAME, weights_folder=str(tmp_path / "elsewhere"))
    assert here.source.weights_file != there.source.weights_file
    assert identity(here) == identity(there)
    assert str(tmp_path) not in str(here.identity())


def test_other_weights_and_other_pixels_are_other_trials() -> None:
    found = [
        trial(weights=NAME),
        trial(weights="MobileNet_V2_Weights.IMAGENET1K_V1"),
        trial(weights=NAME, pixel_mean=[0.5, 0.5, 0.5]),
        trial(weights=NAME, weights_sha256=DIGITS + "0" * 56),
    ]
    assert len({identity(config)[0] for config in found}) == len({identity(config)[1][0] for config in found}) == 4


def test_facts_written_out_are_the_same_trial() -> None:
    written_out = trial(weights=NAME, weights_sha256=DIGITS, pixel_mean=[0.485, 0.456, 0.406])
    assert identity(written_out) == identity(trial(weights=NAME))


def test_a_file_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = trial(weights="net.safetensors", weights_sha256="1" * 64)
    monkeypatch.chdir("/")
    assert config.source.weights_file == tmp_path / "net.safetensors"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"weights": "MobileNet_V2_Weights.DEFAULT"}, r"exact name: MobileNet_V2_Weights.IMAGENET1K_V1 or .*K_V2"),
    ({"weights": "MobilNet_V2_Weights.IMAGENET1K_V2"}, r"no such weights: .*did you mean 'MobileNet_V2_Weights.IMAG"),
    (
        {"weights": "ResNet18_Weights.IMAGENET1K_V1"},
        r"the network is mobilenet_v2; give source.weights the path of the file, or MobileNet_V2_Weights.IMAGENET1K_V1",
    ),
    ({"weights": NAME, "weights_sha256": "0" * 64}, r"is not that of MobileNet_V2_.*, which begins with 7ebf99e0"),
    ({"weights": "net.pth", "weights_sha256": "1" * 8}, r"has 8 digits; .* by all 64 \(type: sha256sum .*net.pth\)"),
    ({"weights": "net.pth", "weights_sha256": "1" * 64, "weights_folder": "w"}, r"is no such name; leave it out"),
    ({"weights": "net.pth", "weights_sha256": DIGITS * 8}, rf"are {NAME}, trained with pixel_mean = .* give these, or"),
    ({"weights": NAME, "pixel_std": [0.0]}, r"pixel_std = \[0.0\]: pixels are divided by it"),
    ({"weights": NAME, "pixel_mean": [103.53, 116.28, 123.675], "pixel_std": [1.0]}, r"of pixels in \[0, 1\]; divide"),
    ({"weights": NAME, "pixel_mean": [0.5, 0.5]}, r"source.pixel_mean has 2 numbers, and photographs has 3 channels"),
]


@pytest.mark.parametrize(("source", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_is_refused(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trial(**source)


TRAINING = {
    "seed": 1, "epochs": 3, "batch_size": 16, "learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("setting", TRAINING)
def test_settings_of_a_training_that_weights_replace_are_refused(setting: str) -> None:
    """They would give the same results other ids."""
    changed = {setting: TRAINING[setting]}
    words = f"source.{setting} = .* has no effect: .* leave it out, also of tied_to_seed"
    with pytest.raises(ConfigError, match=words):
        trial(weights=NAME, **changed)
    as_default = {setting: SourceConfig.model_fields[setting].default}
    assert trial(weights=NAME, **as_default) == trial(weights=NAME)


def test_a_method_that_trains_on_the_source_task_reads_its_settings() -> None:
    def keys(**changed: Any) -> list[str]:
        source = {"weights": "net.pth", "weights_sha256": "1" * 64} | changed
        return [stage.key for stage in dry_run(parse_trial({"method": "pac_net", "source": source}, "test")).stages]

    assert len({*map(tuple, (keys(), keys(seed=1), keys(batch_size=16)))}) == 3


# --- before anything runs ---


def named(monkeypatch: pytest.MonkeyPatch, content: bytes) -> WeightsInfo:
    """Weights by NAME whose file has this content."""
    digits = hashlib.sha256(content).hexdigest()[:8]
    info = WeightsInfo(**asdict(find(NAME)) | {"file": f"mobilenet_v2-{digits}.pth", "sha256": digits})
    monkeypatch.setitem(table(), NAME, info)
    return info


def test_missing_weights_are_refused_with_what_to_type(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    expected = f"no weights at {folder}/mobilenet_v2-7ebf99e0.pth; .*: .*fetch {NAME} --to {folder}"
    with pytest.raises(ConfigError, match=expected):
        refuse_missing([trial(weights=NAME)])
    with pytest.raises(ConfigError, match=r"no weights at .*/net.pth; give .* the path of the file, or MobileNet_V2_"):
        refuse_missing([trial(weights="net.pth", weights_sha256="1" * 64)])
    refuse_missing([parse_trial({"method": {"name": "head_only"}}, "test")])  # which trains its own


def test_other_or_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = named(monkeypatch, b"weights")
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / info.file
    file.write_bytes(b"weights")
    refuse_missing([trial(weights=NAME)])
    file.write_bytes(b"weight")
    with pytest.raises(ConfigError, match=f"{file} has SHA-256 .*expected was one that begins with {info.sha256}"):
        refuse_missing([trial(weights=NAME)])
    with pytest.raises(ConfigError, match=r"expected was one that is 1111"):
        refuse_missing([trial(weights=str(file), weights_sha256="1" * 64)])


def test_a_file_of_another_network_is_refused_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save(models.mobilenet_v2(num_classes=7, width_mult=0.25).state_dict(), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match=r"net.pth does not fit mobilenet_v2: .*of another shape"):
        refuse_missing([trial(weights=str(file), weights_sha256=sha256)])
    torch.save(models.mobilenet_v2(num_classes=7).state_dict(), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    refuse_missing([trial(weights=str(file), weights_sha256=sha256)])
    with pytest.raises(ConfigError, match=r"has no fc.weight"):
        refuse_missing([trial("resnet18", weights=str(file), weights_sha256=sha256)])
    torch.save(models.mobilenet_v2(num_classes=7), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match=r"holds objects of Python.* give torch.save\(model.state_dict\(\), ...\)$"):
        refuse_missing([trial(weights=str(file), weights_sha256=sha256)])


@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_a_trial_without_its_weights_ends_with_2(plan: list[str], tmp_path: Path, command: Callable[..., Said]) -> None:
    (tmp_path / "trial.toml").write_text(
        '[source]\nweights = "net.pth"\nweights_sha256 = "' + "1" * 64 + '"\n[method]\nname = "head_only"\n'
    )
    done = command("trial", "run", "trial.toml", *plan, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no weights at {tmp_path / 'net.pth'}; give source.weights the path")
    assert not (tmp_path / "cache").exists()


def test_weights_without_a_classifier_are_left_out() -> None:
    assert "VGG16_Weights.IMAGENET1K_FEATURES" not in table()  # it has no classifier
    assert weights.is_name(NAME)
    assert not weights.is_name("mobilenet_v2.pth")
