"""The pages name what is there: their links lead somewhere, and files, modules, tests and packages exist."""

import re
from pathlib import Path

from tests.product import PRODUCT, ROOT, modules

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
# What these say was so when it was written: the changelog, and the records of measurements with their notebook.
OF_TODAY = [page for page in PAGES if page.name != "CHANGELOG.md" and ROOT / "docs" / "results" not in page.parents]
FOLDERS = "transtailor|hpc|tailor|sweeps|results|tools|tests|benchmarks"
FILE = re.compile(rf"(?<![\w./-])(?:\.\./)*((?:{FOLDERS})/[\w./-]*\w\.py)\b")
MODULE = re.compile(rf"-m ((?:{FOLDERS})(?:\.\w+)*)")
TEST = re.compile(r"\btest_\w+\.py\b")
PLACE = re.compile(rf"`(?:\.\./)*((?:{FOLDERS}|docs)/[\w./-]*)`")  # the whole text between backticks


def lost_links(page: Path) -> list[str]:
    """Links of a page to files that are not there."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    return [target for target in targets if not re.match(r"https?:", target) and not (page.parent / target).exists()]


def gone(text: str) -> list[str]:
    """What a text names by its path, by `python -m`, as a test, or as the text of a link, and is not there."""
    missing = [name for name in FILE.findall(text) if not (ROOT / name).is_file()]
    for name in MODULE.findall(text):
        place = ROOT / name.replace(".", "/")
        missing += [name] if not place.with_suffix(".py").is_file() and not (place / "__main__.py").is_file() else []
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    missing += [name for name in TEST.findall(text) if name not in tests]
    links = re.findall(r"\[([\w./-]+\.\w+)\]\(([^)#\s]+)\)", text)
    missing += [name for name, target in links if Path(name).name != Path(target).name and ".py" in name]
    places = [name for name in PLACE.findall(text) if "NAME" not in name and name not in missing]
    return missing + [name for name in places if not (ROOT / name).exists()]


def test_links_lead_somewhere() -> None:
    assert {page: lost for page in PAGES if (lost := lost_links(page))} == {}


def test_files_and_modules_are_there() -> None:
    assert {page: missing for page in OF_TODAY if (missing := gone(page.read_text()))} == {}


def test_what_is_gone_is_found() -> None:
    text = "`tailor/train.py` [train.py](../tailor/training/loop.py) `python -m tailor.networks_table` test_gone.py"
    assert gone(text) == ["tailor/train.py", "tailor.networks_table", "test_gone.py", "train.py"]
    assert gone("`docs/recipes.md` `../sweeps/site/`") == ["docs/recipes.md", "sweeps/site/"]
    assert gone("`tailor/training/loop.py` [loop.py](../tailor/training/loop.py) `transtailor trial run`") == []
    assert gone("`docs/methods/NAME.md` `hpc/sites/example.toml` `tailor/stages/`") == []


def test_make_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "testing.md"]
    named = {name for page in pages for name in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert {"demo", "test", "check", "test-long"} <= named
    assert named - targets == set()


def test_the_architecture_page_names_each_package() -> None:
    """At the start of a row, or of a line."""
    named = re.findall(
        rf"^(?:\| )?`((?:{'|'.join(PRODUCT)})/[\w/]*)`", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE
    )
    packages = {f"{path.parent.relative_to(ROOT)}/" for path in modules().values() if path.name == "__init__.py"}
    assert packages - set(named) == set()


def test_the_files_to_open_first_are_there() -> None:
    """Each file that a package's row names, by its name in that package."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(rf"^\| `((?:{'|'.join(PRODUCT)})/[\w/]*/)` \|.*?\| (.*) \|$", page, re.MULTILINE)
    named = [(package, file) for package, cell in rows for file in re.findall(r"`(\w+\.py)`", cell)]
    assert len(named) > len(rows) > 30
    assert [f"{package}{file}" for package, file in named if not (ROOT / package / file).is_file()] == []


def test_no_block_to_be_pasted_has_a_prompt() -> None:
    for page in PAGES:
        for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            assert kind != "console", page
            assert kind != "bash" or not re.search(r"^[$#>] ", block, flags=re.MULTILINE), f"{page}: {block}"


def test_commands_go_by_the_name_of_the_one_command() -> None:
    """`python -m hpc.cluster.head` and the like are what jobs run; the architecture page shows every way in."""
    old = r"python -m (?:hpc|tailor|sweeps|results)(?![\w.]).*|python sweeps/launch.py.*"
    pages = [page for page in OF_TODAY if page.name not in ("architecture.md", "README.md")]
    assert {page: found for page in pages if (found := re.findall(old, page.read_text()))} == {}
