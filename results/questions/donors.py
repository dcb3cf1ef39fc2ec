"""Is it the target's own importance? Arms whose filters were scored by donors' images, beside the one by the target's.

A donor is what `pruning.scores_from` names. Two arms are compared if they differ in nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.arms.comparison import Arm, Pairing, budget_order, compare, repeats_lines
from results.arms.filter_agreement import OF_ARMS, agreement_sql
from results.arms.findings import Findings, findings_of, problem_condition
from results.arms.over_datasets import OverDataSets
from results.arms.problem import Problem
from results.arms.shared_training import support_lines
from results.arms.trial_settings import texts_of, trial_rows
from results.arms.verdict import comparison_record
from results.errors import ResultsError
from results.render.blocks import Section, TableBlock
from results.statistics.pairs import holm
from results.store.reader import Run
from results.store.views import is_of_points
from results.text.number_format import NOTHING
from results.text.page import Heading, Note, Part, Shown, Table, answer_table
from results.text.shown import DIFFERENCE_INTERVAL, PROBLEM, VERDICT, interval

DONOR = "pruning.scores_from"
OWN = "target"
MADE = ("source", "noise", "scrambled", "shuffled")
"""Donors that are no other data set."""
OTHERS = "other data sets"

Kappas = Mapping[frozenset[str], float]  # by the names of two arms, or of one


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
    " sets: their mean. Over targets, each is one observation; not where one has several numbers of"
    " training images.",
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
    kappas: dict[tuple[Problem, float | None], Kappas] = {}
    found: list[Transfer] = []
    for by_donor in _arms_by_donor(findings):
        own = by_donor[OWN]
        if (own.problem, own.asked) not in kappas:
            kappas[own.problem, own.asked] = _kappas(findings.run, own)
        found += _transfers_of(by_donor, kappas[own.problem, own.asked])
    return found


def _arms_by_donor(findings: Findings) -> list[dict[str, Arm]]:
    """Return the arms that differ in their donor alone, by its name, where one of them is the target."""
    if DONOR not in findings.settings.varying:
        return []
    settings = {row["trial_id"]: texts_of(row["config_json"]) for row in trial_rows(findings.run)}
    groups: dict[tuple[Any, ...], dict[str, Arm]] = {}
    for arm in findings.tested:
        texts = settings.get(arm.points[0].trial_id, {})
        if DONOR in texts:
            others = frozenset(item for item in texts.items() if item[0] not in (DONOR, *_OF_SEEDS, *_OF_BUDGETS))
            groups.setdefault((arm.problem, budget_order(arm.asked), others), {})[texts[DONOR]] = arm
    several = [by_donor for by_donor in groups.values() if OWN in by_donor and len(by_donor) > 1]
    return sorted(several, key=lambda by_donor: _order(by_donor[OWN]))


def _order(own: Arm) -> tuple[Any, ...]:
    return own.problem, budget_order(own.asked), own.name


def compared_filters(findings: Findings) -> str:
    """Return the SQL condition on the rows of `kept_filters` that `section` reads."""
    arms = [arm for by_donor in _arms_by_donor(findings) for arm in by_donor.values()]
    points = {(point.trial_id, point.point) for arm in arms for point in arm.points}
    return is_of_points(sorted(points)) if points else "false"


def _transfers_of(by_donor: Mapping[str, Arm], kappas: Kappas) -> Iterator[Transfer]:
    """Yield a transfer for each donor of one target, and one for the mean of several other data sets."""
    own = by_donor[OWN]
    of_seeds = kappas.get(frozenset({own.name}))
    others = sorted(donor for donor in by_donor if donor not in (OWN, *MADE))
    for donor in (*others, *(made for made in MADE if made in by_donor)):
        arm = by_donor[donor]
        yield Transfer(own, donor, compare([(arm, own)]), kappas.get(frozenset({arm.name, own.name})), of_seeds)
    if len(others) > 1:
        yield Transfer(own, OTHERS, compare([(by_donor[donor], own) for donor in others]), None, of_seeds)


def _kappas(run: Run, own: Arm) -> Kappas:
    """Return how far two arms on this target and at this budget keep the same filters; of one arm, two of its seeds."""
    if own.asked is None:
        return {}
    records = run.rows(agreement_sql(run, OF_ARMS, where=problem_condition(own.problem), asked=own.asked))
    return {frozenset({record["arm"], record["other_arm"]}): record["kappa"] for record in records}


def over_targets(found: Sequence[Transfer]) -> list[tuple[Transfer, OverDataSets]]:
    """Return each donor that several targets have: it on the first of them, and over all.

    None where a target has several numbers of training images, which are no independent observations.
    """
    groups: dict[tuple[Any, ...], list[Transfer]] = {}
    for transfer in found:
        groups.setdefault(transfer.key, []).append(transfer)
    return [
        (group[0], OverDataSets(tuple(transfer.pairing for transfer in group)))
        for group in groups.values()
        if len({transfer.own.problem.dataset for transfer in group}) == len(group) > 1
    ]


def donors_tables(found: Sequence[Transfer]) -> tuple[Table, Table]:
    """Return the tables "donors" and "over_targets"; all their tests are one family."""
    over = over_targets(found)
    corrected = holm([one.pairing.p_of_family for one in found] + [of_all.p for _, of_all in over])
    records = [_record(one, p) for one, p in zip(found, corrected[: len(found)], strict=True)]
    records_over = []
    for (one, of_all), p in zip(over, corrected[len(found) :], strict=True):
        network, targets = one.own.problem.network, len(of_all.pairings)
        records_over.append({**_named(one), **of_all.record, "network": network, "targets": targets, "p_holm": p})
    return (
        answer_table("compare --donors", records, "donors", shown=SHOWN),
        answer_table("compare --donors", records_over, "over_targets", shown=SHOWN_OVER if records_over else ()),
    )


def _record(one: Transfer, p_holm: float | None) -> dict[str, Any]:
    return {
        **comparison_record(one.pairing), **one.own.problem.record, **_named(one), "p": one.pairing.p_of_family,
        "p_holm": p_holm, "kappa": one.kappa, "kappa_of_seeds": one.kappa_of_seeds,
    }  # fmt: skip


def _named(one: Transfer) -> dict[str, Any]:
    """Return the columns that name a donor of an arm at its budget."""
    own = one.own
    return {
        "metric": own.metric, "label": own.label, "asked_removed_macs_fraction": own.asked, "donor": one.donor,
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
    problems = {one.own.problem for one in found}
    yield from map(Note, [*READ, *repeats_lines(one.pairing for one in found), *support_lines(run, problems)])
    tests = sum(record["p_holm"] is not None for record in (*of_targets.records, *over.records))
    yield Note(f"p (Holm): the {tests} tests of both tables are one family. Verdicts are uncorrected.")
