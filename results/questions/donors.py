"""Is it the target's own importance? Arms whose filters were scored by donors' images, beside the one by the target's.

A donor is what `pruning.scores_from` names. Two arms are compared if they differ in nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.arms.comparison import Arm, Pairing, budget_order, compare
from results.arms.filter_agreement import agreement_of_arms
from results.arms.findings import Findings, findings_of, problem_condition
from results.arms.trial_settings import texts_of, trial_rows
from results.arms.verdict import verdict_word
from results.errors import ResultsError
from results.render.blocks import Section, TableBlock
from results.sign_flip import SIGNIFICANCE
from results.statistics.pairs import holm
from results.statistics.sets import OverSets, over_sets
from results.store.reader import Run
from results.text.number_format import NOTHING
from results.text.page import Heading, Note, Part, Shown, Table, answer_table
from results.text.shown import DIFFERENCE_INTERVAL, PROBLEM, VERDICT, interval

DONOR = "pruning.scores_from"
OWN = "target"
MADE = ("source", "noise", "scrambled", "shuffled")
"""Donors that are no other data set."""
OTHERS = "other data sets"


def kappa_shown(name: str, heading: str = "") -> Shown:
    """Show a kappa with two digits."""
    return Shown(name, heading, lambda record: NOTHING if record[name] is None else f"{record[name]:.2f}")


_OF_SEEDS = ("seed", "source.seed", "data.split_seed")
_OF_BUDGETS = ("method.asked_removed_macs_fraction",)
SHOWN = (
    PROBLEM, "asked_removed_macs_fraction", "label", "donor", Shown("pairs", "seeds"), "difference",
    DIFFERENCE_INTERVAL, "p", "p_holm", VERDICT, kappa_shown("kappa"), kappa_shown("kappa_of_seeds", "of seeds"),
)  # fmt: skip
SHOWN_OVER = (
    "network", "asked_removed_macs_fraction", "label", "donor", "targets", "difference", DIFFERENCE_INTERVAL, "p",
    "p_holm", VERDICT, interval("new_set_low", "difference", "a new target"),
)  # fmt: skip
READ = (
    "Difference: the test score with the donor's importance, less that with the target's own, seed by seed. Other data"
    " sets: their mean. Over targets, each is one observation.",
    "kappa: how far both keep the same filters of a seed (1: the same, 0: as by chance). Of seeds: how far two seeds"
    " of the own importance do, which is what to compare it with.",
)


@dataclass(frozen=True)
class Transfer:
    """Scores by a donor beside the target's own importance, on one target.

    Attributes:
        pairing: of the donor's arm, or of several, with the own one.
        kappa: None for several donors, and where no pair of models has one source.
    """

    own: Arm
    donor: str
    pairing: Pairing
    kappa: float | None
    kappa_of_seeds: float | None

    @property
    def key(self) -> tuple[Any, ...]:
        """What the same donor has on each target."""
        return self.own.problem.network, budget_order(self.own.asked), self.own.label, self.own.metric, self.donor


def transfers(findings: Findings) -> list[Transfer]:
    """Return all donors of each target, in the order of targets and budgets."""
    settings = {row["trial_id"]: texts_of(row["config_json"]) for row in trial_rows(findings.run)}
    groups: dict[tuple[Any, ...], dict[str, Arm]] = {}
    for arm in findings.tested:
        texts = settings.get(arm.points[0].trial_id, {})
        if DONOR in texts:
            other = frozenset(item for item in texts.items() if item[0] not in (DONOR, *_OF_SEEDS, *_OF_BUDGETS))
            groups.setdefault((arm.problem, budget_order(arm.asked), other), {})[texts[DONOR]] = arm
    found: list[Transfer] = []
    for _, by_donor in sorted(
        groups.items(), key=lambda item: (*item[0][:2], min(arm.name for arm in item[1].values()))
    ):
        if OWN in by_donor and len(by_donor) > 1:
            found += _transfers_of(findings.run, by_donor)
    return found


def _transfers_of(run: Run, by_donor: Mapping[str, Arm]) -> Iterator[Transfer]:
    """Yield a transfer for each donor of one target, and one for the mean of several other data sets."""
    own = by_donor[OWN]
    kappas = _kappas(run, own)
    of_seeds = kappas.get(own.name)
    others = sorted(donor for donor in by_donor if donor not in (OWN, *MADE))
    for donor in (*others, *(made for made in MADE if made in by_donor)):
        arm = by_donor[donor]
        yield Transfer(own, donor, compare([(arm, own)]), kappas.get(arm.name), of_seeds)
    if len(others) > 1:
        yield Transfer(own, OTHERS, compare([(by_donor[donor], own) for donor in others]), None, of_seeds)


def _kappas(run: Run, own: Arm) -> dict[str, float]:
    """Return how far each arm keeps the filters that `own` keeps, by name; of itself, two of its seeds."""
    if own.asked is None:
        return {}
    found = {}
    for record in agreement_of_arms(run, where=problem_condition(own.problem), asked=own.asked):
        pair = {record["arm"], record["other_arm"]}
        if own.name in pair:
            (other,) = pair - {own.name} or {own.name}
            found[other] = record["kappa"]
    return found


@dataclass(frozen=True)
class OverTargets:
    """A donor over several targets."""

    of: Sequence[Transfer]
    over: OverSets

    @property
    def is_complete(self) -> bool:
        """Whether no trial failed, and each target has pairs."""
        return all(_is_complete(one) for one in self.of)


def _is_complete(one: Transfer) -> bool:
    return not one.pairing.failed and bool(one.pairing.result.difference.n)


def over_targets(found: Sequence[Transfer]) -> list[OverTargets]:
    """Return each donor that several targets have."""
    groups: dict[tuple[Any, ...], list[Transfer]] = {}
    for one in found:
        groups.setdefault(one.key, []).append(one)
    found_over = []
    for group in groups.values():
        if len({one.own.problem.dataset for one in group}) > 1:
            means = [one.pairing.result.difference.mean or 0.0 for one in group]
            found_over.append(OverTargets(group, over_sets(means)))
    return found_over


def donors_tables(found: Sequence[Transfer]) -> tuple[Table, Table]:
    """Return the tables "donors" and "over_targets"; all their tests are one family."""
    over = over_targets(found)
    tests = [one.pairing.result.p if _is_complete(one) else None for one in found]
    tests += [one.over.p if one.is_complete else None for one in over]
    corrected = holm(tests)
    records = [_record(one, p) for one, p in zip(found, corrected[: len(found)], strict=True)]
    records_over = [_record_over(one, p) for one, p in zip(over, corrected[len(found) :], strict=True)]
    return (
        answer_table("compare --donors", records, "donors", shown=SHOWN),
        answer_table("compare --donors", records_over, "over_targets", shown=SHOWN_OVER),
    )


def _record(one: Transfer, p_holm: float | None) -> dict[str, Any]:
    result = one.pairing.result
    return {
        **one.own.problem.record, "metric": one.own.metric, "label": one.own.label,
        "asked_removed_macs_fraction": one.own.asked, "donor": one.donor, "pairs": result.difference.n,
        "difference": result.difference.mean, "difference_low": result.difference.low,
        "difference_high": result.difference.high, "p": result.p if _is_complete(one) else None, "p_holm": p_holm,
        "verdict": verdict_word(one.pairing), "kappa": one.kappa, "kappa_of_seeds": one.kappa_of_seeds,
        "failed_trials": one.pairing.failed,
    }  # fmt: skip


def _record_over(one: OverTargets, p_holm: float | None) -> dict[str, Any]:
    own, mean = one.of[0].own, one.over.mean
    is_settled = one.over.p is not None and one.over.p <= SIGNIFICANCE
    verdict = "inconclusive" if not is_settled else "better" if (mean.mean or 0.0) > 0 else "worse"
    return {
        "network": own.problem.network, "metric": own.metric, "label": own.label,
        "asked_removed_macs_fraction": own.asked, "donor": one.of[0].donor, "targets": mean.n,
        "difference": mean.mean, "difference_low": mean.low, "difference_high": mean.high,
        "new_set_low": one.over.new_low, "new_set_high": one.over.new_high,
        "p": one.over.p if one.is_complete else None, "p_holm": p_holm,
        "verdict": verdict if one.is_complete else "incomplete",
        "failed_trials": sum(transfer.pairing.failed for transfer in one.of),
    }  # fmt: skip


def section(findings: Findings) -> Section | None:
    """Show both tables; None if no filters were scored by a donor."""
    found = transfers(findings)
    if not found:
        return None
    shown = Section("donors", "Is it the target's own importance?", " ".join(READ), short="Donors")
    titles = ("Each donor on each target", "Each donor over the targets")
    for table, title in zip(donors_tables(found), titles, strict=True):
        if table.records:
            shown.blocks.append(TableBlock(table, title, derived=True))
    return shown


def donors_page(run: Run) -> Iterator[Part]:
    """Yield the page: each donor on each target beside the target's own importance, and over the targets.

    Raises:
        ResultsError: no arm was scored by a donor beside the same arm by the target.
    """
    found = transfers(findings_of(run))
    if not found:
        raise ResultsError(
            f"no arm was scored by a donor beside the same arm by the target itself: give both as {DONOR}, such as "
            f'axes.{DONOR} = ["target", "noise"]'
        )
    of_targets, over = donors_tables(found)
    yield Heading("Each donor on each target")
    yield ""
    yield of_targets
    yield ""
    if over.records:
        yield Heading("Over targets")
        yield ""
    yield over
    yield ""
    yield from map(Note, READ)
    tests = len(of_targets.records) + len(over.records)
    yield Note(f"p (Holm): the {tests} rows of both tables are one family. Verdicts are uncorrected.")
