"""What a stage costs the file system, counted in a real sweep."""

from pathlib import Path

from tests.benchmarks.looks import rows_in, run


def test_a_distinct_stage_is_one_file_and_two_syncs(tmp_path: Path) -> None:
    done = run("files_and_syncs.py", tmp_path, "--seeds", "1")
    assert done.returncode == 0, done.stderr
    rows = {row["of"]: row for row in rows_in(tmp_path)}
    assert (float(rows["stage"]["inodes of each"]), float(rows["stage"]["syncs of each"])) == (1.0, 2.0)
