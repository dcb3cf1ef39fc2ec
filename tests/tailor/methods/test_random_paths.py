"""The random controls of a path: each step draws numbers of its own, and the first those of a path of one step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tailor.common.seeds import stream
from tailor.data.task_data import generator
from tailor.model.state import ModelState
from tailor.stage_execution import StageContext, compute
from tailor.stage_execution.pruning import groups_of
from tailor.stages import GroupRule, Stage
from tests.tailor.trials import planned_stages, short_trial

Fitted = Callable[[str], ModelState]
RULE = GroupRule()
CONTROLS: list[tuple[str, dict[str, Any]]] = [
    ("score_filters", {"name": "prune", "criterion": "random", "steps": 3, "asked_removed_macs_fraction": 0.3}),
    ("prune", {"name": "transtailor", "prune_by": "random", "steps": 3}),
]


def drawing_stages(kind: str, method: dict[str, Any]) -> list[Stage]:
    """The stages of this kind in a plan of the trial."""
    return [stage for stage in planned_stages(short_trial(method)) if stage.kind == kind]


def scored(state: ModelState) -> ModelState:
    """The state with scores that rise from filter to filter."""
    scores = {m.layer: torch.arange(float(g.filters)) for g in groups_of(state, RULE) for m in g.members}
    return replace(state, scores=scores)


@pytest.mark.parametrize(("kind", "method"), CONTROLS, ids=[kind for kind, _ in CONTROLS])
def test_each_step_draws_anew(kind: str, method: dict[str, Any], fitted: Fitted, place: StageContext) -> None:
    """All steps are computed for the same network and budget, so that what differs is what was drawn."""
    state = scored(fitted("digits_vgg"))
    drawn: list[dict[str, Tensor]] = []
    for stage in drawing_stages(kind, method):
        same = {} if kind == "score_filters" else {"asked_removed_macs_fraction": 0.3}
        drawn.append(compute(replace(stage, **same), state, place).tensors)
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert any(not torch.equal(drawn[left][name], drawn[right][name]) for name in drawn[0])


def test_the_first_step_draws_what_it_always_drew(fitted: Fitted, place: StageContext) -> None:
    state = scored(fitted("digits_vgg"))
    first = drawing_stages(*CONTROLS[0])[0]
    numbers = generator(stream(0, "scores"), "random scores")
    for name, scores in compute(first, state, place).tensors.items():
        assert torch.equal(scores, torch.rand(len(scores), generator=numbers)), name
