"""Readers see each row once and none is lost, ours and others, while others write and one merges or settles."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.read_while_writing import LAUNCHES, MERGES, SETTLES, START, Seen, Shown, _look, one_round
from results.store.reader import load
from results.store.writer import Writer


@pytest.mark.check
@pytest.mark.parametrize("what", [SETTLES, LAUNCHES, pytest.param(MERGES, marks=pytest.mark.long)])
def test_each_row_is_seen_once_while_others_write(tmp_path: Path, what: str) -> None:
    rows, rounds = 0, 0
    while rows < 2 * 20:  # a busy machine takes several rounds to write as many
        rounds += 1
        run = tmp_path / str(rounds)
        run.mkdir()
        seen, written, _ = one_round(run, seconds=1, writers=2, readers=2, what=what)
        assert seen.is_right, seen
        assert seen.told_to_load_again == 0 or what != MERGES
        rows += written


def row_of(number: int) -> dict[str, Any]:
    """A row of `events`."""
    return {"driver": "writer0", "number": number, "happened_at": START, "kind": "resumed", "code_digest": "c"}


def test_a_listing_that_misses_a_part_and_shows_a_later_one_of_the_same_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As readdir may, while files are made: it has passed the place of the one, and not yet that of the other."""
    mine, other = Writer(tmp_path / "tables"), Writer(tmp_path / "tables")
    mine.write("events", [row_of(0)])
    listed: list[str] = []
    iterdir = Path.iterdir

    def slow_iterdir(folder: Path) -> Iterator[Path]:
        before = list(iterdir(folder))
        if folder.name == "events" and not listed:
            for number in (1, 2, 3):
                other.write("events", [row_of(10 + number) | {"driver": "other"}])
                part = mine.write("events", [row_of(number)])
                assert part is not None
                listed.append(part.name)
            before.append(part)  # 1 and 2 are missed, 3 is shown
        return iter(before)

    monkeypatch.setattr(Path, "iterdir", slow_iterdir)
    with load(tmp_path) as run:
        seen = run.rows("SELECT driver, number FROM events ORDER BY number")
    assert len(listed) == 3
    assert seen == [{"driver": "writer0", "number": number} for number in range(4)]


def test_the_count_of_what_is_wrong_can_be_other_than_0(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tables")
    part = writer.write("events", [row_of(number) for number in (0, 1, 3)])
    assert part is not None
    part.with_name("copy.parquet").write_bytes(part.read_bytes())
    seen = Seen()
    with load(tmp_path) as run:
        assert _look(run, [4, 1], [Shown(), Shown()], seen) == [Shown(rows=3), Shown()]
    assert (seen.rows_twice, seen.rows_missing, seen.older_rows_shown) == (3, 2, 2)
    assert not seen.is_right
    with load(run.path) as again:
        _look(again, [0, 0], [Shown(rows=5), Shown(attempts=20)], seen)
    assert (seen.rows_twice, seen.rows_missing, seen.older_rows_shown) == (6, 4, 3)


def test_a_writer_that_stands_between_its_two_writes_shows_no_older_row(tmp_path: Path) -> None:
    Writer(tmp_path / "tables").write("events", [row_of(0)])
    seen, shown = Seen(reads=1), [Shown()]
    for _ in range(2):
        with load(tmp_path) as run:
            shown = _look(run, [0], shown, seen)
    assert shown == [Shown(rows=1)]
    assert seen.is_right, seen
