"""What the models of an arm take each class for: counts over its seeds, and the figure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from results.arms.class_names import class_names
from results.arms.comparison import Arm
from results.render.chart import Chart, Spec
from results.render.style import PALETTE, WIDTH, row_axis, tooltip
from results.store.query_table import query_table
from results.store.reader import Run
from results.store.views import literal
from results.text.number_format import percent

CONFUSION = """
SELECT {arm} AS arm, label, prediction, count(*) AS images,
    count(*) / sum(count(*)) OVER (PARTITION BY label) AS fraction
FROM predictions WHERE split = 'test' AND (trial_id, point) IN ({points})
GROUP BY label, prediction ORDER BY label, prediction
"""
"""Over the seeds of an arm: how many test images of a class the models take for each class, and their share."""
MOST_CLASSES_DRAWN = 40
_MOST_NAMED = 3
_LEAST_STEP_WITH_TEXT = 26


def _query(arm: Arm) -> str:
    points = ", ".join(f"({literal(point.trial_id)}, {point.point})" for point in arm.points)
    return CONFUSION.format(arm=literal(str(arm)), points=points)


def confusion_records(run: Run, arm: Arm) -> list[dict[str, Any]]:
    """Return a record for each class and each class that it is taken for, with the columns of the table "confusion"."""
    names = class_names(run, arm.problem.dataset)
    records = []
    for row in run.rows(_query(arm)):
        named = {"class_name": names.get(row["label"]), "predicted_name": names.get(row["prediction"])}
        records.append({**arm.problem.record, **row, **named})
    return records


def mistakes_lines(records_of_arms: Iterable[Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Say of each arm which classes its models take for which others most often; nothing of one without mistakes."""
    for records in records_of_arms:
        wrong = [record for record in records if record["label"] != record["prediction"]]
        wrong.sort(key=lambda record: (-record["fraction"], record["label"], record["prediction"]))
        texts = []
        for record in wrong[:_MOST_NAMED]:
            label, prediction = _name(record, "class_name", "label"), _name(record, "predicted_name", "prediction")
            texts.append(f"{label} for {prediction} ({percent(record['fraction'], 1)}% of its images)")
        if texts:
            yield f"{wrong[0]['arm']} takes most often {', '.join(texts)}."


def _name(record: Mapping[str, Any], name: str, number: str) -> str:
    return str(record[number] if record[name] is None else record[name])


def confusion_chart(run: Run, arms: Sequence[Arm]) -> Chart | None:
    """Draw the confusion matrices of arms of one problem side by side; None with too many classes, or no test rows."""
    data = query_table(run, "\nUNION ALL\n".join(f"({_query(arm)})" for arm in arms))
    numbers = sorted({*data.column("label"), *data.column("prediction")})
    if not numbers or len(numbers) > MOST_CLASSES_DRAWN:
        return None
    names = class_names(run, arms[0].problem.dataset)
    shown = {number: names.get(number, str(number)) for number in numbers}
    step = min(36.0, (WIDTH / len(arms) - 110) / len(numbers))
    panels = [_panel(str(arm), list(shown.values()), step) for arm in arms]
    return Chart(
        f"{arms[0].problem}: what each class is taken for, % of its test images",
        {"columns": len(arms), "concat": panels},
        data,
        extra={name: _named(data.column(name_of), shown) for name, name_of in _AXES.items()},
        note="Down: the true class. Across: the class that the model predicts. Over all seeds.",
    )


_AXES = {"true class": "label", "predicted class": "prediction"}


def _named(numbers: Iterable[int], shown: Mapping[int, str]) -> list[str]:
    return [shown[number] for number in numbers]


def _panel(arm: str, names: Sequence[str], step: float) -> Spec:
    y, x = ({"field": field, "type": "nominal", "scale": {"domain": list(names)}} for field in _AXES)
    where = {"y": {**y, "axis": row_axis()}, "x": {**x, "axis": {"title": None, "orient": "top", "labelLimit": 90}}}
    tip = tooltip(**{field: field for field in _AXES}, images="images", fraction="share|.1%")
    fill = {"field": "fraction", "type": "quantitative", "legend": None,
            "scale": {"domain": [0, 1], "range": ["#f2f5f9", PALETTE[0]]}}  # fmt: skip
    layers: list[Spec] = [
        {"mark": {"type": "rect", "stroke": "white"}, "encoding": {**where, "color": fill, "tooltip": tip}}
    ]
    if step >= _LEAST_STEP_WITH_TEXT:
        ink = {"condition": {"test": "datum.fraction > 0.55", "value": "white"}, "value": "#1b2330"}
        text = {"field": "percent", "type": "quantitative", "format": ".0f"}
        layers.append({"mark": {"type": "text", "fontSize": 11}, "encoding": {**where, "text": text, "color": ink}})
    return {
        "title": arm,
        "data": {"name": "rows"},
        "transform": [
            {"filter": {"field": "arm", "equal": arm}},
            {"calculate": "100 * datum.fraction", "as": "percent"},
        ],
        "width": {"step": step},
        "height": {"step": min(step, 24.0)},
        "layer": layers,
    }
