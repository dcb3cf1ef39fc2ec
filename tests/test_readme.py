"""The README's tour matches what is there: its links lead somewhere, its commands run."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.environment import build_wheel, environment, shell, sources

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
# What these say was so when it was written: the changelog, and the records of measurements with their notebook.
OF_TODAY = [page for page in PAGES if page.name != "CHANGELOG.md" and ROOT / "docs" / "results" not in page.parents]
FOLDERS = "transtailor|hpc|tailor|sweeps|results|tools|tests|benchmarks"
FILE = re.compile(rf"(?<![\w./-])(?:\.\./)*((?:{FOLDERS})/[\w./-]*\w\.py)\b")
MODULE = re.compile(rf"-m ((?:{FOLDERS})(?:\.\w+)*)")
TEST = re.compile(r"\btest_\w+\.py\b")
PLACE = re.compile(rf"`(?:\.\./)*((?:{FOLDERS}|transtailor|docs)/[\w./-]*)`")  # the whole text between backticks


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if not re.match(r"https?:", target) and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", OF_TODAY)
def test_files_and_modules_are_there(page: Path) -> None:
    """What is named by its path, by `python -m`, as a test, or as the text of a link."""
    assert gone(page.read_text()) == []


def gone(text: str) -> list[str]:
    missing = [name for name in FILE.findall(text) if not (ROOT / name).is_file()]
    for name in MODULE.findall(text):
        place = ROOT / name.replace(".", "/")
        missing += [name] if not place.with_suffix(".py").is_file() and not (place / "__main__.py").is_file() else []
    missing += [name for name in TEST.findall(text) if name not in {path.name for path in ROOT.glob("tests/**/*.py")}]
    links = re.findall(r"\[([\w./-]+\.\w+)\]\(([^)#\s]+)\)", text)
    missing += [name for name, target in links if Path(name).name != Path(target).name and ".py" in name]
    places = [name for name in PLACE.findall(text) if "NAME" not in name and name not in missing]
    return missing + [name for name in places if not (ROOT / name).exists()]


def test_what_is_gone_is_found() -> None:
    text = "`tailor/train.py` [train.py](../tailor/training/loop.py) `python -m tailor.networks_table` test_gone.py"
    assert gone(text) == ["tailor/train.py", "tailor.networks_table", "test_gone.py", "train.py"]
    assert gone("`docs/recipes.md` `../sweeps/site/`") == ["docs/recipes.md", "sweeps/site/"]
    assert gone("`tailor/training/loop.py` [loop.py](../tailor/training/loop.py) `python -m tailor plan`") == []
    assert gone("`docs/methods/NAME.md` `hpc/sites/example.toml` `tailor/stages/`") == []


def test_make_targets_are_there() -> None:
    named = set(re.findall(r"`?make ([a-z-]+)`?", README))
    assert named and named <= set(TARGET.findall((ROOT / "Makefile").read_text()))


SHORTER = """
name = "tour"
[trial]
network = "digits_vgg"
source.epochs = 1
data.train_images = 64
optimisation = { epochs = 1, head_epochs = 1 }
[axes]
seed = [0]
[[variants]]
method = { name = "transtailor", steps = 1, alpha_epochs = 1 }
[[variants]]
label = "full fine-tuning"
method.name = "fine_tune"
"""


def test_it_is_short() -> None:
    assert README.count("\n") <= 150


def test_its_pictures_are_small_and_all_that_there_are() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").iterdir())
    shown = re.findall(r"!\[[^]]+\]\((.*?)\)", README + (ROOT / "docs" / "report.md").read_text())
    assert {path.name for path in pictures} == {Path(target).name for target in shown}
    assert sum(path.stat().st_size for path in pictures) <= 200_000


def test_what_was_not_measured_is_what_the_tables_of_results_mark_so() -> None:
    (section,) = re.findall(r"## What was not measured\n(.*?)\n## ", README, flags=re.DOTALL)
    rows = [row.split(" | ") for row in (ROOT / "docs" / "results" / "README.md").read_text().splitlines()]
    open_rows = [row[0] for row in rows if row[-1].startswith("not measured")]
    marked = [re.search(r"benchmarks/(\w+)\.py|\]\((\w+)\.md\)", row) for row in open_rows]
    assert {found[1] or found[2] for found in marked if found} == set(re.findall(r"`(\w+)`", section))
    assert None not in marked and "real GPU" in section and "production cluster" in section


@pytest.mark.parametrize("page", PAGES)
def test_no_block_to_be_pasted_has_a_prompt(page: Path) -> None:
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        assert kind != "console"
        assert kind != "bash" or not re.search(r"^[$#>] ", block, flags=re.MULTILINE), block


@pytest.mark.parametrize("page", OF_TODAY)
def test_commands_go_by_the_name_of_the_one_command(page: Path) -> None:
    """`python -m hpc.cluster.head` and the like are what jobs run; the architecture page shows every way in."""
    if page.name not in ("architecture.md", "README.md"):
        old = r"python -m (?:hpc|tailor|sweeps|results)(?![\w.]).*|python sweeps/launch.py.*"
        assert re.findall(old, page.read_text()) == []


def test_the_notebook_is_not_named_to_users() -> None:
    users = [page for page in OF_TODAY if "notebook.md" in page.read_text()]
    assert users == [] and (ROOT / "docs" / "results" / "notebook.md").is_file()


def not_ignored(made: set[str]) -> set[str]:
    """Of files below the working folder, those that git would show to a user who works in the checkout."""
    words = ["git", "check-ignore", "--no-index", *made]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return made - set(done.stdout.splitlines())


def run_blocks(programs: Path, folder: Path) -> None:
    """Paste every block into a new shell, in a folder of the user's that has a package `results`."""
    (folder / "results").mkdir()
    (folder / "results" / "__init__.py").write_text('raise RuntimeError("not ours")\n')
    script = "set -e\n" + "\n".join(blocks("bash"))
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=shell(programs), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert not_ignored({*made, "new.py"} - {"results/__init__.py", "tour"}) == {"new.py"}
    for run in ("tour", "shorter"):
        assert (folder / "runs" / run / "report.html").is_file()
    assert (folder / "models" / "point_2").is_dir()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with the wheel."""
    wheel = build_wheel(sources(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel"))
    return environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.mark.check
@pytest.mark.timeout(1800)
def test_the_blocks_run_as_they_are_pasted(programs: Path, tmp_path: Path) -> None:
    """The sweep that they name is here a shorter one: a file of the working folder comes before a shipped name."""
    (tmp_path / "tour").write_text(SHORTER)
    run_blocks(programs, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_the_blocks_run_with_the_sweep_that_they_name(programs: Path, tmp_path: Path) -> None:
    """The shipped one."""
    run_blocks(programs, tmp_path)
