"""The cost of scoring filters by each criterion, in epochs of training the same network on the same images.

    python benchmarks/scoring.py            # about five minutes
    python benchmarks/scoring.py --quick    # about one minute

Each round times one epoch of fine-tuning, then the scoring stage of every criterion that the network can have, then the
training of TransTailor's factors; so other work on the machine affects them all.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.images import CLASSES, PIXELS, training_images
from benchmarks.record import RESULTS, Cell, Measured, spread, verdict, write
from tailor.catalogue.networks import NETWORKS
from tailor.config.data import DataConfig
from tailor.config.trial import TrialConfig
from tailor.data.task_data import Samples, Splits
from tailor.execution.dry_run import PlannedOutcome
from tailor.methods.recipe import Recipe
from tailor.methods.transtailor import TransTailor
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.parallel.process_group import join
from tailor.pruning.criteria import CRITERIA
from tailor.stage_execution import StageContext, compute
from tailor.stages import Stage, Task

GOAL = 1.5  # epochs of training that a scoring may cost at the most
EPOCH, ALPHA = "(one epoch of training)", "(training alpha before beta)"
IMAGES, IMAGES_QUICK = 128, 32  # of random images, for networks that read photographs

COLUMNS = (
    "network",
    "scored_by",
    "seconds",
    "epoch_s",
    "epochs_of_training",
    "epochs_quartiles",
    "cpu_time_epochs",
    "rounds",
    "goal",
    "verdict",
)


@dataclass(frozen=True, kw_only=True)
class GivenSamples(StageContext):
    """A `StageContext` in which every task has the same images."""

    samples: Samples

    def splits(self, task: Task) -> Splits:  # noqa: ARG002
        """The given images, whatever the task."""
        return Splits(train=self.samples, validation=self.samples, test=self.samples)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One stage computed once."""

    wall_s: float
    cpu_s: float


Rounds = list[dict[str, Timing]]  # what was timed -> how long it took, once per round


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="the cost of scoring filters, in epochs of training")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: for a look, not for a record")
    parser.add_argument("--out", type=Path, default=RESULTS / "scoring", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[tuple[Cell, ...]] = []
    for network, usual, quick in (("digits_vgg", 15, 3), ("digits_resnet", 15, 3), ("mobilenet_v2", 3, 1)):
        rounds = measure(network, *((quick, IMAGES_QUICK) if options.quick else (usual, IMAGES)))
        rows += [row(network, name, rounds) for name in rounds[0] if name != EPOCH]
        print(f"{network}: {len(rounds)} rounds", file=sys.stderr, flush=True)
    write(Measured(title="The cost of scoring", columns=COLUMNS, rows=tuple(rows), notes=_notes()), options.out)
    return 0


def measure(network: str, rounds: int, photographs: int) -> Rounds:
    """Each round's timings; one more round before them is not counted."""
    samples = training_images(network, photographs)
    shape = tuple(samples.images.shape[1:])
    tensors = building.build(network, CLASSES, seed=0).state_dict()
    state = ModelState(network=network, classes=CLASSES, input_shape=shape, tensors=tensors)
    place = GivenSamples(ranks=join("cpu"), checkpoint_folder=None, checkpoint_every_s=30.0, samples=samples)
    found = [{name: _time_stage(stage, state, place) for name, stage in _stages(network)} for _ in range(rounds + 1)]
    return found[1:]


def row(network: str, name: str, rounds: Rounds) -> tuple[Cell, ...]:
    """A row of the table; ratios are medians of the rounds' ratios."""
    walls = [one[name].wall_s / one[EPOCH].wall_s for one in rounds]
    cpu = statistics.median(one[name].cpu_s / one[EPOCH].cpu_s for one in rounds)
    seconds, epoch_s = (statistics.median(one[what].wall_s for one in rounds) for what in (name, EPOCH))
    epochs = statistics.median(walls)
    judged = (None, None) if name == ALPHA else (GOAL, verdict(epochs < GOAL))
    return network, name, seconds, epoch_s, epochs, spread(walls), cpu, len(rounds), *judged


def _stages(network: str) -> Iterator[tuple[str, Stage]]:
    """The timed stages by name, as trials make them by default; all these networks have a ReLU."""
    recipe, model = Recipe(TrialConfig(method=TransTailor())), PlannedOutcome("0" * 64)
    tuning = recipe.fine_tune(model, 1)
    yield EPOCH, replace(tuning, training=tuning.training.replace(epochs=1))
    for name, criterion in CRITERIA.items():
        if criterion.needs != "norm" or NETWORKS[network].has_norm:
            yield name, recipe.scores(model, name)
    usual = TransTailor()
    yield ALPHA, recipe.train_factors(model, 1, epochs=usual.alpha_epochs, learning_rate=usual.alpha_learning_rate)


def _time_stage(stage: Stage, state: ModelState, place: StageContext) -> Timing:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    compute(stage, state, place)
    return Timing(cpu_s=time.process_time() - cpu_s, wall_s=time.perf_counter() - wall_s)


def _notes() -> tuple[str, ...]:
    return (
        "One thread on a CPU, batches of the trial's default; networks at their initial weights. Digits: the "
        f"{DataConfig().train_images} training images of the target; mobilenet_v2: {IMAGES} random images "
        f"({IMAGES_QUICK} with --quick) of "
        f"{PIXELS} x {PIXELS} pixels.",
        "Each is the stage as a trial computes it: the model built, its groups of filters found, then the pass over "
        "the images, if there is one; an epoch is a fine-tuning of one epoch. Medians of the rounds' ratios.",
        f"goal: every criterion costs less than {GOAL} epochs. Training alpha is no criterion but what TransTailor "
        f"does before beta: {TransTailor().alpha_epochs} epochs with frozen weights.",
    )


if __name__ == "__main__":
    sys.exit(main())
