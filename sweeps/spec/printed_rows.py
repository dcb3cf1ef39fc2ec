"""Numbers printed in papers: the [[printed]] tables of a spec, and the rows of the table `printed`.

What several numbers have in common is in the table, what differs in its `points`: see specs/transtailor_vgg16.toml.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sweeps.errors import SpecError
from tailor.facts.metrics import Metric
from transtailor.names import nearest
from transtailor.validation import list_faults

POINTS = "points"


class PrintedRow(BaseModel):
    """One number as a paper prints it; the fields are the columns of the table `printed`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    paper: str = Field(min_length=1)
    """Its short name, with the year."""
    place: str = Field(min_length=1)
    """Where in the paper: "Table 1"."""
    label: str = Field(min_length=1)
    """The label of this spec whose arms the number is compared with."""
    method: str | None = Field(default=None, min_length=1)
    """Name of the method here; None if there is none."""
    network: str = Field(min_length=1)
    """The network's name here."""
    dataset: str = Field(min_length=1)
    """The data set's name here."""
    asked_removed_macs_fraction: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of the MACs that is removed; None if the paper does not say."""
    metric: Metric = "accuracy"
    """What the number is."""
    value: float = Field(le=1.0, allow_inf_nan=False)
    """As a fraction, not in per cent; or R squared."""
    note: str | None = Field(default=None, min_length=1)
    """What a reader should know about the number."""

    @field_validator("asked_removed_macs_fraction", "value", mode="before")
    @classmethod
    def _whole_numbers_are_numbers(cls, value: Any) -> Any:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _accuracy_is_a_fraction(self) -> "PrintedRow":
        if self.metric != "r_squared" and self.value < 0.0:
            raise ValueError(f"{self.metric} is a fraction from 0 to 1, given {self.value!r}")
        return self

    @property
    def key(self) -> tuple[str | float | None, ...]:
        """The key of the row: no two printed numbers have the same."""
        return (self.paper, self.place, self.label, self.network, self.dataset, self.asked_removed_macs_fraction)


_KEYS = (*PrintedRow.model_fields, POINTS)


def parse_printed(tables: Sequence[Mapping[str, Any]], where: str) -> list[PrintedRow]:
    """Parse the numbers in a spec's [[printed]] tables, in order.

    Raises:
        SpecError: an unknown or missing key, a value of the wrong type or out of range, or two numbers with one key.
    """
    where_by_key: dict[tuple[str | float | None, ...], str] = {}
    rows = []
    for number, table in enumerate(tables, start=1):
        for where_in_table, raw in _points(table, f"{where} [[printed]] {number}"):
            row = _row(raw, where_in_table)
            if row.key in where_by_key:
                raise SpecError(
                    f"{where_in_table}: {where_by_key[row.key]} has the same arm and budget; leave one of them out"
                )
            where_by_key[row.key] = where_in_table
            rows.append(row)
    return rows


def printed_rows(printed: Sequence[PrintedRow], code_digest: str) -> list[dict[str, Any]]:
    """Return the rows of the table `printed`."""
    return [row.model_dump() | {"code_digest": code_digest} for row in printed]


def _points(table: Mapping[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    """Return where each number of a [[printed]] table is, for messages, and its settings."""
    common = {key: value for key, value in table.items() if key != POINTS}
    if POINTS not in table:
        return [(where, common)]
    points = table[POINTS]
    if not isinstance(points, list) or not points or not all(isinstance(point, Mapping) for point in points):
        raise SpecError(
            f"{where} {POINTS}: given {points!r}; type a list of tables, as in "
            'points = [{ dataset = "cub_200", value = 0.8 }]'
        )
    located_settings = []
    for number, point in enumerate(points, start=1):
        where_in_table = f"{where} {POINTS} {number}"
        for key in point:
            if key in common:
                raise SpecError(f"{where_in_table} {key}: is in the table, too; leave one out")
        located_settings.append((where_in_table, common | dict(point)))
    return located_settings


def _row(raw: Mapping[str, Any], where: str) -> PrintedRow:
    for key in raw:
        if key not in PrintedRow.model_fields:
            raise SpecError(f"{where}: no such key: {key!r}{nearest(key, list(_KEYS))}")
    try:
        return PrintedRow(**raw)
    except ValidationError as error:
        fault = list_faults(error)[0]
        if fault.kind == "missing":
            raise SpecError(f"{where}: {fault.key} is missing; every printed number has one") from None
        key = fault.key or "value"
        raise SpecError(f"{where} {key}: given {raw.get(key)!r}; {fault.expected.lower()}") from None
