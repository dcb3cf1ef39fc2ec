"""The marks that figures are made of, drawn by Altair: specifications whose data have a name."""

from collections.abc import Mapping, Sequence

from results.render.chart import Spec
from results.render.style import PALETTE, WIDTH, names_width, tooltip


def dots(
    panels: Mapping[str, Sequence[str]],
    *,
    by: str,
    title: str,
    tip: Mapping[str, str],
    domain: Sequence[float] | None = None,
) -> Spec:
    """Draw a row for each name: `x` with its interval from `low` to `high`; a full dot if `is_settled`, else a ring.

    Args:
        panels: value of the column `by` -> names of its rows, in the order of the data.
        title: of the axis, which all panels share.
        tip: what is shown of a dot, as `tooltip` takes it.
        domain: ends of the axis of scores, beside which rings show `beside`; None: of differences, with a rule at 0.

    Returns:
        a specification of the data set "rows" with these columns and `name`.
    """
    import altair as alt  # half a second, where something is drawn

    left = names_width([name for names in panels.values() for name in names])
    axis = alt.Axis(title=None, labelLimit=left, ticks=False, domain=False)
    scale = alt.Scale(zero=False, nice=True) if domain is None else alt.Scale(zero=False, domain=list(domain))
    row = alt.Chart().encode(y=alt.Y("name:N", sort=None, axis=axis))
    tooltips = [alt.Tooltip.from_dict(line) for line in tooltip(**tip)]

    def across(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title=title, scale=scale)

    full, ring = alt.value(PALETTE[0]), alt.value("white")
    marks = [
        row.mark_rule(strokeWidth=2, color=PALETTE[0], clip=True).encode(x=across("low"), x2="high"),
        row.mark_point(size=60, opacity=1, color=PALETTE[0]).encode(
            x=across("x"), fill=alt.condition(alt.datum.is_settled, full, ring), tooltip=tooltips
        ),
    ]
    if domain is None:
        marks.insert(0, alt.Chart().mark_rule(color="#888").encode(x=alt.datum(0)))
    else:
        beside = row.mark_point(size=60, opacity=1, color=PALETTE[1])
        marks.append(beside.encode(x=across("beside"), tooltip=tooltips))
    # Of a panel without any interval the ends are the dots: an axis of no number at all is a warning in the browser.
    intervals = {end: f"isValid(datum.{end}) ? datum.{end} : datum.x" for end in ("low", "high")}
    drawn = [
        alt.layer(*marks)
        .transform_filter(alt.datum[by] == panel)
        .transform_calculate(**intervals)
        .properties(title=alt.Title(panel, fontSize=11, frame="group"), width=WIDTH - left, height=alt.Step(20))
        for panel in panels
    ]  # fmt: skip
    figure = alt.concat(*drawn, data=alt.NamedData("rows"), columns=1, spacing=12).resolve_scale(x="shared")
    spec: Spec = figure.properties(usermeta={"left": left}).to_dict()
    return {key: value for key, value in spec.items() if key not in ("$schema", "config")}
