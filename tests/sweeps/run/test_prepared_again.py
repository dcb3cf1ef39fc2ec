"""A run notes which images and modules its trials read, and says so if others are in their place."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from sweeps.errors import RunFolderError
from sweeps.operations.known_trials import find_trial
from sweeps.operations.reproduce import reproduce
from sweeps.planning.plan import make_plan
from sweeps.planning.trial_data import verify_data
from sweeps.run.relaunch import start
from sweeps.spec.spec import load_spec
from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tailor.pruning.criteria import CRITERIA
from tests.tailor.prepare.pictures import BIRDS, class_folders, prepare

MODULE = """
from tailor.extend import CRITERIA, Criterion
CRITERIA.add("mended", Criterion(compute="nowhere:at_all", source="mine"))
"""


def test_a_run_is_not_resumed_on_a_data_set_that_was_prepared_again(tmp_path: Path) -> None:
    sets, spec = tmp_path / "sets", tmp_path / "birds.toml"
    spec.write_text(BIRDS.format(root=str(sets)))
    prepare("birds", class_folders(tmp_path / "images", 5), sets, "--image-px", "32")
    run, lock, _ = start(make_plan(load_spec(spec)), tmp_path / "runs", extend=False, update_code=False)
    lock.release()
    shutil.copytree(sets, tmp_path / "moved")
    shutil.rmtree(sets / "birds")
    prepare("birds", class_folders(tmp_path / "others", 5, first=50), sets, "--image-px", "32")
    with pytest.raises(
        RunFolderError, match=rf"\n  the data set {sets}/birds was prepared again: digest \w{{12}} -> \w{{12}}\n"
    ):
        start(make_plan(load_spec(spec)), tmp_path / "runs", extend=False, update_code=False)
    trial = find_trial("", run.path)
    with pytest.raises(
        RunFolderError, match=rf"^the data set {sets}/birds was prepared again: .* are trial \w{{16}}; "
    ):
        next(reproduce(trial, cache=tmp_path / "cache"))
    shutil.rmtree(sets)
    shutil.copytree(tmp_path / "moved", sets)
    _, lock, done = start(make_plan(load_spec(spec)), tmp_path / "runs", extend=False, update_code=False)
    lock.release()
    assert done == "resumed"


def test_a_launch_reads_all_images_of_a_set_whose_digest_the_spec_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets, spec = tmp_path / "sets", tmp_path / "birds.toml"
    prepare("birds", class_folders(tmp_path / "images", 5), sets, "--image-px", "32")
    sha256 = manifest.read(sets, "birds").files_digest
    spec.write_text(BIRDS.format(root=str(sets)).replace("train_images", f'sha256 = "{sha256}", train_images'))
    images = sets / "birds" / "target.images.npy"
    content = images.read_bytes()
    images.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    plan = make_plan(load_spec(spec))
    with pytest.raises(ConfigError, match=r"target.images.npy is not the file that the manifest describes"):
        verify_data(trial.settings for trial in plan.trials)
    images.write_bytes(content)
    verify_data(trial.settings for trial in plan.trials)
    assert "verifying birds" in capsys.readouterr().out
    spec.write_text(BIRDS.format(root=str(sets)))  # without a digest all but the images
    labels = sets / "birds" / "target.labels.npy"
    labels.write_bytes(labels.read_bytes()[:-8] + bytes(8))
    with pytest.raises(ConfigError, match=r"target.labels.npy is not the file that the manifest describes"):
        verify_data(trial.settings for trial in make_plan(load_spec(spec)).trials)


def test_a_run_is_not_resumed_with_another_module_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "mine.toml"
    spec.write_text('name = "a"\nimports = ["mine.py"]\n[trial]\nmethod = { name = "prune", criterion = "mended" }\n')
    changed = pytest.raises(RunFolderError, match=r"\n  the module mine.py was changed: SHA-256 \w{12} -> \w{12}\n")
    for comment, expected in (("", nullcontext()), ("# mended\n", changed)):
        (tmp_path / "mine.py").write_text(MODULE + comment)
        monkeypatch.setattr(CRITERIA, "_records", {name: CRITERIA[name] for name in CRITERIA if name != "mended"})
        with expected:
            _, lock, _ = start(make_plan(load_spec(spec)), tmp_path / "runs", extend=False, update_code=False)
            lock.release()
