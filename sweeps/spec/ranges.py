"""Ranges of an axis, written as a table, such as { from = 5, to = 25, step = 5 }: a short form of their values."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sweeps.errors import SpecError
from sweeps.spec.toml_text import toml_value
from transtailor.validation import list_faults

MOST_VALUES = 10_000
DIGITS = 3  # significant ones of a value, so that the same value, and with it the same stage, comes again
ENDS = ("from", "to", "min", "max", "low", "high", "start", "stop", "end")  # no setting has such a name
TEN_A_DECADE = 10**0.1


class Range(BaseModel):
    """The values from `from` to `to`, both included if a step leads there."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    first: int | float = Field(alias="from", allow_inf_nan=False)
    """The smallest value."""
    last: int | float = Field(alias="to", allow_inf_nan=False)
    """No value is larger."""
    log: bool = False
    """Whether each value is a multiple of the one before it."""
    step: int | float | None = Field(default=None, allow_inf_nan=False)
    """The difference of neighbours, 1 between whole numbers; with `log` their ratio, 10^0.1 if left out."""

    def values(self) -> list[int | float]:
        """Return the values, ascending, rounded to three significant digits unless they are whole numbers.

        Raises:
            ValueError: no such range; the text says what to type.

        >>> Range(**{"from": 5, "to": 20, "step": 5}).values()
        [5, 10, 15, 20]
        >>> Range(**{"from": 0.001, "to": 0.1, "log": True, "step": 10}).values()
        [0.001, 0.01, 0.1]
        """
        is_whole = isinstance(self.first, int) and isinstance(self.last, int)
        step = self.step
        if step is None:
            if not self.log and not is_whole:
                raise ValueError("has no step; add one, such as step = 0.1, or log = true")
            step = TEN_A_DECADE if self.log else 1
        if not self.first < self.last:
            advice = "type a list of one value" if self.first == self.last else "exchange them"
            raise ValueError(f"from = {self.first:g} is not less than to = {self.last:g}; {advice}")
        if self.log and (self.first <= 0 or step <= 1):
            raise ValueError(f"log needs from > 0 and step > 1, given from = {self.first:g} and step = {step:g}")
        if step <= 0:
            raise ValueError(f"step = {step:g} is not more than 0")
        count = math.log(self.last / self.first) / math.log(step) if self.log else (self.last - self.first) / step
        if count > MOST_VALUES:
            raise ValueError(f"has more than {MOST_VALUES:,} values; type a larger step")
        values: list[int | float] = []
        for number in range(math.floor(count + 1e-6) + 1):
            exact = self.first * step**number if self.log else self.first + number * step
            rounded = round(exact) if is_whole else float(f"{exact:.{DIGITS}g}")
            if rounded not in values[-1:]:  # neighbours may be rounded to one value
                values.append(rounded)
        return values


def is_range(value: Any) -> bool:
    """Whether a value of an axis is written as a range, or as one of another program."""
    return isinstance(value, Mapping) and not value.keys().isdisjoint(ENDS)


def range_values(table: Mapping[str, Any], where: str) -> list[int | float]:
    """Return the values of a range as a spec has it; raise SpecError, with what to type, if there is no such range."""
    try:
        return Range.model_validate(table).values()
    except ValidationError as error:
        fault_text = "; ".join(f"{fault.keys[-1]}: {fault.expected}" for fault in list_faults(error))
        fault_text += "; a range is written as { from = 5, to = 25, step = 5 }, or with log = true"
    except ValueError as error:
        fault_text = str(error)
    raise SpecError(f"{where}: {toml_value(table)} {fault_text}")
