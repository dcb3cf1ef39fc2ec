"""How many more seeds would settle a comparison.

For each comparison with one arm; and what the present seeds can detect.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from results.arms.against import compared_arms, control_lines
from results.arms.comparison import Pairing, compare, repeats_lines
from results.arms.counts import MORE_SEEDS
from results.arms.findings import findings_of
from results.arms.selection import nan_lines, no_arm_typed, not_at_budget, without_control
from results.arms.shared_training import support_lines
from results.arms.verdict import comparison_record, no_verdict
from results.command_options import against_option, at_option, over_option, refuse_points
from results.errors import ResultsError
from results.question import question
from results.sign_flip import LOOKS, SIGNIFICANCE
from results.statistics.power import POWER, detectable_effect, largest_deviation, pairs_for
from results.statistics.sequential import Design
from results.statistics.sequential_plan import ExpectedSeeds, expected_seeds
from results.store.reader import Run
from results.text.number_format import NOTHING
from results.text.page import Heading, Note, Part, Shown, TableRecord, answer_table, notes
from results.text.shown import ARM_AT_BUDGET, DIFFERENCE_INTERVAL
from transtailor import cli
from transtailor.plural import counted


@dataclass(frozen=True)
class Needed:
    """What one comparison needs.

    Attributes:
        detectable: smallest true difference that the present pairs detect with `POWER`; None below two pairs.

        look_by_look: what it takes if seeds are added until it is settled, at the usual looks; None if there is nothing
            to plan from.

    The other three are None if no feasible number of pairs is enough, as for a difference of 0.
    """

    pairing: Pairing
    detectable: float | None
    pairs: int | None  # pairs that detect the wanted difference with `POWER`, if the measured deviation is the true one
    pairs_with_doubt: int | None  # the same with the upper 80% limit of that deviation
    pairs_in_family: int | None  # the same as `pairs` at the level that Holm's correction starts with
    look_by_look: ExpectedSeeds | None


def seeds_needed(pairings: Sequence[Pairing], difference: float | None) -> list[Needed]:
    """Compute what each comparison of a family needs to settle `difference`, or its measured one."""
    family = _family(pairings)
    needs = []
    for pairing in pairings:
        mean = pairing.result.difference
        wanted = mean.mean if difference is None else difference
        if wanted is None or not mean.deviation:
            needs.append(Needed(pairing, None, None, None, None, None))
            continue
        effect = wanted / mean.deviation
        design = Design(LOOKS, SIGNIFICANCE, abs(wanted), family)
        effect_with_doubt = wanted / largest_deviation(mean.deviation, mean.n)
        needs.append(
            Needed(
                pairing,
                detectable=detectable_effect(mean.n) * mean.deviation,
                pairs=pairs_for(effect),
                pairs_with_doubt=pairs_for(effect_with_doubt),
                pairs_in_family=pairs_for(effect, significance=SIGNIFICANCE / family),
                look_by_look=expected_seeds(wanted, mean.deviation, design) if wanted else None,
            )
        )
    return needs


def _family(pairings: Sequence[Pairing]) -> int:
    """Count the comparisons that are corrected together, one or more: those of other models, without failed trials."""
    tested = [pairing for pairing in pairings if pairing.p_of_family is not None]
    return len({(pairing.first_models, pairing.second_models) for pairing in tested}) or 1


def seeds_needed_page(run: Run, against: str, asked: float | None, difference: float | None) -> Iterator[Part]:
    """Yield one table per problem: every arm against one.

    Args:
        against: the arm that all others are compared with, as in `compare`: those that trained for longer than it with
            the fine-tuning that did so, too.
        asked: share of the MACs to remove; None shows all budgets.
        difference: the difference worth detecting, in the metric's own unit (0.01 is one point); None
            takes each measured one for true, which is too optimistic if it was large by chance.

    Raises:
        ResultsError: no such arm, several with that label, or all comparisons have fewer than two pairs.
    """
    findings = findings_of(run)
    compared = compared_arms(run, findings.arms, against, asked)
    pairings_of_bases = [[compare([pair]) for pair in pairs] for _, pairs in compared]
    if not any(pairing.result.difference.n > 1 for pairings in pairings_of_bases for pairing in pairings):
        raise ResultsError(
            f"no comparison with {compared[0][0].name!r} has two or more seeds that both arms have, so there is no"
            f" spread, and no interval and no number of seeds can be given; {MORE_SEEDS}"
        )
    for (base, pairs), pairings in zip(compared, pairings_of_bases, strict=True):
        yield Heading(f"{base.problem}, against {base}")
        yield ""
        needs = seeds_needed(pairings, difference)
        records = [_record(needed) for needed in needs]
        yield answer_table("power", records, shown=SHOWN)
        yield ""
        lines = not_at_budget([arm for arm in findings.tested if arm.problem == base.problem], asked)
        yield from notes([*lines, *_notes(needs, difference), *control_lines(base, pairs)], base.problem)
        yield ""
    problems = {base.problem for base, _ in compared}
    yield from map(Note, without_control(findings.tested, problems, compared[0][0].name))
    yield from map(Note, [*nan_lines(findings.best, asked), *support_lines(run, problems)])


def _record(needed: Needed) -> dict[str, Any]:
    difference = needed.pairing.result.difference
    expected = needed.look_by_look
    return {
        **comparison_record(needed.pairing),
        "deviation": difference.deviation, "detectable_difference": needed.detectable, "pairs_needed": needed.pairs,
        "pairs_needed_cautious": needed.pairs_with_doubt, "pairs_needed_holm": needed.pairs_in_family,
        "sequential_seeds": None if expected is None else expected.mean,
        "sequential_settled_fraction": None if expected is None else expected.settled,
        "pairs_to_add": None if needed.pairs is None else max(0, needed.pairs - difference.n),
    }  # fmt: skip


def _sequential_text(record: TableRecord) -> str:
    seeds = record["sequential_seeds"]
    return NOTHING if seeds is None else f"{seeds:.0f} ({record['sequential_settled_fraction']:.0%})"


SHOWN = (
    ARM_AT_BUDGET, "pairs", "difference", DIFFERENCE_INTERVAL, "deviation", "detectable_difference", "pairs_needed",
    "pairs_needed_cautious", "pairs_needed_holm", Shown("sequential_seeds", text=_sequential_text), "pairs_to_add",
    "against",
)  # fmt: skip


def _notes(needs: Sequence[Needed], difference: float | None) -> list[str]:
    """Explain the columns, and say which rows to read with care."""
    pairings = [needed.pairing for needed in needs]
    what = "the measured difference, taken for true" if difference is None else f"a true difference of {difference:g}"
    lines = [
        f"Detectable: the smallest true difference that the present pairs find with a power of {POWER:g} at"
        f" {SIGNIFICANCE:g} (paired t test). Needed: pairs that detect {what}; more: those still to run. Cautious: the"
        f" same with the upper 80% limit of the deviation. With Holm: at {SIGNIFICANCE:g} / {_family(pairings)}, where"
        " the correction over this table starts. Sequential: seeds on average if they are added until that is settled"
        f" ([settle]), with looks after {', '.join(map(str, LOOKS))}, and how often it is."
    ]
    if difference is None:
        lines.append("A measured difference that looks large is usually too large: plan with --difference.")
    without = [f"{pairing.first} ({no_verdict(pairing)})" for pairing in pairings if no_verdict(pairing)]
    if without:
        lines.append(f"No number of seeds settles what compare has no verdict on: {'; '.join(without)}.")
    without_spread = sum(not pairing.result.difference.deviation for pairing in pairings)
    if without_spread:
        lines.append(
            f"In {counted(without_spread, 'comparison')} all differences are equal, or there is one pair: no spread,"
            " so nothing can be planned from that."
        )
    mixed = sum(pairing.is_mixed for pairing in pairings)
    if mixed:
        lines.append(f"Computed on mixed hardware, ranks or torch versions: {counted(mixed, 'comparison')}.")
    unpaired = [pairing for pairing in pairings if pairing.result.unpaired]
    if unpaired:
        text = ", ".join(f"{pairing.first} ({counted(pairing.result.difference.n, 'pair')})" for pairing in unpaired)
        lines.append(f"Seeds that only one of the two arms has are left out: {text}.")
    return lines + repeats_lines(pairings)


@question(example="runs/demo --against fine_tune")
@against_option
@over_option
@at_option
@cli.option(
    "--difference", type=float, metavar="SCORE",
    help="the difference worth finding, such as 0.01 for one point (default: the measured one)",
)  # fmt: skip
def power(
    run: Run, against: str | None = None, at: float | None = None, difference: float | None = None
) -> Iterator[Part]:
    """How many more seeds would settle each comparison with an arm."""
    if difference is not None and (not math.isfinite(difference) or not difference):
        raise ResultsError(f"--difference {difference:g}: expected a number other than 0, such as 0.01")
    refuse_points("--difference", difference)
    if against is None:
        raise no_arm_typed(run)
    return seeds_needed_page(run, against, at, difference)
