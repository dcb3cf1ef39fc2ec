"""LeGR's aging evolution on a toy fitness: births and deaths against plain bookkeeping."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tailor import stages
from tailor.data.task_data import generator
from tailor.stage_execution.legr import Affine, Individual, evolve
from tailor.stages import GroupRule, Task

SPREAD = {f"layer.{number}": 0.5 + number for number in range(30)}


def search(**settings: Any) -> stages.LearnRanking:
    task = Task(
        name="digits",
        sha256="",
        train_images=200,
        images_per_class=None,
        split_seed=0,
        subset_seed=None,
        augmentation="none",
    )
    usual: dict[str, Any] = {
        "of": None,
        "rule": GroupRule(),
        "grouping": "sum",
        "removed_macs_fraction": 0.3,
        "minimum_filters_fraction": 0.1,
        "population": 8,
        "samples": 3,
        "generations": 60,
        "mutated_fraction": 0.1,
        "scale_sigma": 1.0,
        "task": task,
        "tuning_steps": 0,
        "training": None,
        "seed": 11,
    }
    return stages.LearnRanking(**usual | settings)


def toy_loss(affine: Affine) -> float:
    """Best where each layer's scale is e to its number over ten; rounded, so that many are equally fit."""
    found = sum((math.log(scale) - n / 10) ** 2 + shift**2 / 1e3 for n, (scale, shift) in enumerate(affine.values()))
    return round(found, 0)


# --- aging evolution ---


def slow_evolution(todo: stages.LearnRanking, loss_of: Callable[[Affine], float]) -> list[tuple[Affine, float]]:
    """As one would keep the books by hand: numbered places, a birthday for each, the oldest replaced by the newborn."""
    places: dict[int, dict[str, Any]] = {}
    everybody: list[tuple[Affine, float]] = []
    for birth in range(todo.generations):
        draw = generator(todo.seed, "legr", birth)

        def normal(draw: torch.Generator = draw) -> float:
            return torch.randn((), generator=draw, dtype=torch.float64).item()

        child: Affine = {}
        if birth < todo.population - 1:
            for layer, spread in SPREAD.items():
                scale = math.exp(todo.scale_sigma * normal())
                child[layer] = (scale, spread * normal())
            place = birth
        elif birth == todo.population - 1:
            child = {layer: (1.0, 0.0) for layer in SPREAD}
            place = birth
        else:
            by_age = sorted(places.values(), key=lambda one: one["birth"])
            positions = torch.randint(todo.population, (todo.samples,), generator=draw)
            winner = by_age[positions[0]]
            for position in positions:
                if by_age[position]["loss"] < winner["loss"]:
                    winner = by_age[position]
            layers = list(SPREAD)
            chosen = torch.randint(len(layers), (int(todo.mutated_fraction * len(layers)),), generator=draw)
            step = 1 - birth / (todo.generations * 1.25)
            for number, layer in enumerate(layers):
                scale, shift = winner["affine"][layer]
                if number in chosen:
                    scale *= math.exp(todo.scale_sigma * step * normal())
                    shift += SPREAD[layer] * normal()
                child[layer] = (scale, shift)
            place = min(places, key=lambda p: places[p]["birth"])  # the oldest dies
        places[place] = {"affine": child, "loss": loss_of(child), "birth": birth}
        everybody.append((child, places[place]["loss"]))
        assert len(places) <= todo.population
    return everybody


@pytest.mark.parametrize("seed", range(3))
def test_births_and_deaths_equal_plain_bookkeeping(seed: int) -> None:
    todo = search(seed=seed)
    fast = [(individual.affine, individual.loss) for individual in evolve(todo, SPREAD, toy_loss)]
    slow = slow_evolution(todo, toy_loss)
    assert [loss for _, loss in fast] == [loss for _, loss in slow]
    for (left, _), (right, _) in zip(fast, slow, strict=True):
        assert np.allclose(list(left.values()), list(right.values()), rtol=1e-12)


def test_the_first_population_ends_with_the_unchanged_scores() -> None:
    births = [individual.affine for individual in evolve(search(), SPREAD, toy_loss)]
    assert set(births[7].values()) == {(1.0, 0.0)}
    first = np.array([list(affine.values()) for affine in births[:7]])  # (7, layers, 2)
    assert np.log(first[..., 0]).std() == pytest.approx(1.0, abs=0.15)
    assert (first[..., 1] / list(SPREAD.values())).std() == pytest.approx(1.0, abs=0.15)


def changes(history: list[Individual], number: int) -> dict[str, float]:
    """Layer -> how far its scale's logarithm moved, from the parent: whoever was alive and differs in the fewest."""
    child = history[number].affine
    alive = [other.affine for other in history[number - 8 : number]]
    differing = [{layer for layer in child if child[layer] != other[layer]} for other in alive]
    parent = alive[min(range(8), key=lambda position: len(differing[position]))]
    layers = min(differing, key=len)
    return {layer: abs(math.log(child[layer][0] / parent[layer][0])) for layer in layers}


def test_few_layers_change_and_less_and_less() -> None:
    """A tenth of 30 layers, drawn with replacement; of two layers still one."""
    history = list(evolve(search(generations=400), SPREAD, toy_loss))
    moves = [changes(history, number) for number in range(8, 400)]
    assert {2, 3} <= {len(layers) for layers in moves} <= {1, 2, 3}
    sizes = [np.mean(list(layers.values())) for layers in moves]
    assert np.mean(sizes[:100]) > 1.8 * np.mean(sizes[-100:])
    few = {layer: SPREAD[layer] for layer in list(SPREAD)[:2]}
    history = list(evolve(search(), few, toy_loss))
    assert all(len(changes(history, number)) == 1 for number in range(8, 60))


def test_the_search_finds_what_random_ones_do_not() -> None:
    losses = [individual.loss for individual in evolve(search(generations=400), SPREAD, toy_loss)]
    assert min(losses) < 0.7 * min(losses[:8])


def test_known_losses_are_not_judged_again() -> None:
    todo, judged = search(), []

    def counted(affine: Affine) -> float:
        judged.append(affine)
        return toy_loss(affine)

    straight = list(evolve(todo, SPREAD, counted))
    assert len(judged) == 60
    again = list(evolve(todo, SPREAD, counted, [individual.loss for individual in straight[:23]]))
    assert again == straight
    assert len(judged) == 60 + 37
