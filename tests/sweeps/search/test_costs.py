"""What NSGA-II reads as the cost of a setting: MACs, or the latency that its trials have measured."""

from pathlib import Path

import pytest

from results.store.reader import load
from sweeps.errors import SpecError
from sweeps.search.checks import refuse_impossible
from sweeps.search.records import Proposal, Score, result_of
from sweeps.search.space import SearchCandidate
from sweeps.spec.spec import load_spec
from tailor.pruning.latency_budget import MARGIN
from tests import commands
from tests.sweeps.conftest import WriteSpec

SPEC = """
name = "fast"
imports = ["clock.py"]
[trial]
source.epochs = 1
data.train_images = 64
optimisation = { epochs = 1, head_epochs = 1 }
method.name = "prune"
method.asked_removed_macs_fraction = 0.9
method.allocation = { name = "latency", asked_latency_ms = 1.0, repeats = 2, runtime = "eager" }
[axes]
method.allocation.asked_latency_ms = [0.4, 0.6, 0.8]
method.criterion = ["l1", "l2"]
[search]
sampler = "nsga2"
cost = "pruning_latency_ms"
trials = 3
batch = 2
"""
CLOCK = '''
"""A clock that advances by a nanosecond with each multiplication, so that other programs do not change a latency."""

from torch import nn

from tailor.extend import CRITERIA, Criterion
from tailor.model import timing
from tailor.pruning.criteria.weights import l1

now_s = [0.0]


def advance(module, inputs, output):
    if isinstance(module, nn.Conv2d | nn.Linear):
        now_s[0] += 1e-9 * output.numel() * module.weight[0].numel()


timing.perf_counter = lambda: now_s[0]
nn.modules.module.register_module_forward_hook(advance)
CRITERIA.add("by_clock", Criterion(compute=l1, source="a test"))
'''


@pytest.mark.check
def test_a_search_reads_the_latencies_that_its_trials_measure(tmp_path: Path) -> None:
    (tmp_path / "fast.toml").write_text(SPEC)
    (tmp_path / "clock.py").write_text(CLOCK)
    done = commands.in_own_process(commands.LAUNCH, "fast.toml", "--site", "serial", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with load(tmp_path / "runs" / "fast") as run:
        measured = run.rows("SELECT label, trial_id, pruning_latency_ms AS ms FROM operating_points")
        proposals = run.rows("SELECT reads, read_costs, trial_ids FROM proposals ORDER BY number")
    assert len(measured) == 3
    for row in measured:
        asked_ms = float(row["label"].split()[2])
        assert (1 - MARGIN) * asked_ms <= row["ms"] <= asked_ms
    ms = {row["trial_id"]: row["ms"] for row in measured}
    assert proposals[2]["read_costs"] == [ms[trial_id] for one in proposals[:2] for trial_id in one["trial_ids"]]


@pytest.mark.parametrize(("cost", "mean"), [("macs", 15.0), ("pruning_latency_ms", 3.0)])
def test_a_settings_cost_is_the_mean_over_its_seeds(cost: str, mean: float) -> None:
    proposal = Proposal(
        number=0, batch=0, purpose="search", candidate=SearchCandidate(variant=0, values={}), seeds=(0, 1),
        drawn_by="nsga2", trial_ids=("a", "b"),
    )  # fmt: skip
    scores = {
        ("a", None): Score(validation_score=0.5, macs=10, pruning_latency_ms=2.0),
        ("b", None): Score(validation_score=0.7, macs=20, pruning_latency_ms=4.0),
    }
    told = result_of(proposal, scores, cost)  # type: ignore[arg-type]
    assert (told.score, told.cost) == (pytest.approx(0.6), mean)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"nsga2"', '"tpe"', r"\[search\] cost: tpe reads scores alone; choose sampler = 'nsga2'"),
        ('"pruning_latency_ms"\ntrials', '"seconds"\ntrials', r"\[search\] cost: .*given 'seconds'"),
        (
            'method.allocation.asked_latency_ms = [0.4, 0.6, 0.8]\nmethod.criterion = ["l1", "l2"]',
            'method.allocation.name = ["latency", "global"]',
            r"\[search\] cost: trials of 'prune taylor' measure no latency; give the method allocation = \{ name = ",
        ),
        (
            'method.allocation = { name = "latency", asked_latency_ms = 1.0, repeats = 2, runtime = "eager" }\n[axes]\n'
            'method.allocation.asked_latency_ms = [0.4, 0.6, 0.8]\nmethod.criterion = ["l1", "l2"]',
            '[axes]\nmethod.criterion = ["l1", "l2"]',
            r"trials of 'prune l1' measure no latency",
        ),
    ],
)
def test_a_cost_that_nothing_measures_is_refused(old: str, new: str, message: str, write_spec: WriteSpec) -> None:
    text = SPEC.replace('imports = ["clock.py"]\n', "")
    assert old in text
    with pytest.raises(SpecError, match=message):
        refuse_impossible(load_spec(write_spec(text.replace(old, new))))
