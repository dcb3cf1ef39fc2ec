"""What is tried next: batches, refusals, failures, confirmation, and the end."""

from collections.abc import Callable, Sequence

import pytest

from sweeps.errors import SpecError
from sweeps.search import proposals, samplers
from sweeps.search.proposals import next_batch
from sweeps.search.records import Proposal
from sweeps.search.samplers import sampler_seed
from sweeps.spec.spec import Spec, load_spec
from tailor.common.seeds import stream
from tests.sweeps.conftest import WriteSpec

HEAD = """
name = "s"
[trial.method]
name = "prune"
[axes]
seed = [3, 7]
method.criterion = ["l1", "l2", "random"]
optimisation.epochs = [2, 3, 4, 5, 6]
"""
TPE = HEAD + '[search]\nsampler = "tpe"\ntrials = 6\nbatch = 4\n[confirm]\ntop = 2\nseeds = 3\n'


def decided(spec: Spec, value: Callable[[Proposal], float | None], before: Sequence[Proposal] = ()) -> list[Proposal]:
    """All proposals of a search whose trials score as `value` says; None: they fail."""
    made = [*before]
    scores = {(key, one.rung): score for one in before for key in one.trial_ids if (score := value(one)) is not None}
    while batch := next_batch(spec, made, scores):
        for decision in batch:
            made.append(decision.proposal)
            if decision.proposal.trial_ids and (score := value(decision.proposal)) is not None:
                at = decision.proposal.rung
                scores |= {(key, at): score for key in decision.proposal.trial_ids}
    return made


def epochs(proposal: Proposal) -> float:
    return float(proposal.candidate.values["optimisation.epochs"]) + (
        proposal.candidate.values["method.criterion"] == "l1"
    )


def test_batches_read_those_before_and_the_best_are_confirmed_with_new_seeds(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(TPE))
    made = decided(spec, epochs)
    searched = [one for one in made if one.purpose == "search"]
    assert [one.batch for one in searched] == [0, 0, 0, 0, 1, 1] and [one.number for one in made] == list(range(8))
    assert {one.seeds for one in searched} == {(3, 7)} and all(len(one.trial_ids) == 2 for one in searched)
    best = sorted(searched, key=lambda one: (-epochs(one), one.number))[:2]
    assert [one.confirms for one in made[6:]] == [one.number for one in best]
    assert {one.seeds for one in made[6:]} == {(8, 9, 10)}
    ids = [key for one in made for key in one.trial_ids]
    assert len(set(ids)) == len(ids) == 6 * 2 + 2 * 3


def test_a_proposal_says_by_which_seed_and_from_which_results_it_was_drawn(
    write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "MOST_READ", 3)
    monkeypatch.setattr(samplers, "BEST_READ", 1)
    spec = load_spec(write_spec(TPE.replace("trials = 6", "trials = 11")))
    settings = spec.search
    assert settings is not None
    *searched, one, other = decided(spec, epochs)
    assert [(each.purpose, each.sampler_seed) for each in (one, other)] == [("confirm", None)] * 2
    for each in (one, other):  # the best of all settings
        assert dict(zip(each.reads, each.read_scores, strict=True)) == {old.number: epochs(old) for old in searched}
    assert all(each.reads == () for each in searched if each.batch == 0)
    for each in searched:
        untried = stream(0, "untried", each.number)
        assert each.sampler_seed == (sampler_seed(settings, each.number) if each.drawn_by == "tpe" else untried)
        before = searched[: each.number]
        known = [old for old in before if old.batch < each.batch]
        if known:
            best = max(known, key=lambda old: (epochs(old), -old.number))
            read = [best, *[old for old in before if old is not best][-2:]]
            assert each.reads == tuple(old.number for old in known if old in read)
            assert each.read_scores == tuple(epochs(old) for old in known if old in read)
    assert {each.drawn_by for each in searched} == {"tpe", "random"}


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_grid_and_random_read_nothing(sampler: str, write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(HEAD + f'[search]\nsampler = "{sampler}"\ntrials = 5\n'))
    assert spec.search is not None
    for one in decided(spec, epochs):
        seeds = {"grid": None, "random": sampler_seed(spec.search, one.number)}
        assert one.reads == () and (one.sampler_seed == seeds[sampler] or one.drawn_by != sampler)


def test_the_order_in_which_trials_end_changes_nothing(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(TPE))
    first = [decision.proposal for decision in next_batch(spec, (), {})]
    scores = {(key, None): epochs(one) for one in first for key in one.trial_ids}
    turned = dict(reversed(scores.items()))
    assert next_batch(spec, first, scores) == next_batch(spec, first, turned)


def test_settings_that_fail_are_not_confirmed_and_are_read_as_failed(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(TPE))
    made = decided(spec, lambda one: None if one.candidate.values["method.criterion"] == "l1" else epochs(one))
    failed = {one.number for one in made if one.candidate.values["method.criterion"] == "l1" and one.confirms is None}
    assert failed and not failed & {one.confirms for one in made}
    read = dict(zip(made[4].reads, made[4].read_scores, strict=True))
    assert read == {one.number: None if one.number in failed else epochs(one) for one in made if one.batch == 0}


def test_excluded_and_impossible_settings_are_proposals_without_trials(write_spec: WriteSpec) -> None:
    text = HEAD + '[[exclude]]\nmethod.criterion = "l1"\n[search]\nsampler = "random"\ntrials = 10\n'
    made = decided(load_spec(write_spec(text)), epochs)
    assert sum(one.refusal is None for one in made) == 10
    refused = [one for one in made if one.candidate.values["method.criterion"] == "l1"]
    assert refused and all(one.refusal == "[[exclude]] leaves it out" and not one.trial_ids for one in refused)


def test_a_search_ends_when_only_refused_settings_are_proposed(
    write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "MOST_REFUSED", 3)
    text = HEAD + '[[exclude]]\nmethod.criterion = ["l1", "l2"]\n[search]\nsampler = "random"\ntrials = 15\n'
    made = decided(load_spec(write_spec(text)), epochs)
    *searched, end = made
    assert sum(one.refusal is not None for one in searched) == 3 and {one.batch for one in searched} == {0}
    assert end.purpose == "end" and end.refusal is not None and "[[exclude]] leaves it out" in end.refusal


def test_a_limit_of_time_ends_the_search_and_what_was_tried_is_confirmed(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(TPE))
    made = [decision.proposal for decision in next_batch(spec, (), {}, "hours = 1 were reached")]
    assert len(made) == 4, "the first batch is always proposed"
    scores = {(key, None): epochs(one) for one in made for key in one.trial_ids}
    for purposes in (["end"], ["confirm", "confirm"], []):
        batch = [decision.proposal for decision in next_batch(spec, made, scores, "hours = 1 were reached")]
        assert [one.purpose for one in batch] == purposes
        made += batch
    assert made[4].refusal == "hours = 1 were reached"


def test_a_search_has_at_most_all_settings_each_once(write_spec: WriteSpec) -> None:
    for sampler in ("grid", "random", "tpe"):
        text = HEAD + f'[search]\nsampler = "{sampler}"\ntrials = 1000\n'
        made = decided(load_spec(write_spec(text)), epochs)
        assert len({one.candidate.key for one in made}) == len(made) == 15, sampler


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[search]\nsampler = "tpe"\n', r"\[search\]: sampler 'tpe' has no end; type trials = 40"),
        ('[search]\nsampler = "tune:ax"\ntrials = 3\n', "should be 'grid', 'random' or 'tpe'"),
        ("[confirm]\ntop = 3\n", r"\[confirm\]: there is no search to confirm; add \[search\]"),
        ("[search]\ntrials = 3\n[tuning]\noptimisation.learning_rate = [0.1]\n", r"\[tuning\] chooses settings too"),
        ("[search]\ntrials = 3\n[confirm]\nseeds = 1\n", r"confirm.seeds: given 1"),
        (
            "[search]\ntrials = 3\ngpu_hours = 2\n[resources]\ngpus_per_rank = 0\n",
            r"gpu_hours = 2: trials use no GPU \(gpus_per_rank in \[resources\] is 0\).*give hours instead",
        ),
        ("[search]\ntrails = 9\n", r"unknown key 'search.trails'; did you mean 'trials'\? \(valid: batch"),
        ("[resources]\nrank = 3\n", r"unknown key 'resources.rank'; did you mean 'ranks'"),
    ],
)
def test_tables_that_contradict_each_other_are_refused(text: str, message: str, write_spec: WriteSpec) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(write_spec(HEAD + text))
