"""Latency and memory of a saved sub-model here."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tailor.saved_model import (
    explain_model_errors,
    folder_argument,
    read_model,
    refuse_too_few,
    timing_options,
)
from tailor.trial_file import imports_option, load_modules
from transtailor import cli


@cli.command(example="models/point_1")
@folder_argument
@timing_options
@cli.option("--json", "as_json", is_flag=True, help="print one JSON object")
@imports_option
def time(
    folder: Path,
    batch: int,
    device: str,
    threads: int | None,
    repeats: int,
    as_json: bool,
    imports: tuple[Path, ...],
) -> Iterator[str]:
    """Measure the latency, throughput and memory of a saved sub-model here; `trial run --save` wrote it to FOLDER."""
    load_modules(imports)
    refuse_too_few(batch=batch, threads=threads, repeats=repeats)
    state = read_model(folder)
    from tailor.model.latency import latency_lines, measure
    from tailor.parallel.process_group import join

    ranks = join(device)
    with explain_model_errors(folder):
        latency = measure(state, batch=batch, device=ranks.device, threads=threads, repeats=repeats)
    if as_json:
        yield json.dumps(asdict(latency))
    else:
        yield from latency_lines(latency)
