"""Learning curves: epochs of training, label by label, with bands over the trained stages."""

from typing import Any

from results.figures.curves import Curve, Panel, curves
from results.report.elements.blocks import Answer, Figure, Section, answer, literal
from results.report.elements.findings import Findings

CURVES = """
WITH arms AS (
    SELECT DISTINCT trial_id, label, network, dataset FROM planned
    UNION SELECT DISTINCT trial_id, label, network, dataset FROM operating_points
), curves AS (
    SELECT stage_key, kind, epoch, network, dataset, arg_min(train_loss, trial_id) AS train_loss,
        arg_min(train_accuracy_fraction, trial_id) AS train_accuracy_fraction,
        CASE WHEN count(DISTINCT label) = 1 THEN any_value(label) ELSE 'shared by several labels' END AS label
    FROM epochs JOIN arms USING (trial_id) GROUP BY stage_key, kind, epoch, network, dataset
)
SELECT network, dataset, kind, label, epoch + 1 AS epoch, count(*) AS stages,
    median(train_loss) AS train_loss, quantile_cont(train_loss, 0.25) AS loss_lower_quartile,
    quantile_cont(train_loss, 0.75) AS loss_upper_quartile,
    median(train_accuracy_fraction) AS train_accuracy, quantile_cont(train_accuracy_fraction, 0.25)
        AS accuracy_lower_quartile, quantile_cont(train_accuracy_fraction, 0.75) AS accuracy_upper_quartile
FROM (FROM curves SELECT *,
    greatest(1, CAST(ceil(max(epoch) OVER (PARTITION BY network, dataset, kind) / {most}) AS BIGINT)) AS step,
    max(epoch) OVER (PARTITION BY network, dataset, kind, label) AS last)
WHERE isfinite(train_loss) AND (epoch % step = 0 OR epoch = last)
GROUP BY network, dataset, kind, label, epoch
ORDER BY network, dataset, kind, label, epoch
"""
"""Each stage counts once, however many trials share it; of long trainings, about `most` epochs are kept."""
_MOST_EPOCHS = 50


def section(found: Findings) -> Section:
    """Draw one figure for each network and data set, with a panel for each kind of stage."""
    made = Section(
        "learning",
        "Learning curves",
        "Median over the stages of a label with quartiles, on the training images. Every stage counts once, however"
        " many trials share it; the curves of several pruning steps overlap.",
        empty="No epochs yet.",
    )
    data = answer(found.run, CURVES.format(most=_MOST_EPOCHS))
    places = sorted({(row[0], row[1]) for row in data.rows})
    for number, (network, dataset) in enumerate(places):
        rows = [row for row in data.rows if row[:2] == (network, dataset)]
        sql = f"SELECT * FROM ({data.sql}) WHERE network = {literal(network)} AND dataset = {literal(dataset)}"
        sql += " ORDER BY network, dataset, kind, label, epoch"
        made.blocks.append(_figure(found, f"learning{number}", Answer(data.columns, rows, sql)))
    return made


def _figure(found: Findings, name: str, data: Answer) -> Figure:
    records = data.records()
    panels = []
    kinds = {record["kind"] for record in records if record["epoch"] > 1} or {record["kind"] for record in records}
    for kind in sorted(kinds, key=lambda kind: (not kind.startswith("fine"), kind)):
        rows = [(row, record) for row, record in enumerate(records) if record["kind"] == kind]
        scored = all(record["train_accuracy"] is not None for _, record in rows)
        of_kind = [_curve(found, label, rows, scored=scored) for label in sorted({r["label"] for _, r in rows})]
        up = "training accuracy (%)" if scored else "training loss"
        panels.append(Panel(kind.replace("_", " "), "epoch", up, of_kind))
    shown = {record["label"] for record in records}
    title = f"{records[0]['network']} on {records[0]['dataset']}: learning curves of each kind of stage"
    legend = found.labels.legend([label for label in found.labels.colours if label in shown])
    return Figure(name, title, curves(title, panels), data, legend, titled_by=("kind", "label"))


def _curve(found: Findings, label: str, rows: list[tuple[int, dict[str, Any]]], *, scored: bool) -> Curve:
    its = [(row, record) for row, record in rows if record["label"] == label]
    names = ("train_accuracy", "accuracy_lower_quartile", "accuracy_upper_quartile")
    if not scored:
        names = ("train_loss", "loss_lower_quartile", "loss_upper_quartile")
    factor = 100.0 if scored else 1.0
    middle, low, high = ([factor * record[name] for _, record in its] for name in names)
    own = label in found.labels.colours
    return Curve(
        series=found.labels.number(label) if own else -1,
        colour=found.labels.colours[label] if own else "cx",
        across=[record["epoch"] for _, record in its],
        values=middle,
        low=low,
        high=high,
        rows=[row for row, _ in its],
    )
