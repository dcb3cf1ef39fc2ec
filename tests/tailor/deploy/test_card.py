"""A sub-model's card: its numbers counted again in another way, and a user's text that stays text."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from markdown_it import MarkdownIt
from torch.utils.flop_counter import FlopCounterMode

import tailor
from tailor.config.parsing import parse_trial
from tailor.config.trial import settings_read
from tailor.data import task_data
from tailor.deploy.card import card, escape, facts_of, save_with_card, score_on_test
from tailor.methods.recipe import Recipe
from tailor.model.state import Pixels, save_model
from tests.tailor.saved_models import pruned
from tests.tailor.trials import SHORT, short_trial
from transtailor.__main__ import main

TRANSTAILOR = {"name": "transtailor", "steps": 1}
HOSTILE = "a | b <script>x</script> **c** `d` [e](f)\n# g \\ &amp; ~~h~~ \u202ei"
POINT = {"point": 2, "stage_key": "ab", "metric": "accuracy", "validation_score": 0.5, "deciding_score": 0.75}
TRIAL = """
network = "digits_resnet"
[method]
name = "transtailor"
steps = 1
[source]
epochs = 3
[optimisation]
epochs = 2
head_epochs = 2
"""


def facts(**given: Any) -> Any:
    settings = {"command": "transtailor trial run trial.toml", "licence": None} | given
    return facts_of(short_trial(TRANSTAILOR), POINT | {"test_score": 0.25}, **settings)


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model.json").read_bytes())
    return found


@pytest.mark.parametrize("network", ["digits_resnet", "friedman_mlp", "mobilenet_v2"])
def test_macs_and_parameters_agree_with_torchs_own_count_of_the_loaded_model(network: str, tmp_path: Path) -> None:
    save_with_card(pruned(network), facts(), tmp_path)
    model, cost = tailor.load_model(tmp_path), read(tmp_path)["cost"]
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *read(tmp_path)["input_shape"]))
    assert cost["macs"] == counter.get_total_flops() // 2 < cost["original_macs"]
    assert cost["params"] == sum(parameter.numel() for parameter in model.parameters())
    widths = {one["layer"]: one["width"] for one in cost["layers"]}
    assert widths == {name: model.get_submodule(name).weight.shape[0] for name in widths}
    for number in (cost["macs"], cost["params"]):
        assert f"{number:,}" in (tmp_path / "card.md").read_text()
    assert "operating point 2, measured by stage ab |" in (tmp_path / "card.md").read_text()


def test_what_is_not_counted_is_on_the_card(tmp_path: Path) -> None:
    save_with_card(pruned("digits_resnet"), facts(), tmp_path)
    description = read(tmp_path)
    assert description["cost"]["uncounted"] == []
    description["cost"]["uncounted"] = ["mine.conv of 0.weight"]
    assert escape("mine.conv of 0.weight") in card(description)


def test_run_saves_every_point_with_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trial.toml").write_text(TRIAL)
    typed = ["trial", "run", f"{tmp_path}/trial.toml", "--cache", f"{tmp_path}/cache", "--save", f"{tmp_path}/models"]
    assert main([*typed, "--device", "cpu", "--licence", "CC BY 4.0"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert all(
        f"saved in {tmp_path}/models/point_{number}; to load it: import tailor; tailor.load_model(" in said
        for number in (0, 1)
    )
    config = parse_trial(SHORT | {"network": "digits_resnet", "method": TRANSTAILOR}, "test")
    assert sorted(folder.name for folder in (tmp_path / "models").iterdir()) == ["point_0", "point_1"]
    for number in (0, 1):
        folder = tmp_path / "models" / f"point_{number}"
        found = read(folder)
        known, splits = found["facts"], task_data.splits(Recipe(config).task)
        assert found["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        assert (known["point"], known["method"], known["licence"]) == (number, "transtailor", "CC BY 4.0")
        assert known["settings"] == json.loads(json.dumps(settings_read(config.identity(), config.unread)))
        assert "tolerance_fraction" not in known["settings"]["method"]
        assert known["data_sha256"] == config.data.samples_sha256
        assert known["command"].startswith("transtailor trial run ") and str(tmp_path / "models") in known["command"]
        model = tailor.load_model(folder)
        for split, score in known["scores"].items():
            samples = getattr(splits, split)
            with torch.no_grad():
                named = model(task_data.normalise(samples.fetch().images)).argmax(dim=1)
            assert score == pytest.approx(float((named == samples.labels).double().mean()), abs=1e-12)
            assert f"| {split} accuracy | {score:.4f} |" in (folder / "card.md").read_text()
        assert list(known["scores"]) == ["validation", "test"]


def test_a_licence_without_a_model_to_save_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trial.toml").write_text(TRIAL)
    assert main(["trial", "run", str(tmp_path / "trial.toml"), "--licence", "MIT"]) == 2
    assert "give --save FOLDER, too" in capsys.readouterr().err


def test_a_file_where_the_folder_should_be_is_named_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trial.toml").write_text(TRIAL)
    for save in (tmp_path / "trial.toml", tmp_path / "trial.toml" / "models"):
        typed = ["trial", "run", str(tmp_path / "trial.toml"), "--save", str(save), "--cache", str(tmp_path / "cache")]
        assert main(typed) == 2
        assert f"{tmp_path / 'trial.toml'} cannot be written to (Not a directory)" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_scores_are_of_the_splits_that_were_measured() -> None:
    validation, paper = short_trial(TRANSTAILOR), short_trial(TRANSTAILOR, protocol="paper")
    said = {"command": "", "licence": None}
    assert facts_of(validation, POINT | {"test_score": None}, **said)["scores"] == {"validation": 0.5}
    both = facts_of(paper, POINT | {"test_score": 0.25}, **said)
    assert both["scores"] == {"train": 0.75, "validation": 0.5, "test": 0.25} and both["decides_on"] == "train"


def test_the_test_score_of_amounts_is_r_squared() -> None:
    amounts = {"test/label": torch.tensor([1.0, 2.0, 3.0]), "test/prediction": torch.tensor([1.0, 2.0, 2.0])}
    assert score_on_test(amounts, "r_squared") == pytest.approx(0.5)
    classes = {"test/label": torch.tensor([1, 2, 0, 0]), "test/prediction": torch.tensor([1, 2, 0, 3])}
    assert score_on_test(classes, "accuracy") == 0.75
    assert score_on_test(classes | {"scores/test_macro_f1": torch.tensor(0.25)}, "macro_f1") == 0.25


def test_a_users_text_is_shown_and_is_no_markup(tmp_path: Path) -> None:
    save_with_card(pruned("friedman_mlp"), facts(licence=HOSTILE, command="echo '\n````\n# not a heading'"), tmp_path)
    html = MarkdownIt("gfm-like", {"linkify": False}).render((tmp_path / "card.md").read_text())
    shown = "a | b &lt;script&gt;x&lt;/script&gt; **c** `d` [e](f) # g \\ &amp;amp; ~~h~~ i"
    assert f"<td>{shown}</td>" in html
    assert html.count("<h1>") == 1 and not any(tag in html for tag in ("<script", "<strong", "<a ", "<s>"))
    assert "echo '\n````\n# not a heading'" in html.replace("&quot;", '"')
    assert html.count("<h2>") == 2


def test_plain_text_is_left_alone() -> None:
    assert escape("CC BY-SA 4.0, see https://example.org/a-b") == "CC BY-SA 4.0, see https://example.org/a-b"


def test_the_card_says_what_the_file_says(tmp_path: Path) -> None:
    save_with_card(pruned("digits_vgg"), facts(), tmp_path)
    assert card(read(tmp_path)) == (tmp_path / "card.md").read_text()
    assert "| licence | not given |" in card(read(tmp_path))


def test_the_card_calls_the_score_by_the_name_of_the_metric(tmp_path: Path) -> None:
    point = POINT | {"metric": "balanced_accuracy", "test_score": 0.25}
    facts_of_point = facts_of(short_trial(TRANSTAILOR), point, command="transtailor trial run trial.toml", licence=None)
    save_with_card(pruned("digits_vgg"), facts_of_point, tmp_path)
    said = (tmp_path / "card.md").read_text()
    assert "| test balanced accuracy |" in said


def test_a_saved_model_is_not_replaced_by_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its exported program would stay beside the card of the other."""
    monkeypatch.chdir(tmp_path)
    first, other = TRIAL, TRIAL.replace("steps = 1", "steps = 2")
    Path("trial.toml").write_text(first)
    assert main(["trial", "run", "trial.toml", "--save", "models"]) == 0
    saved = {path.name: path.read_bytes() for path in Path("models/point_1").iterdir()}
    assert main(["trial", "run", "trial.toml", "--save", "models"]) == 0  # the same trial again
    Path("trial.toml").write_text(other)
    stages = list(Path("cache").glob("??/*"))
    assert main(["trial", "run", "trial.toml", "--save", "models"]) == 2
    assert list(Path("cache").glob("??/*")) == stages  # before anything is computed
    assert {path.name: path.read_bytes() for path in Path("models/point_1").iterdir()} == saved
    assert main(["trial", "run", "trial.toml", "--save", "others"]) == 0


def test_a_program_of_another_model_does_not_stay_beside_a_model(tmp_path: Path) -> None:
    state = pruned("friedman_mlp")
    save_model(state, tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"of these weights")
    save_model(pruned("friedman_mlp"), tmp_path)
    assert (tmp_path / "model.onnx").exists()
    for other in (
        pruned("digits_vgg"),
        state,
        replace(state, input_shape=(20,)),
        replace(state, pixels=Pixels(mean=(0.4,))),
    ):
        (tmp_path / "model.onnx").write_bytes(b"of the model before")
        save_model(other, tmp_path)
        assert not (tmp_path / "model.onnx").exists()
