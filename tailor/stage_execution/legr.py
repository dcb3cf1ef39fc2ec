"""LeGR's search: aging evolution of one scale and one shift per layer (Chin et al., CVPR 2020).

Each new individual is a mutated copy of the best of a few that are drawn from the population, and the oldest dies.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import safetensors.torch
import torch
from torch import Tensor

import tailor.stages as stages
from tailor.common.errors import Paused
from tailor.data.objective import quality
from tailor.data.task_data import Samples, generator
from tailor.model.state import ModelState
from tailor.pruning import budget_solver, surgery
from tailor.stage_execution.base import StageContext, StageOutput, add_prefix, compute
from tailor.stage_execution.pruning import groups_of
from tailor.stage_execution.tuning import train_all
from tailor.training.checkpoint import Checkpoint, CheckpointAction, never
from tailor.training.prediction import predict

Affine = dict[str, tuple[float, float]]
"""Layer -> (scale, shift) of its scores."""


@dataclass(frozen=True, kw_only=True)
class Individual:
    """A ranking and its loss."""

    affine: Affine
    loss: float


@compute.register
def compute_learn_ranking(stage: stages.LearnRanking, parent: ModelState, context: StageContext) -> StageOutput:
    """Return the parent's scores by the best scales and shifts found, and the loss of each individual tried.

    A ranking's loss is that of the network pruned by it and tuned briefly, on the validation split.
    """
    groups = groups_of(parent, stage.rule)
    if not groups:  # earlier steps left one group of each convolution, or one head in each block
        return StageOutput(info={"losses": [], "affine": {}})
    data = context.splits(stage.task)
    budget = budget_solver.budget_of(stage, parent, groups)

    def loss_of(affine: Affine) -> float:
        ranking = budget_solver.combine_scores(shift_scores(parent.scores, affine), groups, stage.grouping)
        kept = budget_solver.lowest_of_all(budget, ranking)
        tuned = tune_briefly(stage, surgery.slim(parent, kept, groups), data.train, context)
        outputs = predict(tuned.build(context.ranks.device), data.validation, context.ranks)
        return quality(outputs, data.validation.labels.cpu()).loss

    spread = {layer: float(scores.std(correction=0)) for layer, scores in parent.scores.items()}
    checkpoint = context.checkpoint(stage.key())
    history: list[Individual] = []
    known_losses = read_losses(checkpoint)  # of an interrupted search
    for individual in evolve(stage, spread, loss_of, known_losses):
        history.append(individual)
        was_computed_now = len(history) > len(known_losses)
        if was_computed_now:
            write_losses(checkpoint, history)
    best = min(history, key=lambda individual: individual.loss)
    info = {"losses": [individual.loss for individual in history], "affine": best.affine}
    return StageOutput(info=info, tensors=add_prefix("scores", shift_scores(parent.scores, best.affine)))


def shift_scores(scores: dict[str, Tensor], affine: Affine) -> dict[str, Tensor]:
    """Layer -> (F,) its scores times its scale plus its shift."""
    shifted = {}
    for layer, values in scores.items():
        scale, shift = affine[layer]
        shifted[layer] = values * scale + shift
    return shifted


def tune_briefly(stage: stages.LearnRanking, state: ModelState, samples: Samples, context: StageContext) -> ModelState:
    """The state after `tuning_steps` full batches of SGD; the images repeat in order (C)."""
    if stage.training is None:
        return state
    images = stage.tuning_steps * stage.training.batch_size
    repeated = samples.take(torch.arange(images) % len(samples))
    short = replace(context, checkpoint_folder=None, pause=never)  # the search remembers losses, not steps
    trained = train_all(state, repeated, stage.training, short, key=stage.key(), augmentation=stage.task.augmentation)
    return replace(state, tensors=trained.tensors)


# --- aging evolution ---


def evolve(
    stage: stages.LearnRanking,
    spread: dict[str, float],
    loss_of: Callable[[Affine], float],
    known_losses: Sequence[float] = (),
) -> Iterator[Individual]:
    """All individuals in the order of their birth, of which the last `population` are alive.

    Each has its own stream of random numbers, so an interrupted search is repeated from its losses only.

    Args:
        stage: population, samples, generations, mutations and seed are read.
        spread: layer -> standard deviation of its scores, of all layers with a scale and a shift.
        loss_of: the loss of a ranking, the smaller the better.
        known_losses: of the first individuals, which are not evaluated again.
    """
    history: list[Individual] = []
    for number in range(stage.generations):
        affine = next_individual(stage, spread, history)
        loss = known_losses[number] if number < len(known_losses) else loss_of(affine)
        history.append(Individual(affine=affine, loss=loss))
        yield history[-1]


def next_individual(stage: stages.LearnRanking, spread: dict[str, float], history: Sequence[Individual]) -> Affine:
    """The next individual after those of `history`.

    The first population is random except for its last, which changes no score. After it, the best of `samples`
    individuals drawn from those alive is mutated in some layers (drawn with replacement): scale times
    exp(N(0, sigma x step)), shift plus N(0, spread of the layer), with a step that falls from 1 to 0.2.
    """
    number = len(history)
    numbers = generator(stage.seed, "legr", number)

    def normal(deviation: float) -> float:
        return deviation * float(torch.randn((), generator=numbers, dtype=torch.float64))

    if number == stage.population - 1:
        return dict.fromkeys(spread, (1.0, 0.0))
    affine: Affine = {}
    if number < stage.population:
        for layer, deviation in spread.items():
            scale = math.exp(normal(stage.scale_sigma))
            affine[layer] = (scale, normal(deviation))
        return affine
    alive = history[-stage.population :]
    drawn = torch.randint(stage.population, (stage.samples,), generator=numbers).tolist()
    winner = min([alive[position] for position in drawn], key=lambda individual: individual.loss)
    mutations = max(1, int(stage.mutated_fraction * len(spread)))  # at least one (C): few layers would never change
    mutated = set(torch.randint(len(spread), (mutations,), generator=numbers).tolist())
    sigma = stage.scale_sigma * (1.0 - number / (1.25 * stage.generations))
    affine = dict(winner.affine)
    for position, (layer, deviation) in enumerate(spread.items()):
        if position in mutated:
            scale, shift = affine[layer]
            new_scale = scale * math.exp(normal(sigma))
            affine[layer] = (new_scale, shift + normal(deviation))
    return affine


# --- an interrupted search resumes ---


def read_losses(checkpoint: Checkpoint) -> list[float]:
    """The losses of an interrupted search, on all ranks; none at a new start."""
    content = checkpoint.read()
    if not content:
        return []
    return safetensors.torch.load(content)["losses"].tolist()


def write_losses(checkpoint: Checkpoint, history: Sequence[Individual]) -> None:
    """Write the losses so far if it is time to; collective.

    Raises:
        Paused: on all ranks, if rank 0 is asked to pause.
    """
    action = checkpoint.agree()
    if action is not CheckpointAction.CONTINUE:
        losses = torch.tensor([individual.loss for individual in history], dtype=torch.float64)
        checkpoint.write(safetensors.torch.save({"losses": losses}))
    if action is CheckpointAction.PAUSE:
        raise Paused
