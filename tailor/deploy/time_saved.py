"""Latency and memory of a saved sub-model here."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tailor.model.circumstance import Timing
from tailor.saved_model import (
    explain_model_errors,
    folder_argument,
    module_option,
    opened_model,
    timing_options,
)
from tailor.trial_file import imports_option, load_modules
from transtailor import cli
from transtailor.waiting import telling


@cli.command(example="models/point_1")
@folder_argument
@timing_options
@cli.option("--json", "as_json", is_flag=True, help="print one JSON object")
@imports_option
@module_option
def time(folder: Path, as_json: bool, imports: tuple[Path, ...], module: str | None, **timing: Any) -> Iterator[str]:
    """Measure a saved sub-model here, in turns with its whole network.

    FOLDER is what `trial run --save` wrote or, with --module, tailor.prune(...).save.
    """
    load_modules(imports)
    how = Timing(**timing)
    with opened_model(folder, module) as state:
        from tailor.deploy.card import record
        from tailor.deploy.speed import Speed
        from tailor.model.latency import latency_lines, measure, whole_network

        circumstance, device = how.here()
        with explain_model_errors(folder), telling("timing it in turns with its whole network"):
            latency = measure(state, circumstance, device=device, repeats=how.repeats, whole=whole_network(state))
        assert latency.speed is not None and latency.whole_latency_ms is not None
        speed = Speed(
            times_as_fast=latency.speed,
            latency_ms=latency.latency_ms,
            whole_latency_ms=latency.whole_latency_ms,
            is_steady=latency.is_steady,
            circumstance=str(circumstance),
        )
        record(folder, "speed", asdict(speed))
    if as_json:
        yield json.dumps(asdict(latency))
    else:
        yield from latency_lines(latency)
