"""docs/columns.md is what the schema says, and names the columns that a reader finds."""

import re
from pathlib import Path

from results.columns import declared
from results.store.reader import load
from results.store.schema import TABLES
from tools.columns_page import DOCUMENT, page


def test_the_page_is_what_the_schema_says() -> None:
    assert DOCUMENT.read_text() == page(), "type: python -m tools.columns_page"


def test_every_column_of_every_view_has_one_line(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), flags=re.DOTALL | re.MULTILINE))
    answers = sections.pop("Answers")
    assert answers.count("\n### ") == sum(map(len, declared()["answers"].values()))
    assert "| `wins` | int64 | seeds | seeds at which the arm has the higher score |" in answers
    assert list(sections) == [*TABLES, "points", "measured_points", "compared_points"]
    with load(tmp_path) as run:
        for name, text in sections.items():
            listed = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
            view = run.arrow(f"FROM {name}").column_names
            new = [column for column in view if column not in run.arrow("FROM operating_points").column_names]
            own = {"points": new, "measured_points": new, "compared_points": []}
            assert listed == own.get(name, view)
    assert "Key: `trial_id`, `point`, `split`, `image_id`" in sections["predictions"]
    assert "| `seconds` | double | s | time from the start to the end of the trial |" in sections["trials"]
