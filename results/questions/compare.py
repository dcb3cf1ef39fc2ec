"""Compare every arm with one of them, paired by seed.

A page for a note or a paper: each arm beside its control, with interval, sign-flip test and Holm's correction.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from results.arms import comparison
from results.arms.against import Pair, compared_arms
from results.arms.comparison import POINTS_OF_ARMS, Arm, Pairing, budget_order
from results.arms.counts import trials_line
from results.arms.findings import Findings, findings_of
from results.arms.flags import Facts, flag_lines, flags_of
from results.arms.looks import is_settled_run
from results.arms.problem import Problem
from results.arms.selection import no_arm_typed, not_at_budget, without_control, without_score
from results.arms.verdict import NO_VERDICT, comparison_record, verdict_word
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
from results.sign_flip import SIGNIFICANCE
from results.statistics.pairs import holm
from results.statistics.power import POWER, detectable_effect, pairs_for
from results.store.reader import Run
from results.text.number_format import SCALES, Scale
from results.text.page import Heading, Note, Part, Shown, Table, answer_table, notes
from results.text.shown import DIFFERENCE_INTERVAL, FLAGS, VERDICT, WON_LOST_TIED
from transtailor import cli
from transtailor.plural import counted

COMPARISON = (
    "difference", DIFFERENCE_INTERVAL, WON_LOST_TIED, "ahead_fraction", "p", "smallest_p", "p_holm", VERDICT,
)  # fmt: skip
BUDGET = Shown("asked_removed_macs_fraction", is_text=True)
SHOWN = (
    BUDGET, "removed_macs_fraction", "arm", "score", *COMPARISON, "pairs_needed", "detectable_difference", "against",
    FLAGS,
)  # fmt: skip
SHOWN_POOLED = (BUDGET, "arm", "problems", Shown("pairs", "seeds"), *COMPARISON, "against", FLAGS)
# On a narrow screen the last ones are left out: what was found stands first.
USUAL = (
    "arm", "removed_macs_fraction", "difference", "verdict", "flags", "score", "difference_low", "won_lost_tied", "p",
)  # fmt: skip
USUAL_POOLED = (
    "arm", "asked_removed_macs_fraction", "difference", "verdict", "flags", "pairs", "difference_low",
    "won_lost_tied", "p",
)  # fmt: skip

READ = (
    "ahead %: how often the arm is ahead at the same seed (probability of improvement); a tie counts half. Seeds"
    f" needed: pairs that find the measured difference, taken for true, with a power of {POWER:g}; detectable: the"
    " smallest true difference that the present pairs find with it.",
    "p (Holm) is corrected over each table, in which rows of the same models are one comparison; verdicts are not. An"
    " arm that trained longer than a fine-tuning is compared with the shortest one that trained as long, if there is"
    " one. Rows of all budgets are compared with one arm; --at names a budget.",
)
POOLED = (
    "All together: networks and data sets are fixed, not sampled, and weigh the same. n counts seeds that all of them"
    " have; the result does not extend to other networks or data sets."
)
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


def _records(rows: Sequence[ComparedRow], facts: Facts) -> list[dict[str, Any]]:
    """Return a record for each row, with p corrected as one family, and the seeds that a row with a verdict needs."""
    p_holm = _correct_p(rows)
    records = []
    for row in rows:
        mean = row.pairing.result.difference
        needed = detectable = None
        if mean.mean is not None and mean.deviation and verdict_word(row.pairing) not in NO_VERDICT:
            needed = pairs_for(mean.mean / mean.deviation)
            detectable = detectable_effect(mean.n) * mean.deviation
        records.append({
            **row.arm.record, **comparison_record(row.pairing), "against": row.control.name,
            "against_score": row.control.test.mean, "p_holm": p_holm.get(row.models),
            "pairs_needed": needed, "detectable_difference": detectable, "flags": flags_of(row.pairs, facts),
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
    compared = [
        (base, [ComparedRow([pair]) for pair in pairs])
        for base, pairs in compared_arms(run, findings.arms, against, asked)
    ]
    flagged: list[dict[str, Any]] = []
    for base, rows in compared:
        yield Heading(str(base.problem))
        yield ""
        scale = SCALES[base.metric]
        score = f"test {scale.noun} {scale.value(base.test.mean)}{scale.unit}"
        yield f"Compared with {base}: {score} over {counted(base.test.n, 'seed')}."
        yield ""
        records = _records(rows, findings.facts)
        flagged += records
        yield answer_table("compare", records, shown=SHOWN, usual=_with_control(USUAL, rows))
        yield ""
    pooled, split = _pooled(compared)
    records = _records(pooled, findings.facts)
    if pooled:
        yield Heading("All together")
        yield ""
        yield "The unit is the seed: both arms' scores are averaged over problems first, then compared."
        yield ""
    shown = SHOWN_POOLED if pooled else ()
    yield answer_table("compare", records, "pooled", shown=shown, usual=_with_control(USUAL_POOLED, pooled))
    if pooled:
        yield ""
    yield from notes(READ)
    if pooled:
        yield Note(POOLED)
    if split:
        has, is_not = ("has", "is") if split == 1 else ("have", "are")
        yield Note(
            f"{counted(split, 'arm')} {has} other controls on other networks or data sets, and {is_not} not averaged"
            " over them."
        )
    yield from notes(flag_lines([*flagged, *records]))
    tested = findings.tested  # of which some may have no point there
    of_problems = [arm for arm in tested if arm.problem in {base.problem for base, _ in compared}]
    yield from notes(not_at_budget(of_problems, asked))
    yield from notes(without_control(tested, {base.problem for base, _ in compared}, compared[0][0].name))
    yield from notes([*without_score(findings.arms), trials_line(run)])


def _with_control(usual: Sequence[str], rows: Sequence[ComparedRow]) -> Sequence[str]:
    """Return the usual columns; behind the difference also each row's control, if the rows have several."""
    if len({row.control.name for row in rows}) < 2:
        return usual
    place = usual.index("difference") + 1
    return [*usual[:place], "against", *usual[place:]]


def _pooled(compared: Sequence[tuple[Arm, Sequence[ComparedRow]]]) -> tuple[list[ComparedRow], int]:
    """Return the rows over all problems of one metric, for pairs of arms that several problems have.

    And the number of arms that have other controls in other problems, and are not averaged over them.
    """
    groups: dict[tuple[str, tuple[bool, float], str, str], list[Pair]] = {}
    for _, rows in compared:
        for row in rows:
            key = (row.arm.metric, budget_order(row.arm.asked), row.arm.name, str(row.control))
            groups.setdefault(key, []).append(row.pairs[0])
    alone = Counter(key[:3] for key, pairs in groups.items() if len(pairs) == 1)
    pooled = [ComparedRow(groups[key]) for key in sorted(groups) if len(groups[key]) > 1]
    return pooled, sum(times > 1 for times in alone.values())


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
    assert mean.mean is not None  # a pairing without a pair is not drawn
    interval = "" if mean.low is None else f" [{scale.interval(mean, signed=True)}]"
    return {
        "panel": panel,
        "arm": pairing.arm,
        "name": pairing.first,
        "x": scale.factor * mean.mean,
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
        table = tables.pairings_table(of_problem, findings.facts, comparison.POINTS_OF_ARMS, where=False)
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
