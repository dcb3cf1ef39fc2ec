"""A run as users open it: its tables, and its figures as `run.plot`."""

import os
from collections.abc import Sequence
from functools import cached_property

from results.plot.plots import Plots
from results.store import reader


class OpenedRun(reader.Run):
    """One run, or several, with figures.

    Example:
        run = results.load("runs/demo")
        run.plot.front(cost="params").save("front.pdf")
    """

    @cached_property
    def plot(self) -> Plots:
        """The figures; `dir(run.plot)` names them."""
        return Plots(self)


def load(run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> OpenedRun:
    """As `results.store.reader.load`, with figures.

    Example:
        A run with one row; its figures are methods of `plot`.

        >>> import tempfile
        >>> from results.store.writer import Writer
        >>> folder = tempfile.TemporaryDirectory()
        >>> row = {"paper": "P", "place": "Table 1", "label": "l1", "network": "vgg16", "dataset": "dogs", "value": 0.7}
        >>> part = Writer(f"{folder.name}/tables").write("printed", [row | {"metric": "accuracy", "code_digest": ""}])
        >>> with load(folder.name) as run:
        ...     chart = run.plot.printed()
        >>> chart.title, len(chart.to_dict()["datasets"]["rows"])
        ('Printed and measured accuracy', 1)
        >>> folder.cleanup()
    """
    plain = reader.load(run)
    return OpenedRun(plain.paths, plain.connection, plain.parts)
