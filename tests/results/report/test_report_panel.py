"""The report in a real browser: arms face to face, a trial's panel, odd runs, a phone, the dark and paper."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from results.render.style import PALETTE
from results.report import write_report
from results.store.reader import load
from results.store.writer import Writer
from tests.commands import parsed
from tests.install import no_chromium
from tests.results.chromium import IS_LEFT_OUT, Browser
from tests.results.exact_run import Trial, write_run
from tests.results.report.report_page import DRAWN, count, middle_of, opened, shade, until

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium())),
]


def test_settings_are_lines_and_what_is_selected_is_lit(browser: Browser, page: Path) -> None:
    opened(browser, page)
    browser.run("document.querySelector('#parallel').scrollIntoView()")
    lines = "Array.from(document.querySelectorAll('#parallel .mark-line path'))"
    until(browser, f"{lines}.length > 20")
    lit = f"{lines}.filter(one => one.getAttribute('stroke') === '#d9651f').length"
    assert browser.run(lit) == 0
    browser.run("const input = document.getElementById('words'); input.value = 'taylor';"
                "input.dispatchEvent(new Event('input')); 0")  # fmt: skip
    until(browser, f"{lit} > 0")
    assert browser.run(lit) < browser.run(f"{lines}.length") / 2
    assert browser.complaints == []


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


def test_the_panel_draws_a_trial_s_curves_and_widths(browser: Browser, page: Path) -> None:
    opened(browser, page)
    browser.click(*middle_of(browser, "#points td a.trial", "!one.closest('tr').cells[2].textContent.includes('tune')"))
    until(browser, "document.querySelectorAll('#trial svg').length === 3")
    said = browser.run("document.getElementById('trial').innerText")
    assert "Filters of its last point" in said and "not recorded" in said
    assert browser.complaints == []


def test_a_trial_s_commands_are_taken_by_their_parsers_and_copied(browser: Browser, page: Path) -> None:
    """Of the trial whose score is the lowest, so that another one is its arm's best."""
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    opened(browser, page, "#sort=validation_score")
    browser.click(*middle_of(browser, "#points td a.trial"))
    commands = browser.run("Array.from(document.querySelectorAll('#trial .commands code')).map(one => one.textContent)")
    assert [command.split()[1] for command in commands] == ["reproduce", "logs", "reproduce", "diff"]
    for command in commands:
        parsed(shlex.split(command)[1:])
    table = browser.run("document.querySelector('#trial .wide table').innerText").splitlines()
    assert table[0].split("\t") == ["point", "removed %", "validation", "test"]
    assert all(1 < float(line.split("\t")[3]) <= 100 for line in table[1:])
    assert re.search(r"\bhours\s+0.02\b", browser.run("document.getElementById('trial').innerText"))
    browser.run("document.querySelector('#trial .commands button').click()")
    until(browser, "document.querySelector('#trial .commands button').textContent === 'copied'")
    assert browser.run("navigator.clipboard.readText()") == commands[0]
    assert browser.complaints == []


def test_an_arm_s_best_of_another_run_is_named_with_that_run(browser: Browser, tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", [Trial(label="arm", seed=0, right=(70,))])
    best = write_run(tmp_path / "best", [Trial(label="arm", seed=1, right=(90,))])
    opened(browser, write_report([ours, best], out=tmp_path / "both.html"), "#sort=validation_score")
    browser.click(*middle_of(browser, "#points td a.trial"))
    command = browser.run("Array.from(document.querySelectorAll('#trial .commands code')).pop().textContent")
    words = command.split()
    assert words[1:4] == ["diff", *(Trial(label="arm", seed=seed, right=()).trial_id for seed in (0, 1))]
    assert words[4:] == ["--run", "runs/ours", "--run", "runs/best"]
    parsed(words[1:])
    assert browser.complaints == []


def test_an_address_that_was_typed_by_hand_stops_nothing(browser: Browser, page: Path) -> None:
    opened(browser, page, "#arms=1&brush=5&zoom=null&trial=none&cost=none&score=none&sort=none&toString=1")
    assert "test accuracy" in browser.run("document.querySelector('#pareto svg').outerHTML")
    shown, every = count(browser)
    assert shown == every > 1000
    for address in ("trial-%", "arms={", "arms=[[]]", "brush={}", 'brush={"panel":99,"x":[0,1],"y":[0,1]}', "zoom=[1]"):
        browser.run(f"location.hash = {json.dumps(address)}; new Promise(done => setTimeout(done))")
        assert count(browser) == (every, every)
    assert browser.run("document.querySelectorAll('button.arm[aria-pressed=true]').length") == 0
    assert browser.complaints == []


def test_a_trial_that_failed_has_its_curves_too(browser: Browser, tmp_path: Path, synthetic: Any) -> None:
    """Of the stages that it finished; it has no operating point."""
    run = synthetic(seeds=(0, 1), end=lambda _label, seed: "failed" if seed else "finished").write(tmp_path)
    with load(run) as loaded:
        failed, *_ = loaded.rows("SELECT trial_id, code_digest FROM trials WHERE status = 'failed' ORDER BY ALL")
        stage, *_ = loaded.rows("SELECT * EXCLUDE (written_at) FROM stages WHERE kind = 'FitHead' ORDER BY ALL")
    stage |= failed
    epoch = {**failed, "stage_key": stage["stage_key"], "kind": "fit_head", "train_accuracy_fraction": 0.5, "images": 9}
    epoch |= {"order": 0, "learning_rate": 0.1, "head_learning_rate": 0.1}
    writer = Writer(run / "tables")
    writer.write("stages", [stage])
    writer.write("epochs", [{**epoch, "epoch": n, "train_loss": 1.0, "seconds": 1.0} for n in (0, 5)])
    opened(browser, write_report(run), "#trial-" + failed["trial_id"])
    until(browser, "document.querySelectorAll('#trial svg').length === 1")
    told = browser.run("document.getElementById('trial').innerText")
    assert "Learning" in told and "Error" in told and "Filters of its last point" not in told
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


def test_on_a_phone_arm_and_budget_stay_beside_the_columns_that_scroll(browser: Browser, page: Path) -> None:
    browser.size(390, 800)
    opened(browser, page)
    places = browser.run("""(() => {
        const table = document.querySelector('.arms'), cells = table.querySelector('tbody tr').cells;
        table.scrollIntoView({ block: 'center' });
        table.scrollLeft = 1000;
        const within = table.getBoundingClientRect();
        return Array.from(cells).map(cell => cell.getBoundingClientRect()).map(
            box => [box.left - within.left, box.right - within.left, within.width]);
    })()""")
    arm, removed, *scrolled = places
    assert arm[0] == 0 and removed[0] == pytest.approx(arm[1], abs=1)
    assert removed[1] < removed[2] - 100  # room for others
    assert scrolled[-1][1] == pytest.approx(removed[2], abs=1)
    on_top = browser.run("""(() => {
        const cells = document.querySelector('.arms tbody tr').cells;
        return [0, 1].every(at => {
            const box = cells[at].getBoundingClientRect();
            const seen = document.elementFromPoint(box.right - 4, box.top + box.height / 2);
            return cells[at].contains(seen);
        });
    })()""")
    assert on_top  # no text runs over them


def test_a_phone_has_no_sideways_scroll(browser: Browser, page: Path) -> None:
    browser.size(390, 800)
    opened(browser, page)
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_an_address_leads_to_a_trial_and_what_users_wrote_stays_text(browser: Browser, page: Path) -> None:
    """A failed trial's error would end the page's script; it stands in the panel as it was written."""
    browser.open(page)
    trial = browser.run("document.querySelector('#failures tbody tr a.trial').innerText")
    browser.run(f"location.hash = 'trial-{trial}'; new Promise(done => setTimeout(done, 0))")
    panel = browser.run("document.getElementById('trial').innerText")
    assert "CUDA out of memory" in panel and "</script><script>alert('x')</script>" in panel
    assert browser.complaints == []


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
    found = browser.run("Array.from(document.querySelectorAll('button.arm i')).map(one => getComputedStyle(one).color)")
    colours = {"#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", one)) for one in found}
    assert len(colours) > 3 and colours <= set(PALETTE)  # those of the figures, by night, too
    browser.open(page)  # and remembered
    assert max(shade(browser)) < 60
    browser.run(button)


def test_paper_gets_pages_without_what_only_a_screen_can_do(browser: Browser, page: Path) -> None:
    opened(browser, page)
    until(browser, DRAWN)
    pages = len(re.findall(rb"/Type\s*/Page\b", browser.printed()))
    assert 5 <= pages <= 40
    browser.call("Emulation.setEmulatedMedia", media="print")
    hidden = browser.run("['nav', '#theme', '.controls', 'details.sql'].map(name => getComputedStyle("
                         "document.querySelector(name)).display)")  # fmt: skip
    assert hidden == ["none"] * 4
    assert min(shade(browser)) == 255
    browser.call("Emulation.setEmulatedMedia", media="")


def test_a_page_that_is_renewed_stays_where_the_reader_was(browser: Browser, page: Path) -> None:
    """It loads itself anew; then it lies at the same height, with the same folds open."""
    opened(browser, page)
    until(browser, DRAWN)
    browser.run("window.old = true; document.querySelector('#pareto details').open = true; 0")
    until(browser, "document.querySelector('#pareto details tbody')")
    browser.run("scrollTo(0, 4000)")
    browser.run("dispatchEvent(new Event('newrows')); 0")
    browser.wait_for("Page.loadEventFired")
    frame = "new Promise(done => requestAnimationFrame(done))"
    browser.run(f"{frame}.then(() => {frame}).then(() => {frame})")
    state = browser.run("[window.old === undefined, scrollY, document.querySelector('#pareto details').open]")
    assert state == [True, 4000, True]
