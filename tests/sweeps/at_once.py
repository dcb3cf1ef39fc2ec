"""A writer of rows that are durable at once, where a test reads them in between."""

from results.store.rows import Rows
from results.store.writer import Writer
from sweeps.driver.commits import EndedAttempt


class AtOnce(Writer):
    """Commits all that it takes; also in the place of `Commits` for a ledger."""

    def add(self, table: str, rows: Rows) -> None:
        super().add(table, rows)
        self.commit()

    def end(self, _: str, ended: EndedAttempt) -> None:
        self.add("attempts", [ended.attempt])
        self.add("trials", [] if ended.trial is None else [ended.trial])
