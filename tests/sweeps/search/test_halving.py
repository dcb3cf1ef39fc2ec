"""Halving: which trials are continued, which are stopped, and that only scores at the same rung are compared."""

import random
from collections.abc import Callable
from functools import partial

import pytest

from sweeps.errors import SpecError
from sweeps.run.trial_producer import ScoreKey
from sweeps.search.halving import is_longer, stopped_trials
from sweeps.search.proposals import next_batch
from sweeps.search.records import Proposal
from sweeps.spec.spec import Spec, load_spec
from tests.sweeps.conftest import WriteSpec
from tests.sweeps.search.test_proposals import decided

SPEC = """
name = "s"
[trial]
method.name = "fine_tune"
[axes]
seed = [3, 7]
optimisation.momentum = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
[search]
sampler = "%s"
trials = 9
batch = 4
halving = { eta = 2, epochs = [3, 10] }
[confirm]
top = 2
seeds = 3
"""


def turned(one: Proposal) -> float:
    """At the first rung more momentum is better, later less is."""
    momentum = float(one.candidate.values["optimisation.momentum"])
    return momentum if one.rung == 0 else -momentum


def turned_unless(failed_momentum: float | None, one: Proposal) -> float | None:
    return None if one.candidate.values["optimisation.momentum"] == failed_momentum else turned(one)


def of_rung_1(made: list[Proposal]) -> list[Proposal]:
    return [one for one in made if one.purpose == "promote" and one.rung == 1]


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_the_best_of_each_rung_are_continued_under_their_ids(sampler: str, write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(SPEC % sampler))
    made = decided(spec, turned)
    assert [one.number for one in made] == list(range(len(made)))
    of = {rung: [one for one in made if one.purpose == "promote" and one.rung == rung] for rung in (1, None)}
    momenta = {rung: [one.candidate.values["optimisation.momentum"] for one in of[rung]] for rung in of}
    assert momenta == {1: [0.9, 0.8, 0.7, 0.6, 0.5], None: [0.5, 0.6, 0.7]}
    for one in (*of[1], *of[None]):
        assert one.trial_ids == made[one.origin].trial_ids and made[one.origin].purpose == "search"
    confirmed = [one.candidate.values["optimisation.momentum"] for one in made if one.purpose == "confirm"]
    assert confirmed == [0.5, 0.6]
    ended = {key for one in of[None] for key in one.trial_ids}
    began = {key for one in made if one.purpose == "search" for key in one.trial_ids}
    assert spec.search is not None and stopped_trials(spec.search, made, is_over=False) == began - ended


def test_each_decision_reads_all_before_it_and_nothing_is_decided_twice(write_spec: WriteSpec) -> None:
    made = decided(load_spec(write_spec(SPEC % "tpe")), turned)
    batches = [(one.batch, one.purpose, one.rung) for one in made]
    assert list(dict.fromkeys(batches)) == [
        (0, "search", 0), (1, "search", 0), (2, "search", 0), (3, "promote", 1), (4, "promote", None),
        (5, "confirm", None),
    ]  # fmt: skip


def decided_as_trials_end(spec: Spec, value: Callable[[Proposal], float | None], draw: random.Random) -> list[Proposal]:
    """All proposals of an asynchronous search whose trials end in a random order."""
    made: list[Proposal] = []
    scores: dict[ScoreKey, float] = {}
    live: list[Proposal] = []
    while True:
        ids = [key for one in live for key in one.trial_ids]
        batch = next_batch(spec, made, scores, live=ids) if len(live) < 4 else []  # `batch` of the spec
        made += [decision.proposal for decision in batch]
        live += [decision.proposal for decision in batch if decision.proposal.trial_ids]
        if not batch and not live:
            return made
        if not batch:
            ended = live.pop(draw.randrange(len(live)))
            score = value(ended)
            if score is not None:
                scores |= {(key, ended.rung): score for key in ended.trial_ids}


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_asynchronously_the_best_so_far_continue_at_once_in_any_order(sampler: str, write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec((SPEC % sampler).replace("eta = 2", "eta = 2, asynchronous = true")))
    assert spec.search is not None
    orders = set()
    for seed in range(5):
        value = partial(turned_unless, 0.3 if seed == 4 else None)
        made = decided_as_trials_end(spec, value, random.Random(seed))
        assert [one.number for one in made] == list(range(len(made)))
        of = {rung: [one.origin for one in made if one.purpose == "promote" and one.rung == rung] for rung in (1, None)}
        assert len(of[1]) == len({*of[1]}) >= 4 and {*of[None]} < {*of[1]} and len(of[None]) >= 2
        purposes = [one.purpose for one in made]
        assert purposes.index("promote") < max(n for n, purpose in enumerate(purposes) if purpose == "search")
        assert purposes[-2:] == ["confirm"] * 2 and purposes.count("search") == 9
        for one in of_rung_1(made):  # of those that had reached it by then, the best share
            read = dict(zip(one.reads, one.read_scores, strict=True))
            assert {made[number].rung for number in read} == {0}
            assert {number for number, score in read.items() if score is not None} >= {one.origin}
            assert all(score in (None, value(made[number])) for number, score in read.items())
        ended = {key for one in made if one.rung is None for key in one.trial_ids}
        rest = {key for one in made if one.purpose == "search" for key in one.trial_ids} - ended
        assert stopped_trials(spec.search, made, is_over=True) == rest
        assert stopped_trials(spec.search, made, is_over=False) == set(), "each of them may still continue"
        orders.add(tuple(one.candidate.key for one in made))
    assert len(orders) > 1, "the order in which trials end decides"


def test_asynchronously_a_trial_continues_when_eta_have_reached_its_rung(write_spec: WriteSpec) -> None:
    """Of two that have ended the better one continues; then a third is the best. The first ones are a batch."""
    spec = load_spec(write_spec((SPEC % "grid").replace("eta = 2", "eta = 2, asynchronous = true")))
    made = [decision.proposal for decision in next_batch(spec, (), {})]
    assert [one.purpose for one in made] == ["search"] * 4
    scores: dict[ScoreKey, float] = {}
    for number, (purpose, of) in enumerate([("search", 4), ("promote", 1), ("promote", 2)]):
        scores |= {(key, 0): turned(made[number]) for key in made[number].trial_ids}
        (decision,) = next_batch(spec, made, scores, live=made[3].trial_ids)
        made.append(decision.proposal)
        assert (decision.proposal.purpose, decision.proposal.origin) == (purpose, of)


def test_failed_trials_are_not_continued_and_a_smaller_share_is(write_spec: WriteSpec) -> None:
    """Of nine settings seven fail; two have scores, and both are continued."""
    spec = load_spec(write_spec(SPEC % "grid"))
    made = decided(spec, lambda one: turned(one) if turned(one) in (0.3, 0.4) or one.rung != 0 else None)
    assert [one.origin for one in made if one.purpose == "promote" and one.rung == 1] == [3, 2]
    ((reads, read_scores),) = {(one.reads, one.read_scores) for one in of_rung_1(made)}
    assert reads == tuple(range(9)) and read_scores == (None, None, 0.3, 0.4, *[None] * 5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = [3, 10]", "epochs = [10, 3]", r"the rungs \[10, 3\] are not in ascending order"),
        ("epochs = [3, 10]", "epochs = []", r"rungs are in epochs or at points; type halving = "),
        ("epochs = [3, 10]", "epochs = [3], points = [0]", r"rungs are in epochs or at points"),
        ("epochs = [3, 10]", "epochs = [0]", r"search.halving.epochs.1: given 0"),
    ],
)
def test_ladders_that_cannot_be_are_refused(old: str, new: str, message: str, write_spec: WriteSpec) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(write_spec((SPEC % "tpe").replace(old, new)))


def test_with_a_smaller_eta_more_settings_continue_and_old_decisions_stay(write_spec: WriteSpec) -> None:
    """Of nine settings 3 and 1 continue with eta = 3; with eta = 2 it is 5 and 3."""
    text = (SPEC % "grid").replace("top = 2", "top = 1")
    spec, longer = (load_spec(write_spec(text.replace("eta = 2", f"eta = {eta}"), f"{eta}.toml")) for eta in (3, 2))
    assert spec.search is not None and longer.search is not None
    assert is_longer(longer.search, spec.search) and not is_longer(spec.search, longer.search)
    before = decided(spec, turned)
    made = decided(longer, turned, before)
    assert made[: len(before)] == before
    assert [(one.rung, one.eta, one.candidate.values["optimisation.momentum"]) for one in made[len(before) :]] == [
        (1, 2, 0.6), (1, 2, 0.5), (None, 2, 0.5), (None, 2, 0.6), (None, None, 0.5),
    ]  # fmt: skip
