"""Models as they are timed: saved with their programs, each timed in a fresh process beside its whole network."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sweeps.errors import RunFolderError
from tailor.execution import plugins
from tailor.model.circumstance import Timing

if TYPE_CHECKING:
    from tailor.model.circumstance import Circumstance
    from tailor.model.latency import Latency
    from tailor.model.state import ModelState

Returned = TypeVar("Returned")
MEASURE_LIMIT_S = 3600.0  # of one sub-model; if it takes longer, the device is stuck


@dataclass(frozen=True, kw_only=True)
class Programs:
    """A sub-model and its whole network in folders, and for ONNX Runtime their programs in files."""

    model: Path
    beside: Path | None = None  # its whole network, with which it is timed in turns; None: it is timed alone
    content: Path | None = None  # None: another runtime
    content_beside: Path | None = None


class SavedModels:
    """Saves what is to be timed in a folder, each whole network once.

    Programs are written here and not in the process that measures, whose memory they would count to.
    """

    def __init__(self, folder: Path, circumstance: "Circumstance") -> None:
        self._folder = folder
        self._circumstance = circumstance

    def sub_model(self, state: "ModelState") -> Programs:
        """Save a sub-model, and with ONNX Runtime its program, as `model export` writes it."""
        from tailor.model.state import save_model

        whole = self.whole(state)
        folder = self._folder / "model"
        save_model(state, folder)
        content = None
        if self._circumstance.runtime == "onnxruntime":
            content = self._program(state, folder / "program.onnx")
        return Programs(model=folder, beside=whole.model, content=content, content_beside=whole.content)

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
        return Programs(model=folder, content=program if program.exists() else None)

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

    def latency(self, programs: Programs) -> "Latency":
        """Return the latency of a model."""
        return call_in(self.processes, MEASURE_LIMIT_S, _measure, programs, self.timing, self.modules)


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
