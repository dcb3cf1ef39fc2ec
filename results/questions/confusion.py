"""What the models of an arm take each class for: counts over its seeds, and the figure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from results.arms.class_names import class_names
from results.arms.comparison import Arm
from results.render.chart import Chart, Spec
from results.render.style import WIDTH, row_axis, shading, tooltip
from results.store.query_table import query_table
from results.store.reader import Run
from results.store.views import is_of_points, literal
from results.text.number_format import percent

CONFUSION = """
SELECT {arm} AS arm, label, prediction, count(*) AS images,
    count(*) / sum(count(*)) OVER (PARTITION BY label) AS fraction
FROM predictions WHERE split = 'test' AND {points}
GROUP BY label, prediction ORDER BY label, prediction
"""
"""Over the seeds of an arm: how many test images of a class the models take for each class, and their share."""
MOST_CLASSES_DRAWN = 40
_MOST_NAMED = 3
_LEAST_STEP_WITH_TEXT = 26


def _query(arm: Arm) -> str:
    points = [(point.trial_id, point.point) for point in arm.points]
    return CONFUSION.format(arm=literal(str(arm)), points=is_of_points(points))


def confusion_records(run: Run, arm: Arm, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return a record for each class and each class that it is taken for, with the columns of the table "confusion".

    Args:
        names: of the classes, as far as they are known.
    """
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
            share = f"{percent(record['fraction'], 1)}% of its images"
            texts.append(f"{true_class(record)} for {_predicted_class(record)} ({share})")
        if texts:
            yield f"{wrong[0]['arm']} takes most often {', '.join(texts)}."


def true_class(record: Mapping[str, Any]) -> str:
    """Return the name of a record's class, or its number where the name is not known."""
    return str(record["label"] if record["class_name"] is None else record["class_name"])


def _predicted_class(record: Mapping[str, Any]) -> str:
    return str(record["prediction"] if record["predicted_name"] is None else record["predicted_name"])


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
        extra={axis: [shown[number] for number in data.column(column)] for axis, column in _AXES.items()},
        note="Down: the true class. Across: the class that the model predicts. Over all seeds.",
    )


_AXES = {"true class": "label", "predicted class": "prediction"}


def _panel(arm: str, names: Sequence[str], step: float) -> Spec:
    y, x = ({"field": field, "type": "nominal", "scale": {"domain": list(names)}} for field in _AXES)
    where = {"y": {**y, "axis": row_axis()}, "x": {**x, "axis": {"title": None, "orient": "top", "labelLimit": 90}}}
    tip = tooltip(**{field: field for field in _AXES}, images="images", fraction="share|.1%")
    fill, ink = shading("fraction")
    layers: list[Spec] = [
        {"mark": {"type": "rect", "stroke": "white"}, "encoding": {**where, "color": fill, "tooltip": tip}}
    ]
    if step >= _LEAST_STEP_WITH_TEXT:
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
