"""LeGR's search: aging evolution of one scale and one shift per layer (Chin et al., CVPR 2020).

The newborn is a mutated copy of the best of a few that are drawn from the population, and the oldest dies.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import safetensors.torch
import torch
from torch import Tensor

from tailor import stages
from tailor.core.errors import Paused
from tailor.data.objective import quality
from tailor.data.task_data import Samples, generator
from tailor.model.state import ModelState
from tailor.pruning import budget_solver, surgery
from tailor.stage_execution.base import Made, Tensors, Workplace, apply, compute, named, part
from tailor.stage_execution.pruning import groups_of
from tailor.stage_execution.tuning import train_all
from tailor.training.checkpoint import Checkpoint, Wish, never
from tailor.training.loop import predict

Affine = dict[str, tuple[float, float]]
"""Layer -> (scale, shift) of its scores."""


@dataclass(frozen=True, kw_only=True)
class Individual:
    """A ranking and how bad it is."""

    affine: Affine
    loss: float


@compute.register
def compute_learn_ranking(todo: stages.LearnRanking, parent: ModelState, place: Workplace) -> Made:
    found, data = groups_of(parent, todo.rule), place.splits(todo.task)
    minimum = budget_solver.minimums(parent, found, todo.minimum_filters_fraction)

    def loss_of(affine: Affine) -> float:
        ranking = budget_solver.combined(moved(parent.scores, affine), found, todo.grouping)
        kept = budget_solver.lowest_of_all(
            parent, found, todo.removed_macs_fraction, minimum, ranking, todo.width_multiple
        )
        judged = tuned(todo, surgery.slim(parent, kept, found), data.train, place)
        outputs = predict(judged.build(place.ranks.device), data.validation, place.ranks)
        return quality(outputs, data.validation.labels.cpu()).loss

    spread = {layer: float(scores.std(correction=0)) for layer, scores in parent.scores.items()}
    checkpoint = place.checkpoint(todo.key())
    history: list[Individual] = []
    known_losses = recalled(checkpoint)
    for individual in evolve(todo, spread, loss_of, known_losses):
        history.append(individual)
        if len(history) > len(known_losses):
            remember(checkpoint, history)
    best = min(history, key=lambda individual: individual.loss)
    info = {"losses": [individual.loss for individual in history], "affine": best.affine}
    return Made(info=info, tensors=named("scores", moved(parent.scores, best.affine)))


@apply.register
def apply_learn_ranking(_done: stages.LearnRanking, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, scores=part("scores", tensors))


def moved(scores: dict[str, Tensor], affine: Affine) -> dict[str, Tensor]:
    """Layer -> (F,) its scores times its scale plus its shift."""
    return {layer: values * affine[layer][0] + affine[layer][1] for layer, values in scores.items()}


def tuned(todo: stages.LearnRanking, state: ModelState, samples: Samples, place: Workplace) -> ModelState:
    """The state after `tuning_steps` full batches of SGD; every image is seen equally often, or once more (C)."""
    if todo.training is None:
        return state
    repeated = samples.take(torch.arange(todo.tuning_steps * todo.training.batch_size) % len(samples))
    short = replace(place, checkpoint_folder=None, pause=never)  # the search remembers losses, not steps
    trained = train_all(state, repeated, todo.training, short, key=todo.key(), augmentation=todo.task.augmentation)
    return replace(state, tensors=trained.tensors)


# --- aging evolution ---


def evolve(
    todo: stages.LearnRanking,
    spread: dict[str, float],
    loss_of: Callable[[Affine], float],
    known_losses: Sequence[float] = (),
) -> Iterator[Individual]:
    """All individuals in the order of their birth, of which the last `population` are alive.

    Each draws from a stream of its own, so an interrupted search is played again from its losses alone.

    Args:
        todo: population, samples, generations, mutations and seed are read.
        spread: layer -> standard deviation of its scores; its layers are those that scale and shift.
        loss_of: the loss of a ranking, the smaller the fitter.
        known_losses: of the first individuals, which are not judged again.
    """
    history: list[Individual] = []
    for number in range(todo.generations):
        affine = newborn(todo, spread, history)
        loss = known_losses[number] if number < len(known_losses) else loss_of(affine)
        history.append(Individual(affine=affine, loss=loss))
        yield history[-1]


def newborn(todo: stages.LearnRanking, spread: dict[str, float], history: Sequence[Individual]) -> Affine:
    """The next individual after those of `history`.

    The first population is random but for its last, which changes no score. From then on, the best of `samples`
    individuals drawn from those alive is mutated in some layers (drawn with replacement): scale times
    exp(N(0, sigma x step)), shift plus N(0, spread of the layer), with a step that falls from 1 to 0.2.
    """
    number = len(history)
    numbers = generator(todo.seed, "legr", number)

    def normal(deviation: float) -> float:
        return deviation * float(torch.randn((), generator=numbers, dtype=torch.float64))

    if number == todo.population - 1:
        return dict.fromkeys(spread, (1.0, 0.0))
    if number < todo.population:
        return {layer: (math.exp(normal(todo.scale_sigma)), normal(deviation)) for layer, deviation in spread.items()}
    alive = history[-todo.population :]
    drawn = torch.randint(todo.population, (todo.samples,), generator=numbers).tolist()
    winner = min((alive[position] for position in drawn), key=lambda individual: individual.loss)
    mutations = max(1, int(todo.mutated_fraction * len(spread)))  # at least one (C): few layers would never change
    mutated = set(torch.randint(len(spread), (mutations,), generator=numbers).tolist())
    sigma = todo.scale_sigma * (1.0 - number / (1.25 * todo.generations))
    affine = dict(winner.affine)
    for position, (layer, deviation) in enumerate(spread.items()):
        if position in mutated:
            scale, shift = affine[layer]
            affine[layer] = (scale * math.exp(normal(sigma)), shift + normal(deviation))
    return affine


# --- an interrupted search goes on ---


def recalled(checkpoint: Checkpoint) -> list[float]:
    """The losses that an interrupted search had found, on all ranks; none at a fresh start."""
    content = checkpoint.read()
    return safetensors.torch.load(content)["losses"].tolist() if content else []


def remember(checkpoint: Checkpoint, history: Sequence[Individual]) -> None:
    """Write the losses found so far, if it is time to; collective.

    Raises:
        Paused: rank 0 is asked to; on all ranks.
    """
    wish = checkpoint.agree()
    if wish is not Wish.GO_ON:
        losses = torch.tensor([individual.loss for individual in history], dtype=torch.float64)
        checkpoint.write(safetensors.torch.save({"losses": losses}))
    if wish is Wish.PAUSE:
        raise Paused
