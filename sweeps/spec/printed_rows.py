"""What papers print: the [[printed]] tables of a spec, and the rows of the table `printed`.

A row is a value, a difference to another arm, or the claim that an arm is ahead of another. What several rows have in
common is in the table, what differs in its `points`: see specs/transtailor_vgg16.toml.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from tailor.facts.metrics import Metric

POINTS = "points"


class PrintedRow(BaseModel):
    """One number or claim as a paper prints it; the fields are the columns of the table `printed`."""

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
    value: float | None = Field(default=None, le=1.0, allow_inf_nan=False)
    """As a fraction, not in per cent; or R squared."""
    against: str | None = Field(default=None, min_length=1)
    """The label of the arm that a difference or a claim is about, at the end of its path."""
    difference: float | None = Field(default=None, allow_inf_nan=False)
    """Instead of a value: how far ahead of `against` it is, as a fraction, or R squared."""
    claim: Literal["ahead"] | None = None
    """Instead of a number: the paper claims that it is ahead of `against`. The points of one table and one pair of
    labels are one claim, about their mean."""
    n: int | None = Field(default=None, ge=1)
    """Runs that the number is the mean of; None if the paper does not say: it is then taken as it is."""
    deviation: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    """Their standard deviation; None if the paper does not say: that of the measured ones is taken."""
    note: str | None = Field(default=None, min_length=1)
    """What a reader should know about the number."""

    @field_validator("asked_removed_macs_fraction", "value", "difference", "deviation", mode="before")
    @classmethod
    def _whole_numbers_are_numbers(cls, value: Any) -> Any:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _accuracy_is_a_fraction(self) -> "PrintedRow":
        if self.metric == "r_squared":
            return self
        if self.value is not None and self.value < 0.0:
            raise ValueError(f"{self.metric} is a fraction from 0 to 1, given {self.value!r}")
        if self.difference is not None and abs(self.difference) > 1.0:
            raise ValueError(f"a difference of {self.metric} is a fraction from -1 to 1, given {self.difference!r}")
        return self

    @model_validator(mode="after")
    def _says_one_thing(self) -> "PrintedRow":
        said = [name for name in ("value", "difference", "claim") if getattr(self, name) is not None]
        if len(said) != 1:
            given = " and ".join(said) or "none of them"
            raise ValueError(f"it has one of value, difference and claim, given {given}")
        if (said == ["value"]) != (self.against is None):
            raise ValueError(
                "against, the label of another arm, stands beside a difference or a claim, and nowhere else"
            )
        if self.claim is not None and (self.n is not None or self.deviation is not None):
            raise ValueError("n and deviation are of a printed number, and a claim has none; leave them out")
        if self.deviation is not None and self.n is None:
            raise ValueError("deviation is that of n runs; give n, too")
        return self

    @property
    def key(self) -> tuple[str | float | None, ...]:
        """The key of the row: no two printed rows have the same."""
        place = (self.paper, self.place, self.label, self.network, self.dataset, self.asked_removed_macs_fraction)
        return (*place, self.against, self.claim)


def _rows(tables: Any) -> Any:
    """Return a table for each number: what the `points` of a table [[printed]] have in common is in each of them."""
    if not isinstance(tables, list):
        return tables
    rows: list[Any] = []
    for table in tables:
        if not isinstance(table, dict) or POINTS not in table:
            rows.append(table)
            continue
        common = {key: value for key, value in table.items() if key != POINTS}
        points = table[POINTS]
        if not isinstance(points, list) or not points or not all(isinstance(point, dict) for point in points):
            raise ValueError(
                f'{POINTS}: given {points!r}; type a list, as in points = [{{ dataset = "x", value = 0.8 }}]'
            )
        for point in points:
            for key in point.keys() & common.keys():
                raise ValueError(f"{POINTS} {key}: is in the table, too; leave one out")
            rows.append(common | point)
    return rows


def _have_own_keys(rows: list[PrintedRow]) -> list[PrintedRow]:
    for number, row in enumerate(rows):
        if row.key in [earlier.key for earlier in rows[:number]]:
            raise ValueError(
                f"{row.paper}, {row.place}: two numbers have the same arm and budget; leave one of them out"
            )
    return rows


PrintedRows = Annotated[list[PrintedRow], BeforeValidator(_rows), AfterValidator(_have_own_keys)]


def printed_rows(printed: Sequence[PrintedRow], code_digest: str) -> list[dict[str, Any]]:
    """Return the rows of the table `printed`."""
    return [row.model_dump() | {"code_digest": code_digest} for row in printed]
