"""A sweep whose official data are not there: it is planned from known facts, and says what to type; then it runs."""

import shlex
from pathlib import Path

import pytest

from sweeps.errors import SpecError
from sweeps.planning.plan import make_plan, refuse_missing_files
from sweeps.spec.spec import SPECS, load_spec
from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.execution.missing import DataMissing
from tailor.facts import manifest
from tests.pages import DOCS
from tests.sweeps.conftest import WriteSpec
from tests.tailor.prepare.pictures import BIRDS, class_folders, data, pack
from transtailor.__main__ import main

SPEC = """
name = "two_sets"
[trial]
network = "resnet18"
source.weights = "ResNet18_Weights.IMAGENET1K_V1"
method.name = "head_only"
data = {{ root = {root!r}, image_px = 32, train_images = {train}, crop_px = 24 }}
[axes]
seed = [0, 1]
data = [
    {{ name = "caltech_30", layout = "caltech256" }},
    {{ name = "birds", layout = "cub200" }},
    {{ name = "caltech_60", layout = "caltech256" }},
]
"""


def spec_text(root: Path, train: int = 100) -> str:
    return SPEC.format(root=str(root), train=train)


def refusal(path: Path, *assignments: str) -> list[str]:
    with pytest.raises(DataMissing) as refused:
        refuse_missing_files(make_plan(load_spec(path, assignments)))
    return str(refused.value).splitlines()


def typed(lines: list[str]) -> list[list[str]]:
    """The commands in a list, without their first word."""
    return [shlex.split(line)[1:] for line in lines[1:] if not line.startswith("#")]


def test_plan_shows_the_list_at_its_end_and_run_refuses_with_the_same(
    write_spec: WriteSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(write_spec(spec_text(Path("datasets"))))
    assert main(["plan", path]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert "sweep     two_sets: 6 trials" in "\n".join(planned)
    assert main(["run", path]) == 2
    refused = capsys.readouterr().err.splitlines()
    assert refused[0].startswith("error: 3 data sets and weights are not there")
    assert planned[-len(refused) + 1 :] == refused[1:]
    assert refused[-1].endswith("--to datasets")  # as one types it here
    assert not (tmp_path / "runs").exists()
    trial = '[data]\nname = "birds"\nroot = "datasets"\nlayout = "cub200"\nimage_px = 32\ntrain_images = 100\n'
    (tmp_path / "trial.toml").write_text('network = "resnet18"\nmethod.name = "head_only"\n' + trial)
    assert main(["trial", "run", "trial.toml"]) == 2


def test_the_commands_of_the_list_bring_the_data_and_nothing_is_missing_then(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an archive forged in Caltech's layout, which needs --unofficial."""
    monkeypatch.chdir(tmp_path)
    path = write_spec(spec_text(tmp_path / "datasets", train=60))
    class_folders(tmp_path / "in" / "256_ObjectCategories", 62, ("001.ak47", "002.flag", "257.clutter"))
    pack(tmp_path / "in", tmp_path / "256_ObjectCategories.tar")
    _weights, caltech, _birds = typed(refusal(path))
    data("prepare", *caltech[2:], "--unofficial")
    lines = refusal(path)
    assert [words[2] for words in typed(lines)[1:]] == ["birds"]
    assert lines[0].startswith("1 data set and weights are not there")


OWN = """
name = "own"
[trial]
network = "resnet18"
source.weights = "mine.safetensors"
method.name = "head_only"
[trial.data]
name = "my_animals"
root = "datasets"
image_px = 32
train_images = 6
expected = { classes = 2, images = 12, test_images = 2, prepare = "--from 'my photographs' --test-fraction 0.2" }
"""


def test_own_data_and_weights_are_planned_from_what_is_expected_of_them(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_spec(OWN)
    assert main(["plan", str(path)]) == 0
    planned = capsys.readouterr().out
    assert "ids       of trials are not final" in planned and "my_animals: 12 images of 2 classes" in planned
    assert "no weights at" in planned and "data.expected" not in planned
    (prepare,) = typed(refusal(path))
    donor = 'axes.pruning.scores_from=["my_animals", "others"]'
    assert typed(refusal(path, "trial.method=prune", donor)) == [
        prepare, ["data", "prepare", "others", "--image-px", "32", "--from", "FOLDER", "--to", "datasets"],
    ]  # fmt: skip
    assert prepare == [
        "data", "prepare", "my_animals", "--image-px", "32", "--from", "my photographs", "--test-fraction", "0.2",
        "--to", "datasets",
    ]  # fmt: skip
    expected_work = [(stage.kind, stage.work) for stage in make_plan(load_spec(path)).trials[0].stages]
    class_folders(tmp_path / "my photographs", 6, ("cat", "dog"))
    data("prepare", *prepare[2:])
    assert not [line for line in make_plan(load_spec(path)).warnings if "expected" in line]
    other = make_plan(load_spec(path, ["trial.data.expected.images=14", "trial.data.expected.test_images=4"]))
    found = "data set my_animals has images = 12, expected 14; test_images = 2, expected 4: correct"
    assert any(found in line for line in other.warnings)
    plan = make_plan(load_spec(path))
    assert [(stage.kind, stage.work) for stage in plan.trials[0].stages] == expected_work
    with pytest.raises(ConfigError, match="no weights at .*mine.safetensors; give source.weights the path"):
        refuse_missing_files(plan)
    (tmp_path / "mine.safetensors").touch()
    with pytest.raises(ConfigError, match=r"weights and weights_sha256 belong together"):
        make_plan(load_spec(path))


def test_the_page_for_the_papers_has_the_commands_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/replicate.md, for TransTailor's Table 3: a reader without a plan types the same."""
    monkeypatch.chdir(tmp_path)
    commands = typed(refusal(SPECS / "transtailor_vgg16.toml"))
    page = (DOCS / "replicate.md").read_text().splitlines()
    on_page = [
        shlex.split(line)[1:] for line in page if line.startswith(("transtailor fetch", "transtailor data prepare"))
    ]
    assert on_page == commands


@pytest.mark.parametrize(
    ("name", "trials"), [("transtailor_resnet101", 330), ("transformers_swin_t", 360), ("convnext_t", 270)]
)
def test_plan_of_hundreds_of_trials_without_data_is_made_of_facts_alone(name: str, trials: int, tmp_path: Path) -> None:
    plan = make_plan(load_spec(SPECS / f"{name}.toml", [f"trial.data.root={tmp_path}"]))
    assert len(plan.trials) == trials
    assert not list(tmp_path.iterdir())


def trial(folder: Path, **data_settings: object) -> None:
    settings = {"name": "animals", "root": str(folder), "train_images": 6} | data_settings
    raw = {"network": "resnet18", "source": {"weights": "ResNet18_Weights.IMAGENET1K_V1"}, "data": settings}
    parse_trial(raw | {"method": {"name": "head_only"}}, "test")


def test_a_set_of_another_size_or_another_digest_is_refused_with_both(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "animals")
    for root, image_px in (("a", 32), ("b", 40)):
        data("prepare", "animals", "--from", origin, "--to", tmp_path / root, "--image-px", image_px)
    first, other = (manifest.read(tmp_path / root, "animals").files_digest for root in ("a", "b"))
    assert first != other
    trial(tmp_path / "a", sha256=first, image_px=32)
    with pytest.raises(ConfigError, match=f"sha256 = {first}, and .*/b/animals has the digest of files {other}"):
        trial(tmp_path / "b", sha256=first)
    with pytest.raises(ConfigError, match="image_px = 32, and .*/b/animals was prepared with --image-px 40"):
        trial(tmp_path / "b", image_px=32)
    with pytest.raises(ConfigError, match="sha256"):
        trial(tmp_path / "a", sha256="abc")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layout": "cub200"}, "layout = 'cub200' needs image_px"),
        ({"layout": "cub200", "image_px": 32, "root": None}, "layout is of a prepared data set"),
        ({"expected": {"classes": 2, "images": 9}}, "expected needs image_px"),
        ({"expected": {"classes": 2}, "image_px": 32}, "give expected.classes and expected.images"),
        ({"expected": {"classes": 2, "images": 9, "prepare": "--from 'a"}, "image_px": 32}, "No closing quotation"),
        ({"expected": {"classes": 2, "images": 6}, "image_px": 32}, "leaves no validation image"),
    ],
)
def test_what_cannot_be_planned_is_refused(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        trial(tmp_path, **settings)


@pytest.mark.parametrize(
    ("classes", "image_px", "is_refused"), [(["fox", "hen", "owl"], 16, True), (["cat", "dog", "eel"], 24, False)]
)
def test_two_data_sets_of_one_name_are_one_only_at_several_sizes(
    tmp_path: Path, write_spec: WriteSpec, classes: list[str], image_px: int, is_refused: bool
) -> None:
    """Results are told apart by the name, and classes are named by it."""
    options = ("birds", "--to", tmp_path / "a", "--from")
    data("prepare", *options, class_folders(tmp_path / "images"), "--image-px", 16)
    options = ("birds", "--to", tmp_path / "b", "--from")
    data("prepare", *options, class_folders(tmp_path / "others", classes=classes), "--image-px", image_px)
    text = BIRDS.format(root=str(tmp_path / "a")) + f'[axes]\ndata.root = ["{tmp_path}/a", "{tmp_path}/b"]\n'
    spec = load_spec(write_spec(text))
    if not is_refused:
        assert len(make_plan(spec).trials) == 2
        return
    with pytest.raises(SpecError, match=f"data sets birds in {tmp_path}/a and in {tmp_path}/b have other classes"):
        make_plan(spec)
