"""A figure: a Vega-Lite specification and its data."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.render.figures import write_figure
from results.render.style import CONFIG
from results.text.page import Table

Spec = dict[str, Any]
"""Vega-Lite as JSON has it."""


@dataclass(frozen=True)
class Chart:
    """A figure with its data, as `run.plot.front()` returns it.

    Attributes:
        extra: more columns of "rows", which only the figure needs.
        tables: further data sets, computed from rows: means, intervals.
    """

    title: str
    spec: Spec  # Vega-Lite without data; it names the data set "rows" and those of `tables`
    data: Table  # the query whose rows are the data set "rows"; `derived`: from whose rows they are computed
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    note: str = ""  # what a reader should know, a sentence below the figure
    derived: bool = False

    def to_dict(self) -> Spec:
        """The figure with its data as Vega-Lite, such as `altair.Chart.from_dict` reads it."""
        rows = []
        for place, record in enumerate(self.data.records):
            extra = {name: values[place] for name, values in self.extra.items()}
            rows.append(_finite({**record, **extra}))
        datasets = {"rows": rows}
        for name, table in self.tables.items():
            datasets[name] = [_finite(row) for row in table]
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "background": "white",  # half transparent marks have wrong colours in a PNG without a background
            "config": CONFIG,
            "title": {"text": self.title, "subtitle": self.note} if self.note else self.title,
            **self.spec,
            "datasets": datasets,
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the figure as SVG, PDF, PNG or JSON, as the name's ending says; no browser is needed.

        Raises:
            ResultsError: another ending, or the file cannot be written.
        """
        return write_figure(self.to_dict(), Path(path))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """What a notebook shows."""
        return {"application/vnd.vegalite.v6+json": self.to_dict(), "text/plain": f"Chart({self.title!r})"}


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with None for what JSON does not have: not a number, and the infinities."""
    finite = {}
    for name, value in row.items():
        is_missing = isinstance(value, float) and not math.isfinite(value)
        finite[name] = None if is_missing else value
    return finite
