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
        (("effects", "RUN", "--of", "arm", "--against", "ours"), "| arm | theirs | ours |"),
        (("compare", "RUN", "--stop-at", "0.003"), "| net on digits (50 training images) | ours | 6 |"),
        (("front", "RUN", "--cost", "macs"), "| ours at 20% fewer MACs | 800 |"),
        (("classes", "RUN", "ours", "theirs", "--at", "0.2"), "| 0 | 6 |"),
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
        (("table", "RUN", "--at", "20"), "expected a fraction below 1, such as 0.2"),
        (("table", "RUN", "--at", "0.5"), "budgets: 0.1, 0.2"),
        (("table", "RUN", "--format", "html"), "is not one of"),
        (("effects", "RUN", "--of", "arn"), "did you mean 'arm'?"),
        (("compare", "RUN", "--donors"), "effects RUN --of pruning.scores_from"),
        (("compare", "RUN", "--against", "ours", "--across", "datasets"), "effects RUN --of arm --against ours"),
        (("compare", "RUN", "--stop-at", "0.01", "--against", "ours"), "leave out --against"),
        (("compare", "RUN"), "type --against and one of the arms: ours, theirs; or --stop-at 0.003"),
        (("front", "RUN", "--cost", "latency"), "costs of this run: macs"),
        (("classes", "RUN", "ours", "nobody"), "no tested arm is called 'nobody'"),
    ],
)
def test_mistakes_exit_2_and_print_nothing(run: Path, words: tuple[str, ...], reason: str, command: Command) -> None:
    before = sorted(run.rglob("*"))
    done = command(*(word.replace("RUN", str(run)) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert reason.replace("RUN", str(run)) in done.stderr
    assert sorted(run.rglob("*")) == before


@pytest.mark.check
def test_a_table_imports_neither_pandas_nor_torch(run: Path) -> None:
    code = (
        "import sys; from transtailor.__main__ import main; main(['table', sys.argv[1]]);"
        "print(sorted({'pandas', 'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
