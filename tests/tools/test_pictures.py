"""The README's pictures: the plan as a terminal shows it, a page as chromium does."""

from pathlib import Path

import pytest
from PIL import Image

from tests.install import no_chromium
from tests.results.chromium import IS_LEFT_OUT
from tools.pictures import COLUMNS, FOLDER, draw_lines, plan_lines, take_picture


def test_the_plan_fits_its_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    lines = plan_lines("tour")
    assert lines[0].startswith("trial ") and any(line.startswith("sweep     tour: 14 trials") for line in lines)
    assert max(map(len, lines)) <= COLUMNS
    draw_lines(lines, tmp_path / "plan.png")
    assert Image.open(tmp_path / "plan.png").size == Image.open(FOLDER / "plan.png").size, "an old picture"


@pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium()))
def test_a_page_fits_its_picture(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<pre>one line</pre>")
    take_picture(tmp_path / "page.html", tmp_path / "page.png", (300, 200))
    assert Image.open(tmp_path / "page.png").size == (300, 200)
