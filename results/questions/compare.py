"""Compare every arm with one of them, paired by seed.

A page for a note or a paper: each arm beside its control, with interval, sign-flip test and Holm's correction.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from results.arms import comparison
from results.arms.against import Pair, compared_arms, control_lines
from results.arms.below_head import below_head_lines
from results.arms.comparison import POINTS_OF_ARMS, Arm, Pairing, budget_order, repeats_lines
from results.arms.extensions import extension_notes
from results.arms.far_behind import far_behind_lines
from results.arms.findings import Findings, findings_of
from results.arms.looks import is_settled_run
from results.arms.names import BASELINE
from results.arms.one_class import one_class_lines
from results.arms.problem import Problem
from results.arms.selection import nan_lines, no_arm_typed, not_at_budget, without_control
from results.arms.shared_training import support_lines
from results.arms.verdict import comparison_record, no_verdict, verdict_word
from results.command_options import against_option, over_option
from results.errors import ResultsError
from results.question import question
from results.questions.anytime import anytime_page
from results.questions.settled import at_title, looks_page
from results.questions.stops import stop_page
from results.render import tables
from results.render.blocks import Figure, Section, TableBlock
from results.render.chart import Chart, Spec
from results.render.style import WIDTH, arm_channels, names_width, order_arms, quantity, row_axis, tooltip
from results.sign_flip import SIGNIFICANCE, pairs_needed
from results.statistics.pairs import holm
from results.statistics.power import POWER, detectable_effect, pairs_for
from results.store.reader import Run
from results.text.number_format import SCALES, Scale
from results.text.page import Heading, Note, Part, Shown, Table, answer_table, notes
from results.text.shown import DIFFERENCE_INTERVAL, VERDICT, WON_LOST_TIED
from transtailor import cli
from transtailor.plural import counted

COMPARISON = (
    "difference", DIFFERENCE_INTERVAL, WON_LOST_TIED, "ahead_fraction", "p", "smallest_p", "p_holm", VERDICT,
)  # fmt: skip
BUDGET = Shown("asked_removed_macs_fraction", is_text=True)
SHOWN = (
    BUDGET, "removed_macs_fraction", "arm", "score", *COMPARISON, "pairs_needed", "detectable_difference", "against",
)  # fmt: skip
SHOWN_POOLED = (BUDGET, "arm", "problems", Shown("pairs", "seeds"), *COMPARISON, "against")
# On a narrow screen the last ones are left out: what was found stands first.
USUAL = ("arm", "removed_macs_fraction", "difference", "verdict", "score", "difference_low", "won_lost_tied", "p")
USUAL_POOLED = (
    "arm", "asked_removed_macs_fraction", "difference", "verdict", "pairs", "difference_low", "won_lost_tied", "p",
)  # fmt: skip

Models = tuple[frozenset[str], frozenset[str]]


class ComparedRow:
    """An arm and its control, in one problem or in several: one row of a table."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.arm, self.control = pairs[0]
        self.pairing = comparison.compare(pairs)

    @property
    def models(self) -> Models:
        """What is compared: rows of the same models are one comparison."""
        return self.pairing.first_models, self.pairing.second_models


def _correct_p(rows: Sequence[ComparedRow]) -> dict[Models, float | None]:
    """Correct p for the family (Holm): by the models compared, so that equal rows count once.

    Of a row with failed trials, the larger p counts: without the lost pairs, or with them against it.
    """
    family: dict[Models, float | None] = {}
    for row in rows:
        if row.pairing.result.difference.n:  # without pairs there are no models, so none are the same
            family[row.models] = row.pairing.p_of_family
    corrected = holm(list(family.values()))
    return dict(zip(family, corrected, strict=True))


def _records(rows: Sequence[ComparedRow]) -> list[dict[str, Any]]:
    """Return a record for each row, with p corrected as one family, and the seeds that a row with a verdict needs."""
    p_holm = _correct_p(rows)
    records = []
    for row in rows:
        mean = row.pairing.result.difference
        needed = detectable = None
        if mean.deviation and not no_verdict(row.pairing):
            needed = None if mean.mean is None else pairs_for(mean.mean / mean.deviation)
            detectable = detectable_effect(mean.n) * mean.deviation
        records.append({
            **row.arm.record, **comparison_record(row.pairing), "against": row.control.name,
            "against_score": row.control.test.mean, "p_holm": p_holm.get(row.models),
            "pairs_needed": needed, "detectable_difference": detectable,
        })  # fmt: skip
    return records


def versus_arm_page(run: Run, against: str, asked: float | None) -> Iterator[Part]:
    """Yield the page: one table per network, data set and number of training images.

    Args:
        against: the arm that all others are compared with: its name, or its label if it is the only one with it.
        asked: the only budget that is shown, as a fraction of the MACs; arms without a budget (no pruning, or a rule
            decides) are shown as they are. None shows all budgets and takes the smallest of `against`.

    Raises:
        ResultsError: no such arm has been tested, several arms have that label, or no arm is at that budget.
    """
    findings = findings_of(run)
    tested = findings.tested  # of which some may have no point there
    compared = [
        (base, [ComparedRow([pair]) for pair in pairs])
        for base, pairs in compared_arms(run, findings.arms, against, asked)
    ]
    for base, rows in compared:
        yield Heading(str(base.problem))
        yield ""
        scale = SCALES[base.metric]
        score = f"test {scale.noun} {scale.value(base.test.mean)}{scale.unit}"
        yield f"Compared with {base}: {score} over {counted(base.test.n, 'seed')}."
        yield ""
        yield answer_table("compare", _records(rows), shown=SHOWN, usual=_with_control(USUAL, rows))
        yield ""
        controls = {base.name, *(row.control.name for row in rows)}
        compared_names = {row.arm.name for row in rows} | controls
        of_problem = [arm for arm in tested if arm.problem == base.problem]
        lines = not_at_budget(of_problem, asked) + below_head_lines(run, [base.problem], controls) + _notes(rows)
        lines += [*extension_notes(run, compared_names), *support_lines(run, [base.problem])]
        pairs = [row.pairs[0] for row in rows]
        lines += [*far_behind_lines(run, pairs), *control_lines(base, pairs)]
        lines += one_class_lines([base, *(arm for arm, _ in pairs)])
        yield from notes(lines, base.problem)
        yield ""
    yield from notes(without_control(tested, {base.problem for base, _ in compared}, compared[0][0].name))
    yield from notes(nan_lines(findings.points, asked))
    yield from _pooled_page(run, compared)


def _with_control(usual: Sequence[str], rows: Sequence[ComparedRow]) -> Sequence[str]:
    """Return the usual columns; behind the difference also each row's control, if the rows have several."""
    if len({row.control.name for row in rows}) < 2:
        return usual
    place = usual.index("difference") + 1
    return [*usual[:place], "against", *usual[place:]]


def _pooled_page(run: Run, compared: Sequence[tuple[Arm, Sequence[ComparedRow]]]) -> Iterator[Part]:
    """Yield the same over all problems of one metric, for pairs of arms that several problems have."""
    groups: dict[tuple[str, tuple[bool, float], str, str], list[Pair]] = {}
    for _, rows in compared:
        for row in rows:
            key = (row.arm.metric, budget_order(row.arm.asked), row.arm.name, str(row.control))
            groups.setdefault(key, []).append(row.pairs[0])
    pooled = []
    times_alone: Counter[tuple[str, tuple[bool, float], str]] = Counter()  # of arms, each with a control of its own
    for key in sorted(groups):
        if len(groups[key]) > 1:
            pooled.append(ComparedRow(groups[key]))
        else:
            times_alone[key[:3]] += 1
    split = sum(times > 1 for times in times_alone.values())
    if split:
        has, is_not = ("has", "is") if split == 1 else ("have", "are")
        yield Note(
            f"{counted(split, 'arm')} {has} other controls on other networks or data sets, and {is_not} not averaged"
            " over them."
        )
    if not pooled:
        yield answer_table("compare", [], "pooled")
        return
    yield Heading("All together")
    yield ""
    yield "The unit is the seed: both arms' scores are averaged over problems first, then compared."
    yield ""
    usual = _with_control(USUAL_POOLED, pooled)
    yield answer_table("compare", _records(pooled), "pooled", shown=SHOWN_POOLED, usual=usual)
    yield ""
    lines = [
        "Networks and data sets are fixed, not sampled, and weigh the same. n counts seeds that all of them have; the"
        " result does not extend to other networks or data sets."
    ]
    lines += [*_notes(pooled), *support_lines(run, [base.problem for base, _ in compared])]
    yield from notes(lines, "All together")
    yield ""


def _notes(rows: Sequence[ComparedRow]) -> list[str]:
    """Say how many verdicts remain after correction, and which rows to read with care."""
    corrected = _correct_p(rows)
    settled = {row.models for row in rows if verdict_word(row.pairing) in ("better", "worse")}
    left = sum(p is not None and p <= SIGNIFICANCE for p in map(corrected.get, settled))
    compared = [row for row in rows if corrected.get(row.models) is not None]
    family = len({row.models for row in compared})
    comparisons = counted(family, "comparison")
    has_small_p = any(p is not None and p <= SIGNIFICANCE for p in corrected.values())
    none = "no verdict" if has_small_p else "none"
    of_settled = f"{left or 'none'} of {len(settled)} (better or worse)" if settled else none
    could = ""
    if compared and not any(row.pairing.result.can_reach(SIGNIFICANCE / family) for row in compared):
        could = f"; with {pairs_needed(SIGNIFICANCE / family)} or more pairs, one could be"
    lines = [
        "ahead %: how often the arm is ahead at the same seed (probability of improvement); a tie counts half. Seeds"
        f" needed: pairs that find the measured difference, taken for true, with a power of {POWER:g}; detectable: the"
        " smallest true difference that the present pairs find with it."
    ]
    if compared:
        lines.append(
            f"Verdicts are uncorrected. After Holm's correction over {comparisons}, {of_settled}"
            f" {'are' if left > 1 else 'is'} significant{could}."
        )
    paired = [row for row in rows if row.pairing.result.difference.n]
    repeated = len(paired) - len(corrected)
    if repeated:
        lines.append(f"{counted(repeated, 'row')} with the same models as another row: counted as one comparison.")
    pairings = [row.pairing for row in rows]
    incomplete = sum(pairing.failed > 0 for pairing in pairings)
    if incomplete:
        lines.append(
            f"{counted(incomplete, 'row')} with failed trials or NaN scores: shown over the others. A verdict holds"
            " also with each lost pair counted against it; else it is incomplete. `transtailor run RUN --retry` runs"
            " them again."
        )
    lines += _longer_lines(rows)
    for have_it, what in (
        ([one.is_mixed for one in pairings], "mixed hardware, ranks or torch versions"),
        ([one.result.unpaired > 0 for one in pairings], "seeds of one arm only: those seeds are left out"),
        ([one.shares_models for one in pairings], "fewer distinct models than pairs: n is smaller than it looks"),
    ):
        if any(have_it):
            lines.append(f"{counted(sum(have_it), 'comparison')} with {what}.")
    lines += repeats_lines(pairings)
    same = sorted({row.arm.name for row in paired if row.pairing.first_models == row.pairing.second_models})
    if same:
        lines.append(f"{'; '.join(same)}: the very models of the control; the other settings change nothing here.")
    return lines


def _longer_lines(rows: Sequence[ComparedRow]) -> Iterator[str]:
    """Count the arms that trained longer than their controls, and say what to add where these are fine-tuning."""
    by_control: dict[bool, set[str]] = {}  # whether the control is a fine-tuning, which can be one of the same length
    for row in rows:
        if row.pairing.trained_longer and row.arm.removed > 0.0:
            by_control.setdefault(row.control.method == BASELINE, set()).add(row.arm.name)
    for is_fine_tuning, longer in sorted(by_control.items()):
        baseline = "its baseline" if len(longer) == 1 else "their baselines"
        remedy = " To rule this out, add a fine-tuning of the same length to the spec." if is_fine_tuning else ""
        yield (
            f"{counted(len(longer), 'pruned arm')} trained longer than {baseline}, which may explain part of the"
            f" difference.{remedy}"
        )


_MOST_BUDGETS = 4


def chart(findings: Findings, problem: Problem) -> Chart | None:
    """Draw differences in the test score to full fine-tuning; None where no arm can be compared with it."""
    compared = [triple for triple in findings.against_baseline if triple[0].problem == problem]
    pairings = [pairing for _, _, pairing in compared if pairing.result.difference.n]
    if not pairings:
        return None
    _, baseline, _ = compared[0]
    scale = SCALES[baseline.metric]
    budgets = _budgets(pairings)
    records = []
    for arm, baseline_of_arm, _ in compared:
        records += _seed_records(arm, baseline_of_arm)
    asked_of_rows = [record["asked_removed_macs_fraction"] for record in records]
    panel_of_rows = [budgets.index(asked) if asked in budgets else -1 for asked in asked_of_rows]
    drawn_arms = {pairing.arm for pairing in pairings}
    arms = [name for name in order_arms(findings.methods) if name in drawn_arms]
    left = names_width(arms)
    means = []
    for pairing in pairings:
        if pairing.asked in budgets:
            means.append(_mean(pairing, budgets.index(pairing.asked), scale))
    ends = [0.0]  # of what is drawn; 0 is the baseline
    for mean in means:
        ends += [mean[name] for name in ("low", "x", "high") if mean[name] is not None]
    for record, panel in zip(records, panel_of_rows, strict=True):
        if panel >= 0 and math.isfinite(record["difference"]):
            ends.append(scale.factor * record["difference"])
    panels = []
    for panel, budget in enumerate(budgets):
        panels.append(
            {
                "title": at_title(budget),
                "width": (WIDTH - left) / len(budgets) - 24,
                "height": {"step": 24},
                "layer": _layers(findings, panel, scale, arms, [min(ends), max(ends)]),
            }
        )
    spec: Spec = {
        "columns": len(budgets),
        "resolve": {"scale": {"x": "shared", "y": "shared"}},
        "usermeta": {"left": left},
        "concat": panels,
    }
    hidden = len({pairing.asked for pairing in pairings}) - len(budgets)
    return Chart(
        f"{problem}: difference in test {scale.noun} to {baseline}{scale.difference_axis_unit}",
        spec,
        Table(records=records, sql=POINTS_OF_ARMS.strip()),
        {"panel": panel_of_rows},
        {"means": means},
        f"{hidden} more budgets are in the tables." if hidden else "",
        derived=True,
    )


def _seed_records(arm: Arm, baseline: Arm) -> list[dict[str, Any]]:
    """Return the rows of the figure for each seed that both arms have."""
    records = []
    for seed, score in sorted(arm.test_by_seed.items()):
        if seed in baseline.test_by_seed:
            baseline_score = baseline.test_by_seed[seed]
            records.append({
                "arm": arm.name, "asked_removed_macs_fraction": arm.asked, "seed": seed, "test_score": score,
                "baseline_test_score": baseline_score, "difference": score - baseline_score,
            })  # fmt: skip
    return records


def _layers(findings: Findings, panel: int, scale: Scale, arms: Sequence[str], ends: list[float]) -> list[Spec]:
    """Draw the baseline, the seeds, and the means with their intervals, in the panel of one budget."""
    x_scale = {"domain": ends, "zero": False, "nice": True}
    of_panel = {"filter": f"datum.panel == {panel}"}
    y = {"field": "arm", "type": "nominal", "sort": list(arms), "axis": row_axis(labels=panel == 0)}
    colour = {"color": arm_channels(findings.methods, arms, with_shape=False, legend=False)["color"]}
    means = {"data": {"name": "means"}, "transform": [of_panel]}
    seed_tip = tooltip(arm="arm", seed="seed", x=f"difference{scale.difference_unit}|+.{scale.digits}f")
    return [
        {"data": {"values": [{}]}, "mark": {"type": "rule", "color": "#888"}, "encoding": {"x": {"datum": 0}}},
        {
            "data": {"name": "rows"},
            "transform": [of_panel, {"calculate": f"datum.difference * {scale.factor}", "as": "x"}],
            "mark": {"type": "point", "filled": True, "size": 18, "opacity": 0.45, "yOffset": 6, "clip": True},
            "encoding": colour | {"x": quantity("x", scale=x_scale), "y": y, "tooltip": seed_tip},
        },
        {
            **means,
            "mark": {"type": "rule", "strokeWidth": 2, "clip": True},
            "encoding": colour | {"x": quantity("low", scale=x_scale), "x2": {"field": "high"}, "y": y},
        },
        {
            **means,
            "mark": {"type": "point", "size": 60, "opacity": 1, "clip": True},
            "encoding": colour | {
                "x": quantity("x", scale=x_scale), "y": y,
                "tooltip": tooltip(name="arm", words="difference", doubts="verdict"),
                "fill": {"condition": {"test": "datum.settled", **colour["color"]}, "value": "white"},
            },
        },
    ]  # fmt: skip


def _mean(pairing: Pairing, panel: int, scale: Scale) -> dict[str, Any]:
    mean = pairing.result.difference
    interval = "" if mean.low is None else f" [{scale.interval(mean, signed=True)}]"
    return {
        "panel": panel,
        "arm": pairing.arm,
        "name": pairing.first,
        "x": scale.factor * (mean.mean or 0.0),
        "low": None if mean.low is None else scale.factor * mean.low,
        "high": None if mean.high is None else scale.factor * mean.high,
        "settled": not pairing.doubts,
        "words": f"{scale.difference(mean.mean)}{scale.difference_unit}{interval}, n = {mean.n}",
        "doubts": "; ".join(pairing.doubts) or "settled",
    }


def _budgets(pairings: Sequence[Pairing]) -> list[float | None]:
    """Choose the budgets to draw: those of most arms, in order."""
    counts: dict[float | None, int] = {}
    for pairing in pairings:
        counts[pairing.asked] = counts.get(pairing.asked, 0) + 1
    most = sorted(counts, key=lambda asked: (-counts[asked], budget_order(asked)))[:_MOST_BUDGETS]
    return sorted(most, key=budget_order)


def section(findings: Findings) -> Section | None:
    """Compare all arms with full fine-tuning, in a figure and a table for each problem; None if looks have done so."""
    if is_settled_run(findings.run):
        return None
    pairings = [pairing for _, _, pairing in findings.against_baseline]
    text = "Paired by seed on the test split: small dots are seeds, large ones their mean with its 95% interval."
    text += " Full dots: better or worse. Rings: inconclusive."
    if len(pairings) > 1:
        able = sum(pairing.result.can_reach(SIGNIFICANCE) for pairing in pairings)
        expected = f"up to {SIGNIFICANCE * able:.3g}" if able else "with so few pairs, none"
        text += (
            f" These are {len(pairings)} comparisons, each tested on its own at {SIGNIFICANCE}: without any true"
            f" difference, {expected} of them would look real on average."
        )
    problems = {pairing.problem for pairing in pairings if pairing.problem}
    text = " ".join([text, *without_control(findings.tested, problems, "full fine-tuning")])
    section_against = Section(
        "against", "All arms against full fine-tuning", text,
        empty="No arm to compare with full fine-tuning yet.",
        short="Pairs",
    )  # fmt: skip
    for number, problem in enumerate(sorted(problems)):
        drawn = chart(findings, problem)
        if drawn is None:
            continue
        of_problem = [pairing for pairing in pairings if pairing.problem == problem]
        table = tables.pairings_table(of_problem, comparison.POINTS_OF_ARMS, where=False)
        section_against.blocks.append(Figure(f"against{number}", drawn))
        section_against.blocks.append(TableBlock(table, f"{problem}: the means", derived=True, folded=True))
    return section_against


@question(example="runs/demo --against fine_tune")
@against_option
@cli.option(
    "--at", type=cli.FRACTION, metavar="FRACTION",
    help="only this budget, such as 0.2, and arms that prune nothing; without it all budgets are shown",
)  # fmt: skip
@cli.option(
    "--anytime", is_flag=True,
    help="intervals that hold at every number of seeds at once, for runs to which seeds were added after looking",
)  # fmt: skip
@cli.option("--across", hidden=True, help="a table of `effects`")
@cli.option("--donors", is_flag=True, hidden=True, help="a table of `effects`")
@cli.option(
    "--stop-at", type=cli.FRACTION, metavar="TOLERANCE",
    help="the paper's stop rule with this tolerance on the recorded paths, such as 0.003, with their ends",
)  # fmt: skip
@over_option
def compare(
    run: Run,
    against: str | None = None,
    at: float | None = None,
    anytime: bool = False,  # noqa: FBT001, FBT002  # as the option
    across: str | None = None,
    donors: bool = False,  # noqa: FBT001, FBT002
    stop_at: float | None = None,
) -> Iterator[Part]:
    """Compare every arm with one of them, paired by seed; or stopped paths with whole ones."""
    if donors or across:
        words = ["--of", "pruning.scores_from"] if donors else ["--of", "arm", "--against", against or "ARM"]
        words += [] if at is None else ["--at", f"{at:g}"]
        raise ResultsError(f"this is a table of `effects`; type: {run.to_type('effects', *words)}")
    if stop_at is not None:
        beside = {"--against": against, "--at": at, "--anytime": anytime or None}
        for option, value in beside.items():
            if value is not None:
                raise ResultsError(f"--stop-at compares the points of paths: leave out {option}")
        return stop_page(run, stop_at)
    if against is None:
        raise no_arm_typed(run, "; or --stop-at 0.003, the paper's stop rule")
    if anytime:
        return anytime_page(run, against, at)
    if is_settled_run(run):
        return looks_page(run, against, at)
    return versus_arm_page(run, against, at)
