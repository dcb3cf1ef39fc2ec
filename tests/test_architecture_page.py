"""docs/architecture.md says what is there: its packages, files and names exist, and its arrows are imports."""

import re
from collections.abc import Iterator
from functools import cache

import pytest

from results.store.schema import TABLES
from tests.import_graph import PRODUCT, ROOT, Edges, module_imports, modules

PAGE = (ROOT / "docs" / "architecture.md").read_text()
IN_PRODUCT = rf"(?:{'|'.join(PRODUCT)})/"
ARROW = re.compile(r" (->|=>|~>) ")


@cache
def imports() -> Edges:
    return module_imports()


@cache
def sources() -> dict[str, str]:
    return {name: path.read_text() for name, path in modules().items()}


@cache
def packages() -> set[str]:
    return {f"{path.parent.relative_to(ROOT)}/" for path in modules().values() if path.name == "__init__.py"}


def missing_packages(page: str) -> Iterator[str]:
    """A package counts as named where a row of a table begins with it, or a line with a room."""
    named = set(re.findall(rf"^(?:\| )?`({IN_PRODUCT}[\w/]*)`", page, flags=re.MULTILINE))
    yield from (f"{package} is not on the page" for package in sorted(packages() - named))


def wrong_paths(page: str) -> Iterator[str]:
    """Files and folders by their whole path, with names in parentheses behind them; files by a package's row."""
    for path, names in re.findall(rf"`({IN_PRODUCT}[\w./]*)`(?: \(([^)]*)\))?", page):
        whole = ROOT / path
        if not whole.is_file() and not any(inside.is_file() for inside in whole.glob("*")):  # nor what git left behind
            yield f"there is no {path}"
        elif whole.is_file():
            text = whole.read_text()
            yield from (f"{path} has no {name}" for name in re.findall(r"`([^`]+)`", names) if name not in text)
    dotted = re.findall(rf"`((?:{'|'.join(PRODUCT)})\.[\w.]+\.py)`", page)
    yield from (f"{name} is neither a file nor a module" for name in dotted)
    for package, cells in re.findall(rf"^\| `({IN_PRODUCT}[\w/]*)` \|(.*)$", page, flags=re.MULTILINE):
        files = re.findall(r"`(\w+\.py)`", cells)
        yield from (f"there is no {package}{file}" for file in files if not (ROOT / package / file).exists())


def drawing(page: str) -> list[tuple[str, str, str]]:
    """Every arrow of the drawing: its left side, the arrow, its right side."""
    (drawn,) = re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)
    found: list[tuple[str, str, str]] = []
    for line in drawn.splitlines():
        parts = ARROW.split(line.lstrip("| "))  # an end, an arrow, an end, an arrow, an end
        found += zip(parts[:-1:2], parts[1::2], parts[2::2], strict=True)
    return found


def wrong_arrows(page: str) -> Iterator[str]:
    for left, arrow, right in drawing(page):
        ends = [end for end in (left, right) if end in imports()]
        if arrow == "~>":
            held = right if ends == [left] else left
            complaint = "takes a module at one side" if len(ends) != 1 else wrong_hold(ends[0], held)
        elif len(ends) < 2:
            complaint = "takes a module at both sides"
        else:
            user, used = (left, right) if arrow == "->" else (right, left)
            complaint = "" if used in imports()[user] else f"{user} does not import {used}"
        if complaint:
            yield f"{left} {arrow} {right}: {complaint}"


def wrong_hold(module: str, held: str) -> str:
    """What is wrong with the files, tables or quoted module names through which data pass."""
    near = "".join(sources()[one] for one in (module, *imports()[module]))
    for one in held.split(", "):
        if one.startswith("tables/"):
            if one.removeprefix("tables/") not in TABLES:
                return f"there is no table {one.removeprefix('tables/')}"
        elif one.startswith('"'):
            if not any(one in text for text in sources().values()):
                return f"nothing is named {one}"
        elif not (ROOT / one).exists() and one not in near:
            return f"{module} and what it imports know no {one}"
    return ""


def complaints(page: str) -> list[str]:
    return [*missing_packages(page), *wrong_paths(page), *wrong_arrows(page)]


def test_the_page_says_what_is_there() -> None:
    assert complaints(PAGE) == []


def test_the_recipes_for_contributors_name_what_is_there() -> None:
    assert list(wrong_paths((ROOT / "CONTRIBUTING.md").read_text())) == []


def test_the_drawing_is_read() -> None:
    """Each kind of arrow, from a line with several, and from the spec to the report."""
    arrows = drawing(PAGE)
    assert ("sweeps/specs/tour.toml", "~>", "sweeps.spec.spec") in arrows
    assert ("sweeps.spec.spec", "=>", "sweeps.spec.expand") in arrows
    assert ("sweeps.commands.launch", "->", "sweeps.driver.driver") in arrows
    assert ("results.report.page", "~>", "report.html") in arrows
    written = sum(len(ARROW.findall(line)) for line in PAGE.partition("```text")[2].splitlines())
    assert len(arrows) == written > 40


def test_the_drawing_has_every_room() -> None:
    ends = {end.split(".")[0] for left, _, right in drawing(PAGE) for end in (left, right) if end in imports()}
    assert ends == {"sweeps", "hpc", "tailor", "results"}


@pytest.mark.parametrize(
    ("on_the_page", "planted", "complaint"),
    [
        ("| `hpc/folders/` |", "| folders |", "hpc/folders/ is not on the page"),
        ("| `results/text/` |", "| `results/texts/` |", "there is no results/texts/"),
        ("`tailor/pruning/budget_solver.py`", "`tailor/pruning/solver.py`", "there is no tailor/pruning/solver.py"),
        (
            "`hpc/cluster/autoscaler.py`",
            "`hpc.cluster.autoscaler.py`",
            "hpc.cluster.autoscaler.py is neither a file nor a module",
        ),
        ("(`optimiser_for`)", "(`optimizer_for`)", "tailor/training/loop.py has no optimizer_for"),
        ("`order.py`; `timed.py`", "`orders.py`", "there is no sweeps/scheduling/orders.py"),
        (
            "sweeps.commands.launch -> sweeps.driver.driver",
            "sweeps.driver.driver -> sweeps.commands.launch",
            "sweeps.driver.driver does not import sweeps.commands.launch",
        ),
        (
            "sweeps.spec.spec => sweeps.spec.expand",
            "sweeps.spec.spec -> sweeps.spec.expand",
            "sweeps.spec.spec does not import sweeps.spec.expand",
        ),
        ("-> sweeps.scheduling.order", "-> sweeps.scheduling.queue", "takes a module at both sides"),
        ("~> sweeps.commands.controller", "~> sweeps.commands.control_it", "takes a module at one side"),
        (
            "hpc.ranks.ray_ranks ~> ",
            "hpc.ranks.ray_ranks ~> sweeps.worker.trial -> tailor.execution.runner\nray ~> ",
            "takes a module at one side",
        ),
        ("~> tables/planned", "~> tables/plans", "there is no table plans"),
        ("~> report.html", "~> page.html", "results.report.page and what it imports know no page.html"),
        (":TrialRank", ":Rank", 'nothing is named "sweeps.worker.trial:Rank"'),
    ],
)
def test_what_is_gone_is_found(on_the_page: str, planted: str, complaint: str) -> None:
    assert on_the_page in PAGE
    assert complaint in "\n".join(complaints(PAGE.replace(on_the_page, planted)))
