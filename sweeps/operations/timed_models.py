"""Models as they are timed: saved with their programs, each timed in a fresh process beside its whole network."""

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sweeps.errors import RunFolderError
from tailor.common.errors import ConfigError
from tailor.execution import plugins
from tailor.saved_model import AS_PRUNED, Timing

if TYPE_CHECKING:
    from tailor.model.circumstance import Circumstance
    from tailor.model.latency import Latency
    from tailor.model.state import ModelState

Returned = TypeVar("Returned")
Whole = tuple[str, int]
"""A whole network: its name, and its MACs with the target's head on the target's images."""
MEASURE_LIMIT_S = 3600.0  # of one sub-model; if it takes longer, the device is stuck


@dataclass(frozen=True, kw_only=True)
class Programs:
    """A sub-model and a network to time it with in folders, and for ONNX Runtime their programs in files."""

    model: Path
    beside: Path | None = None  # its whole network, or another one; None: it is timed alone
    contents: Mapping[str, Path] = field(default_factory=dict)  # name of the widths -> file; none: another runtime
    content_beside: Path | None = None

    @property
    def content(self) -> Path | None:
        """The file of the model itself, if there is just one."""
        return next(iter(self.contents.values()), None)

    def timed_beside(self, other: "Programs") -> "Programs":
        """Return the same, to be timed in turns with another network."""
        return replace(self, beside=other.model, content_beside=other.content)

    def with_widths(self, name: str) -> "Programs":
        """Return the same with one file of the sub-model, the one with these widths."""
        return replace(self, contents={name: self.contents[name]} if self.contents else {})


class SavedModels:
    """Saves what is to be timed in a folder, each whole network once.

    Programs are written here and not in the process that measures, whose memory they would count to.
    """

    def __init__(self, folder: Path, circumstance: "Circumstance") -> None:
        self._folder = folder
        self._circumstance = circumstance

    def sub_model(self, state: "ModelState") -> Programs:
        """Save a sub-model, and with ONNX Runtime also padded, as `model export` tries it."""
        from tailor.deploy.fastest import paddings_of
        from tailor.model.state import save_model

        whole = self.whole(state)
        folder = self._folder / "model"
        save_model(state, folder)
        contents = {}
        if self._circumstance.runtime == "onnxruntime":
            contents[AS_PRUNED] = self._program(state, folder / "as_pruned.onnx")
            with suppress(ConfigError):  # a network that cannot be padded: `model export` leaves it as it is, too
                paddings, _lines = paddings_of(state.fold_factors(), self._circumstance)
                for name, padding in paddings.items():
                    contents[name] = self._program(padding.state, folder / f"{name.replace(' ', '_')}.onnx")
        return Programs(model=folder, contents=contents).timed_beside(whole)

    def whole(self, state: "ModelState") -> Programs:
        """Save the whole network of a sub-model, unless it is there."""
        from tailor.model.latency import whole_network
        from tailor.model.state import save_model

        shape = "x".join(map(str, state.input_shape))
        folder = self._folder / f"{state.network}_{state.classes}_{shape}"
        program = folder / "program.onnx"
        if not folder.exists():
            unpruned = whole_network(state)
            save_model(unpruned, folder)
            if self._circumstance.runtime == "onnxruntime":
                self._program(unpruned, program)
        return Programs(model=folder, contents={AS_PRUNED: program} if program.exists() else {})

    def _program(self, state: "ModelState", file: Path) -> Path:
        from tailor.model.passes import onnx_program

        file.write_bytes(onnx_program(state, self._circumstance.batch))
        return file


@dataclass(frozen=True, kw_only=True)
class Stopwatch:
    """Times saved models, each in a process of its own."""

    processes: ProcessPoolExecutor
    timing: Timing
    modules: tuple[Path, ...]

    def fastest(self, programs: Programs) -> str:
        """Return the name of the widths that `model export` would choose."""
        if len(programs.contents) < 2:
            return AS_PRUNED
        return call_in(self.processes, MEASURE_LIMIT_S, _fastest, programs, self.timing, self.modules)

    def latency(self, programs: Programs) -> "Latency":
        """Return the latency of a model with at most one file."""
        return call_in(self.processes, MEASURE_LIMIT_S, _measure, programs, self.timing, self.modules)


class References:
    """One measurement of each whole network in this circumstance, by which its sub-models' milliseconds are shown.

    The first one is measured alone. Every other is measured in turns with a known one and gets that one's milliseconds
    by the ratio: so networks for images of another size can be compared, too.

    Args:
        known_ms: those measured before.
        find: returns the program of a known one, or None if its stages are not in the cache.
        measure: as `Stopwatch.latency`.
    """

    def __init__(
        self,
        known_ms: Mapping[Whole, float],
        find: Callable[[Whole], Programs | None],
        measure: "Callable[[Programs], Latency]",
    ) -> None:
        self._known_ms = dict(known_ms)
        self._find = find
        self._measure = measure

    def ms(self, whole: Whole, programs: Programs) -> float:
        """Return the milliseconds of a whole network, measured now if that has not been done."""
        if whole not in self._known_ms:
            self._known_ms[whole] = self._now(programs)
        return self._known_ms[whole]

    def _now(self, programs: Programs) -> float:
        for known, ms in self._known_ms.items():
            beside = self._find(known)
            if beside is not None:
                speed = self._measure(programs.timed_beside(beside)).speed
                assert speed is not None
                return ms / speed
        return self._measure(programs).latency_ms


def one_process_each() -> ProcessPoolExecutor:
    """Run one call after the other, each in its own process, so that none reuses memory of another model."""
    context = multiprocessing.get_context("forkserver")
    # Otherwise each process would import torch.
    context.set_forkserver_preload(["sweeps.operations.timed_models", "tailor.model.latency"])
    return ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1)


def call_in(processes: ProcessPoolExecutor, limit_s: float, call: Callable[..., Returned], *args: object) -> Returned:
    """Return the result of a call in one of these processes; after `limit_s` they are killed.

    Raises:
        RunFolderError: it took longer, its process ended, or torch refused.
    """
    try:
        return processes.submit(call, *args).result(limit_s)
    except TimeoutError:
        for process in multiprocessing.active_children():  # the pool would wait for it
            process.kill()
        raise RunFolderError(f"a sub-model was not timed within {limit_s:g} s: does its device answer?") from None
    except (RuntimeError, MemoryError) as error:  # torch's, also for memory; or the pool's, if its process has ended
        why = str(error).partition("\n")[0] or "no memory"
        raise RunFolderError(f"a sub-model could not be timed: {why}; give a smaller --batch or --threads") from error


def _fastest(programs: Programs, timing: Timing, modules: tuple[Path, ...]) -> str:
    """Return the widths of the fastest file of ONNX, as `model export` chooses."""
    from tailor.deploy.fastest import choose, timed
    from tailor.model.state import load_state

    for module in modules:
        plugins.load_copy(module)
    assert programs.content_beside is not None  # as for ONNX Runtime
    contents = {name: file.read_bytes() for name, file in programs.contents.items()}
    circumstance, _device = timing.here()
    times = timed(contents, programs.content_beside.read_bytes(), load_state(programs.model), circumstance)
    name, _why = choose(times, [name for name in contents if name != AS_PRUNED])
    return name


def _measure(programs: Programs, timing: Timing, modules: tuple[Path, ...]) -> "Latency":
    """Time the model that is saved in a folder, in turns with the one beside it."""
    from tailor.model.latency import measure
    from tailor.model.state import load_state

    for module in modules:
        plugins.load_copy(module)
    circumstance, device = timing.here()
    return measure(
        load_state(programs.model),
        circumstance,
        device=device,
        repeats=timing.repeats,
        whole=None if programs.beside is None else load_state(programs.beside),
        content=_read(programs.content),
        whole_content=_read(programs.content_beside),
    )


def _read(file: Path | None) -> bytes | None:
    return None if file is None else file.read_bytes()
