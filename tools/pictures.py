"""Make the README's pictures: `python -m tools.pictures [RUN]`.

One shows the output of `transtailor plan tour`. With a finished run as the demo's, another shows the
first screen of its report, with Debian's chromium.
"""

import argparse
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from results.text.formats import terminal_lines
from sweeps.operations.preview import preview
from sweeps.planning.plan import make_plan
from sweeps.spec.spec import SPECS, load_spec

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
LIMIT_S = 300.0  # for a browser
COLUMNS = 104  # characters of the terminal
FONT, FONT_PX = "DejaVuSansMono.ttf", 13
BACKGROUND, TEXT = "#1b1f24", "#e6e6e6"
REPORT_PX = (1280, 1000)
DRAWING_MS = 20_000  # of the page's clock, which a browser without a window can advance
LINE_PX, MARGIN_PX = (8, 18), 32
COLOURS = 256  # of a picture, to keep it small


def main(arguments: list[str]) -> int:
    """Write the pictures into docs/pictures; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", nargs="?", help="folder of a finished run that has its report")
    run: Path | None = parser.parse_args(arguments).run
    FOLDER.mkdir(exist_ok=True)
    draw_lines(plan_lines("tour"), FOLDER / "plan.png")
    if run is not None:
        take_picture(run / "report.html", FOLDER / "report.png", REPORT_PX)
    return 0


def plan_lines(name: str) -> list[str]:
    """The lines of the plan of a shipped spec, before any run, with the program on PATH."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    none = Path("no runs")
    plan = make_plan(load_spec(SPECS / f"{name}.toml"))
    page = preview(plan, "local", runs=none, cache=none, command=("transtailor", "run", name))
    said = [line.replace(f"{none}", "runs") for line in terminal_lines(page, COLUMNS)]
    return [part for line in said for part in textwrap.wrap(line, COLUMNS, drop_whitespace=False) or [""]]


def draw_lines(lines: list[str], picture: Path) -> None:
    """Write a picture of lines as a terminal shows them."""
    size_px = MARGIN_PX + LINE_PX[0] * COLUMNS, MARGIN_PX + LINE_PX[1] * len(lines)
    image = Image.new("RGB", size_px, BACKGROUND)
    font = ImageFont.truetype(FONT, FONT_PX)
    for number, line in enumerate(lines):
        ImageDraw.Draw(image).text((MARGIN_PX // 2, MARGIN_PX // 2 + LINE_PX[1] * number), line, TEXT, font)
    image.quantize(COLOURS).save(picture, optimize=True)


def take_picture(page: Path, picture: Path, size_px: tuple[int, int]) -> None:
    """Write a picture of a page in a window of this size."""
    size = "--window-size={},{}".format(*size_px)
    words = ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", size, f"--screenshot={picture}",
             f"--virtual-time-budget={DRAWING_MS}"]  # fmt: skip
    subprocess.run([*words, page.absolute().as_uri()], capture_output=True, check=True, timeout=LIMIT_S)
    Image.open(picture).convert("RGB").quantize(COLOURS).save(picture, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
