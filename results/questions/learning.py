"""Learning curves: median and quartiles over the stages of an arm, a panel for each kind of stage."""

from collections.abc import Sequence

from results.arms.findings import Findings, problem_condition
from results.arms.problem import Problem
from results.render.blocks import Figure, Section
from results.render.chart import Chart, Spec
from results.render.style import WIDTH, arm_channels, quantity, score_channel, tooltip, whole_axis
from results.store.query_table import query_table
from results.text.number_format import SCALES
from results.text.page import Table, TableRecord

_MOST_EPOCHS = 50
ARMS_OF_TRIALS = """
SELECT trial_id, arm, network, dataset, train_images, NULL::BIGINT AS last_order FROM planned
UNION ALL
SELECT trial_id, arm, network, dataset, train_images, max("order")
FROM operating_points LEFT JOIN stages USING (trial_id, stage_key) GROUP BY ALL
"""
"""The arms that a trial has stages of: its own with all (null), and that of a point with those up to the point. A path
of TransTailor begins with a point of head_only, which needs none of the later stages."""
CURVES = f"""
WITH curves AS (
    SELECT stage_key, kind, epoch, network, dataset, train_images, arg_min(train_loss, trial_id) AS train_loss,
        arg_min(train_accuracy_fraction, trial_id) AS train_accuracy_fraction,
        arg_min(validation_loss, trial_id) AS validation_loss,
        arg_min(validation_score, trial_id) AS validation_score,
        CASE WHEN count(DISTINCT arm) = 1 THEN any_value(arm) ELSE 'shared by several arms' END AS arm
    FROM epochs JOIN ({ARMS_OF_TRIALS}) USING (trial_id)
    WHERE last_order IS NULL OR "order" <= last_order
    GROUP BY stage_key, kind, epoch, network, dataset, train_images
)
SELECT network, dataset, train_images, kind, arm, epoch + 1 AS epoch, count(*) AS stages,
    median(train_loss) AS train_loss, quantile_cont(train_loss, 0.25) AS loss_lower_quartile,
    quantile_cont(train_loss, 0.75) AS loss_upper_quartile,
    median(train_accuracy_fraction) AS train_accuracy, quantile_cont(train_accuracy_fraction, 0.25)
        AS accuracy_lower_quartile, quantile_cont(train_accuracy_fraction, 0.75) AS accuracy_upper_quartile,
    median(validation_loss) AS validation_loss, median(validation_score) AS validation_score
FROM (FROM curves SELECT *,
    greatest(1, CAST(ceil(max(epoch) OVER of_kind / {_MOST_EPOCHS}) AS BIGINT)) AS step,
    max(epoch) OVER (PARTITION BY network, dataset, train_images, kind, arm) AS last
    WINDOW of_kind AS (PARTITION BY network, dataset, train_images, kind))
WHERE isfinite(train_loss) AND (epoch % step = 0 OR epoch = last)
GROUP BY network, dataset, train_images, kind, arm, epoch
ORDER BY network, dataset, train_images, kind, arm, epoch
"""
"""Each stage counts once, however many trials share it; of long trainings, about `_MOST_EPOCHS` are kept."""
_MOST_FILLED = 12
"""With more arms, a panel has neither areas of quartiles nor dots."""


def learning_curves(findings: Findings) -> dict[Problem, Chart]:
    """Draw a figure for each problem."""
    data = query_table(findings.run, CURVES)
    charts = {}
    by_problem: dict[Problem, list[TableRecord]] = {}
    for record in data.records:
        problem = Problem.of(record)
        by_problem.setdefault(problem, []).append(record)
    for problem, records in sorted(by_problem.items()):
        sql = f"SELECT * FROM ({data.sql}) WHERE {problem_condition(problem)}"
        sql += " ORDER BY network, dataset, train_images, kind, arm, epoch"
        charts[problem] = _chart(findings, problem, Table(records=records, sql=sql))
    return charts


def _chart(findings: Findings, problem: Problem, data: Table) -> Chart:
    records = data.records
    kinds = {record["kind"] for record in records if record["epoch"] > 1}
    if not kinds:  # no stage has a curve: show the points
        kinds = {record["kind"] for record in records}
    ordered_kinds = sorted(kinds, key=lambda kind: (not kind.startswith("fine"), kind))
    arms = {record["arm"] for record in records}
    panels = []
    for kind in ordered_kinds:
        of_kind = [record for record in records if record["kind"] == kind]
        panels.append(_panel(findings, problem, kind, of_kind, len(ordered_kinds), arms))
    spec: Spec = {
        "data": {"name": "rows"},
        "columns": min(len(panels), 2),
        "concat": panels,
        "resolve": {"scale": {"color": "shared"}},
    }
    return Chart(f"{problem}: learning curves of each kind of stage", spec, data)


def _panel(
    findings: Findings, problem: Problem, kind: str, records: Sequence[TableRecord], panels: int, arms: set[str]
) -> Spec:
    """Draw the accuracy of a kind of stage, or its loss where an arm has no accuracy.

    Args:
        records: the rows of this kind.
        panels: how many the figure has.
        arms: of all panels.
    """
    has_accuracy = all(record["train_accuracy"] is not None for record in records)
    shown = "accuracy" if has_accuracy else "loss"
    factor = 100 if has_accuracy else 1
    title = "training accuracy (%)" if has_accuracy else "training loss"
    of_validation = "validation_score" if has_accuracy else "validation_loss"
    is_validated = any(record[of_validation] is not None for record in records)
    columns = {"y": f"train_{shown}", "low": f"{shown}_lower_quartile", "high": f"{shown}_upper_quartile"}
    if is_validated:
        columns["validation"] = of_validation
    epochs = whole_axis(record["epoch"] for record in records)
    x = quantity("epoch", "epoch", axis=epochs, scale={"zero": False, "nice": False})
    # The training's own score is always the accuracy; without a point, that of the validation split is not known yet.
    noun = findings.scales[problem].noun if problem in findings.scales else "score"
    drawn: list[float | None] = []
    for record in records:
        drawn += [record[column] for column in columns.values()]

    def y(field: str) -> Spec:
        if not has_accuracy:
            return quantity(field, title)
        axis_title = title if noun == "accuracy" else f"{title}, validation {noun} (%)"
        return score_channel(field, axis_title, SCALES["accuracy"], drawn)

    is_filled = len(arms) <= _MOST_FILLED
    tip = tooltip(arm="arm", epoch="epoch", y=f"{title}, median|.4~g", stages="stages")
    layers: list[Spec] = [
        {"mark": {"type": "area", "opacity": 0.14 if is_filled else 0.0},
         "encoding": {"y": y("low"), "y2": {"field": "high"}}},
        {"mark": {"type": "line", "strokeWidth": 1.8, "point": {"size": 12} if is_filled else False},
         "encoding": {"y": y("y"), "tooltip": tip}},
    ]  # fmt: skip
    if is_validated:
        validation_title = f"validation {noun} (%)" if has_accuracy else "validation loss"
        validation_tip = tooltip(arm="arm", epoch="epoch", validation=f"{validation_title}, median|.4~g")
        layers.append(
            {
                "transform": [{"filter": "isValid(datum.validation)"}],
                "mark": {"type": "line", "strokeWidth": 1.8, "strokeDash": [5, 3]},
                "encoding": {"y": y("validation"), "tooltip": validation_tip},
            }
        )
    in_unit = [{"calculate": f"datum.{column} * {factor}", "as": name} for name, column in columns.items()]
    return {
        "title": kind.replace("_", " ") + (" (dashed: validation)" if is_validated else ""),
        "width": WIDTH / min(panels, 2) - 80,
        "height": 220,
        "transform": [{"filter": {"field": "kind", "equal": kind}}, *in_unit],
        "encoding": {"x": x, **arm_channels(findings.methods, arms, with_shape=False)},
        "layer": layers,
    }


def section(findings: Findings) -> Section:
    """Draw one figure for each problem, with a panel for each kind of stage."""
    section_learning = Section(
        "learning",
        "Learning curves",
        "Median over the stages of an arm with quartiles, on the training images; dashed: on the validation split,"
        " where the spec asks for it (validate_every), else it is not recorded. Every stage counts once, however many"
        " trials share it; the curves of several pruning steps overlap.",
        empty="No epochs yet.",
        short="Learning",
    )
    section_learning.blocks += [
        Figure(f"learning{number}", chart) for number, chart in enumerate(learning_curves(findings).values())
    ]
    return section_learning
