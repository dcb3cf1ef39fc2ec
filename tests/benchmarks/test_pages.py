"""Each benchmark looks quickly: it measures something small, or makes its page of made-up measurements.

What is heavy (Ray, SLURM, a browser, minutes of training) is replaced by made-up numbers. `make test-long` runs several
scripts as people do, with `--quick`.
"""

import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from benchmarks import (
    beta_default,
    chaos,
    client_delays,
    coverage,
    empty_trial,
    faster_study,
    gpu_step,
    packed_trials,
    planning,
    pruned_speed,
    read_while_writing,
    search,
    search_table,
    simulated_days,
    soak,
    stopping,
    table_budgets,
    utilisation,
)
from benchmarks.equality import Comparison
from benchmarks.record import Measured, table_of
from tests.benchmarks.looks import BENCHMARKS, rows_in
from tests.tailor.latency_tables import COUPLED, made_up_table, written

TESTS = BENCHMARKS.parent / "tests"
ELSEWHERE = {
    "all": "benchmarks/test_all.py",
    "answer": "benchmarks/test_answer.py",
    "default_photographs": "benchmarks/test_default_photographs.py",
    "faults": "faults/test_faults.py",
    "fuzzing": "faults/test_hostile.py",
    "is_it_the_target": "benchmarks/test_is_it_the_target.py",
    "gpu": "benchmarks/test_gpu.py",
    "many_trials": "benchmarks/test_many_trials.py",
    "photographs_study": "benchmarks/test_photographs_study.py",
    "search_table": "benchmarks/test_pages.py",
    "sharing": "benchmarks/test_benchmarks.py",
}
"""Script -> the test that looks at it, or at what it computes with."""

Patch = pytest.MonkeyPatch
Look = Callable[[Patch, list[str]], int]  # with the options that name the table; returns the exit code
LOOKS: dict[str, Look] = {}


def look(function: Look) -> Look:
    """Note a function under the name of its script."""
    LOOKS[function.__name__.removeprefix("look_at_")] = function
    return function


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text())
)
def test_each_script_is_looked_at(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    if name in ELSEWHERE:
        assert name in (TESTS / ELSEWHERE[name]).read_text()
        return
    assert LOOKS[name](monkeypatch, ["--out", str(tmp_path / "table")]) == 0
    page = (tmp_path / "table.md").read_text()
    assert page.startswith("# ") and "\n- date: `" in page
    assert rows_in(tmp_path) or name == "simulated_days"


def test_the_seconds_of_a_stage_are_its_work_at_the_median_pace_of_its_kind() -> None:
    stages = {"a": ("fine_tune", 2.0), "b": ("fine_tune", 4.0), "c": ("fine_tune", 8.0), "d": ("load", 0.0)}
    found = list(search_table._stages(stages, {"a": 2.0, "b": 8.0, "c": 80.0, "d": 0.5}))
    assert [row["seconds"] for row in found] == [2.0 * 2.0, 2.0 * 4.0, 2.0 * 8.0, 0.5]
    assert [row["measured_s"] for row in found] == [2.0, 8.0, 80.0, 0.5]


# --- what is measured in small ---


@look
def look_at_beta_default(_patch: Patch, out: list[str]) -> int:
    return beta_default.main(out)  # from the committed points


@look
def look_at_coverage(patch: Patch, out: list[str]) -> int:
    few = coverage.cases()[::20]
    patch.setattr(coverage, "cases", lambda: few)
    patch.setattr(coverage, "REPEATS", 20)
    return coverage.main(["--quick", *out])


@look
def look_at_table_budgets(patch: Patch, out: list[str]) -> int:
    folder = Path(out[1]).parent
    written(
        made_up_table("digits_resnet", (1, 8, 8), COUPLED, classes=table_budgets.CLASSES), folder, "digits_resnet.json"
    )
    for name, value in {"FRACTIONS": (0.8,), "HALVINGS": 1, "ROUNDS": 4}.items():
        patch.setattr(table_budgets, name, value)
    assert table_budgets.main(["--networks", "digits_resnet", "--tables", str(folder), *out]) == 0
    assert {row["model"] for row in rows_in(folder)} >= {table_budgets.BY_TABLE}
    return 0


@look
def look_at_faster_study(_patch: Patch, out: list[str]) -> int:
    """Made-up rows of three seeds: the planned contrasts, and which times are those that were asked."""
    rows = [
        {"label": label, "seed": seed, "test_score": 0.8 + 0.01 * seed, "ms_fraction": fraction, "is_steady": True}
        for label, fraction in zip(faster_study.LABELS, (0.55, 0.56, 0.6, 0.55, 1.0, 0.7, 0.54, 0.5, 0.3), strict=True)
        for seed in range(3)
    ]
    file = Path(out[1]).with_name("points.parquet")
    pq.write_table(pa.Table.from_pylist(rows), file)
    assert faster_study.main(["--rows", str(file), *out]) == 0
    assert not Path(f"{out[1]}.csv").exists()  # seeds are still to run
    assert faster_study.main(["--rows", str(file), "--incomplete", *out]) == 0
    by_arm = {row["arm"]: row for row in rows_in(Path(out[1]).parent)}
    assert by_arm["TransTailor by MACs"]["as_fast_as_asked"] == "no"
    assert by_arm["whole network, 65 px"]["as_fast_as_asked"] == "yes"
    assert [label for label, row in by_arm.items() if row["p"]] == [
        label for label in faster_study.LABELS if label in faster_study.AGAINST
    ]
    return 0


@look
def look_at_planning(patch: Patch, out: list[str]) -> int:
    trials = planning.TRIALS_PER_SEED
    patch.setattr(planning, "QUICK", (replace(planning.QUICK[0], trials=trials),))
    patch.setattr(planning, "QUICK_AGAIN", replace(planning.QUICK_AGAIN, trials=trials))
    assert planning.main(["--quick", *out]) == 0
    rows = rows_in(Path(out[1]).parent)
    assert [row["what"].partition(",")[0] for row in rows] == ["--plan", "launched again"]
    most_gb = 2 + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # a child begins with its parent's peak
    assert all(float(row["cpu_s"]) > 0 and 0.01 < float(row["peak_memory_gb"]) < most_gb for row in rows)
    return 0


@look
def look_at_pruned_speed(patch: Patch, out: list[str]) -> int:
    """Tiny models take their turns; that larger ones are pruned as is said: test_pruned_speed.py."""

    def contenders(*_: object) -> Iterator[pruned_speed.Contender]:
        for name, removed, width in ((pruned_speed.UNPRUNED, 0.0, 4), ("ours", 0.5, 2)):
            model = nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
            yield pruned_speed.Contender(
                name=name, asked_removed_macs_fraction=removed, removed_macs_fraction=removed, model=model
            )

    patch.setattr(pruned_speed, "contenders", contenders)
    return pruned_speed.main(["--quick", *out])


@look
def look_at_search(patch: Patch, out: list[str]) -> int:
    few = [one for one in search.CONTENDERS if (one.sampler, one.stops) in (("tpe", "none"), ("tpe", "halving 1, 4"))]
    patch.setattr(search, "CONTENDERS", few)
    return search.main(["--quick", *out])


@look
def look_at_simulated_days(_patch: Patch, out: list[str]) -> int:
    return simulated_days.main(["--minutes", "0", *out])  # tests/simulation simulates days


# --- what makes its page of made-up measurements ---


@look
def look_at_empty_trial(patch: Patch, out: list[str]) -> int:
    patch.setattr(empty_trial, "measure", lambda *_: empty_trial.Run(ends_s=(1.0, 2.0, 3.0, 4.0), wall_s=6.0))
    return empty_trial.main(["--quick", *out])


@look
def look_at_read_while_writing(patch: Patch, out: list[str]) -> int:
    seen = read_while_writing.Seen(reads=3)
    patch.setattr(read_while_writing, "one_round", lambda *_, **__: (seen, 20))
    return read_while_writing.main(out)


@look
def look_at_gpu_step(patch: Patch, out: list[str]) -> int:
    side = gpu_step.Side(first_step_s=1.0, epochs_s=[0.5, 0.6], peak_mib=None)
    patch.setattr(gpu_step, "train_ours", lambda *_: side)
    patch.setattr(gpu_step, "train_bare", lambda *_: (side, 0.5))
    patch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # given back afterwards
    with threads_as_before():
        return gpu_step.main(["--device", "cpu", "--quick", *out])


@contextmanager
def threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@look
def look_at_packed_trials(patch: Patch, out: list[str]) -> int:
    one = packed_trials.Round(wall_s=9.0, used_gb=None, found=[[(0.5, 1.0, 10)]])
    patch.setattr(packed_trials, "measure", lambda *_: [{1: [one], 2: [one]}])
    patch.setattr(packed_trials, "show_to_ranks", lambda: None)
    return packed_trials.main(["--device", "cpu", "--quick", *out])


@look
def look_at_soak(patch: Patch, out: list[str]) -> int:
    sample = soak.Sample(at_s=0.0, trials=0, driver_mb=300.0, driver_files=40.0, head_mb=40.0, raylet_mb=30.0)
    seen = [replace(sample, trials=trials, driver_mb=300.0 + trials % 3) for trials in range(81)]

    def run(self: soak.Soak) -> int:
        self.samples += seen
        return 0

    finished = [str(number) for number in range(2 * soak.QUICK_SEEDS)]
    patch.setattr(soak.Soak, "run", run)
    patch.setattr(soak, "finished_trial_ids", lambda _: finished)
    patch.setattr(soak, "broken_promises", lambda *_: [])
    return soak.main(["--quick", *out])


@look
def look_at_chaos(patch: Patch, out: list[str]) -> int:
    equal = Comparison(points=2, pairs=2, missing=(), different=(), largest_loss_difference=0.0)
    rows = [{"trial_id": "a", "status": "finished", "attempts": 1, "kind": "worker_lost", "events": 1}]
    sweep: Any = SimpleNamespace(
        place=SimpleNamespace(outcome=SimpleNamespace(code=0)),
        rows=lambda _: rows,
        ends=lambda: {"a": 1},
        beside_serial=lambda: equal,
    )
    done = [chaos.Disturbance(after_s=1.0, kind="worker_cancelled", hit="4711")]
    patch.setattr(chaos, "measure", lambda *_: chaos._table(sweep, done, 60.0, []))
    return chaos.main(["--quick", *out])


@look
def look_at_utilisation(patch: Patch, out: list[str]) -> int:
    def measure(*_: object) -> Measured:
        what, value, goal, verdict = utilisation.lost_row(200.0, 10)
        return table_of("A sweep", [{"what": what, "value": value, "goal": goal, "verdict": verdict}], ())

    patch.setattr(utilisation, "measure", measure)
    return utilisation.main(out)


@look
def look_at_client_delays(patch: Patch, out: list[str]) -> int:
    """A row that missed its goal stays in the table, and ends with 1, until it is measured again."""
    late = True
    patch.setattr(client_delays, "measured_of", lambda row, _: [0.0, 30.0 if late else row.goal])
    assert client_delays.main(out) == 1
    late = False
    assert client_delays.main(["--rows", "outcome", *out]) == 1
    return client_delays.main(out)


@look
def look_at_stopping(patch: Patch, out: list[str]) -> int:
    """Each state's row is added to those before; see also test_stopping.py."""
    states: dict[str, Any] = dict.fromkeys(stopping.STATES, lambda _: (0.5, 2.0))
    patch.setattr(stopping, "STATES", states)
    words: Sequence[str] = ["--states", "local", *out]
    return stopping.main(words) or stopping.main(out)
