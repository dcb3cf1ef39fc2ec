"""The fastest ONNX file of a sub-model: padded if that is measured to be faster, and timed beside its whole network."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from tailor.common.errors import ConfigError
from tailor.deploy.export import Program, export, written
from tailor.deploy.speed import Speed
from tailor.model.circumstance import Circumstance, circumstance_here
from tailor.model.cost import macs_of, original_macs
from tailor.model.latency import THE_WHOLE, whole_network
from tailor.model.passes import as_deployed, onnx_pass
from tailor.model.programs import images_for
from tailor.model.state import ModelState
from tailor.model.timing import PassTimes, time_in_turns
from tailor.pruning.padding import Padding, pad
from tailor.saved_model import AS_PRUNED
from transtailor.plural import first_few

ROUNDS = 12  # each model's turns
Step = Callable[[str], AbstractContextManager[None]]
GAIN = 1.02  # a padded file has to be this many times as fast as the unpadded one, or it is not taken (C)
MOST_NAMED = 3  # layers that a line names


@dataclass(frozen=True, kw_only=True)
class Fastest:
    """The program to deploy, and what was found on the way."""

    program: Program
    macs: int  # of the program, for one input
    lines: tuple[str, ...]  # what was padded, and what was not
    speed: Speed | None  # None: it is the whole network


def fastest(
    state: ModelState,
    batch: int | None,
    *,
    pads: bool,
    threads: int | None,
    step: Step = lambda _name: nullcontext(),
) -> Fastest:
    """Return the ONNX program of a sub-model that is the fastest here: as it was pruned, or padded with zero filters.

    Widths are padded to multiples of 8 and, on a CPU with AVX-512, of 16; both are timed in ONNX Runtime, in turns with
    the unpadded program and the whole network. A padded one is taken only if it is faster.

    Args:
        batch: as of `export`; it is timed with so many images, or one.
        pads: whether padding is tried.
        threads: of the CPU; None: as many as torch takes.
        step: makes the context in which a step runs, from its name; each takes seconds, or minutes.

    Raises:
        ConfigError: as of `export`.
    """
    state = state.fold_factors()
    with step("exporting it as it was pruned"):
        plain = export(state, "onnx", batch)
    macs = macs_of(state)
    if macs == original_macs(state):
        return Fastest(program=plain, macs=macs, lines=(), speed=None)
    circumstance = circumstance_here(
        torch.device("cpu"), runtime="onnxruntime", batch=batch or 1, threads=threads, precision="float32"
    )
    programs = {AS_PRUNED: plain}
    paddings: dict[str, Padding] = {}
    lines: list[str] = []
    if pads:
        try:
            with step("padding it"):
                paddings, lines = paddings_of(state, circumstance)
            padded = {}
            for number, (name, padding) in enumerate(paddings.items(), start=1):
                with step(f"exporting it with widths in {name} (padding {number} of {len(paddings)})"):
                    padded[name] = export(padding.state, "onnx", batch, computed_as=state)
            programs |= padded
        except ConfigError as error:
            paddings = {}
            lines = [f"not padded: {error}"]
    with step("exporting the whole network, to time it beside these"):
        whole = written(whole_network(state), "onnx", batch)
    contents = {name: made.content for name, made in programs.items()}
    with step("timing them in turns"):
        times = timed(contents, whole, state, circumstance)
    chosen = AS_PRUNED
    if paddings:
        chosen, why = choose(times, paddings)
        lines = [why, *lines]
    widths = AS_PRUNED
    if chosen != AS_PRUNED:
        macs = macs_of(paddings[chosen].state)
        widths = f"padded to {chosen}, {macs:,} MACs"
    speed = Speed(
        times_as_fast=times[chosen].speed,
        latency_ms=times[chosen].median_ms,
        whole_latency_ms=times[chosen].first_ms,
        is_steady=times[chosen].is_steady and times[THE_WHOLE].is_steady,
        circumstance=str(circumstance),
        widths=widths,
    )
    return Fastest(program=programs[chosen], macs=macs, lines=tuple(lines), speed=speed)


def choose(times: Mapping[str, PassTimes], padded: Iterable[str]) -> tuple[str, str]:
    """Return the name of the program to take, and a line that says why.

    Args:
        times: of the padded programs and of the one as it was pruned, beside the whole network.
        padded: names of the padded programs, at least one.
    """
    best = max(padded, key=lambda name: times[name].speed)
    unpadded = times[AS_PRUNED]
    gain = times[best].speed / unpadded.speed
    if not (times[best].is_steady and unpadded.is_steady):
        return AS_PRUNED, "not padded: the times are not steady; end other work on this machine and export again"
    if gain < GAIN:
        return AS_PRUNED, f"not padded: with widths in {best} it is {gain:.2f} times as fast as without"
    return best, f"padded: with zero filters up to {best} it is {gain:.2f} times as fast as without"


def paddings_of(state: ModelState, circumstance: Circumstance) -> tuple[dict[str, Padding], list[str]]:
    """Return the paddings to try, by name, and lines that say which layers with odd widths are never padded, and why.

    No padding where no layer has an odd width.

    Args:
        state: with folded factors.

    Raises:
        ConfigError: the network cannot be traced.
    """
    multiples = (8, 16) if "avx512" in circumstance.device_name else (8,)
    paddings: dict[str, Padding] = {}
    layers_by_reason: dict[str, list[str]] = {}
    for multiple in multiples:
        padding = pad(state, multiple)
        is_another = all(padding.widths != other.widths for other in paddings.values())
        if padding.widths and is_another:
            paddings[f"multiples of {multiple}"] = padding
        for layer, reason in padding.refused.items():
            layers = layers_by_reason.setdefault(reason, [])
            if layer not in layers:
                layers.append(layer)
    lines = []
    for reason, layers in layers_by_reason.items():
        lines.append(f"never padded: {first_few(layers, MOST_NAMED)}: {reason}")
    return paddings, lines


def timed(
    contents: Mapping[str, bytes], whole: bytes, state: ModelState, circumstance: Circumstance
) -> dict[str, PassTimes]:
    """Return the times of the whole network's file of ONNX and of these, in turns."""
    images = images_for(state, circumstance.batch, seed=0)
    with as_deployed(circumstance):
        passes = {THE_WHOLE: onnx_pass(whole, images, circumstance.threads)}
        for name, content in contents.items():
            passes[name] = onnx_pass(content, images, circumstance.threads)
        return time_in_turns(passes, rounds=ROUNDS)
