"""The report in a real browser: nothing complains, nothing is fetched, and what can be pointed at answers."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from results.report import write_report
from tests.install import no_chromium
from tests.results.chromium import IS_LEFT_OUT, Browser, chromium
from tests.results.many_trials import write_many

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium())),
]
TRIALS = 500  # so many that a figure has more rows than its table shows
MOST_NODES, MOST_LAYOUTS = 300_000, 100


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run of many trials that has everything."""
    return write_report(write_many(tmp_path_factory.mktemp("many") / "run", TRIALS))


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium(Path(folder)) as browser:
        browser.size(1280, 800)
        yield browser


@pytest.fixture
def browser(running: Browser) -> Browser:
    """The browser as new: light, nothing kept, no complaints."""
    running.colours("light")
    running.call("Page.navigate", url="about:blank")
    running.wait_for("Page.loadEventFired")
    running.complaints.clear()
    running.requests.clear()
    return running


def place_of(browser: Browser, figure: str, *, note: bool) -> tuple[float, float]:
    """Where in the window the first place of a figure is that shows a note, or a row of its data."""
    script = """(name, note) => {
        const figure = document.getElementById(name), svg = figure.querySelector('svg');
        const hits = JSON.parse(figure.querySelector('script').textContent).hits;
        let at = 0;
        while ((hits[at + 4] < 0) !== note) at += 5;
        const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
        scrollTo(0, scrollY + svg.getBoundingClientRect().top + hits[at + 1] * scale - innerHeight / 2);
        const box = svg.getBoundingClientRect();
        return [box.left + (hits[at] + hits[at + 2] / 2) * scale, box.top + (hits[at + 1] + hits[at + 3] / 2) * scale];
    }"""
    x, y = browser.run(f"({script})({json.dumps(figure)}, {json.dumps(note)})")
    return x, y


def shade(browser: Browser) -> list[int]:
    """The colour of the page's ground, as red, green and blue."""
    return [int(part) for part in re.findall(r"\d+", browser.run("getComputedStyle(document.body).backgroundColor"))][
        :3
    ]


def test_it_opens_fast_complains_of_nothing_and_fetches_nothing(browser: Browser, page: Path) -> None:
    """The browser's work is counted: seconds on a machine that others load say nothing of the page."""
    browser.call("Performance.enable")
    browser.open(page)
    metrics = {one["name"]: one["value"] for one in browser.call("Performance.getMetrics")["metrics"]}
    assert metrics["Nodes"] < MOST_NODES  # a tenth of that, since tables are filled when they are opened
    assert metrics["LayoutCount"] < MOST_LAYOUTS  # a tenth of that
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


def test_every_figure_is_drawn_and_every_table_filled(browser: Browser, page: Path) -> None:
    browser.open(page)
    sizes = browser.run("""Array.from(document.querySelectorAll('figure')).map(figure => {
        const box = figure.querySelector('svg').getBoundingClientRect();
        figure.querySelector('details.numbers').open = true;
        return [figure.id, box.width, box.height, figure.querySelectorAll('svg path, svg rect, svg circle').length];
    })""")
    assert len(sizes) >= 14
    for name, width, height, marks in sizes:
        assert width > 600 and height > 50 and marks > 3, name
    shown = browser.run("""new Promise(done => setTimeout(done)).then(() =>
        Array.from(document.querySelectorAll('figure')).map(figure => [
            figure.id, figure.querySelectorAll('.numbers tbody tr').length,
            JSON.parse(figure.querySelector('script').textContent).rows]))""")
    assert any(rows > 1000 for _, _, rows in shown)
    for name, lines, rows in shown:
        assert lines == min(rows, 1000), name
    assert browser.complaints == []


def test_pointing_tells_and_a_click_leads_to_the_trial(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.point(*place_of(browser, "pareto0", note=False))
    told = browser.run("document.getElementById('tip').innerText")
    assert "test score" in told and "trial id" in told
    x, y = place_of(browser, "pareto0", note=False)
    browser.click(x, y)
    trial = browser.run("location.hash").removeprefix("#trial-")
    panel = browser.run("document.getElementById('trial').innerText")
    assert trial in told and trial in panel
    assert "optimisation.learning_rate" in panel and "Operating points" in panel
    browser.run("document.querySelector('#trial .close').click()")
    assert browser.run("document.getElementById('trial').hidden")
    browser.point(*place_of(browser, "pareto0", note=True))
    assert "over " in browser.run("document.getElementById('tip').innerText")
    assert browser.complaints == []


def test_every_figure_answers_when_pointed_at(browser: Browser, page: Path) -> None:
    browser.open(page)
    for name in browser.run("Array.from(document.querySelectorAll('figure')).map(figure => figure.id)"):
        browser.point(1, 1)
        browser.point(*place_of(browser, name, note=False))
        assert browser.run("!document.getElementById('tip').hidden && document.getElementById('tip').innerText"), name


def test_an_address_leads_to_a_trial_and_what_users_wrote_stays_text(browser: Browser, page: Path) -> None:
    """A failed trial's error would end the page's script; it stands in the panel as it was written."""
    browser.open(page)
    trial = browser.run("document.querySelector('#failures tbody tr td[data-trial]').innerText")
    browser.run(f"location.hash = 'trial-{trial}'; new Promise(done => setTimeout(done, 0))")
    panel = browser.run("document.getElementById('trial').innerText")
    assert "CUDA out of memory" in panel and "</script><script>alert('x')</script>" in panel
    assert browser.complaints == []


def test_a_name_in_the_legend_brings_its_series_to_the_front(browser: Browser, page: Path) -> None:
    browser.open(page)
    x, y = browser.run("""(() => { const item = document.querySelector('#pareto0 .legend li');
        item.scrollIntoView({ block: 'center' }); const box = item.getBoundingClientRect();
        return [box.left + 20, box.top + box.height / 2]; })()""")
    browser.point(x, y)
    script = "Array.from(document.querySelectorAll('#pareto0 .series')).filter(one => {}).length"
    assert browser.run("document.querySelector('#pareto0 .plot').classList.contains('dim')")
    assert browser.run(script.replace("{}", "one.classList.contains('on')")) == 1
    assert browser.run(script.replace("{}", "!one.classList.contains('on')")) > 5


def test_it_is_dark_where_the_system_is_or_the_reader_asks(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert min(shade(browser)) > 200
    browser.colours("dark")
    assert max(shade(browser)) < 60
    button = "document.getElementById('theme').click()"
    browser.run(button)  # as the system says -> light
    assert min(shade(browser)) > 200
    browser.colours("light")
    browser.run(button)  # -> dark
    assert max(shade(browser)) < 60
    browser.open(page)  # and remembered
    assert max(shade(browser)) < 60
    browser.run(button)


def test_paper_gets_pages_without_what_only_a_screen_can_do(browser: Browser, page: Path) -> None:
    browser.open(page)
    pages = len(re.findall(rb"/Type\s*/Page\b", browser.printed()))
    assert 5 <= pages <= 40
    browser.call("Emulation.setEmulatedMedia", media="print")
    hidden = browser.run("['nav', '#theme', '#tip', 'details.sql'].map(name => getComputedStyle("
                         "document.querySelector(name)).display)")  # fmt: skip
    assert hidden == ["none"] * 4
    assert min(shade(browser)) == 255
    browser.call("Emulation.setEmulatedMedia", media="")


LONG_TIMERS = """
window.timers = [];
const short = window.setTimeout;
window.setTimeout = (call, after) => after < 1000 ? short(call, after) : window.timers.push([call, after]);
"""
"""Keeps what is to happen in a second or later, so that a test decides when it does."""


def test_a_page_that_is_renewed_stays_where_the_reader_was(browser: Browser, page: Path, tmp_path: Path) -> None:
    """It loads itself anew; then it lies at the same height, with the same folds open."""
    renewed = Path(shutil.copy(page, tmp_path / "report.html"))
    renewed.write_text(renewed.read_text().replace("<body>", '<body data-renew-s="30.0">'))
    kept = browser.call("Page.addScriptToEvaluateOnNewDocument", source=LONG_TIMERS)["identifier"]
    browser.open(renewed)
    browser.run("window.old = true; document.querySelector('#pareto details').open = true; scrollTo(0, 4000)")
    assert browser.run("timers.map(timer => timer[1])") == [30_000]
    browser.run("timers[0][0](); 0")
    browser.wait_for("Page.loadEventFired")
    frame = "new Promise(done => requestAnimationFrame(done))"
    browser.run(f"{frame}.then(() => {frame}).then(() => {frame})")
    state = browser.run("[window.old === undefined, scrollY, document.querySelector('#pareto details').open]")
    assert state == [True, 4000, True]
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=kept)
