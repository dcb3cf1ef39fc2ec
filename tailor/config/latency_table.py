"""A table of measured blocks of a network: what a forward pass takes at other widths. Read without torch.

`transtailor model table` writes it. A *block* is a layer with the kernels that run after it up to the next layer: its
norm, activation and addition, as far as the runtime did not fuse them into the layer itself.
"""

import hashlib
import json
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from tailor.common.errors import ConfigError
from tailor.common.settings import Count, Settings
from transtailor.files import write_file
from transtailor.machine import cpu_name
from transtailor.shell import command
from transtailor.validation import list_faults

USED_UP_TO = 0.10
"""Median error on networks that were not fitted, above which a table is refused: a knapsack would optimise noise."""
SAID_FROM = 0.05
"""Median error from which it is said beside what was chosen by the table."""

Milliseconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class PricedBlock(Settings):
    """One layer and what runs after it."""

    weight: str
    """The layer's weight."""
    kind: str
    """Its kernels and the sizes of its maps: blocks of one kind and of equal widths share a cell."""
    inputs: Count
    """Of the whole network's layer; of a depthwise layer 1."""
    outputs: Count
    """Of the whole network's layer."""


class LatencyTable(Settings):
    """Measured blocks, and how well their sum predicts whole networks."""

    network: str  # its name, or FILE:NAME of a user's own
    classes: Count
    input_shape: Annotated[tuple[int, ...], Field(strict=False)]
    rule: dict[str, Any]
    """Which filters are removed together."""
    circumstance: dict[str, Any]
    step: Count
    """Widths between two multiples of it cost as much as the larger one."""
    widths: dict[str, list[int]]
    """Name of a group -> the widths that were measured, ascending; the last one is the whole."""
    blocks: list[PricedBlock]
    cells: dict[str, dict[str, Milliseconds]]
    """Kind of a block -> inputs x outputs, such as "16x96" (of a depthwise layer "1x96") -> milliseconds."""
    constant_ms: Annotated[float, Field(allow_inf_nan=False)]
    """What a network takes beside its blocks, by the fitted line; below 0 where their sum is too large."""
    scale: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """Slope of the line from the sum of a network's blocks to its time."""
    whole_ms: Milliseconds
    """Time of the whole network, measured."""
    least_ms: Milliseconds
    """Predicted time of the network with each group at its smallest width."""
    held_out_median_error: Milliseconds
    held_out_worst_error: Milliseconds
    held_out_rank_correlation: Annotated[float, Field(ge=-1.0, le=1.0)]
    held_out_networks: Count

    def cell_ms(self, block: PricedBlock, inputs: int, outputs: int) -> float:
        """Return the milliseconds of a block with these widths.

        Raises:
            ConfigError: the table has no such cell; there is no number between two cells.
        """
        cells = self.cells.get(block.kind, {})
        width = f"{inputs}x{outputs}"
        if width not in cells:
            raise ConfigError(
                f"the table of {self.network} has no cell {width} for {block.weight} ({block.kind}), and a time between"
                f" cells would be a guess; make it again, type: {self.how_to_make()}"
            )
        return self.scale * cells[width]

    def asked_ms(self, asked_latency_ms: float | None, asked_latency_fraction: float | None) -> float:
        """Return the milliseconds of a budget, one of the two; a fraction is of the whole network.

        Raises:
            ConfigError: the whole network meets them, or no width that was measured does.
        """
        asked_ms = asked_latency_ms if asked_latency_ms is not None else (asked_latency_fraction or 0.0) * self.whole_ms
        if asked_ms >= self.whole_ms:
            raise ConfigError(
                f"{asked_ms:.4g} ms is met already: by its table {self.network} takes {self.whole_ms:.4g} ms as it is; "
                "choose a smaller latency"
            )
        if asked_ms < self.least_ms:
            raise ConfigError(
                f"{asked_ms:.4g} ms is less than {self.network} can reach by its table, {self.least_ms:.4g} ms "
                f"({self.least_ms / self.whole_ms:.2f} of the whole); choose a larger latency"
            )
        return asked_ms

    def warnings(self) -> list[str]:
        """Return what a user should know: the table's error, and that it is of another CPU or version than are here."""
        lines = []
        if self.held_out_median_error > SAID_FROM:
            lines.append(
                f"the table of {self.network} predicts other networks with a median error of "
                f"{self.held_out_median_error:.1%}: expect the measured latency to differ by that"
            )
        of_cpu = self.circumstance["device_name"]
        if of_cpu != cpu_name():
            lines.append(
                f"the table was measured on {of_cpu}, and this is {cpu_name()}: its milliseconds hold there, not here"
            )
        name, _, of_table = str(self.circumstance["versions"]).partition(" ")
        try:
            present = version(name)
        except PackageNotFoundError:  # nothing is timed here
            return lines
        if present != of_table:
            lines.append(
                f"the table was measured with {name} {of_table}, and {present} is installed; to measure again, type: "
                f"{self.how_to_make()}"
            )
        return lines

    def how_to_make(self, classes: int | None = None) -> str:
        """Return the command that measures such a table; by default of as many classes as this one."""
        module, _, name = self.network.rpartition(":")
        words = ["model", "table", *(["--module"] if module else []), self.network, "--image-px", self.input_shape[-1]]
        if not module:
            words += ["--classes", self.classes if classes is None else classes]
        if self.rule["residual"] != "coupled":
            words += ["--residual", self.rule["residual"]]
        if not self.rule["linear"]:
            words.append("--no-linear")
        words += ["--threads", self.circumstance["threads"]]
        return command(*words, "--out", f"{name}.table.json")

    def write(self, file: Path) -> str:
        """Write the table with its digest; return the SHA-256 of the file."""
        content = json.dumps({"sha256": _digest(self.model_dump()), "table": self.model_dump()}, indent=1) + "\n"
        write_file(file, content.encode())
        return hashlib.sha256(content.encode()).hexdigest()


def sha256_of_table(file: Path) -> str:
    """Return the SHA-256 of a file. Raises ConfigError: there is none, it is no table, or its error is too large."""
    read_table(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def read_table(file: Path, sha256: str | None = None) -> LatencyTable:
    """Return the table in a file.

    Args:
        sha256: of the file, if it is known.

    Raises:
        ConfigError: there is no such file, it is no table, it was changed, or its error is too large.
    """
    if not file.is_file():
        raise ConfigError(
            f"no table at {file}; type: {command('model', 'table', 'NETWORK', '--image-px', 'N', '--out', file)}"
        )
    content = file.read_bytes()
    present = hashlib.sha256(content).hexdigest()
    if sha256 is not None and present != sha256:
        raise ConfigError(f"{file} has SHA-256 {present}, and table_sha256 is {sha256}; give the table that was meant")
    try:
        table, is_unchanged = _table_in(content)
    except ValidationError as error:
        raise ConfigError(f"{file} is no table of latencies: {list_faults(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is no table of latencies, which transtailor model table writes") from error
    if not is_unchanged:
        raise ConfigError(f"{file} was changed after it was measured; measure it again, type: {table.how_to_make()}")
    if table.held_out_median_error > USED_UP_TO:
        raise ConfigError(
            f"{file} predicts networks that it was not fitted to with a median error of "
            f"{table.held_out_median_error:.1%}, more than {USED_UP_TO:.0%}: widths chosen by it would follow noise; "
            f"measure it again on a machine without other work, type: {table.how_to_make()}"
        )
    return table


@lru_cache(maxsize=8)  # a plan reads the same few tables for each of its trials
def _table_in(content: bytes) -> tuple[LatencyTable, bool]:
    """Return the table in the content of a file, and whether it is as it was measured."""
    sealed = json.loads(content)
    return LatencyTable.model_validate(sealed["table"]), sealed["sha256"] == _digest(sealed["table"])


def _digest(table: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
