"""The writer: strict about rows, durable, and never half seen."""

import itertools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from results.store.reader import load
from results.store.schema import TABLES, arrow_schema
from results.store.writer import Writer

Row = Callable[..., dict[str, Any]]


def test_a_part_holds_the_rows_under_the_tables_schema(tmp_path: Path, trial_row: Row) -> None:
    before = datetime.now(UTC)
    part = Writer(tmp_path / "new" / "tables").write("trials", [trial_row(), trial_row(trial_id="b", seconds=2)])
    assert part is not None
    assert part.parent == tmp_path / "new" / "tables" / "trials"
    expected = arrow_schema(TABLES["trials"])
    assert pq.read_schema(part).equals(expected.remove_metadata())
    assert pq.read_schema(part).metadata == expected.metadata
    assert part.stat().st_size < 2000
    rows = pq.ParquetFile(part).read().to_pylist()
    assert [row["trial_id"] for row in rows] == ["a", "b"]
    assert [row["seconds"] for row in rows] == [1.0, 2.0]
    assert rows[0]["started_at"] == trial_row()["started_at"]
    assert before - timedelta(seconds=1) <= rows[0]["written_at"] <= datetime.now(UTC)


def test_no_rows_make_no_part_and_no_folder(tmp_path: Path) -> None:
    assert Writer(tmp_path / "tables").write("trials", []) is None
    assert list(tmp_path.iterdir()) == []


def test_times_of_writing_increase_strictly_within_a_writer(tmp_path: Path, trial_row: Row) -> None:
    writer = Writer(tmp_path)
    moments = [writer._moment() for _ in range(5000)]  # faster than the clock's microseconds
    assert all(earlier < later for earlier, later in itertools.pairwise(moments))
    parts = [writer.write("trials", [trial_row()]) for _ in range(5)]
    assert sorted(str(part) for part in parts) == [str(part) for part in parts]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": "fast"}, "table trials, row 0, column seconds: expected double, given 'fast'"),
        ({"seconds": None}, "column seconds: expected double, and null is not allowed"),
        ({"seconds": True}, "column seconds: expected double, given True"),
        ({"attempts": 1.0}, "column attempts: expected int64"),
        ({"attempts": False}, "column attempts: expected int64"),
        ({"attempts": 2**63}, "table trials, column attempts: cannot be stored as int64"),
        ({"trial_id": 7}, "column trial_id: expected string"),
        ({"error": "\ud800"}, "table trials, column error: cannot be stored as string"),
        ({"started_at": datetime(2024, 1, 1)}, "column started_at: expected .* with a time zone"),  # noqa: DTZ001
        ({"status": "finnished"}, "column status: expected one of finished, failed, stopped, given 'finnished'"),
        ({"colour": "red"}, "row 0: extra column colour"),
        ({"written_at": datetime(2024, 1, 1, tzinfo=UTC)}, "written_at is set by the writer"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_is_written(
    tmp_path: Path, trial_row: Row, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Writer(tmp_path).write("trials", [trial_row(**change)])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_column_is_named(tmp_path: Path, trial_row: Row) -> None:
    row = trial_row()
    del row["attempts"]
    with pytest.raises(ValueError, match="table trials, row 1: missing column attempts"):
        Writer(tmp_path).write("trials", [trial_row(), row])


def test_what_may_be_null_may_be_left_out(tmp_path: Path, trial_row: Row) -> None:
    row = trial_row()
    del row["error"]
    part = Writer(tmp_path).write("trials", [row, trial_row(trial_id="b", error="x")])
    assert pq.ParquetFile(part).read()["error"].to_pylist() == [None, "x"]


def test_lists_hold_only_text(tmp_path: Path) -> None:
    row: dict[str, Any] = {column.name: "x" for column in TABLES["planned"].columns if column.name != "written_at"}
    row |= {"seed": 0, "train_images": 200, "ranks": 1, "points_planned": 1, "tuning_order": None}
    for wrong in ("abc", ["a", 1], None):
        with pytest.raises(ValueError, match="column stage_keys"):
            Writer(tmp_path).write("planned", [row | {"stage_keys": wrong}])
    assert Writer(tmp_path).write("planned", [row | {"stage_keys": ("a", "b")}])


def test_numbers_of_numpy_and_what_is_not_a_number_are_stored(tmp_path: Path, trial_row: Row) -> None:
    part = Writer(tmp_path).write(
        "trials", [trial_row(attempts=np.int32(3), seconds=np.float32(0.5)), trial_row(seconds=math.nan)]
    )
    rows = pq.ParquetFile(part).read().to_pylist()
    assert (rows[0]["attempts"], rows[0]["seconds"]) == (3, 0.5)
    assert math.isnan(rows[1]["seconds"])


def test_the_file_then_its_name_reach_the_disk(tmp_path: Path, trial_row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []
    real = os.fsync

    def watching(handle: int) -> None:
        parts = sorted(path.name for path in tmp_path.glob("tables/trials/*"))
        seen.append((str(Path(f"/proc/self/fd/{handle}").readlink()), parts))
        real(handle)

    monkeypatch.setattr(os, "fsync", watching)
    part = Writer(tmp_path / "tables").write("trials", [trial_row()])
    assert part is not None
    *made, (file, before), (folder, after) = seen
    # The names of the folder that was there, and of the new ones.
    above = [tmp_path.parent, tmp_path, tmp_path / "tables", tmp_path, tmp_path / ".writing"]
    assert [place for place, _ in made] == [str(path) for path in above]
    assert Path(file).name.startswith(".")
    assert before == []  # no reader sees it before it has its name
    assert (folder, after) == (str(part.parent), [part.name])


@pytest.mark.check
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """The limit on the size of files plays the full disk, in a process of its own."""
    code = f"""
import resource, signal
from datetime import UTC, datetime
from results.store.writer import Writer
writer, now = Writer({str(tmp_path)!r}), datetime.now(UTC)
row = dict(driver="d", number=1, kind="paused", happened_at=now, code_digest="c")
writer.write("events", [row | dict(detail="short")])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
import random
try:
    writer.write("events", [row | dict(detail=random.Random(0).randbytes(40000).hex())])
except OSError as error:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("refused\n", "")
    assert len(list((tmp_path / "events").iterdir())) == 1


ENDLESS = """
import itertools, sys
from datetime import UTC, datetime
from results.store.writer import Writer
writer = Writer(sys.argv[1])
for part in itertools.count():
    same = dict(driver="d", kind="paused", detail="x" * 100, happened_at=datetime.now(UTC), code_digest="c")
    writer.write("events", [same | dict(number=part * 50 + row) for row in range(50)])
"""


def test_a_killed_writer_leaves_only_whole_parts(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path / "tables")])
    try:
        while len(list(tmp_path.glob("tables/events/2*.parquet"))) < 5:
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with load(tmp_path) as run:
        count = run.rows("SELECT count(*) AS n FROM events")[0]["n"]
    assert count >= 250
    assert count % 50 == 0
