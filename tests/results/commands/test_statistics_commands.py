"""The commands on many trials, as they are typed: what they print, and that mistakes exit with 2 and print nothing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Said
from tests.results.exact_run import Trial, write_run

Command = Callable[..., Said]
PATH = {"asked": (0.1, 0.2), "removed": (0.1, 0.2)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms with paths of two points over six seeds."""
    several = [
        Trial(label=label, seed=seed, right=(right + seed % 3, right - 2 * (seed % 2)), **PATH)  # type: ignore[arg-type]
        for label, right in (("ours", 90), ("theirs", 80))
        for seed in range(6)
    ]
    return write_run(tmp_path_factory.mktemp("runs") / "run", several)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("table", "RUN", "--at", "0.2"), "| ours at 20% fewer MACs | **89.00 ± 1.15 (6)** |"),
        (("table", "RUN", "--format", "latex"), r"\toprule"),
        (("table", "RUN", "--format", "csv", "--by", "validation_score"), "ours at 10% fewer MACs,net,digits,50,"),
        (("effects", "RUN"), "| label | 1 |"),
        (("effects", "RUN", "--of", "label"), "| theirs | 79.00 |"),
        (("power", "RUN", "--against", "theirs", "--at", "0.1"), "| ours at 10% fewer MACs | 6 | +10.00 |"),
        (("compare", "RUN", "--stops", "--label", "ours"), "### ours, net on digits"),
        (("front", "RUN", "--cost", "macs"), "| ours at 20% fewer MACs | 800 |"),
        (("images", "RUN", "ours", "theirs", "--at", "0.2"), "Over 6 seeds and 100 images"),
    ],
)
def test_each_command_prints_its_table(run: Path, words: tuple[str, ...], expected: str, command: Command) -> None:
    done = command(*(word.replace("RUN", str(run)) for word in words))
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout


@pytest.mark.check
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("table", "RUN", "--by", "test_scor"), "did you mean 'test_score'?"),
        (("table", "RUN", "--at", "20"), "expected a fraction below 1, such as 0.2; for 20% type 0.2"),
        (("compare", "RUN", "--against", "ours", "--at", "2.5%"), "for 2.5% type 0.025"),
        (("table", "RUN", "--at", "0.5"), "budgets: 0.1, 0.2"),
        (("compare", "RUN", "--against", "ours", "--at", "0.5"), "budgets: 0.1, 0.2"),
        (("images", "RUN", "ours", "theirs", "--at", "0.5"), "budgets: 0.1, 0.2"),
        (("table", "RUN", "--format", "html"), "is not one of"),
        (("table", "RUN/nowhere"), "no folder"),
        (("effects", "RUN", "--of", "labl"), "did you mean 'label'?"),
        (("power", "RUN", "--against", "their"), "did you mean 'theirs'?"),
        (("power", "RUN", "--against", "theirs", "--difference", "nan"), "expected a number"),
        (("power", "RUN", "--against", "theirs", "--difference", "2"), "for 2 points type 0.02"),
        (("compare", "RUN", "--stops", "--label", "none"), "arms that have several: ours; theirs"),
        (("compare", "RUN", "--stops", "--against", "ours"), "leave out --against"),
        (("compare", "RUN", "--stops", "--at", "0.2"), "leave out --at"),
        (("compare", "RUN", "--stops", "--anytime"), "leave out --anytime"),
        (("compare", "RUN", "--against", "ours", "--label", "ours"), "--label ours is for --stops"),
        (("power", "RUN"), "type --against and one of the arms: ours, theirs"),
        (("compare", "RUN"), "type --against and one of the arms: ours, theirs; or --stops"),
        (("front", "RUN", "--cost", "latency"), "costs of this run: macs"),
        (("images", "RUN", "ours", "nobody"), "no tested arm is called 'nobody'"),
    ],
)
def test_mistakes_exit_2_and_print_nothing(run: Path, words: tuple[str, ...], reason: str, command: Command) -> None:
    before = sorted(run.rglob("*"))
    done = command(*(word.replace("RUN", str(run)) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert sorted(run.rglob("*")) == before


@pytest.mark.check
def test_tables_and_effects_import_neither_pandas_nor_statsmodels(run: Path) -> None:
    code = (
        "import sys; from transtailor.__main__ import main; main(['table', sys.argv[1]]);"
        "main(['effects', sys.argv[1]]);"
        "print(sorted({'pandas', 'statsmodels', 'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
