"""What a trial reads and is not as it should be: a clear line, exit code 2, and nothing computed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

from tailor.config.parsing import parse_trial
from tailor.execution.cache import Cache
from tailor.execution.plugins import load
from tailor.execution.runner import run_trial
from tailor.facts.weights import sha256_of
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning.criteria import CRITERIA
from tests.tailor.prepare.pictures import class_folders, prepare
from transtailor.__main__ import main
from transtailor.shell import command as to_type

Run = Callable[[str], str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A prepared set of three classes, 32 pixels, without a source task; and weights of resnet18 with 7 classes."""
    prepare("animals", class_folders(tmp_path / "images", 10), tmp_path / "data", "--image-px", 32)
    safetensors.torch.save_file(building.build("resnet18", 7, seed=5).state_dict(), tmp_path / "net.safetensors")
    return tmp_path


def trial(root: Path, weights: str = "net.safetensors", **settings: str) -> str:
    given = {
        "network": "resnet18",
        "method.name": "head_only",
        "data.name": "animals",
        "data.root": str(root / "data"),
        "source.weights": str(root / weights),
        "source.weights_sha256": sha256_of(root / weights) if (root / weights).is_file() else "1" * 64,
    } | settings
    return "\n".join(f'{key} = "{value}"' for key, value in given.items()) + "\ndata.train_images = 12\n"


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a trial that is refused, and gives what it said."""

    def run(text: str) -> str:
        path, cache = tmp_path / "trial.toml", tmp_path / "cache"
        path.write_text(text)
        capsys.readouterr()
        assert main(["trial", "run", str(path), "--cache", str(cache), "--device", "cpu"]) == 2
        assert not list(cache.rglob("*.stage"))  # nothing was computed, nothing stands there half
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        return said

    return run


def test_a_missing_data_root_says_how_to_prepare(root: Path, refused: Run) -> None:
    said = refused(trial(root, **{"data.root": str(root / "nowhere")}))
    assert "no data set 'animals' is prepared in" in said
    assert f"type: {to_type('data', 'prepare', 'animals', '--to')}" in said


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_head_of_another_source_task_where_the_method_keeps_it(
    command: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Run
) -> None:
    """Before anything is computed, although stages that come earlier could be."""
    images = class_folders(tmp_path / "more", 10, ("ant", "bee", "cat", "dog"))
    prepare("sourced", images, root / "data", "--image-px", 32, "--source-classes", "ant,bee")
    text = trial(root, **{"method.name": "pac_net", "data.name": "sourced"})
    expected = "the weights' head has 7 outputs while the source task of sourced has 2 classes"
    if command == "run":
        assert expected in refused(text)
        return
    (tmp_path / "trial.toml").write_text(text)
    assert main(["trial", "run", str(tmp_path / "trial.toml"), "--plan"]) == 2
    assert expected in capsys.readouterr().err
    (tmp_path / "trial.toml").write_text(trial(root, **{"data.name": "sourced"}))  # which brings a head of its own
    assert main(["trial", "run", str(tmp_path / "trial.toml"), "--plan"]) == 0


@pytest.mark.parametrize("file", ["target.images.npy", "target.is_test.npy"])
def test_a_file_of_the_data_that_was_cut_off(file: str, root: Path, refused: Run) -> None:
    path = root / "data" / "animals" / file
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} has {path.stat().st_size} bytes, the manifest says {path.stat().st_size + 1}" in refused(
        trial(root)
    )


def test_a_file_of_the_data_that_was_changed(root: Path, refused: Run) -> None:
    path = root / "data" / "animals" / "target.labels.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert f"{path} is not the file that the manifest describes: its SHA-256 differs" in refused(trial(root))


def test_a_manifest_that_does_not_match(root: Path, refused: Run) -> None:
    path = root / "data" / "animals" / "manifest.json"
    whole = path.read_text()
    path.parent.rename(root / "data" / "plants")
    said = refused(trial(root, **{"data.name": "plants"}))
    assert (
        f"{root / 'data' / 'plants' / 'manifest.json'} is of data set 'animals', and the folder is called 'plants'"
        in said
    )
    (root / "data" / "plants").rename(path.parent)
    path.write_text(whole.replace('"eel"', '"eel", "fox"').replace("[\n    30\n   ]", "[\n    29\n   ]"))
    assert f"{path} is not a manifest" in refused(trial(root))
    path.write_text(whole[:-20])
    assert f"{path} is not a manifest" in refused(trial(root))


def test_a_number_of_the_manifest_that_was_changed_by_hand(root: Path, refused: Run) -> None:
    path = root / "data" / "animals" / "manifest.json"
    content = json.loads(path.read_text()) | {"test_images": 3}
    path.write_text(json.dumps(content))
    assert f"{path} is not a manifest: ValueError('it was changed after it was written" in refused(trial(root))


CRITERION = """
import torch
from tailor.extend import CRITERIA, Criterion
def compute(scoring):
    scores = {member.layer: torch.ones(group.filters) for group in scoring.found for member in group.members}
    first = next(iter(scores))
    RETURN
CRITERIA.add("NAME", Criterion(compute=compute, source="mine"))
"""
SCORES = {
    "reads data": ("return scoring.data", "reads scoring.data: declare it, Criterion(..., reads_data=True)"),
    "changes the folder": (
        "import os; os.chdir('/'); return scores",
        "stage score_filters calls os.chdir, which acts on all that follows",
    ),
    "raises": ("return 1 / 0", "mine.py, line 7: ZeroDivisionError: division by zero"),
    "no dictionary": ("return [scores]", "returned a list; expected a dictionary: layer -> scores"),
    "an array": ("return {**scores, first: scores[first].numpy()}", "a tensor; given a numpy.ndarray"),
    "a column": (
        "return {**scores, first: scores[first][:, None]}",
        "a tensor of shape (24,); given one of shape (24, 1)",
    ),
    "NaN": ("scores[first][0] = torch.nan; return scores", "24 finite scores, a tensor; 1 are NaN or infinite"),
    "a layer too few": ("del scores[first]; return scores", "24 finite scores, a tensor; given none"),
}


@pytest.mark.parametrize("case", SCORES)
def test_what_a_criterion_of_ones_own_returns_is_checked(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CRITERIA, "_records", dict(CRITERIA))
    line, words = SCORES[case]
    module, text = tmp_path / "mine.py", tmp_path / "trial.toml"
    module.write_text(CRITERION.replace("RETURN", line).replace("NAME", f"own {case}"))
    text.write_text(
        'network = "digits_vgg"\nsource.epochs = 1\noptimisation = { epochs = 1, head_epochs = 1 }\n'
        f'method = {{ name = "prune", criterion = "own {case}" }}\n'
    )
    typed = ["trial", "run", str(text), "--import", str(module), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert main(typed) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_a_criterion_that_writes_into_the_model_does_not_change_it(
    tmp_path: Path, ranks: ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CRITERIA, "_records", dict(CRITERIA))
    points = []
    for number, line in enumerate(
        ["return scores", "[t.zero_() for t in scoring.state.tensors.values()]; return scores"]
    ):
        module = tmp_path / f"mine{number}.py"
        module.write_text(CRITERION.replace("RETURN", line).replace("NAME", f"writes {number}"))
        load(module)
        config = parse_trial(
            {
                "network": "digits_vgg",
                "source": {"epochs": 1},
                "optimisation": {"epochs": 1, "head_epochs": 1},
                "method": {"name": "prune", "criterion": f"writes {number}"},
            },
            "test",
        )
        events = list(run_trial(config, cache=Cache(tmp_path / "cache"), ranks=ranks))
        points.append(events[-1].result.point_facts())
    assert points[0] == points[1]
