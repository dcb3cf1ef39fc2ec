"""LeGR's aging evolution on a toy fitness: births and deaths against plain bookkeeping."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tailor import stages
from tailor.data.task_data import generator
from tailor.stage_execution.legr import Affine, evolve
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
        "asked_removed_macs_fraction": 0.3,
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


def slow_evolution(
    todo: stages.LearnRanking, spreads: dict[str, float], loss_of: Callable[[Affine], float]
) -> list[tuple[Affine, float]]:
    """As one would keep the books by hand: numbered places, a birthday for each, the oldest replaced by the newborn."""
    places: dict[int, dict[str, Any]] = {}
    everybody: list[tuple[Affine, float]] = []
    for birth in range(todo.generations):
        draw = generator(todo.seed, "legr", birth)

        def normal(draw: torch.Generator = draw) -> float:
            return torch.randn((), generator=draw, dtype=torch.float64).item()

        child: Affine = {}
        if birth < todo.population - 1:
            for layer, spread in spreads.items():
                scale = math.exp(todo.scale_sigma * normal())
                child[layer] = (scale, spread * normal())
            place = birth
        elif birth == todo.population - 1:
            child = {layer: (1.0, 0.0) for layer in spreads}
            place = birth
        else:
            by_age = sorted(places.values(), key=lambda one: one["birth"])
            positions = torch.randint(todo.population, (todo.samples,), generator=draw)
            winner = by_age[positions[0]]
            for position in positions:
                if by_age[position]["loss"] < winner["loss"]:
                    winner = by_age[position]
            layers = list(spreads)
            changing = max(1, int(todo.mutated_fraction * len(layers)))
            chosen = torch.randint(len(layers), (changing,), generator=draw)
            step = 1 - birth / (todo.generations * 1.25)
            for number, layer in enumerate(layers):
                scale, shift = winner["affine"][layer]
                if number in chosen:
                    scale *= math.exp(todo.scale_sigma * step * normal())
                    shift += spreads[layer] * normal()
                child[layer] = (scale, shift)
            place = min(places, key=lambda p: places[p]["birth"])  # the oldest dies
        places[place] = {"affine": child, "loss": loss_of(child), "birth": birth}
        everybody.append((child, places[place]["loss"]))
        assert len(places) <= todo.population
    return everybody


@pytest.mark.parametrize(("seed", "layers"), [(0, 30), (1, 30), (2, 2)])
def test_births_and_deaths_equal_plain_bookkeeping(seed: int, layers: int) -> None:
    """Of 30 layers a tenth changes, drawn with replacement; of two layers still one."""
    todo, spreads = search(seed=seed), dict(list(SPREAD.items())[:layers])
    fast = [(individual.affine, individual.loss) for individual in evolve(todo, spreads, toy_loss)]
    slow = slow_evolution(todo, spreads, toy_loss)
    assert [loss for _, loss in fast] == [loss for _, loss in slow]
    for (left, _), (right, _) in zip(fast, slow, strict=True):
        assert np.allclose(list(left.values()), list(right.values()), rtol=1e-12)


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
