"""Does a network that was pruned to milliseconds by a table keep them, and what do other ways leave in the same time?

Each network is pruned to 0.8, 0.6 and 0.5 of its time by its table, which is measured as `transtailor model table` does
it unless the folder of tables has it. Beside it: the lowest-scored filters of all, and the same share of each layer, in
multiples of 8 and 16, with as many MACs as it has and again in as many milliseconds, which is found by timing; and
Torch-Pruning with `round_to`, with as many MACs. All of a network's models take turns in ONNX Runtime. End all other
work first.

    python benchmarks/table_budgets.py --networks resnet18 mobilenet_v2      # minutes each; resumes
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import torch

from benchmarks.pruned_speed import CLASSES, RULE, torch_pruning_state
from benchmarks.record import ROOT, Cell, Measured, parser_of, read_rows, verdict, write
from tailor.common.errors import ConfigError
from tailor.config.latency_table import LatencyTable, read_table
from tailor.data.task_data import generator
from tailor.deploy.resized_program import ResizedProgram
from tailor.facts.widths import WidthRule
from tailor.model.circumstance import circumstance_here
from tailor.model.cost import removed_macs_fraction
from tailor.model.latency import THE_WHOLE
from tailor.model.passes import as_deployed, forward_pass, onnx_pass
from tailor.model.programs import images_for
from tailor.model.state import ModelState
from tailor.model.timing import PassTimes, time_in_turns
from tailor.pruning import budget_solver, surgery
from tailor.pruning.group_records import Group, Kept
from tailor.pruning.knapsack_budget import knapsack_by_table
from tailor.stage_execution.preparing import initial_state

NETWORKS_MEASURED = ("resnet18", "mobilenet_v2", "efficientnet_b0", "resnet50", "vit_b_16")
SIDE_PX = 224
THREADS = 1
FRACTIONS = (0.8, 0.6, 0.5)  # of the whole network's milliseconds
WAYS = {
    f"{name}, multiples of {multiple}": (divide, multiple)
    for name, divide in {"lowest of all": budget_solver.lowest_of_all, "same share": budget_solver.uniform}.items()
    for multiple in (8, 16)
}
BY_TABLE = "by the table"
THEIRS = "Torch-Pruning, round_to 8, equal MACs"
OVER_GOAL = 0.05
ROUNDS, SLOW_ROUNDS, TRIAL_ROUNDS = 40, 12, 2
HALVINGS = 5
MOST_MS = 50.0  # of a whole network; a slower one is only pruned by its table, and timed in fewer rounds
COLUMNS = ("network", "asked_latency_fraction", "model", "latency_fraction", "speed_up", "eager_latency_fraction",
           "removed_macs_fraction", "kept_importance", "steady", "verdict")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A network with its groups, its scores, and its program at any widths."""

    whole: ModelState
    groups: tuple[Group, ...]
    ranking: budget_solver.Ranking
    program: ResizedProgram

    def slim(self, kept: Kept) -> ModelState:
        """Return the network with these filters."""
        return surgery.slim(self.whole, kept, self.groups)

    def divided(self, way: str, removed_fraction: float) -> Kept:
        """Return the filters that stay if a way removes this share of the MACs."""
        divide, multiple = WAYS[way]
        least = budget_solver.minimums(self.whole, self.groups, 0.1)
        budget = budget_solver.Budget(self.whole, self.groups, removed_fraction, least, WidthRule(multiple=multiple))
        return divide(budget, self.ranking)

    def importance(self, kept: Kept) -> float:
        """Return the share of the sum of all scores that is kept."""
        total = sum(float(scores.sum()) for scores in self.ranking.values())
        return sum(float(scores[kept[name]].sum()) for name, scores in self.ranking.items()) / total


def main(arguments: list[str]) -> int:
    """Add the rows of the networks to the page."""
    parser = parser_of(__doc__, "table_budgets")
    parser.add_argument("--networks", nargs="+", default=NETWORKS_MEASURED, metavar="NAME", help="(default: all five)")
    parser.add_argument("--tables", type=Path, default=Path("build/tables"), help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    rows = read_rows(options.out, COLUMNS)
    for network in options.networks:
        if any(row[0] == network for row in rows):
            continue
        rows += rows_of(network, table_of(network, options.tables / f"{network}.json"))
        write(page(rows), options.out, ("torch", "onnxruntime", "torch-pruning"))
    return 0


def table_of(network: str, file: Path) -> LatencyTable:
    """Return the table in this file; if there is none, the command measures it first."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "transtailor", "model", "table", network, "--image-px", str(SIDE_PX)]
        words += ["--classes", str(CLASSES), "--threads", str(THREADS), "--out", str(file.resolve())]
        subprocess.run(words, cwd=ROOT, check=True)
    return read_table(file)


def rows_of(network: str, table: LatencyTable) -> Iterator[tuple[Cell, ...]]:
    """Prune a network in all ways, time its models in turns, and yield their rows."""
    whole = initial_state(network, CLASSES, table.input_shape, seed=0)
    groups = surgery.groups(whole.build(), whole.input_shape, RULE)
    numbers = generator(0, "importance")
    ranking = {}  # of unlike layers, as scores are: each group has a scale of its own
    for group in groups:
        scale = torch.exp(torch.randn((), generator=numbers))
        ranking[group.name] = scale * torch.rand(group.filters, generator=numbers)
    setting = Setting(whole=whole, groups=groups, ranking=ranking, program=ResizedProgram(whole, 1))
    is_slow = table.whole_ms > MOST_MS
    rounds = SLOW_ROUNDS if is_slow else ROUNDS
    theirs = [] if is_slow else by_torch_pruning(whole)
    for fraction in FRACTIONS:
        minimum = budget_solver.minimums(whole, groups, 0.1)
        kept, _ = knapsack_by_table(table, whole, groups, ranking, minimum, table.asked_ms(None, fraction))
        models: dict[str, Kept | ModelState] = {BY_TABLE: kept}
        macs_fraction = removed_macs_fraction(setting.slim(kept))
        for way in () if is_slow else WAYS:
            models |= {f"{way}, equal MACs": chosen for chosen in _divided(setting, way, macs_fraction)}
            models |= {f"{way}, equal ms": chosen for chosen in _in_time(setting, way, fraction)}
        if theirs:
            models[THEIRS] = min(theirs, key=lambda state: abs(removed_macs_fraction(state) - macs_fraction))
        states = {name: setting.slim(of) if isinstance(of, dict) else of for name, of in models.items()}
        times = times_of(setting, states, "onnxruntime", rounds)
        eager = times_of(setting, states, "eager", rounds // 2)
        for name, state in states.items():
            measured = 1.0 / times[name].speed
            of_model = models[name]
            yield (
                network,
                fraction,
                name,
                measured,
                times[name].speed,
                1.0 / eager[name].speed,
                removed_macs_fraction(state),
                setting.importance(of_model) if isinstance(of_model, dict) else None,
                "yes" if times[name].is_steady else "no",
                verdict(measured <= fraction * (1.0 + OVER_GOAL)) if name == BY_TABLE else None,
            )


def _divided(setting: Setting, way: str, removed_fraction: float) -> list[Kept]:
    """Return what a way keeps, in a list; an empty list if it cannot remove this share."""
    try:
        return [setting.divided(way, removed_fraction)]
    except ConfigError:
        return []


def _in_time(setting: Setting, way: str, fraction: float) -> list[Kept]:
    """Return what a way keeps in this share of the milliseconds, found by timing, in a list; else an empty list."""
    least, most = 0.0, 0.95
    fast_enough: list[Kept] = []
    for _ in range(HALVINGS):
        middle = (least + most) / 2
        kept = _divided(setting, way, middle)
        is_fast = True  # where a way cannot remove so much, less is tried
        if kept:
            times = times_of(setting, {way: setting.slim(kept[0])}, "onnxruntime", TRIAL_ROUNDS)
            is_fast = 1.0 / times[way].speed <= fraction
            if is_fast:
                fast_enough = kept
        least, most = (least, middle) if is_fast else (middle, most)
    return fast_enough


def by_torch_pruning(whole: ModelState) -> list[ModelState]:
    """Return what Torch-Pruning leaves in multiples of 8 at many shares; nothing of a network that it cannot prune."""
    try:
        return [torch_pruning_state(whole, share / 100, round_to=8) for share in range(4, 72, 4)]
    except Exception as error:  # noqa: BLE001  # it has no base class for its errors
        print(f"{whole.network}: Torch-Pruning: {error!r}", file=sys.stderr, flush=True)
        return []


def times_of(setting: Setting, states: Mapping[str, ModelState], runtime: str, rounds: int) -> dict[str, PassTimes]:
    """Return the times of models beside the whole network's, in turns, in ONNX Runtime or eagerly."""
    images = images_for(setting.whole, 1, seed=0)
    device = torch.device("cpu")
    circumstance = circumstance_here(device, runtime="eager", batch=1, threads=THREADS)
    with as_deployed(circumstance), torch.inference_mode():
        passes = {}
        for name, state in {THE_WHOLE: setting.whole, **states}.items():
            if runtime == "eager":
                passes[name] = forward_pass(state, circumstance, device)
            else:
                passes[name] = onnx_pass(setting.program.at(state), images, THREADS)
        return time_in_turns(passes, rounds=rounds)


def page(rows: list[tuple[Cell, ...]]) -> Measured:
    """Return the table of the page."""
    return Measured(
        title="Networks pruned to milliseconds by a table of blocks",
        columns=COLUMNS,
        rows=tuple(rows),
        notes=(
            "latency_fraction: of the whole network's milliseconds in ONNX Runtime, timed in turns; "
            "eager_latency_fraction: the same in eager torch with channels last. One image, "
            f"{THREADS} thread, random weights and random importance with a scale for each layer, so kept_importance "
            "says what a way can keep and nothing of accuracy.",
            f"Goal: {BY_TABLE}, at most {OVER_GOAL:.0%} above what was asked. Equal ms: the largest network of a way "
            f"that met the asked time in {HALVINGS} halvings. A way that cannot remove so much has no row; nor have "
            f"the other ways of a network that takes more than {MOST_MS:g} ms.",
        ),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
