"""Runs a trial: each stage of its method is read from the cache, or computed and stored.

Only rank 0 reads and writes the cache. It sends the others whether a stage was found and what it stored, so all ranks
drive the same generator in the same way.
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from tailor.common import heartbeat
from tailor.common.errors import Paused, TrainingError
from tailor.common.neighbours import unchanged_defaults
from tailor.config.trial import TrialConfig
from tailor.data import task_data
from tailor.data.scores import import_libraries
from tailor.execution.cache import Cache, DamagedStage, MadeBy, StageDescription, StoredStage
from tailor.execution.dry_run import Rung, stages_of
from tailor.execution.memory import memory_explained
from tailor.execution.network_check import refuse_unfit
from tailor.model.state import ModelState
from tailor.parallel.process_group import ProcessGroup
from tailor.stage_execution import StageContext, Tensors, apply, compute
from tailor.stages import OperatingPoint, PointFacts, Stage
from tailor.training.checkpoint import CheckpointAction, Pause, never
from tailor.training.compilation import require_compiler
from transtailor.files import finish_new_file

log = logging.getLogger(__name__)

READ_TRIES = 2  # of a stage that another machine computes again at the same time


class Result:
    """A finished stage: its key, its facts, and on demand the model's state after it.

    The state is made from the parent's only when a later stage is computed, so a trial whose stages are all cached
    reads no tensors.
    """

    def __init__(self, stage: Stage, stored: StoredStage, cached: bool, store: "_Store") -> None:
        self.stage = stage
        self.key = stored.key
        self.cached = cached
        self.description = stored.description
        self.tensors_bytes = stored.tensors_bytes
        self._store = store
        self._state: ModelState | None = None

    @property
    def info(self) -> dict[str, Any]:
        """The facts that the stage stored, as JSON values."""
        return self.description.info

    def point_facts(self) -> PointFacts:
        """Return the facts of an operating point; other stages have none."""
        known = {field.name for field in fields(PointFacts)}
        return PointFacts(**{name: value for name, value in self.info.items() if name in known})

    @property
    def deciding_score(self) -> float:
        """Of an operating point, what the trial decides by; NaN for other stages."""
        return float(self.info.get("deciding_score", math.nan))

    @property
    def removed_macs_fraction(self) -> float:
        """Of a pruning, the share of the original MACs that is removed, in [0, 1]; NaN for other stages."""
        return float(self.info.get("removed_macs_fraction", math.nan))

    def model_state(self) -> ModelState:
        """Return the model's state after this stage, which is made once; collective."""
        if self._state is None:
            parent = self.stage.of.model_state() if isinstance(self.stage.of, Result) else None
            self._state = apply(self.stage, parent, self._store.share_tensors(self.key))
        return self._state

    def read_tensors(self) -> Tensors:
        """Return the tensors that the stage stored; on rank 0 only, without the other ranks."""
        return safetensors.torch.load(self._store.cache.read_tensors(self.key))


@dataclass(frozen=True, kw_only=True)
class StageEvent:
    """A stage has finished."""

    order: int
    result: Result
    point: int | None  # number of the operating point that it is, None for other stages
    next_kind: str | None  # of the stage that follows; None: the trial is over


@dataclass(frozen=True, kw_only=True)
class MadeFor:
    """Which trial stages are computed for, and the id of its run; "" outside of a sweep."""

    trial_id: str
    run: str


NO_SWEEP = MadeFor(trial_id="", run="")


class _Store:
    """The cache as all ranks see it through rank 0."""

    def __init__(self, cache: Cache, ranks: ProcessGroup) -> None:
        self.cache = cache
        self.ranks = ranks

    def find(self, key: str) -> StoredStage | None:
        """Return the stored stage; None if it has to be computed. A damaged one is moved away, with a warning."""
        return self._share(self._read(key) if self.ranks.rank == 0 else None)

    def _read(self, key: str) -> StoredStage | None:
        for _ in range(READ_TRIES):
            try:
                stored = self.cache.read(key)
                if stored is not None:
                    self.cache.read_tensors(key)  # verifies them
                    finish_new_file(self.cache.path(key))
                return stored
            except DamagedStage as damage:
                moved_to = self.cache.set_aside(key, damage)
                if moved_to is not None:
                    log.warning("damaged stage, computed again: %s (moved to %s)", damage, moved_to)
                    return None
        return None

    def write(self, key: str, description: StageDescription, tensors: Tensors) -> StoredStage:
        """Store what was computed; return the stored stage, on all ranks."""
        stored = None
        if self.ranks.rank == 0:
            stored = self.cache.write(key, description, safetensors.torch.save(tensors))
        shared = self._share(stored)
        assert shared is not None
        return shared

    def share_tensors(self, key: str) -> Tensors:
        """Return the stored tensors, on all ranks."""
        content = self.cache.read_tensors(key) if self.ranks.rank == 0 else None
        return safetensors.torch.load(self.ranks.broadcast_bytes(content))

    def _share(self, stored: StoredStage | None) -> StoredStage | None:
        """Return rank 0's stored stage on all ranks; what the others pass is ignored."""
        content = self.ranks.broadcast_bytes(b"" if stored is None else stored.to_json().encode())
        return StoredStage.from_json(content) if content else None


def run_trial(
    config: TrialConfig,
    *,
    cache: Cache,
    ranks: ProcessGroup,
    checkpoint_folder: Path | None = None,
    checkpoint_every_s: float = 30.0,
    pause: Pause = never,
    rung: Rung | None = None,
    made_for: MadeFor = NO_SWEEP,
) -> Iterator[StageEvent]:
    """Run a trial, and yield an event after each finished stage; collective over `ranks`.

    Args:
        cache: where finished stages are found and stored.
        ranks: from `tailor.parallel.process_group.join`.
        checkpoint_folder: where an interrupted stage resumes; None keeps no checkpoints.
        checkpoint_every_s: most seconds between two checkpoints of a stage;
            see `tailor.training.checkpoint.Checkpoint`.
        pause: called only on rank 0, about once a second while a stage trains and before each stage that is computed;
            once it returns True, the checkpoint is written and the trial ends with `Paused`. A later call resumes
            from this moment, or without a checkpoint folder from the last finished stage.
        rung: where the trial ends for now; a call with a later one, or with None, continues from the checkpoint.
        made_for: written into the stages that are computed.

    Raises:
        ConfigError: a stage is impossible on this model.
        Paused: `pause` returned True; on all ranks.
        TrainingError: training diverged; the text names the stage.
    """
    store = _Store(cache, ranks)
    context = StageContext(
        ranks=ranks,
        checkpoint_folder=checkpoint_folder,
        checkpoint_every_s=checkpoint_every_s,
        data_root=config.data.root,
        crop_px=config.data.crop_px,
        weights=config.source.weights_file,
        latency_table=config.latency_table,
        validate_every=config.validate_every,
        pause=pause,
    )
    refuse_unfit(config, ranks.world_size)
    steps = stages_of(config, rung)
    stage: Stage | None = next(steps)
    order = 0
    points = 0
    while stage is not None:
        result = _run_stage(stage, store, context, config, made_for)
        point = points if isinstance(stage, OperatingPoint) else None
        try:
            stage = steps.send(result)
        except StopIteration:
            stage = None
        next_kind = None if stage is None else stage.kind
        yield StageEvent(order=order, result=result, point=point, next_kind=next_kind)
        order += 1
        if point is not None:
            points += 1


def _run_stage(stage: Stage, store: _Store, context: StageContext, config: TrialConfig, made_for: MadeFor) -> Result:
    heartbeat.report_progress_by(heartbeat.unknown_progress)  # until the stage reports
    key = stage.key()
    device = context.ranks.device
    stored = store.find(key)
    if stored is not None:
        return Result(stage, stored, True, store)
    if context.checkpoint(key).agree() is CheckpointAction.PAUSE:
        raise Paused
    parent = stage.of.model_state() if isinstance(stage.of, Result) else None
    _warm_up(config.data.name, context.data_root)
    if config.optimisation.compile:
        require_compiler(device)
    context.ranks.wait()
    start_s = time.perf_counter()
    try:
        with memory_explained(config.optimisation, device), unchanged_defaults(f"stage {stage.kind}"):
            output = compute(stage, parent, context)
    except TrainingError as error:
        raise TrainingError(f"stage {stage.kind} ({key[:12]}): {error}") from error
    seconds = time.perf_counter() - start_s
    if "epochs" in output.info:  # a resumed stage also counts its earlier epochs
        seconds = max(seconds, sum(epoch["seconds"] for epoch in output.info["epochs"]))
    description = StageDescription(
        kind=stage.kind,
        version=stage.version,
        settings=stage.settings(),
        parents=tuple(stage.parents),
        info=output.info,
        made_by=MadeBy(
            compute_s=seconds,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            ranks=context.ranks.world_size,
            threads=torch.get_num_threads(),
            torch_version=torch.__version__,
            trial_id=made_for.trial_id,
            run=made_for.run,
        ),
    )
    stored = store.write(key, description, output.tensors)
    context.checkpoint(key).remove()
    return Result(stage, stored, False, store)


@lru_cache(maxsize=4)
def _warm_up(data_name: str, data_root: str | None) -> None:
    """Do what a process does once, so that these seconds count in no stage, which other trials may share."""
    task_data.load(data_name, data_root)
    import_libraries()
    torch.optim.SGD([torch.zeros(1)], lr=0.0)  # the first optimiser imports a second's worth of torch
