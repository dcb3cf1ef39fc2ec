"""Readers see each row once, none is lost and none meets an error, while others write and one compacts."""

from pathlib import Path

import pytest

from benchmarks.read_while_writing import START, Seen, _look, one_round
from results.reader import load
from results.writer import Writer


@pytest.mark.slow
@pytest.mark.parametrize("removes", [False, True])
def test_each_row_is_seen_once_while_others_write_and_one_compacts(tmp_path: Path, removes: bool) -> None:
    seen, rows, _ = one_round(tmp_path, seconds=3, writers=3, readers=1, removes=removes)
    assert seen.is_right, seen
    assert rows >= 3 * 20
    assert seen.told_to_load_again == 0 or removes


def test_the_count_of_what_is_wrong_can_be_other_than_0(tmp_path: Path) -> None:
    row = {"driver": "writer0", "happened_at": START, "kind": "resumed", "code_digest": "c"}
    writer = Writer(tmp_path / "tables")
    part = writer.write("events", [row | {"number": number} for number in (0, 1, 3)])
    assert part is not None
    part.with_name("copy.parquet").write_bytes(part.read_bytes())
    seen = Seen()
    with load(tmp_path) as run:
        assert _look(run, [4, 1], [0, 0], seen) == [3, 0]
    assert (seen.rows_twice, seen.rows_missing, seen.older_rows_shown) == (3, 2, 2)
    assert not seen.is_right
