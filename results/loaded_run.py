"""A run as users open it: its tables by name, its best points, comparisons of arms, and figures."""

import html
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from results.arms.averaging import notes_on_runs
from results.errors import ResultsError
from results.plots import Plots
from results.question import AnswerPage, ask, question_named
from results.store import reader
from results.store.schema import TABLES
from results.text.formats import frame_of
from results.text.page import answer_table

if TYPE_CHECKING:
    import pandas

_NAMES = (*TABLES, *reader.VIEWS)


class LoadedRun(reader.Run):
    """One run, or several, as they were when they were opened.

    Each table of docs/columns.md is an attribute, as a pandas table: `run.trials`, `run.measured_points`. Each question
    of `transtailor --help` is a method with the options of its command: `run.front(cost="params")`.

    Example:
        run = results.load("runs/demo")
        run.best(under={"macs": 0.8})
        run.compare("fine_tune", at=0.4)
        run.sql("SELECT status, count(*) AS trials FROM trials GROUP BY ALL")
        run.plot.front(cost="params").save("front.pdf")
    """

    @cached_property
    def plot(self) -> Plots:
        """The figures; `dir(run.plot)` names them."""
        return Plots(self)

    def best(self, by: str = "validation_score", *, under: Mapping[str, float] | None = None) -> "pandas.DataFrame":
        """Return the best operating point of each network and data set, as `transtailor best` does.

        Of several runs, the first column `run` says whose it is.

        Args:
            by: "validation_score", or "test_score", which is no estimate for new images if a point is chosen by it.
            under: limits, such as {"macs": 0.8} (up to 1: of the original's), {"params": 100_000}, {"latency_ms": 2}; a
                point meets all of them.

        Raises:
            ResultsError: another score, another limit, or rows are lost.
        """
        from results.best import Limit, best_points
        from results.store.completeness import refuse_gaps

        refuse_gaps(self)
        if not isinstance(under, Mapping | None):
            raise ResultsError(f"under = {under!r}; expected a dictionary such as {{'macs': 0.8}}")
        limits = [Limit.parse(f"{column}={most}") for column, most in (under or {}).items()]
        points = best_points(self, by, limits)
        frame = frame_of(answer_table("best", points))
        if len(self.paths) > 1:
            frame.insert(0, "run", [point["run"] for point in points])
        return frame

    def compare(
        self, against: str | None = None, *, at: float | None = None, over: Sequence[str] = (), **others: Any
    ) -> "pandas.DataFrame":
        """Return every arm compared with one of them, paired by seed, as numbers of `transtailor compare`.

        Scores and differences are fractions: 0.01 is one percentage point of accuracy. `p_holm` is p corrected over
        all arms of one network and data set. A trial in several runs counts once, and arms of one name in several runs
        are one arm; warnings say so.

        Args:
            against: the arm that all others are compared with, by its name, or by a label that only it has.
            at: only this budget, such as 0.4 for 40% fewer MACs, and arms that prune nothing.
            over: settings to average over, such as "optimisation.learning_rate", instead of telling arms apart by them.
            others: of the command, such as `anytime=True` or, without an arm, `stop_at=0.003`.

        Raises:
            ResultsError: no such arm, several with that label, no arms that differ in a setting of `over`, or rows are
                lost.
        """
        if len(self.paths) > 1:
            for text in notes_on_runs(self):
                warnings.warn(text, stacklevel=2)
        return next(iter(ask(self, "compare", over=over, against=against, at=at, **others).tables.values()))

    def by_class(self, first: str, second: str, *, at: float | None = None, over: Sequence[str] = ()) -> AnswerPage:
        """Return the answer of `transtailor classes`; `run.classes` is the table of that name."""
        return ask(self, "classes", first, second, at=at, over=over)

    def __getattr__(self, name: str) -> Any:
        if name in _NAMES:
            return self.sql(f"FROM {name}")
        with suppress(LookupError):
            question_named(name)
            return partial(ask, self, name)
        raise AttributeError(f"a run has no table {name!r}; it has {', '.join(_NAMES)}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_NAMES})

    def __repr__(self) -> str:
        with self.counted_once() as counted:
            counts = counted.rows("SELECT status, count(*) AS trials FROM trials GROUP BY ALL ORDER BY ALL")
        trials = ", ".join(f"{row['trials']} {row['status']}" for row in counts) or "none has ended"
        (points,) = self.rows("SELECT count(*) AS points FROM measured_points")
        return f"{', '.join(self.paths)}: trials: {trials}; {points['points']} operating points"

    def _repr_html_(self) -> str:
        arms = self.sql(
            "SELECT network, dataset, arm, count(DISTINCT seed) AS seeds, count(*) AS points, "
            "max(validation_score) AS best_validation_score FROM measured_points GROUP BY ALL ORDER BY ALL"
        )
        return f"<p>{html.escape(repr(self))}</p>{arms.to_html(index=False)}"


def load(run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> LoadedRun:
    """Open a run as `results.store.reader.load` does, with tables by name, best points, comparisons and figures.

    Example:
        A run with one row; its figures are methods of `plot`.

        >>> import tempfile
        >>> from results.store.writer import Writer
        >>> folder = tempfile.TemporaryDirectory()
        >>> row = {"paper": "P", "place": "Table 1", "label": "l1", "network": "vgg16", "dataset": "dogs", "value": 0.7}
        >>> Writer(f"{folder.name}/tables").write("printed", [row | {"metric": "accuracy", "code_digest": ""}])
        >>> with load(folder.name) as run:
        ...     values = list(run.printed["value"])
        ...     chart = run.plot.printed()
        >>> values, chart.title, len(chart.to_dict()["datasets"]["rows"])
        ([0.7], 'Printed and measured accuracy', 1)
        >>> folder.cleanup()
    """
    plain = reader.load(run)
    return LoadedRun(plain.paths, plain.connection)
