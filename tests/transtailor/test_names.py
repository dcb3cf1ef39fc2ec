"""What is said to somebody who typed a name that there is not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from results.errors import ResultsError
from results.store.files import tables_folder
from sweeps.errors import RunFolderError
from sweeps.run.run_folder import RunFolder, open_run
from tests.product import ROOT
from transtailor.names import NAMES_SHOWN, closest, did_you_mean, nearest, nearest_folder


@pytest.mark.parametrize(("typed", "close"), [("digts", "digits"), ("circle", None), ("", None)])
def test_the_closest_name_is_found_if_one_is_near(typed: str, close: str | None) -> None:
    assert closest(typed, ["photographs", "digits"]) == close


def test_the_end_of_a_message_has_the_hint_and_all_valid_names() -> None:
    assert nearest("digts", {"photos": 1, "digits": 2}) == "; did you mean 'digits'? (valid: digits, photos)"
    assert nearest("x", ["digits"]) == " (valid: digits)"
    assert nearest("x", []) == " (valid: none)"
    assert nearest("x", ["prune l1, proposal 0", "digits"]) == " (valid: digits, 'prune l1, proposal 0')"


def test_of_many_names_the_first_are_shown() -> None:
    names = [f"n{number:03}" for number in range(NAMES_SHOWN + 5)]
    said = nearest("zzz", reversed(names))
    assert said == f" (valid: {', '.join(names[:NAMES_SHOWN])}, ... {len(names)} in all)"


def test_the_middle_of_a_message_is_empty_where_nothing_is_near() -> None:
    assert did_you_mean("labl", ["label", "seed"]) == "did you mean 'label'? "
    assert did_you_mean("zzz", ["label", "seed"]) == ""


def test_who_typed_it_right_does_not_wait_for_difflib() -> None:
    code = "import sys, transtailor.names; sys.exit('difflib' in sys.modules)"
    assert subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=False).returncode == 0


def test_capitals_do_not_matter() -> None:
    assert closest("ResNet18", ["resnet18", "vgg16"]) == "resnet18"


@pytest.mark.parametrize(
    ("typed", "valid", "close"),
    [
        ("lr", ["momentum", "learning_rate"], "learning_rate"),
        ("wd", ["weight_decay", "width"], "weight_decay"),
        ("bs", ["batch_size"], "batch_size"),
        ("pruning_ratio", ["alpha_learning_rate", "asked_removed_macs_fraction"], "asked_removed_macs_fraction"),
        ("pruning-ratio", ["alpha_learning_rate", "step_removed_macs_fraction"], "step_removed_macs_fraction"),
        ("sparsity", ["steps", "prune_ratio"], "prune_ratio"),
        ("fraction", ["allocation", "asked_removed_macs_fraction"], "asked_removed_macs_fraction"),
        ("model", ["data", "network"], "network"),
        ("mixed_precision", ["precision"], "precision"),
        ("latency_ms", ["batch_size", "asked_latency_ms"], "asked_latency_ms"),
        ("latency", ["macs", "latency_ms"], "latency_ms"),
        ("latency_ms", ["batch_size", "alpha_epochs"], None),
        ("speedup", ["seed", "steps"], None),
        ("val_fraction", ["minimum_filters_fraction"], None),
        ("criterion", ["precision"], None),
        ("wast", ["flat"], None),
        ("betas", ["beta", "heads"], None),
        ("f1", ["accuracy", "macro_f1", "top_5"], "macro_f1"),
        ("test", ["test_score", "trials"], "test_score"),
        ("asked_macs", ["asked_latency_ms", "asked_removed_macs_fraction"], "asked_removed_macs_fraction"),
        ("fine_tune", ["full fine-tuning", "head_only"], "full fine-tuning"),
        ("watch", ["fetch", "status"], "status"),
        ("learning_rate", ["method.alpha_learning_rate", "optimisation.learning_rate"], "optimisation.learning_rate"),
    ],
)
def test_words_of_other_programs_are_understood(typed: str, valid: list[str], close: str | None) -> None:
    assert closest(typed, valid) == close


def test_names_of_other_places_are_found_too_and_not_listed() -> None:
    elsewhere = {"learning_rate": "optimisation.learning_rate", "optimiser": "optimisation.optimiser"}
    tables = ["data", "optimisation"]
    assert nearest("lr", tables, elsewhere) == (
        "; did you mean 'optimisation.learning_rate'? (valid: data, optimisation)"
    )
    assert "did you mean 'optimisation.optimiser'" in nearest("optimizer", tables, elsewhere)
    assert "did you mean 'optimisation'" in nearest("optimization", tables, elsewhere)


def test_the_name_that_is_meant_is_listed() -> None:
    names = ["learning_rate", "lrx", *(f"n{number}" for number in range(20))]
    assert "(valid: learning_rate, lrx, " in nearest("lr", names)


def test_of_many_names_the_likely_are_shown() -> None:
    names = ["digits_vgg", "digits_resnet", *(f"net{number:03}" for number in range(50))]
    assert nearest("digits_vg", names) == (
        "; did you mean 'digits_vgg'? (valid: digits_vgg, digits_resnet, ... 52 in all)"
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("runs/dmeo", "; did you mean 'runs/demo'?"),
        ("demo", "; did you mean 'runs/demo'?"),
        ("run/demo", "; did you mean 'runs/demo'?"),
        ("demon", "; did you mean 'runs/demo'?"),
        ("runs/birds", ""),
    ],
)
def test_a_folder_of_a_similar_name_is_suggested(
    typed: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "demons").mkdir()  # which is no run
    monkeypatch.chdir(tmp_path)
    assert nearest_folder(Path(typed)) == said
    with pytest.raises(ResultsError, match=re.escape(f"such as runs/demo{said}") + "$"):
        tables_folder(Path(typed))
    with pytest.raises(RunFolderError, match=re.escape(f"such as runs/demo{said}") + "$"):
        open_run(RunFolder(Path(typed)))


def test_of_a_folder_of_runs_one_of_them_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "runs" / "birds").mkdir(parents=True)
    (tmp_path / "runs" / "birds" / "plan.json").touch()
    with pytest.raises(RunFolderError, match=re.escape(f"type one, such as {tmp_path / 'runs' / 'birds'}, or")):
        open_run(RunFolder(tmp_path / "runs"))
