"""A page with very many operating points, made from one with few: its rows again and again, with scattered values."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_SCATTERED = {"macs": 0.02, "params": 0.02, "test_score": 0.03, "validation_score": 0.03, "device_hours": 0.1}
_DATA = re.compile(r'(<figure id="pareto-figure">.*?<script type="application/json">)(.*?)(</script>)', re.DOTALL)


def with_data(page: str, change: Callable[[dict[str, Any]], None]) -> str:
    """The page, with the data of its main figure and its table of points as `change` leaves them."""
    opening, text, closing = _DATA.findall(page)[0]
    data = json.loads(text)
    change(data)
    changed = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return page.replace(opening + text + closing, opening + changed + closing)


def with_points(page: str, points: int) -> str:
    """The page, with so many points in its main figure and its table of points."""

    def change(data: dict[str, Any]) -> None:
        generator = np.random.default_rng(0)
        rows = np.resize(np.arange(data["rows"]), points)
        for column in [*data["columns"], *data["extra"]]:
            if "places" in column:
                column["places"] = np.array(column["places"])[rows].tolist()
            else:
                values = [column["values"][row] for row in rows]
                if column["name"] in _SCATTERED:
                    scattered = np.array(values) * generator.normal(1, _SCATTERED[column["name"]], points)
                    values = np.round(
                        np.minimum(scattered, 1.0) if "score" in column["name"] else scattered, 5
                    ).tolist()
                column["values"] = values
        data["rows"] = points

    return with_data(page, change)


def write_points(page: Path, points: int, to: Path) -> Path:
    """Writes such a page, and says where."""
    to.write_text(with_points(page.read_text(), points))
    return to
