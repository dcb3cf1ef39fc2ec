"""The checks of `check-gpu` find what is wrong, and find nothing on a device that only says that it is another one."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tailor.config.trial import METHODS
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.gpu_check import trials
from tailor.gpu_check.training import check_attention, check_memory, check_optimisers
from tailor.gpu_check.trials import TOLERANCES, compute_stage, differences, trial
from tailor.parallel.process_group import ProcessGroup
from tests.commands import transtailor_command
from tests.product import ROOT
from tests.tailor.forking import end_of
from tests.tailor.pretended_gpu import pretended_gpu

Run = Callable[..., list[StageEvent]]
pytestmark = pytest.mark.check
NOT_NEEDED = ("ray", "submitit", "pyarrow", "duckdb", "pandas", "cryptography")


def test_each_method_has_a_trial() -> None:
    own = {name for name in METHODS if METHODS[name].__module__.startswith("tailor.methods.")}
    assert {method["name"] for method in trials.METHODS} == own


def test_on_a_pretended_gpu_all_is_right(tmp_path: Path) -> None:
    assert end_of(_check_there, str(tmp_path)) == 0


def _check_there(folder: str) -> None:
    """Fused and capturable optimisers count their steps on the device, where their checkpoint has to put them."""
    torch.set_num_threads(1)
    with pretended_gpu() as ranks:
        rows = [*check_optimisers(ranks, Path(folder))]
    assert [row.is_right for row in rows] == [True] * 3, rows


def test_what_differs_is_found(run: Run, ranks: ProcessGroup, shared_cache: Cache) -> None:
    """A stage of training, a selection and a point, computed again and then changed."""
    events = {
        event.result.stage.kind: event for event in run(trial({"name": "prune", "criterion": "l1"}), shared_cache)
    }
    found = set()
    for event in events.values():
        made = compute_stage(event, ranks)
        assert set(differences(event.result, made).values()) == {0.0}
        info: dict[str, Any] = {
            name: 2.0 * value for name, value in made.info.items() if isinstance(value, int | float)
        }
        if "epochs" in made.info:
            info["epochs"] = [row | {"train_loss": 2.0 * row["train_loss"]} for row in made.info["epochs"]]
        tensors = {name: tensor[::2] if name.startswith("kept/") else tensor * torch.nan
                   for name, tensor in made.tensors.items()}  # fmt: skip
        changed = differences(event.result, replace(made, info=made.info | info, tensors=tensors))
        found |= {name for name, difference in changed.items() if difference > TOLERANCES[name]}
    assert found == set(TOLERANCES)


def test_attention_is_repeatable_in_both_precisions(ranks: ProcessGroup, tmp_path: Path) -> None:
    rows = [*check_attention(ranks, tmp_path)]
    assert [(row.is_right, row.compared) for row in rows] == [(True, "4 gradients, 5 times")] * 2


def test_out_of_memory_is_explained(ranks: ProcessGroup, tmp_path: Path) -> None:
    (row,) = check_memory(ranks, tmp_path)
    assert row.is_right


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_ends_with_0(tmp_path: Path) -> None:
    said = transtailor_command("check-gpu", folder=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("no GPU: torch ") and said.stdout.endswith("transtailor check-gpu --device cpu\n")


def test_it_needs_torch_and_no_ray(tmp_path: Path) -> None:
    """All that it may import, imported, and one check made."""
    program = f"""
import sys
sys.modules.update(dict.fromkeys({NOT_NEEDED!r}))  # whoever imports one fails
from pathlib import Path
from transtailor.__main__ import main
assert main(["check-gpu", "--help"]) == 0
from tailor.gpu_check.check_gpu import describe_machine, report, rows_of
from tailor.gpu_check import processes, trials
from tailor.gpu_check.training import check_memory
from tailor.parallel.process_group import join
ranks = join("cpu")
rows = rows_of((check_memory, lambda ranks, folder: 1 / 0), ranks, Path({str(tmp_path)!r}))
sys.exit(report(rows, describe_machine(ranks), sys.stdout))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "out of memory: right\n<lambda>: WRONG\n" in done.stderr
    assert "2 checks in " in done.stdout and " 1 wrong\n" in done.stdout
    assert "ZeroDivisionError: division by zero" in done.stdout


@pytest.mark.long
def test_on_a_cpu_all_checks_are_made(tmp_path: Path) -> None:
    said = transtailor_command("check-gpu", "--device", "cpu", folder=tmp_path)
    assert said.returncode == 0, said.stdout
    assert said.stdout.count(" right ") == 18 and said.stdout.count(" not here ") == 2
    assert said.stdout.endswith(" 0 wrong\n")
