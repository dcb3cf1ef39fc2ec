"""`transtailor reproduce`: one trial again, beside the rows of its run, and its sub-model."""

import json
from pathlib import Path

import pytest

from results.store.reader import load
from sweeps.errors import RunFolderError
from sweeps.followed_run import FollowedRun
from sweeps.run.run_folder import RunFolder
from tailor.model.state import load_model
from tests.changed_rows import change_rows
from tests.sweeps.conftest import Command


@pytest.mark.check
def test_a_trial_again_from_the_cache_and_anew(sweeps_command: Command, trained: RunFolder, tmp_path: Path) -> None:
    run = trained
    with load(run.path) as tables:
        points = tables.rows(
            "SELECT * EXCLUDE (written_at) FROM operating_points"
            " WHERE trial_id IN (SELECT trial_id FROM planned WHERE label = 'transtailor') ORDER BY point"
        )
        (measured,) = tables.rows("SELECT validation_score, test_score FROM measured_points WHERE point = 1")
    trial = points[0]["trial_id"]
    assert len(points) == 2

    computed = _stages(tmp_path / "cache")
    done = sweeps_command("reproduce", "runs/trained", trial[:8], "--save", "model", "--licence", "CC BY 4.0")
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads((tmp_path / "model" / "model.json").read_bytes())["facts"]
    assert (facts["trial_id"], facts["point"], facts["licence"]) == (trial, 1, "CC BY 4.0")
    assert facts["command"].endswith(f"reproduce runs/trained {trial[:8]} --save model --licence 'CC BY 4.0'")
    assert facts["scores"] == {split: pytest.approx(measured[f"{split}_score"]) for split in ("validation", "test")}
    assert f"trial | {trial}, operating point 1" in (tmp_path / "model" / "card.md").read_text()
    assert "2 of 2 points are exactly those in runs/trained; 0 of its " in done.stdout
    assert "read from the cache; another --cache, without stages, computes all" in done.stdout
    assert _stages(tmp_path / "cache") == computed
    assert _parameters(tmp_path / "model") == points[1]["params"] < points[0]["params"]

    done = sweeps_command("reproduce", "runs/trained", trial, "--point", "0", "--save", "first", "--cache", "new")
    assert [line for line in done.stdout.splitlines() if line.startswith("point 1")] == []
    assert "saved in first; to load it: import tailor; tailor.load_model('first')" in done.stdout
    assert _parameters(tmp_path / "first") == points[0]["params"]
    new = len(_stages(tmp_path / "new"))
    assert 0 < new < len(computed)
    assert f"runs/trained; {new} of its {new} stages were computed now\n" in done.stdout

    change_rows(run.path, "operating_points", [points[1] | {"validation_score": 0.125}])
    done = sweeps_command("reproduce", "runs/trained", trial)
    assert "; the run has " in done.stdout and " and 0.125000" in done.stdout
    assert "1 of 2 points are exactly those" in done.stdout

    done = sweeps_command("reproduce", "runs/trained", trial, "--save", "runs/trained/plan.json")
    assert done.returncode == 2 and "plan.json cannot be written to (Not a directory)" in done.stderr

    done = sweeps_command("reproduce", "runs/trained", trial, "--point", "0", "--save", "model")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"model has point 1 of trial {trial}; type --save with another folder" in done.stderr
    assert _parameters(tmp_path / "model") == points[1]["params"]

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.md").write_text("mine")
    done = sweeps_command("reproduce", "runs/trained", trial, "--save", "mine")
    assert done.returncode == 2 and "mine has card.md, and no saved model" in done.stderr

    done = sweeps_command("reproduce", "runs/trained", trial, "--licence", "MIT")
    assert done.returncode == 2 and "give --save FOLDER, too" in done.stderr

    for point in ("-1", "2", "7"):
        done = sweeps_command("reproduce", "runs/trained", trial, f"--point={point}", "--save", "none", "--cache", "no")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"has no point {point}, only 2, counted from 0" in done.stderr
        assert not (tmp_path / "none").exists() and not (tmp_path / "no").exists()  # before anything is computed
    with pytest.raises(RunFolderError, match="has no point -1, only 2"):
        FollowedRun(run.path).save_model(trial, -1, tmp_path / "none", cache=tmp_path / "cache")
    for cache in ("trained.toml", "trained.toml/below"):
        done = sweeps_command("reproduce", "runs/trained", trial, "--cache", cache)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"--cache {cache}: " in done.stderr and "trained.toml is a file" in done.stderr

    run.plan.write_text(run.plan.read_text().replace(trial, "f" * 16))
    done = sweeps_command("reproduce", "runs/trained", "ffff")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"with this code and these data the settings of trial {'f' * 16} are trial {trial}" in done.stderr
    run.plan.write_text(run.plan.read_text().replace('"steps"', '"stepps"'))
    assert "cannot read its settings" in sweeps_command("reproduce", "runs/trained", "ffff").stderr


def _stages(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("??/[!.]*.stage")}


def _parameters(folder: Path) -> int:
    return sum(parameter.numel() for parameter in load_model(folder).parameters())
