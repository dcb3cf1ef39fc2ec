"""The live report: for who has the token and names this host, and no other question is answered."""

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from results.render import blocks
from results.report import point_pages, serve, write_report
from results.report.serve import ADDRESS, ReportServer, serve_lines
from results.store.reader import load
from results.store.writer import Writer
from tests.install import no_chromium
from tests.results.chromium import IS_LEFT_OUT, Browser, chromium
from tests.results.conftest import Synthetic
from transtailor.__main__ import main
from transtailor.waiting import wait_for

pytestmark = pytest.mark.check
LIMIT_S = 300.0


@contextmanager
def serving(folder: Path) -> Iterator[ReportServer]:
    """A server of a small run of two trials."""
    run = Synthetic(seeds=(0,), test_images=20).write(folder / "run")
    with ReportServer([run]) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReportServer]:
    """A server of its own, for a test that changes the run."""
    with serving(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportServer]:
    """One server for all tests that only ask."""
    with serving(tmp_path_factory.mktemp("shared")) as server:
        yield server


def answer(server: ReportServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = HTTPConnection(ADDRESS, server.server_port, timeout=60)
    connection.request(method, path, headers=headers)
    got = connection.getresponse()
    return got.status, got.read().decode(), dict(got.headers)


def token(server: ReportServer) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"}


def until(browser: Browser, condition: str) -> None:
    """Waits until an expression holds."""
    wait_for(lambda: browser.poll(f"Boolean({condition})"), condition, LIMIT_S)


def test_a_reader_with_the_token_gets_the_report(shared_server: ReportServer) -> None:
    status, page, headers = answer(shared_server, "/page", **token(shared_server))
    assert status == 200 and "<title>run – report</title>" in page and "connect-src 'self'" in page
    assert headers["X-Version"] == answer(shared_server, "/version", **token(shared_server))[1]
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/page", "/version", "/report.html", "/../run/tables", "/page?token=", "/points?{}"])
def test_without_the_token_nothing_is_said_of_the_run(shared_server: ReportServer, path: str) -> None:
    for authorization in ("", "Bearer ", "Bearer wrong", f"Basic {shared_server.token}", "Bearer \u00fc"):
        status, text, _ = answer(shared_server, path, Authorization=authorization)
        assert status == 401, authorization
        assert "transtailor" not in text and "operating" not in text, authorization


def test_the_opening_has_no_data_and_the_token_is_in_no_address_that_is_sent(shared_server: ReportServer) -> None:
    server = shared_server
    status, page, headers = answer(server, "/")
    assert status == 200 and len(page) < 4000 and server.token not in page and "run" not in headers.values()
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert server.link == f"http://127.0.0.1:{server.server_port}/#token={server.token}"
    assert len(server.token) >= 32


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", ""])
def test_another_host_is_refused_with_the_token_too(shared_server: ReportServer, host: str) -> None:
    assert answer(shared_server, "/page", Host=host, **token(shared_server))[0] == 421
    assert answer(shared_server, "/", Host=host)[0] == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_there_is_get_and_nothing_else(shared_server: ReportServer, method: str) -> None:
    assert answer(shared_server, "/page", method, **token(shared_server))[0] == 501


def test_who_asks_for_newer_rows_is_answered_when_their_page_is_made(server: ReportServer) -> None:
    _, page, headers = answer(server, "/page", **token(server))
    assert ">2 trials planned" in page
    with load(server.runs[0]) as run:
        (row,) = run.rows("SELECT * EXCLUDE (written_at) FROM planned LIMIT 1")
    with ThreadPoolExecutor(1) as reader:
        asked = reader.submit(answer, server, f"/version?{headers['X-Version']}", **token(server))
        Writer(server.runs[0] / "tables").write("planned", [row | {"trial_id": "0" * 16}])
        status, version, _ = asked.result()
    assert status == 200 and version != headers["X-Version"]
    _, page, headers = answer(server, "/page", **token(server))
    assert ">3 trials planned" in page and headers["X-Version"] == version


def test_who_asks_for_newer_rows_of_a_run_that_rests_is_told_so(
    shared_server: ReportServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_NEWER_S", 0.3)
    _, _, headers = answer(shared_server, "/page", **token(shared_server))
    asked = answer(shared_server, f"/version?{headers['X-Version']}", **token(shared_server))
    assert asked[:2] == (200, headers["X-Version"])


def test_a_reader_who_goes_away_leaves_no_trace(shared_server: ReportServer, capfd: pytest.CaptureFixture[str]) -> None:
    """A page that is loaded again while the server answers, as a browser does it."""
    for error in (BrokenPipeError(), ValueError("a fault of ours")):
        try:
            raise error
        except (BrokenPipeError, ValueError):
            shared_server.handle_error(None, (ADDRESS, 1))
    said = capfd.readouterr().err
    assert "a fault of ours" in said and "BrokenPipe" not in said


def test_a_part_that_is_torn_or_gone_is_explained_and_no_blank_page(server: ReportServer) -> None:
    """Of the rows that are left a page is made, and what was answered before can still be asked for."""
    tables = server.runs[0] / "tables"
    part = next(tables.glob("trials/*.parquet"))
    torn = part.with_name("z.parquet")
    torn.write_bytes(part.read_bytes()[:100])
    for path in ("/version", "/page"):
        status, text, _ = answer(server, path, **token(server))
        assert status == 500 and "z.parquet" in text
    torn.unlink()
    assert answer(server, "/page", **token(server))[0] == 200
    shutil.rmtree(tables / "predictions")
    answer(server, "/version", **token(server))
    status, text, _ = answer(server, "/page", **token(server))
    assert status == 200 and "No test predictions yet." in text
    tables.rename(server.runs[0] / "gone")
    status, text, _ = answer(server, "/version", **token(server))
    assert status == 500 and "tables" in text


def test_a_taken_port_and_a_folder_that_is_no_run_are_refused(
    shared_server: ReportServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(shared_server.runs[0]), "--port", str(shared_server.server_port)]) == 2
    assert "leave it out" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "none")]) == 2


def test_it_says_how_to_open_it_from_another_machine(shared_server: ReportServer) -> None:
    lines = serve_lines(shared_server.runs, 0)
    link, tunnel, _ = (next(lines) for _ in range(3))
    port = link.partition(":")[2].partition(":")[2].partition("/")[0]
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in tunnel
    lines.close()


def test_points_are_answered_to_who_has_the_token(shared_server: ReportServer) -> None:
    path = "/points?" + quote(json.dumps({"sort": "-test_score", "arms": ["transtailor"]}))
    status, text, _ = answer(shared_server, path, **token(shared_server))
    assert status == 200 and json.loads(text)["count"] == json.loads(text)["rows"] == 4
    path = "/points?" + quote('{"sort": "1; DROP TABLE points"}')
    status, text, _ = answer(shared_server, path, **token(shared_server))
    assert status == 400 and "no question about points" in text


@pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium()))
def test_a_browser_is_told_what_cannot_be_read_and_goes_on_when_it_can(server: ReportServer) -> None:
    tables, gone = server.runs[0] / "tables", server.runs[0] / "gone"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium(Path(folder)) as browser:
        browser.call("Page.navigate", url=server.link)
        browser.wait_for("Page.loadEventFired")
        until(browser, "document.querySelector('figure[data-drawn]')")
        tables.rename(gone)
        until(browser, "document.querySelector('#state')?.textContent.includes('tables')")
        gone.rename(tables)
        until(browser, "document.querySelector('figure[data-drawn]')")


@pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium()))
def test_points_that_the_page_leaves_out_come_when_they_are_scrolled_to(
    server: ReportServer, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All points, in the order of the whole run, of which the page has twenty."""
    monkeypatch.setattr(blocks, "MOST_ROWS", 20)
    monkeypatch.setattr(point_pages, "PAGE_ROWS", 30)
    monkeypatch.setattr(point_pages, "MOST_ROWS", 50)
    synthetic(seeds=range(1, 16), test_images=5).write(server.runs[0])
    server.renew()
    count = "document.querySelector('#points .count')?.textContent"
    scores = "Array.from(document.querySelectorAll('#points tbody tr[aria-rowindex] td:nth-child(7)'))"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium(Path(folder)) as browser:
        browser.size(1280, 800)
        browser.call("Page.navigate", url=server.link)
        browser.wait_for("Page.loadEventFired")
        until(browser, f"{count} === '80 of 80 operating points'")
        seen = set(browser.run(f"{scores}.map(one => one.parentNode.getAttribute('aria-rowindex'))"))
        while "81" not in seen:
            browser.run("document.querySelector('#points .rows').scrollTop += 200")
            browser.wait_for_picture()
            seen |= set(browser.run(f"{scores}.map(one => one.parentNode.getAttribute('aria-rowindex'))"))
        assert len(seen) == 80
        shown = [float(one) for one in browser.run(f"{scores}.map(one => one.textContent)")]
        assert shown == sorted(shown, reverse=True)
        browser.run("document.querySelector('button.arm[data-arm=fine_tune]').click()")
        until(browser, f"{count} === '16 of 80 operating points'")
        browser.run("document.querySelector('button.arm[data-arm=fine_tune]').click()")
        browser.run("const input = document.querySelector('#words'); input.value = 'macs<8.5e5';"
                    "input.dispatchEvent(new Event('input')); 0")  # fmt: skip
        until(browser, f"{count} === '32 of 80 operating points'")
        browser.run("location.hash = '#'; location.hash = '#sort=seed'; 0")
        until(browser, f"{count} === '80 of 80 operating points'")
        browser.run("""URL.createObjectURL = (one) => { one.text().then(text => { window.saved = text }); return '#' };
            Array.from(document.querySelectorAll('.under button')).find(one => one.textContent === 'CSV').click()""")
        until(browser, "window.saved")
        assert len(browser.run("window.saved").splitlines()) == 81
        assert browser.complaints == []
        browser.run("location.hash = '#sort=nothing'; 0")
        until(browser, f"{count}.startsWith('The server did not answer: no question about points')")
        browser.open(write_report(server.runs[0]))
        until(browser, f"{count}?.startsWith('20 of 80 operating points; the SQL')")


@pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium()))
def test_a_browser_follows_new_rows_and_keeps_what_was_chosen(server: ReportServer, synthetic: Any) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium(Path(folder)) as browser:
        browser.size(1280, 800)
        browser.call("Page.navigate", url=server.link)
        browser.wait_for("Page.loadEventFired")
        until(browser, "document.querySelector('figure[data-drawn]')")
        assert "token" not in browser.run("location.href")
        browser.run("document.querySelector('button.arm[data-arm=transtailor]').click(); window.old = true; 0")
        synthetic(seeds=(1,), test_images=20).write(server.runs[0])
        until(browser, "!window.old && document.querySelector('figure[data-drawn]')")
        until(browser, "document.body.textContent.includes('4 trials planned')")
        until(browser, "document.querySelector('figure[data-drawn]')")
        assert browser.run("document.querySelector('button.arm[aria-pressed=true]').dataset.arm") == "transtailor"
        assert browser.complaints == []
