"""The report in a real browser: nothing complains, nothing is fetched, and what can be pointed at answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.report import write_report
from tests.install import no_chromium
from tests.results.chromium import IS_LEFT_OUT, Browser
from tests.results.many_points import with_data, with_points, write_points
from tests.results.many_trials import write_many
from tests.results.report.report_page import DRAWN, cells, count, middle_of, opened, until

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium())),
]
MOST_NODES, MOST_LAYOUTS = 300_000, 100


def test_it_opens_fast_complains_of_nothing_and_fetches_nothing(browser: Browser, page: Path) -> None:
    """The browser's work is counted: seconds on a machine that others load say nothing of the page."""
    browser.size(1280, 1000)
    browser.call("Performance.enable")
    opened(browser, page)
    bottoms = browser.run("""['.headline', '#pareto .controls', '#pareto svg', '#pareto .arms tbody tr'].map(
        one => document.querySelector(one).getBoundingClientRect().bottom)""")
    assert bottoms == sorted(bottoms) and bottoms[-1] < 1000  # all on the first screen
    assert "over" in browser.run("document.querySelector('.headline').textContent")
    until(browser, DRAWN)
    metrics = {one["name"]: one["value"] for one in browser.call("Performance.getMetrics")["metrics"]}
    assert metrics["Nodes"] < MOST_NODES  # a tenth of that, since tables are filled when they are opened
    assert metrics["LayoutCount"] < MOST_LAYOUTS
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


def test_every_figure_is_drawn_and_every_table_filled(browser: Browser, page: Path) -> None:
    opened(browser, page)
    until(browser, DRAWN)
    sizes = browser.run("""Array.from(document.querySelectorAll('figure')).map(figure => {
        const box = figure.querySelector('svg, canvas').getBoundingClientRect();
        figure.querySelector('details.numbers').open = true;
        return [figure.id, box.width, box.height, figure.querySelectorAll('[aria-roledescription]').length];
    })""")
    assert len(sizes) >= 13
    for name, width, height, marks in sizes:
        assert 300 < width <= 1280 and height > 50 and marks > 3, name
    shown = browser.run("""new Promise(done => setTimeout(done)).then(() =>
        Array.from(document.querySelectorAll('figure')).map(figure => [
            figure.id, figure.querySelectorAll('.numbers tbody tr').length,
            JSON.parse(figure.querySelector('script').textContent).rows]))""")
    assert any(rows > 1000 for _, _, rows in shown)
    for name, lines, rows in shown:
        assert lines == min(rows, 1000), name
    assert browser.complaints == []


def test_pointing_tells_of_a_trial(browser: Browser, page: Path) -> None:
    opened(browser, page)
    on_top = "box => document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2) === one"
    seen = f"(one.scrollIntoView({{ block: 'center' }}), ({on_top})(one.getBoundingClientRect()))"
    dot = ("#pareto path[aria-roledescription=point]", f"one.ariaLabel.includes('trial: ') && {seen}")
    browser.point(*middle_of(browser, *dot))
    told = browser.run("document.getElementById('vg-tooltip-element').innerText")
    assert "test accuracy" in told and "trial" in told
    assert browser.complaints == []


def test_a_click_on_an_arm_isolates_it_in_figure_table_and_address(browser: Browser, page: Path) -> None:
    opened(browser, page)
    before, every = count(browser)
    assert before == every > 1000
    browser.click(*middle_of(browser, "button.arm", "one.dataset.arm === 'taylor'"))
    assert count(browser)[0] < every and set(cells(browser, 2)) == {"taylor"}
    fades = "Array.from(document.querySelectorAll('#pareto path[aria-roledescription=point]')).filter({}).length"
    until(browser, fades.format("one => Number(one.getAttribute('opacity')) < 0.1") + " > 100")
    assert browser.run("document.querySelector('button.arm[aria-pressed=true]').dataset.arm") == "taylor"
    address = browser.run("location.hash")
    browser.call("Page.navigate", url="about:blank")  # or the same page would only move to another place
    browser.wait_for("Page.loadEventFired")
    opened(browser, page, address)
    assert set(cells(browser, 2)) == {"taylor"}
    assert browser.complaints == []


def test_a_name_in_the_legend_isolates_its_arm(browser: Browser, page: Path) -> None:
    opened(browser, page)
    browser.click(*middle_of(browser, "#pareto .role-legend-label text", "one.textContent === 'l2'"))
    until(browser, "new URLSearchParams(location.hash.slice(1)).get('arms') === '[\"l2\"]'")
    assert set(cells(browser, 2)) == {"l2"}


def test_the_axes_can_be_chosen(browser: Browser, page: Path) -> None:
    opened(browser, page)
    drawing = "document.querySelector('#pareto svg').outerHTML"
    for choice in ("cost=params", "cost=device_hours", "score=validation_score", "scale=log"):
        before = browser.run(drawing)
        name, value = choice.split("=")
        browser.run(f"document.querySelector('.controls input[name={name}][value={value}]').click()")
        until(browser, f"{drawing} !== {json.dumps(before)}")
        assert choice in browser.run("location.hash").removeprefix("#").split("&")
    assert browser.complaints == []


def test_words_filter_the_table(browser: Browser, page: Path) -> None:
    opened(browser, page)
    searches: list[tuple[str, int, Callable[[str], bool]]] = [
        ("taylor test>80 seed=1", 6, lambda text: float(text) > 80),
        ("removed>=20", 5, lambda text: float(text) >= 20),
        ("VGG16", 0, lambda text: text == "vgg16"),
        ("macs<9.5e9", 8, lambda text: len(text) < 14),
        ("macs<1e9x", 0, lambda _text: False),  # no number: a word that is nowhere
    ]
    for words, column, fits in searches:
        browser.run(f"document.getElementById('words').value = {json.dumps(words)};"
                    "document.getElementById('words').dispatchEvent(new Event('input')); 0")  # fmt: skip
        shown, every = count(browser)
        assert (shown > 0) == (words != "macs<1e9x") and shown < every, words
        assert all(map(fits, cells(browser, column))), words
    assert browser.complaints == []


def test_the_table_is_sorted_and_only_rows_in_sight_are_elements(browser: Browser, page: Path) -> None:
    opened(browser, page)
    scores = [float(text) for text in cells(browser, 6)]
    assert scores == sorted(scores, reverse=True) and 10 < len(scores) < 60
    browser.click(*middle_of(browser, "#points th button", "one.textContent === 'seed'"))
    browser.click(*middle_of(browser, "#points th button", "one.textContent === 'seed'"))
    assert set(cells(browser, 3)) == {"0"}
    browser.run("document.querySelector('#points .rows').scrollTop = 1e9; 0")
    until(browser, "document.querySelector('#points tbody tr[aria-rowindex] td:nth-child(4)').textContent === '9'")
    assert browser.complaints == []


def test_the_keyboard_alone_chooses_isolates_and_sorts(browser: Browser, page: Path) -> None:
    opened(browser, page)
    browser.run("document.querySelector('.controls input[name=cost]').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run("location.hash") == "#cost=params"
    browser.run("document.querySelector('button.arm').focus()")
    browser.press("Enter", 13, "\r")
    assert count(browser)[0] < count(browser)[1]
    browser.run("document.querySelector('#points th button').focus()")
    browser.press("Enter", 13, "\r")
    assert "sort=-network" in browser.run("location.hash")
    assert browser.complaints == []


def accessible(browser: Browser) -> list[tuple[str, str, dict[str, Any]]]:
    """Role, name and properties of all that a screen reader is told of the page."""
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    return [
        (node.get("role", {}).get("value", ""), node.get("name", {}).get("value", ""),
         {one["name"]: one["value"].get("value") for one in node.get("properties", ())})
        for node in tree if not node["ignored"]
    ]  # fmt: skip


def test_a_screen_reader_is_told_what_is_where_what_it_is_called_and_what_changes(
    browser: Browser, tmp_path: Path
) -> None:
    opened(browser, write_report(write_many(tmp_path / "run", 40)))  # few: the browser describes each dot
    until(browser, DRAWN)
    told = accessible(browser)
    for role in ("button", "radio", "searchbox", "link", "region", "navigation", "graphics-document"):
        assert all(name for one, name, _ in told if one == role), role
    names = {role: {name for one, name, _ in told if one == role} for role, _, _ in told}
    assert {"MACs", "parameters", "test", "validation", "linear", "log"} <= names["radio"]
    assert {"score", "cost", "scale"} <= names["group"]
    assert {"contents"} <= names["navigation"] and "operating points" in names["region"]
    assert any("test accuracy" in name for role, name, _ in told if role == "graphics-symbol")
    assert any(role == "columnheader" for role, _, _ in told)
    (status,) = [more for role, _, more in told if role == "status"]
    assert status["live"] == "polite"
    browser.run("document.querySelector('button.arm').focus()")
    browser.press("Enter", 13, "\r")
    pressed = [name for role, name, more in accessible(browser) if role == "button" and more.get("pressed") == "true"]
    assert set(pressed) == {browser.run("document.querySelector('button.arm').textContent")}


def test_a_hundred_thousand_points_are_drawn_and_isolated(browser: Browser, page: Path, tmp_path: Path) -> None:
    """The dots are one image; Vega has none of them."""
    opened(browser, write_points(page, 100_000, tmp_path / "many.html"))
    assert count(browser) == (100_000, 100_000)
    assert browser.run("document.querySelectorAll('#pareto svg path[aria-roledescription=point]').length") < 1000
    browser.run("""window.pixels = () => {  // of a copy, because a browser complains where an image is often read
        const dots = document.querySelector('canvas.dots'), copy = dots.cloneNode();
        const image = copy.getContext('2d', { willReadFrequently: true });
        image.drawImage(dots, 0, 0);
        return image.getImageData(0, 0, dots.width, dots.height);
    }; 0""")
    inked = "pixels().data.reduce((sum, what, at) => sum + (at % 4 === 3 ? what : 0), 0)"
    before = browser.run(inked)
    browser.click(*middle_of(browser, "button.arm", "one.dataset.arm === 'taylor'"))
    isolated, _ = count(browser)
    assert 0 < isolated < 50_000 and 0 < browser.run(inked) < before / 2
    assert browser.complaints == []


def test_a_point_without_the_cost_is_not_drawn(browser: Browser, page: Path, tmp_path: Path) -> None:
    """Of many points, whose dots Vega does not have; two have been timed."""

    def change(data: dict[str, Any]) -> None:
        (hours,) = (column for column in data["columns"] if column["name"] == "device_hours")
        hours["values"] = [0.001, 100.0, *[None] * (data["rows"] - 2)]
        (axis,) = (one for one in data["spec"]["usermeta"]["costs"] if one["column"] == "device_hours")
        axis["domains"] = [[0.001 * axis["factor"], 100.0 * axis["factor"]]] * len(axis["domains"])

    few = tmp_path / "few.html"
    few.write_text(with_data(with_points(page.read_text(), 6000), change))
    opened(browser, few, "#cost=device_hours")
    until(browser, "document.querySelector('canvas.dots')")
    painted = browser.run("""(() => {
        const dots = document.querySelector('canvas.dots'), copy = dots.cloneNode();
        const image = copy.getContext('2d');
        image.drawImage(dots, 0, 0);
        const { data } = image.getImageData(0, 0, dots.width, dots.height);
        return data.filter((what, at) => at % 4 === 3 && what > 0).length;
    })()""")
    assert painted <= 2 * 16
    assert browser.complaints == []
