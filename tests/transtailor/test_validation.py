"""Pydantic's errors, as whoever wrote the TOML sees them."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from transtailor.validation import Fault, list_faults


class Below(BaseModel):
    """A table in a table."""

    model_config = ConfigDict(extra="forbid")
    number: int | bool = 0


class Whole(BaseModel):
    """A document."""

    model_config = ConfigDict(extra="forbid")
    name: str
    below: Below = Below()
    words: tuple[str, ...] = ()

    @field_validator("name")
    @classmethod
    def _is_no_x(cls, name: str) -> str:
        if name == "x":
            raise ValueError("choose another name")
        return name


def faults(**values: Any) -> list[Fault]:
    with pytest.raises(ValidationError) as caught:
        Whole(**values)
    return list_faults(caught.value)


def test_an_unknown_key_has_the_tables_above_it() -> None:
    (fault,) = faults(name="a", below={"nummer": 3})
    assert (fault.kind, fault.keys, fault.key, fault.given) == (
        "unknown", ("below", "nummer"), "below.nummer", 3
    )  # fmt: skip


def test_a_missing_key_is_named() -> None:
    (fault,) = faults()
    assert (fault.kind, fault.key) == ("missing", "name")


@pytest.mark.parametrize(("value", "hint"), [("Adam", "'adam'"), ("SGD", "'sgd'"), ("lion", None), (3, None)])
def test_of_some_words_the_nearest_is_told(value: Any, hint: str | None) -> None:
    class Choice(BaseModel):
        optimiser: Literal["sgd", "adam"]

    with pytest.raises(ValidationError) as caught:
        Choice(optimiser=value)
    (fault,) = list_faults(caught.value)
    assert fault.expected == "Input should be 'sgd' or 'adam'" + (f"; did you mean {hint}?" if hint else "")


def test_words_of_a_validator_stand_alone() -> None:
    assert faults(name="x") == [Fault(keys=("name",), kind="wrong", expected="choose another name", given="x")]


def test_the_branches_of_a_union_are_no_keys_and_lists_are_called_so() -> None:
    *numbers, words = faults(name="a", below={"number": "x"}, words="a b")
    assert [(fault.key, fault.given) for fault in numbers] == [("below.number", "x")] * 2
    assert words.expected == "Input should be a list, in [ ]"
