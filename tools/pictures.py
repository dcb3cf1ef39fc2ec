"""Make the README's pictures with Debian's chromium: `python -m tools.pictures RUN`, from a finished run as the demo's.

Two show the first screen of the run's report and a trial's panel in it, one the output of `transtailor plan tour`.
"""

import argparse
import html
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from PIL import Image

from results.store.reader import load
from results.text.formats import terminal_lines
from sweeps.operations.preview import preview
from sweeps.planning.plan import make_plan
from sweeps.spec.spec import SPECS, load_spec

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
LIMIT_S = 300.0  # for a browser
COLUMNS = 104  # characters of the terminal
TERMINAL = (
    "<body style='margin: 0; background: #1b1f24'>"
    "<pre style='margin: 16px; color: #e6e6e6; font: 13px/18px DejaVu Sans Mono, monospace'>{}</pre>"
)
REPORT_PX = (1280, 1000)
DRAWING_MS = 20_000  # of the page's clock, which a browser without a window can advance
LINE_PX, MARGIN_PX = (8, 18), 32
COLOURS = 256  # of a picture, to keep it small


def main(arguments: list[str]) -> int:
    """Write the pictures into docs/pictures; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run that has its report")
    run: Path = parser.parse_args(arguments).run
    FOLDER.mkdir(exist_ok=True)
    lines = plan_lines("tour")
    take_picture(run / "report.html", FOLDER / "report.png", REPORT_PX)
    take_picture(run / "report.html", FOLDER / "trial.png", REPORT_PX, f"#trial-{best_trial(run)}")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(TERMINAL.format(html.escape("\n".join(lines))))
        take_picture(page, FOLDER / "plan.png", (MARGIN_PX + LINE_PX[0] * COLUMNS, MARGIN_PX + LINE_PX[1] * len(lines)))
    return 0


def plan_lines(name: str) -> list[str]:
    """The lines of the plan of a shipped spec, before any run, with the program on PATH."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    none = Path("no runs")
    plan = make_plan(load_spec(SPECS / f"{name}.toml"))
    page = preview(plan, "local", runs=none, cache=none, command=("transtailor", "run", name))
    said = [line.replace(f"{none}", "runs") for line in terminal_lines(page, COLUMNS)]
    return [part for line in said for part in textwrap.wrap(line, COLUMNS, drop_whitespace=False) or [""]]


def best_trial(run: Path) -> str:
    """The id of the trial with the best validation score."""
    with load(run) as opened:
        (row,) = opened.rows("SELECT arg_max(trial_id, validation_score) AS trial_id FROM operating_points")
    return str(row["trial_id"])


def take_picture(page: Path, picture: Path, size_px: tuple[int, int], fragment: str = "") -> None:
    """Write a picture of a page in a window of this size; `fragment` is the end of its address."""
    size = "--window-size={},{}".format(*size_px)
    words = ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", size, f"--screenshot={picture}",
             f"--virtual-time-budget={DRAWING_MS}"]  # fmt: skip
    subprocess.run([*words, page.absolute().as_uri() + fragment], capture_output=True, check=True, timeout=LIMIT_S)
    Image.open(picture).convert("RGB").quantize(COLOURS).save(picture, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
