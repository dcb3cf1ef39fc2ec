"""What SLURM refuses is told where somebody looks, once for each text."""

from results.store.rows import Rows as TakenRows
from sweeps.driver.events import EventLog


class Rows:
    """A writer that remembers."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def add(self, table: str, rows: TakenRows) -> None:
        assert table == "events"
        self.kinds += [row["kind"] for row in rows]


def test_a_refusal_is_told_once_and_written_each_time() -> None:
    rows, told = Rows(), list[str]()
    log = EventLog(rows, "d", "0", told.append)
    for kind, detail in (
        ("controller_started", None),
        ("worker_refused", "no room"),
        ("worker_refused", "no room"),
        ("worker_joined", None),
        ("worker_refused", "no account"),
    ):
        log(kind, detail=detail)
    assert told == ["SLURM refused: no room; it is asked again", "SLURM refused: no account; it is asked again"]
    assert rows.kinds.count("worker_refused") == 3
