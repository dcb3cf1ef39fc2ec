"""Files of schema versions that this program reads no longer, or under the names of today."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.errors import ResultsError
from results.store import schema_migrations
from results.store.merge import merge
from results.store.parts import parts_of
from results.store.reader import load
from results.store.schema import SCHEMA_VERSION, STRING, STRINGS
from results.store.schema_migrations import OlderTable
from results.store.settle import settle
from results.store.writer import Writer
from tests.commands import transtailor_command
from tests.results.exact_run import Trial, write_run, write_search
from tests.results.questions.test_front import TIMING

OLD = 0
READ = ", ".join(map(str, [*schema_migrations.OLDER_VERSIONS, SCHEMA_VERSION]))


def write_as_version(run: Path, table: str, version: int, change: Any = lambda rows: rows) -> None:
    """Write a table's parts again as files of another schema version, after a change of their rows."""
    for path in (run / "tables" / table).glob("*.parquet"):
        rows = change(pq.ParquetFile(path).read())
        facts = {b"table": table.encode(), b"schema_version": b"%d" % version}
        pq.write_table(rows.replace_schema_metadata(facts), path)


def test_a_run_of_another_version_is_refused_in_one_line(tmp_path: Path, synthetic: Any) -> None:
    run = synthetic().write(tmp_path / "runs" / "old")
    write_as_version(run, "planned", OLD)
    write_as_version(run, "operating_points", OLD)
    done = transtailor_command("best", "runs/old", folder=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"has schema version {OLD}, this program reads {READ}" in done.stderr


def test_a_planted_older_version_is_read_under_the_names_of_today_beside_files_of_today(
    tmp_path: Path, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = synthetic().write(tmp_path / "run")
    synthetic(networks=("vgg13",)).write(tmp_path / "run")
    with load(run) as today:
        expected = today.rows("SELECT * EXCLUDE (written_at) FROM planned ORDER BY trial_id")

    def as_before(rows: pa.Table) -> pa.Table:
        names = ["place" if name == "network" else name for name in rows.column_names]
        return rows.rename_columns(names).drop_columns(["tuning_json"])

    half = sorted((run / "tables" / "planned").glob("*.parquet"))[::2]
    kept = {path: path.read_bytes() for path in half}
    write_as_version(run, "planned", OLD, as_before)
    for path, content in kept.items():
        path.write_bytes(content)
    with pytest.raises(ResultsError, match=f"has schema version {OLD}, this program reads {READ}"):
        load(run)
    older = OlderTable(
        gone={"place": STRING}, replacements={"network": "place", "tuning_json": "CAST(NULL AS VARCHAR)"}
    )
    monkeypatch.setattr(schema_migrations, "OLDER_VERSIONS", MappingProxyType({OLD: {"planned": older}}))
    with load(run) as found:
        assert found.rows("SELECT * EXCLUDE (written_at) FROM planned ORDER BY trial_id") == expected
    merge(run)
    with load(run) as found:
        assert found.rows("SELECT * EXCLUDE (written_at) FROM planned ORDER BY trial_id") == expected
    assert {part.version for part in parts_of(run)["planned"]} == {OLD, SCHEMA_VERSION}
    settle(run)
    with load(run) as found:
        assert found.rows("SELECT * EXCLUDE (written_at) FROM planned ORDER BY trial_id") == expected


def test_times_of_version_1_are_compared_by_the_median_of_their_whole_networks(tmp_path: Path) -> None:
    """They have no reference measurement."""
    write_run(tmp_path, [Trial(label="a", seed=seed, right=[90]) for seed in range(3)])
    with load(tmp_path) as run:
        keys = [row["model_key"] for row in run.rows("SELECT model_key FROM operating_points ORDER BY seed")]
    wholes = [{"speed": 2.0, "whole_latency_ms": ms} for ms in (3.0, 6.0, 3.2)]
    rows = [TIMING | {"model_key": key} | whole for key, whole in zip(keys, wholes, strict=True)]
    Writer(tmp_path / "tables").write("timings", rows)
    for table in ("timings", "operating_points"):
        columns = list(schema_migrations.OLDER_VERSIONS[1][table].replacements)
        write_as_version(tmp_path, table, 1, lambda old, columns=columns: old.drop_columns(columns))
    with load(tmp_path) as run:
        found = run.rows(
            "SELECT latency_ms, is_at_other_speed, speed_lower_quartile FROM measured_points ORDER BY seed"
        )
    assert [tuple(row.values()) for row in found] == [(1.6, False, None), (1.6, True, None), (1.6, False, None)]


def test_paths_of_version_1_begin_with_head_only(tmp_path: Path) -> None:
    """It had no `head_arm`: the methods whose paths began with the head's fit are known."""
    methods = ("transtailor", "prune")
    trials = [Trial(label=method, method=method, seed=0, right=(70, 80), asked=(0.0, 0.2)) for method in methods]
    write_run(tmp_path, trials)
    columns = list(schema_migrations.OLDER_VERSIONS[1]["planned"].replacements)
    write_as_version(tmp_path, "planned", 1, lambda old: old.drop_columns(columns))
    with load(tmp_path) as run:
        found = run.rows("SELECT label, arm, method, point FROM operating_points ORDER BY ALL")
    assert [tuple(row.values()) for row in found] == [
        ("head_only", "head_only", "head_only", 0), ("prune", "prune", "prune", 0), ("prune", "prune", "prune", 1),
        ("transtailor", "transtailor", "transtailor", 1),
    ]  # fmt: skip


def test_decisions_of_version_1_do_not_say_which_scores_they_read(tmp_path: Path) -> None:
    run = write_search(tmp_path / "run", confirmed=1)

    def as_written(rows: pa.Table) -> pa.Table:
        rows = rows.drop_columns(["read_scores", "read_costs"])
        return rows.append_column("unscored", pa.array([[]] * len(rows), STRINGS))

    write_as_version(run, "proposals", 1, as_written)
    with load(run) as tables:
        rows = tables.rows("SELECT number, read_scores, read_costs FROM proposals ORDER BY number")
    assert rows == [{"number": number, "read_scores": None, "read_costs": None} for number in range(4)]
