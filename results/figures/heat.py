"""A table of shaded cells."""

from collections.abc import Mapping, Sequence

from results.figures.svg import TEXT_PX, WIDTH, Drawing, Svg, shorten

_ROW, _MOST_NAME, _MOST_CELL, _FOOT = 24, 300, 110, 12


def heat(
    title: str, names: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[int, int], tuple[float, str, int]]
) -> Drawing:
    """Draw the figure.

    Args:
        title: for screen readers.
        names: of the rows, from the top.
        columns: their names, from the left; turned upright if they do not fit.
        cells: (row, column) -> how dark it is, in [0, 1]; the text inside it; and the row of the data.
    """
    left = min(max((len(name) for name in names), default=0) * TEXT_PX + 16, _MOST_NAME)
    cell = min((WIDTH - left) / max(len(columns), 1), _MOST_CELL)
    upright = max((len(name) for name in columns), default=0) * TEXT_PX > cell - 8
    head = min(max((len(name) for name in columns), default=0) * TEXT_PX, 150) + 12 if upright else 24
    svg = Svg(head + _ROW * len(names) + _FOOT)
    for place, name in enumerate(columns):
        x = left + (place + 0.5) * cell
        if upright:
            svg.text(x + 4, head - 6, shorten(name, 150), "start", "tick", turned=True)
        else:
            svg.text(x, head - 8, name, "middle", "tick")
    for row, name in enumerate(names):
        svg.text(left - 8, head + _ROW * (row + 0.5) + 4, shorten(name, left - 8), "end", "name")
    for (row, column), (fraction, words, data_row) in cells.items():
        x, y = left + column * cell, head + row * _ROW
        width = max(cell - 2, 1)
        svg.rect(x, y, width, _ROW - 2, "cell ground")
        svg.rect(x, y, width, _ROW - 2, "cell", min(max(fraction, 0.0), 1.0))
        if cell >= 26:
            svg.text(x + width / 2, y + _ROW / 2 + 3, words, "middle", "cell-dark" if fraction > 0.55 else "cell-light")
        svg.hit(x, y, data_row, width, _ROW - 2)
    return svg.drawing(title)
