"""The page of every key of a spec, from the settings that read them: `python -m tools.spec_reference`.

Types and defaults are those of the pydantic models; meanings are the texts below each field in the code.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sphinx.pycode import ModuleAnalyzer

from sweeps.spec.axes import RATE
from sweeps.spec.printed_rows import POINTS, PrintedRow
from sweeps.spec.resources import Resources
from sweeps.spec.search_settings import ConfirmSettings, HalvingSettings, SearchSettings
from sweeps.spec.settle_settings import SettleSettings
from sweeps.spec.spec import Spec, Variant
from sweeps.spec.toml_text import toml_value
from tailor.config.allocations import ALLOCATIONS
from tailor.config.data import DataConfig, ExpectedData
from tailor.config.optimisation import Optimisation
from tailor.config.pruning import PruningConfig
from tailor.config.source import SourceConfig
from tailor.config.trial import METHODS, TrialConfig
from tailor.facts.regularisation import REGULARISERS
from transtailor.files import write_file

DOCUMENT = Path(__file__).parent.parent / "docs" / "spec_keys.md"
HEADING = """# Every key of a spec

Made by `python -m tools.spec_reference` from the settings that read these keys. [Specs](specs.md) explains how the
tables work together.

- A key that is left out has its default. *None*: nothing is set, and TOML has no word for that, so leave the key out.
- Keys of a trial have the same name in `[trial]`, in a variant, on an axis and after `--set`: the key `epochs` of
  `[trial.optimisation]` is `optimisation.epochs = [10, 20]` in `[axes]`, and `--set trial.optimisation.epochs=20`.
- The file of a single trial (`transtailor trial run`) has the same keys without `trial.`: `[optimisation]`, `[method]`.
- Marks in meanings: **P** = printed in the method's paper; **T** = the authors' code; **C** = our choice.
- An unknown key is refused, with the nearest one.
"""
KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "object": "table"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
UNITS = {  # a key that matches, and the unit of its value
    r"fraction$|smoothing$|^(prune_ratio|milestones|distillation_weight)$": "share, 0 to 1",
    r"epochs$": "epochs",
    r"images$|^images_per_class$|^batch_size$": "images",
    r"_px$": "pixels",
    r"_ms$": "ms",
    r"_s$": "s",
    r"gpus_per_rank$": "GPUs",
}
LARGEST_SEED = 2**63
Row = tuple[str, str, str, str, str]
# Keys that are no field of a model: they are read before there is one.
EXTENDS_MEANING = (
    "The path of another spec, relative to this one, or the name of a shipped one; this file's values replace its"
    " values."
)
EXTENDS: Row = ("`extends`", "text", "none", "", EXTENDS_MEANING)
POINTS_MEANING = "What differs between several numbers of one table; each has keys of this section."
OWN_RATE: Row = (
    f"`{RATE}`", "list of numbers ≥ 0", "none", "",
    "Learning rates; of each arm, the one that its method reads: `optimisation.head_learning_rate` of `head_only`.",
)  # fmt: skip
PRINTED_POINTS: Row = (f"`{POINTS}`", "list of tables", "none", "", POINTS_MEANING)


def meaning(kind: type[BaseModel], key: str) -> str:
    """The text below a field in the code, of the class or of one that it inherits from.

    Raises:
        LookupError: the field has none; write one.
    """
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ("sweeps", "tailor"):
            lines = ModuleAnalyzer.for_module(base.__module__).find_attr_docs().get((base.__qualname__, key))
            if lines:
                return " ".join(lines).strip()
    raise LookupError(f"{kind.__name__}.{key} has no meaning: write a text in three quotes below it")


def type_text(schema: Mapping[str, Any]) -> str:
    """What can be written, from a field's JSON schema.

    >>> type_text({"type": "integer", "minimum": 1})
    'whole number ≥ 1'
    >>> type_text({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]})
    '`"a"`, `"b"`'
    """
    if "anyOf" in schema:
        kinds = [type_text(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return "number" if kinds == ["whole number", "number"] else " or ".join(kinds)
    if "enum" in schema:
        return ", ".join(f"`{toml_value(value)}`" for value in schema["enum"])
    if "type" not in schema:
        return "name or table" if schema.get("$ref", "").endswith(("Method", "Allocation", "Regulariser")) else "table"
    if schema["type"] == "array":
        items = schema.get("items", {})
        return "list of " + type_text(items).replace("text", "texts").replace("number", "numbers").replace(
            "table", "tables"
        )
    bounds = [
        f"{sign} {schema[name]:g}" for name, sign in BOUNDS.items() if schema.get(name, LARGEST_SEED) != LARGEST_SEED
    ]
    return f"{KINDS[schema['type']]} {', '.join(bounds)}".rstrip()


def default_text(schema: Mapping[str, Any], *, is_required: bool) -> str:
    """The value of a key that is left out, as TOML."""
    value = schema.get("default")
    if is_required:
        return "*required*"
    if isinstance(value, Mapping) and "name" in value and len(value) == 1:
        value = value["name"]
    return "none" if value is None or value in ({}, []) or isinstance(value, Mapping) else f"`{toml_value(value)}`"


def rows(kind: type[BaseModel]) -> Iterator[Row]:
    """Key, type, default, unit and meaning of each key; the name that selects a class is its heading."""
    schema = kind.model_json_schema()
    for name, field in kind.model_fields.items():
        key = field.alias or name
        one = schema["properties"].get(key)
        if field.exclude or "const" in one:
            continue
        unit = next((unit for pattern, unit in UNITS.items() if re.search(pattern, name)), "")
        default = default_text(one, is_required=field.is_required())
        yield f"`{key}`", type_text(one), default, unit, meaning(kind, name)


def table(found: list[Row]) -> str:
    """As Markdown."""
    lines = [("key", "type", "default", "unit", "meaning"), ("---",) * 5, *found]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def sections() -> Iterator[str]:
    """Each heading with its table."""
    first, *others = rows(Spec)
    yield f"## The whole file\n\n{table([first, EXTENDS, *others])}"
    variant = [row for row in rows(Variant) if row[0] != "`settings`"]
    yield f"## [[variants]]\n\nAll keys of `[trial]`, and these:\n\n{table(variant)}"
    axes = "Dotted keys of `[trial]`, each with a list or a range of values, and this one:"
    yield f"## [axes] and [tuning]\n\n{axes}\n\n{table([OWN_RATE])}"
    parts: dict[str, type[BaseModel]] = {
        "[resources]": Resources, "[search]": SearchSettings, "[search.halving]": HalvingSettings,
        "[confirm]": ConfirmSettings, "[settle]": SettleSettings,
    }  # fmt: skip
    yield from (f"## {name}\n\n{table(list(rows(kind)))}" for name, kind in parts.items())
    yield f"## [[printed]]\n\n{table([*rows(PrintedRow), PRINTED_POINTS])}"
    trial: dict[str, type[BaseModel]] = {
        "[trial]": TrialConfig, "[trial.data]": DataConfig, "[trial.data.expected]": ExpectedData,
        "[trial.source]": SourceConfig, "[trial.optimisation]": Optimisation, "[trial.pruning]": PruningConfig,
    }  # fmt: skip
    yield from (f"## {name}\n\n{table(list(rows(kind)))}" for name, kind in trial.items())
    for place, kinds in (
        ("method", METHODS), ("method.allocation", ALLOCATIONS), ("optimisation.regulariser", REGULARISERS)
    ):  # fmt: skip
        yield f"## {place}\n\nThe keys beside `{place}.name`."
        for name in sorted(name for name, one in kinds.items() if one.__module__.startswith("tailor.")):
            one = kinds[name]
            own = list(rows(one))
            yield f'### {place}.name = "{name}"\n\n{_first_line(one)}\n\n{table(own) if own else "No other key."}'


def _first_line(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEADING.strip(), *sections()]) + "\n"


if __name__ == "__main__":
    write_file(DOCUMENT, page().encode())
