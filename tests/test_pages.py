"""Each block of code in docs/ is run by a test, here or in the test that has its page, or says why it is not."""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tomli_w

from results.store.points import renew_points
from sweeps.spec.axes import SPEC_KEYS
from sweeps.spec.expand import expand
from sweeps.spec.nested import merge_tables
from sweeps.spec.spec import load_spec
from tailor.config.parsing import parse_trial
from tailor.execution.dry_run import dry_run
from tests.commands import launch, transtailor_command
from tests.pages import DOCS, Block, blocks, run_block
from tests.results.conftest import Synthetic
from tests.results.exact_run import Trial, write_run
from tests.test_tutorial import photographs

ROOT = DOCS.parent
RUN = ("bash", "python", "sql", "toml")
SHOWN = ("text", "json", "mermaid", "r", "{toctree}", "{eval-rst}")  # nothing to run here: R is not there
MOST_NOT_RUN = 18
ELSEWHERE = {
    "own_network.md": "tests/tailor/user_module/test_own_page.py",
    "python.md": "tests/sweeps/test_python_page.py",
    "reading.md": "tests/results/store/test_reading.py",
    "tutorial.md": "tests/test_tutorial.py",
    "extend.md": "tests/tailor/test_extending.py",
}
"""Page -> the test that runs its blocks."""
PAGES = {
    path.relative_to(DOCS).as_posix(): blocks(path)
    for path in sorted(DOCS.rglob("*.md"))
    if not {"results", "_build"} & set(path.relative_to(DOCS).parts)
}
HERE = [page for page, found in PAGES.items() if page not in ELSEWHERE and {block.kind for block in found} & {*RUN}]
PHOTOGRAPHS = {"network": "resnet18", "source": {"weights": "ResNet18_Weights.IMAGENET1K_V1"}}
BIRDS = {"data": {"name": "birds", "root": "datasets", "train_images": 18}}
AROUND: Mapping[str, dict[str, Any]] = {
    "allocations.md": PHOTOGRAPHS | BIRDS | {"pruning": {"residual": "coupled"}},
    "methods/gbn.md": {"network": "digits_resnet"},
    "searches.md": {"method": {"name": "transtailor"}},
    "slurm.md": {"data": {"train_images": 18}},
    "transformers.md": BIRDS | {"source": {"weights": "ViT_B_16_Weights.IMAGENET1K_V1"}},
    "weights.md": PHOTOGRAPHS | BIRDS,
}
"""Page -> what its reader has in a trial beside what a block shows."""
SHORT = """
network = "digits_resnet"
source.epochs = 1
optimisation = { epochs = 1, head_epochs = 1 }
method = { name = "transtailor", steps = 2, alpha_epochs = 1 }
"""


def a_small_run(folder: Path) -> None:
    """The labels and budgets of the demo, without a training."""
    Synthetic(networks=("digits_vgg", "digits_resnet"), seeds=(0, 1)).write(folder / "runs" / "demo")


def two_arms(folder: Path) -> None:
    """Six seeds of two arms, with everything that statistics need."""
    arms = {"transtailor": 90, "fine_tune": 80}
    path = {"asked": (0.1, 0.2), "removed": (0.1, 0.2)}
    several = [
        Trial(label=label, seed=seed, right=(right + seed % 3, right - 2 * (seed % 2)), **path)  # type: ignore[arg-type]
        for label, right in arms.items()
        for seed in range(6)
    ]
    write_run(folder / "runs" / "demo", several)


def a_trained_run(folder: Path) -> None:
    """A whole run with its cache."""
    (folder / "head.toml").write_text(f"[trial]\n{SHORT}")
    done = launch("head.toml", "--name", "demo", "--site", "serial", folder=folder)
    assert done.returncode == 0, done.stderr


def a_trial(folder: Path) -> None:
    """A trial's file."""
    (folder / "trial.toml").write_text(SHORT)


READY: Mapping[str, Callable[[Path], None]] = {
    "columns.md": a_small_run,
    "data.md": lambda folder: photographs(folder / "photographs"),
    "export.md": a_trial,
    "faq.md": a_trained_run,
    "methods/target_aware_adaptation.md": a_small_run,
    "statistics.md": two_arms,
}
"""Page -> what its reader has in the working folder."""


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a prepared data set, `birds`."""
    folder = tmp_path_factory.mktemp("birds")
    photographs(folder / "photographs")
    words = ["data", "prepare", "birds", "--from", "photographs", "--to", "datasets", "--image-px", 224]
    assert transtailor_command(*words, folder=folder).returncode == 0
    return folder / "datasets"


def plan_block(page: str, block: Block, folder: Path) -> None:
    """Plan what a block of TOML describes: a sweep, a part of one, or a single trial."""
    text = block.text.replace('"/shared/', f'"{folder}/').replace('"..."', f'"{"0" * 64}"')
    text = text.replace("train_images = 1000", "train_images = 18")  # there are 36 photographs
    document = tomllib.loads(text)
    around = {"method": "fine_tune"} | AROUND.get(page, {})
    if not document.keys() & {*SPEC_KEYS}:
        dry_run(parse_trial(merge_tables(around, document), page))
        return
    if "name" in document:
        path = folder / f"{document['name']}.toml"
        path.write_text(text)
    else:
        path = folder / "part.toml"
        document |= {"name": "part", "trial": merge_tables(around, document.get("trial", {}))}
        path.write_text(tomli_w.dumps(document))
    done = transtailor_command("plan", path, "--site", "serial", folder=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.check
@pytest.mark.parametrize("page", HERE)
def test_the_blocks_of_a_page_run(page: str, datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # plans are those of a machine with two GPUs
    (tmp_path / "datasets").symlink_to(datasets) if page in AROUND else None
    READY.get(page, lambda _: None)(tmp_path)
    names: dict[str, Any] = {}
    for block in PAGES[page]:
        if block.kind == "toml":
            plan_block(page, block, tmp_path)
        elif block.kind in RUN and block.not_run is None:
            run_block(block, tmp_path, names)


@pytest.mark.check
def test_each_line_of_the_page_of_lost_accuracy_works_where_the_page_puts_it(tmp_path: Path) -> None:
    rows = re.findall(
        r"^\| \d\. .*? \| `([^|]+)` \|(?: `(--set [^`]+)`.*)? *\|$", (DOCS / "accuracy.md").read_text(), re.M
    )
    assert len(rows) == 8
    trial = '[trial]\nmethod.name = "prune"\n'
    for line, option in rows:
        texts = [f"{line}\ntrial.method.name = 'prune'\n"]
        if line.startswith("method"):
            texts = [f"[[variants]]\n{line}\n"]
        elif line.startswith("trial."):
            texts.append(f"{trial}{line.removeprefix('trial.')}\n")
        (tmp_path / "base.toml").write_text(f'name = "line"\n{trial}')
        for text in texts:
            (tmp_path / "line.toml").write_text(f'name = "line"\naxes.seed = [0]\n{text}')
            assert list(expand(load_spec(tmp_path / "line.toml")))
        if option:
            assert list(expand(load_spec(tmp_path / "base.toml", option.split()[1:])))


@pytest.mark.check
def test_the_page_of_clusters_shows_what_plan_prints(tmp_path: Path) -> None:
    (spec,) = (block.text for block in PAGES["slurm.md"] if block.text.startswith('name = "my"'))
    plan, run = (block.text for block in PAGES["slurm.md"] if block.text.startswith(("sweep ", "runs/my: created")))
    (tmp_path / "my.toml").write_text(spec)
    (tmp_path / "mycluster.toml").write_text(
        'partition = "main"\ncpus_per_node = 1\nmemory_gb = 1.2\nwalltime_min = 10\n'
    )
    done = transtailor_command("plan", "my.toml", "--site", "./mycluster.toml", folder=tmp_path)
    printed = re.sub(r"\S.*(?= run my\.toml)", "transtailor", done.stdout.replace("./mycluster.toml", "mycluster"))
    summary, _, job = plan.partition("--- the controller\n")
    for part in re.split(r"(?m)^(?:\.\.\.|folder .*)\n", summary):  # the folder's line is of a shared folder
        assert part in printed, done.stderr
    assert {*job.splitlines()} - {"..."} <= {*printed.splitlines()}
    (trial,) = re.findall(r"(?m)^  ([0-9a-f]{12})  transtailor", run)
    assert f"| {trial}" in printed


def test_few_blocks_are_not_run_and_each_kind_is_known() -> None:
    found = [(page, block) for page, all_blocks in PAGES.items() for block in all_blocks]
    assert [(page, block.line) for page, block in found if block.kind not in (*RUN, *SHOWN)] == []
    assert len([page for page, block in found if block.not_run is not None]) <= MOST_NOT_RUN
    assert [(page, block.line) for page, block in found if block.not_run and block.kind == "toml"] == []


def test_pages_that_are_run_elsewhere_are_named_there() -> None:
    assert [page for page, test in ELSEWHERE.items() if page not in (ROOT / test).read_text()] == []


def test_what_the_blocks_of_r_read_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_small_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    renew_points(tmp_path / "runs" / "demo", print)
    (points_code,) = (block.text for block in PAGES["reading.md"] if block.kind == "r")
    (path,) = re.findall(r'read_parquet\("(.*)"\)', points_code)
    rows = pq.read_table(path).to_pylist()
    (grouped_by,) = re.findall(r"group_by\(df, (.*)\)", points_code)
    assert {*grouped_by.split(", "), "test_score", "seed", "is_compared"} <= set(rows[0])
    wanted = re.findall(r'(\w+) == "?([\w.]+)', points_code)
    assert {value for _, value in wanted} <= {str(row[key]) for row in rows for key, _ in wanted}


@pytest.mark.parametrize(
    ("kind", "text", "error"),
    [
        ("bash", "transtailor best runs/demo --under macs=0.8", AssertionError),
        ("bash", "rm nothing", AssertionError),
        ("python", "no_such_name", NameError),
        ("toml", "[trial]\noptimisation.epoch = 1", AssertionError),
    ],
)
def test_a_block_that_does_not_run_is_found(kind: str, text: str, error: type[Exception], tmp_path: Path) -> None:
    block = Block(kind=kind, text=text, line=1, not_run=None)
    with pytest.raises(error):
        plan_block("page.md", block, tmp_path) if kind == "toml" else run_block(block, tmp_path, {})
