"""Exports hold what the tables hold, each value once, also when they are killed, typed again or following a sweep."""

import re
import shlex
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from results.errors import ResultsError
from results.export import VALUES, VIEWS, export
from results.store.completeness import is_over
from results.store.reader import load
from results.store.writer import Writer
from tests.changed_rows import change_rows
from tests.results.conftest import CODE, START, sha
from transtailor.__main__ import main

EPOCH_NUMBERS = (
    "train_loss", "train_accuracy_fraction", "validation_loss", "validation_score", "learning_rate",
    "head_learning_rate", "seconds",
)  # fmt: skip
TIMES = ("latency_ms", "speed", "speed_lower_quartile", "speed_upper_quartile")
"""What `transtailor time` may add to a point later."""


def exported(*words: str | Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """`transtailor export` in a process of its own, after some code."""
    program = f"import sys\n{code}\nfrom transtailor.__main__ import main\nsys.exit(main(['export', *sys.argv[1:]]))"
    words = tuple(map(str, words))
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)


def export_lines(run: Path, to: str, out: Path, *, follow: bool = False) -> Iterator[str]:
    """What the command prints, line by line."""
    assert export.callback is not None
    lines: Iterator[str] = export.callback(run, to, out, follow)
    return lines


def add_epochs(run: Path, count: int = 2) -> None:
    """Rows of `epochs` for the head of every trial that has stages, and other scores of its points."""
    with load(run) as tables:
        heads = tables.rows("SELECT trial_id, stage_key, kind FROM stages WHERE kind = 'FitHead'")
        points = tables.rows("SELECT trial_id, point, code_digest FROM operating_points")
    change_rows(run, "test_scores", [point | {"test_macro_f1": 0.5, "test_log_loss": 1.5} for point in points])
    rows = [
        head | {"order": 0, "epoch": epoch, "train_loss": 1.0 / (epoch + 1), "train_accuracy_fraction": None,
                "validation_loss": 2.0 / (epoch + 1), "validation_score": 0.25 if epoch else None,
                "learning_rate": 0.1, "head_learning_rate": 0.1, "images": 10, "seconds": 0.5, "code_digest": CODE}
        for head in heads for epoch in range(count)
    ]  # fmt: skip
    change_rows(run, "epochs", rows)


def values_in(run: Path) -> dict[str, Counter[tuple[str, int, float]]]:
    """Trial -> its values as a slow loop over the tables finds them."""
    found: dict[str, Counter[tuple[str, int, float]]] = {}
    with load(run) as tables:
        orders = {(s["trial_id"], s["stage_key"]): s["order"] for s in tables.rows("FROM stages")}
        for row in tables.rows("FROM epochs"):
            part = f"{orders[row['trial_id'], row['stage_key']]:02d}_{row['kind']}"
            for name in EPOCH_NUMBERS:
                if row[name] is not None:
                    found.setdefault(row["trial_id"], Counter())[f"{part}/{name}", row["epoch"], row[name]] += 1
        for row in tables.rows(f"SELECT * EXCLUDE ({', '.join(TIMES)}) FROM measured_points"):
            for name, value in row.items():
                if isinstance(value, float) or name in ("macs", "params", "trained_epochs"):
                    found.setdefault(row["trial_id"], Counter())[f"point/{name}", row["point"], float(value)] += 1
    return found


def rounded(values: Counter[tuple[str, int, float]]) -> Counter[tuple[str, int, float]]:
    """With each number as TensorBoard keeps it, in 32 bits."""
    return Counter({(tag, step, struct.unpack("f", struct.pack("f", x))[0]): n for (tag, step, x), n in values.items()})


def events_in(folder: Path) -> Counter[tuple[str, int, float]]:
    """The values in a trial's event files, counted."""
    found: Counter[tuple[str, int, float]] = Counter()
    for file in sorted(folder.glob("*tfevents*")):
        content = file.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            found.update((v.tag, event.step, v.simple_value) for v in event.summary.value if "_hparams_" not in v.tag)
            content = content[16 + length :]
    return found


def in_tensorboard(out: Path) -> dict[str, Counter[tuple[str, int, float]]]:
    """Trial -> the values in its event files; a trial is known by the end of its folder's name."""
    folders = [folder for folder in out.iterdir() if folder.is_dir()]
    return {folder.name.rpartition("-")[2]: found for folder in folders if (found := events_in(folder))}


@pytest.fixture
def run(tmp_path: Path, synthetic: Any) -> Path:
    """A run of four trials, one of which failed."""
    ends = {("fine_tune", 1): "failed"}
    run: Path = synthetic(
        seeds=(0, 1), test_images=5, end=lambda label, seed: ends.get((label, seed), "finished")
    ).write(tmp_path / "it's a run")
    add_epochs(run)
    return run


def test_tensorboard_has_each_value_once_however_often_it_is_typed(run: Path, tmp_path: Path, synthetic: Any) -> None:
    out = tmp_path / "out"
    assert (
        next(export_lines(run, "tensorboard", out)) == f"{sum(c.total() for c in values_in(run).values())} new values"
    )
    assert in_tensorboard(out) == {trial: rounded(values) for trial, values in values_in(run).items()}
    synthetic(seeds=(2,), test_images=5).write(run)
    add_epochs(run, count=3)  # of older trials too: their two first epochs are there already
    assert list(export_lines(run, "tensorboard", out))[0] != "0 new values"
    assert in_tensorboard(out) == {trial: rounded(values) for trial, values in values_in(run).items()}
    files = {path: path.read_bytes() for path in out.rglob("*tfevents*")}
    assert list(export_lines(run, "tensorboard", out))[0] == "0 new values"
    assert {path: path.read_bytes() for path in out.rglob("*tfevents*")} == files


KILLED = """
import os, signal, sys
from pathlib import Path
import tensorboardX
from results.export import export
run, out = sys.argv[1:]

def hook(event, given):
    global left
    if event in ("os.rename", "os.mkdir") and "out" in str(given[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

for left in (2, 3):  # imported once, forked for each
    if (child := os.fork()) == 0:
        sys.addaudithook(hook)
        list(export.callback(Path(run), "tensorboard", Path(f"{out}{left}"), False))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.check
def test_tensorboard_has_each_value_once_wherever_an_export_is_killed(run: Path, tmp_path: Path) -> None:
    """Before the first file has its name, and before the second folder is there."""
    words = [sys.executable, "-c", KILLED, str(run), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-9", "-9"], done.stderr
    expected = {trial: rounded(values) for trial, values in values_in(run).items()}
    for out in (tmp_path / "out2", tmp_path / "out3"):
        list(export_lines(run, "tensorboard", out))
        assert in_tensorboard(out) == expected


def test_a_point_waits_for_its_test_rows_unless_its_trial_has_ended(run: Path) -> None:
    with load(run) as tables:
        (point, *_) = tables.rows("SELECT * EXCLUDE (written_at) FROM operating_points WHERE label = 'transtailor'")
        (planned, *_) = tables.rows(
            "SELECT * EXCLUDE (written_at) FROM planned WHERE trial_id = ?", [point["trial_id"]]
        )
    running = "0123456789abcdef"
    Writer(run / "tables").write("planned", [planned | {"trial_id": running}])
    Writer(run / "tables").write("operating_points", [point | {"trial_id": running}])

    def values() -> list[str]:
        with load(run) as tables:
            return [row["tag"] for row in tables.rows(VALUES, [running])]

    assert values() == []
    common = {"trial_id": running, "point": point["point"], "probability": 0.5, "code_digest": CODE}
    Writer(run / "tables").write(
        "predictions", [common | {"split": "test", "image_id": 0, "label": 1, "prediction": 1}]
    )
    assert "point/test_score" in values()


def test_following_ends_with_the_sweep_and_has_everything(
    tmp_path: Path, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("results.export.FOLLOW_EVERY_S", 0.01)
    run, out = tmp_path / "run", tmp_path / "out"
    synthetic(seeds=(0, 1), test_images=5, end=lambda _, seed: "missing" if seed else "finished").write(run)
    lines = export_lines(run, "tensorboard", out, follow=True)
    assert next(lines).endswith("new values")
    assert set(in_tensorboard(out)) == set(values_in(run))
    synthetic(seeds=(1,), test_images=5).write(run)
    assert next(lines).endswith("new values")
    assert list(lines) == [f"to view it, type: tensorboard --logdir {out}"]
    assert in_tensorboard(out) == {trial: rounded(values) for trial, values in values_in(run).items()}


def event(number: int, kind: str) -> dict[str, Any]:
    return {"driver": "d", "number": number, "happened_at": START, "kind": kind, "code_digest": CODE}


def test_a_run_is_over_when_all_have_ended_and_none_is_tried_again_or_the_cluster_stopped(
    tmp_path: Path, synthetic: Any
) -> None:
    def over() -> bool:
        with load(tmp_path) as run:
            return is_over(run)

    (tmp_path / "tables").mkdir()
    assert not over()  # nothing is planned yet
    synthetic(seeds=(0,), end=lambda label, _: "failed" if label == "fine_tune" else "finished").write(tmp_path)
    assert over()
    writer = Writer(tmp_path / "tables")
    again = {"trial_id": sha("trial", "vgg11", "digits", "fine_tune", 0)[:16], "attempt": 2, "driver": "d", "host": "h"}
    writer.write("attempts", [again | {"status": "running", "started_at": START, "code_digest": CODE}])
    assert not over()
    writer.write("events", [event(0, "controller_started"), event(1, "stopped")])
    assert over()
    writer.write("events", [event(2, "controller_started")])
    assert not over()


@pytest.mark.check
def test_two_exports_to_one_place_are_refused(run: Path, tmp_path: Path) -> None:
    first = export_lines(run, "tensorboard", tmp_path / "out", follow=True)
    next(first)
    with pytest.raises(ResultsError, match="another process exports to"):
        list(export_lines(run, "tensorboard", tmp_path / "out"))
    first.close()
    assert list(export_lines(run, "tensorboard", tmp_path / "out"))


@pytest.mark.parametrize(
    ("words", "missing", "reason"),
    [
        (("RUN/nowhere", "--to", "wandb"), None, "no folder"),
        (("RUN", "--to", "csv"), None, "query RUN 'FROM points' --format csv"),
        (("RUN", "--to", "tensorboard", "--out", "/proc/x"), None, "type --out with a folder of yours"),
        (("RUN", "--to", "mlflow"), "mlflow", "python -m pip install 'transtailor-sweeps[mlflow]'"),
    ],
)
def test_mistakes_say_why_exit_2_and_write_nothing(
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    missing: str | None,
    reason: str,
) -> None:
    if missing is not None:
        for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, missing, None)  # type: ignore[arg-type]  # as Python marks what is not there
    before = sorted(run.rglob("*"))
    assert main(["export", *(word.replace("RUN", str(run)) for word in words)]) == 2
    said = capsys.readouterr()
    assert reason.replace("RUN", shlex.quote(str(run))) in said.err
    assert said.out == ""
    assert sorted(run.rglob("*")) == before


@pytest.mark.check
def test_the_page_names_the_tools_and_its_commands_run(
    tmp_path: Path, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reading.md").read_text()
    commands = [shlex.split(line) for line in page.splitlines() if line.startswith("transtailor export ")]
    assert [words[-1] for words in commands] == list(VIEWS)
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == list(VIEWS)
    synthetic(seeds=(0,), test_images=5).write(tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    words = commands[0]  # the other two need libraries that may not be there
    assert main(words[1:]) == 0
    assert list((tmp_path / "runs" / "demo" / "export" / words[-1]).iterdir())
