"""The report in a real browser: arms face to face, odd runs, a phone, the dark and paper."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from results.render.style import PALETTE
from results.report import write_report
from tests.install import no_chromium
from tests.results.chromium import IS_LEFT_OUT, Browser
from tests.results.report.report_page import DRAWN, count, opened, shade, until

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium())),
]


def test_two_arms_stand_face_to_face_and_can_be_chosen(browser: Browser, page: Path) -> None:
    opened(browser, page)
    until(browser, DRAWN)
    shown = (
        "Array.from(document.querySelectorAll('#facing0 .role-legend-label text')).map(one => one.textContent).join()"
    )
    assert browser.run(shown) == "transtailor,transtailor v1"
    browser.run("""['l1', 'taylor'].forEach((name) => document.querySelector(`button.arm[data-arm=${name}]`)
        .dispatchEvent(new MouseEvent('click', { shiftKey: true })))""")
    until(browser, f"{shown} === 'l1,taylor'")
    assert browser.complaints == []


def test_an_address_that_was_typed_by_hand_stops_nothing(browser: Browser, page: Path) -> None:
    opened(browser, page, "#arms=1&cost=none&score=none&sort=none&toString=1")
    assert "test accuracy" in browser.run("document.querySelector('#pareto svg').outerHTML")
    shown, every = count(browser)
    assert shown == every > 1000
    for address in ("pareto-%", "arms={", "arms=[[]]"):
        browser.run(f"location.hash = {json.dumps(address)}; new Promise(done => setTimeout(done))")
        assert count(browser) == (every, every)
    assert browser.run("document.querySelectorAll('button.arm[aria-pressed=true]').length") == 0
    assert browser.complaints == []


@pytest.mark.parametrize("width", [1280, 1400])
def test_the_tables_of_arms_show_every_column(browser: Browser, page: Path, width: int) -> None:
    browser.size(width, 900)
    opened(browser, page)
    tables = browser.run(
        "Array.from(document.querySelectorAll('.arms')).map(one => [one.clientWidth, one.scrollWidth])"
    )
    assert tables
    for shown, needed in tables:
        assert needed <= shown


def test_a_phone_has_no_sideways_scroll(browser: Browser, page: Path) -> None:
    browser.size(390, 800)
    opened(browser, page)
    assert browser.run("document.documentElement.scrollWidth") <= 390


LIKE_CODE = "</script><b>'] + \"datum\\"
LIKE_SQL = "'; DROP TABLE trials; --"
LIKE_MARKUP = "**bold** [a](http://a.example) `b` {{ 7 * 7 }} $x$ &lt;"
LIKE_TAG = "<img src=x onerror=alert(1)>"
ODD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "half a run": ({"end": lambda _label, seed: "finished" if seed else "missing"}, ["Still to come: 2"]),
    "no finished trial": ({"end": lambda _label, _seed: "missing"}, ["neither finished nor failed: 6 of 6"]),
    "all failed": ({"end": lambda _label, _seed: "failed"}, ["Trials that failed: 6"]),
    "one seed": ({"seeds": (0,)}, ["Inconclusive: "]),
    "one arm": ({"labels": (("fine_tune", "fine_tune"),)}, ["No arm to compare with full fine-tuning yet."]),
    "odd names": (
        {"labels": ((LIKE_CODE, "transtailor"), (LIKE_SQL, "prune"), (LIKE_MARKUP, "prune"), ("tune", "fine_tune")),
         "networks": (LIKE_TAG, "x' OR '1'='1")},
        [LIKE_CODE, LIKE_SQL, LIKE_MARKUP, LIKE_TAG],
    ),
    "120 arms": (
        {"labels": tuple((f"arm {n}", "prune") for n in range(120)), "seeds": (0,), "budgets": (0.0, 0.2)},
        ["120 arms of 1 method"],
    ),
    "nothing at all": ({"seeds": ()}, ["No trial is planned yet."]),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_an_odd_run_has_a_page_that_explains_it_and_complains_of_nothing(
    browser: Browser, tmp_path: Path, synthetic: Any, case: str
) -> None:
    changes, expected = ODD[case]
    run = synthetic(test_images=20, **changes).write(tmp_path)
    browser.open(write_report(run))
    until(browser, DRAWN)
    text = browser.run("""(() => {
        const copy = document.body.cloneNode(true);
        copy.querySelectorAll('script').forEach(one => one.remove());
        return copy.textContent;
    })()""")
    assert [words for words in expected if words not in text] == []
    assert browser.complaints == []
    assert len(browser.requests) == 1


def test_it_is_dark_where_the_system_is(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert min(shade(browser)) > 200
    browser.colours("dark")
    assert max(shade(browser)) < 60
    found = browser.run("Array.from(document.querySelectorAll('button.arm i')).map(one => getComputedStyle(one).color)")
    colours = {"#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", one)) for one in found}
    assert len(colours) > 3 and colours <= set(PALETTE)  # those of the figures, by night, too


def test_paper_gets_pages_without_what_only_a_screen_can_do(browser: Browser, page: Path) -> None:
    opened(browser, page)
    until(browser, DRAWN)
    pages = len(re.findall(rb"/Type\s*/Page\b", browser.printed()))
    assert 5 <= pages <= 40
    browser.call("Emulation.setEmulatedMedia", media="print")
    hidden = browser.run("['nav', '.controls', 'details.sql'].map(name => getComputedStyle("
                         "document.querySelector(name)).display)")  # fmt: skip
    assert hidden == ["none"] * 3
    assert min(shade(browser)) == 255
    browser.call("Emulation.setEmulatedMedia", media="")
