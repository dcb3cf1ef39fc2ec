"""All arms against full fine-tuning: the difference of each seed, the mean with its interval, a panel per budget."""

from collections.abc import Sequence
from typing import Any

from results.arms.comparison import POINTS, Pairing, Problem, budget_order
from results.arms.findings import Findings
from results.plot.chart import Chart, Spec
from results.plot.style import WIDTH, arm_channels, names_width, order_arms, quantity, row_axis, told
from results.statistics.gaps import above_widest_gap
from results.store.answers import Answer
from results.text.number_format import SCALES, Scale, percent

_COLUMNS = ("arm", "asked_removed_macs_fraction", "seed", "test_score", "baseline_test_score", "difference")
_MOST_BUDGETS = 4


def differences(found: Findings, problem: Problem) -> Chart | None:
    """Differences in the test score to full fine-tuning; None where no arm can be compared with it."""
    compared = [one for one in found.against_baseline if one[0].problem == problem]
    pairings = [pairing for _, _, pairing in compared if pairing.result.difference.n]
    if not pairings:
        return None
    baseline = compared[0][1]
    scale = SCALES[baseline.metric]
    budgets = _budgets(pairings)
    rows = [
        (arm.name, arm.asked, seed, score, other.test_by_seed[seed], score - other.test_by_seed[seed])
        for arm, other, _ in compared
        for seed, score in sorted(arm.test_by_seed.items())
        if seed in other.test_by_seed
    ]
    panel = [budgets.index(asked) if asked in budgets else -1 for _, asked, *_ in rows]
    shown = {one.arm for one in pairings}
    arms = [name for name in order_arms(found.methods) if name in shown]
    left = names_width(arms)
    means = [_mean(one, budgets.index(one.asked), scale) for one in pairings if one.asked in budgets]
    least = above_widest_gap([one["x"] for one in means])
    far = [one for one in means if one["x"] < least]
    ends = [one[name] for one in means if one["x"] >= least for name in ("low", "x", "high") if one[name] is not None]
    ends.append(0.0)
    spec: Spec = {
        "columns": len(budgets),
        "resolve": {"scale": {"x": "shared", "y": "shared"}},
        "usermeta": {"left": left},
        "concat": [
            {
                "title": _at(one),
                "width": (WIDTH - left) / len(budgets) - 24,
                "height": {"step": 24},
                "layer": _layers(found, place, scale, arms, [min(ends), max(ends)]),
            }
            for place, one in enumerate(budgets)
        ],
    }
    hidden = len({one.asked for one in pairings}) - len(budgets)
    notes = [f"{hidden} more budgets are in the tables."] if hidden else []
    if far:
        notes.append(f"Far below, and not drawn: {'; '.join(' '.join((one['name'], one['words'])) for one in far)}.")
    return Chart(
        f"{problem}: difference in test {scale.noun} to {baseline}{scale.difference_axis_unit}",
        spec,
        Answer(_COLUMNS, rows, POINTS.strip()),
        {"panel": panel},
        {"means": means},
        " ".join(notes),
        derived=True,
    )


def _layers(found: Findings, place: int, scale: Scale, arms: Sequence[str], ends: list[float]) -> list[Spec]:
    across = {"domain": ends, "zero": False, "nice": True}
    here = {"filter": f"datum.panel == {place}"}
    y = {"field": "arm", "type": "nominal", "sort": list(arms), "axis": row_axis(labels=place == 0)}
    colour = {"color": arm_channels(found.methods, arms, with_shape=False, legend=False)["color"]}
    means = {"data": {"name": "means"}, "transform": [here]}
    seed = told(arm="arm", seed="seed", x=f"difference{scale.difference_unit}|+.{scale.digits}f")
    return [
        {"data": {"values": [{}]}, "mark": {"type": "rule", "color": "#888"}, "encoding": {"x": {"datum": 0}}},
        {
            "data": {"name": "rows"},
            "transform": [here, {"calculate": f"datum.difference * {scale.factor}", "as": "x"}],
            "mark": {"type": "point", "filled": True, "size": 18, "opacity": 0.45, "yOffset": 6, "clip": True},
            "encoding": colour | {"x": quantity("x", scale=across), "y": y, "tooltip": seed},
        },
        {
            **means,
            "mark": {"type": "rule", "strokeWidth": 2, "clip": True},
            "encoding": colour | {"x": quantity("low", scale=across), "x2": {"field": "high"}, "y": y},
        },
        {
            **means,
            "mark": {"type": "point", "size": 60, "opacity": 1, "clip": True},
            "encoding": colour | {
                "x": quantity("x", scale=across), "y": y,
                "tooltip": told(name="arm", words="difference", doubts="it says"),
                "fill": {"condition": {"test": "datum.settled", **colour["color"]}, "value": "white"},
            },
        },
    ]  # fmt: skip


def _mean(pairing: Pairing, panel: int, scale: Scale) -> dict[str, Any]:
    mean = pairing.result.difference
    interval = "" if mean.low is None else f" [{scale.interval(mean, signed=True)}]"
    doubts = "; ".join(pairing.doubts) or "settled"
    low, high = (None if end is None else scale.factor * end for end in (mean.low, mean.high))
    words = f"{scale.difference(mean.mean)}{scale.difference_unit}{interval}, n = {mean.n}"
    return {"panel": panel, "arm": pairing.arm, "name": pairing.first, "x": scale.factor * (mean.mean or 0.0),
            "low": low, "high": high, "settled": not pairing.doubts, "words": words, "doubts": doubts}  # fmt: skip


def _budgets(pairings: Sequence[Pairing]) -> list[float | None]:
    """Choose the budgets to draw: those of most arms, in order."""
    counts: dict[float | None, int] = {}
    for pairing in pairings:
        counts[pairing.asked] = counts.get(pairing.asked, 0) + 1
    most = sorted(counts, key=lambda asked: (-counts[asked], budget_order(asked)))[:_MOST_BUDGETS]
    return sorted(most, key=budget_order)


def _at(asked: float | None) -> str:
    if asked is None:
        return "decided by a rule"
    return "nothing removed" if asked == 0 else f"{percent(asked, 0)}% removed"
