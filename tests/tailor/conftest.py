"""Short trials on the real digits, one thread, so that results can be compared bit for bit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent, run_trial
from tailor.model.state import ModelState
from tailor.parallel.process_group import ProcessGroup, join
from tailor.stage_execution import StageContext
from tests.commands import Said, transtailor_command
from tests.once import made_once
from tests.tailor.other_constants import ADDED, add_all
from tests.tailor.trials import short_trial


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def other_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin's methods, allocations and regularisers, until the test ends; forked processes have them, too."""
    for registry, _ in ADDED:
        monkeypatch.setattr(registry, "_records", dict(registry._records))  # type: ignore[attr-defined]
    add_all()


@pytest.fixture(scope="session")
def ranks() -> ProcessGroup:
    return join("cpu")


@pytest.fixture(scope="session")
def shared_cache(request: pytest.FixtureRequest) -> Cache:
    """A cache that tests share where they only need a trained network to start from."""
    return Cache(made_once(request, "cache"))


@pytest.fixture
def place(ranks: ProcessGroup) -> StageContext:
    """Where a stage is computed by itself: on one rank, without a checkpoint."""
    return StageContext(ranks=ranks, checkpoint_folder=None, checkpoint_every_s=0.0)


@pytest.fixture
def command() -> Callable[..., Said]:
    """`transtailor` with these words in this folder, in this process."""
    return transtailor_command


@pytest.fixture
def run(ranks: ProcessGroup) -> Callable[..., list[StageEvent]]:
    def run_to_the_end(config: TrialConfig, cache: Cache, folder: Path | None = None) -> list[StageEvent]:
        return list(run_trial(config, cache=cache, ranks=ranks, checkpoint_folder=folder, checkpoint_every_s=0.0))

    return run_to_the_end


@pytest.fixture
def fitted(run: Callable[..., list[StageEvent]], shared_cache: Cache) -> Callable[[str], ModelState]:
    """A network with a fitted head, by name."""

    def state_of(network: str) -> ModelState:
        return run(short_trial({"name": "head_only"}, network=network), shared_cache)[-1].result.model_state()

    return state_of
