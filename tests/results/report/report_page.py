"""What tests look at in a page of the report in a browser."""

import json
import re
from pathlib import Path

from tests.results.chromium import Browser

DRAWN = "Array.from(document.querySelectorAll('figure')).every(figure => 'drawn' in figure.dataset)"


def until(browser: Browser, condition: str) -> None:
    """Waits until an expression holds in the page; a page that has stopped is an error after five minutes."""
    script = f"""new Promise((done, fail) => {{
        const look = (left) => {{
            if ({condition}) return done();
            return left ? setTimeout(look, 20, left - 1) : fail('waited for this in vain');
        }};
        look(15_000);
    }})"""
    browser.run(script)


def opened(browser: Browser, page: Path, fragment: str = "") -> None:
    """Opens the page and waits until its main figure is drawn."""
    browser.open(page, fragment)
    until(browser, "'drawn' in document.querySelector('#pareto figure').dataset")


def middle_of(browser: Browser, selector: str, wanted: str = "true") -> tuple[float, float]:
    """Where in the window the first element is that fits and for which `wanted` holds of `one`."""
    x, y = browser.run(f"""(() => {{
        const all = Array.from(document.querySelectorAll({json.dumps(selector)})), one = all.find(one => {wanted});
        one.scrollIntoView({{ block: 'center' }});
        const box = one.getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2];
    }})()""")
    return x, y


def count(browser: Browser) -> tuple[int, int]:
    """How many operating points the table has, and how many the run."""
    shown, every = re.findall(r"[\d,]+", browser.run("document.querySelector('#points .count').textContent"))
    return int(shown.replace(",", "")), int(every.replace(",", ""))


def cells(browser: Browser, column: int) -> list[str]:
    """The texts of a column of the table's rows in sight."""
    script = (
        f"Array.from(document.querySelectorAll('#points tbody tr[aria-rowindex]')).map(line => line.cells[{column}])"
    )
    found: list[str] = browser.run(f"{script}.map(cell => cell.textContent)")
    return found


def shade(browser: Browser) -> list[int]:
    """The colour of the page's ground, as red, green and blue."""
    return [int(part) for part in re.findall(r"\d+", browser.run("getComputedStyle(document.body).backgroundColor"))][
        :3
    ]
