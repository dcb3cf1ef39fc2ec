"""A browser follows a real sweep on Ray: what runs, what has ended, in order; nobody else is told anything."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from results.store.reader import load
from tests.commands import LAUNCH, ROOT
from tests.install import no_chromium
from tests.results.chromium import IS_LEFT_OUT, Browser, chromium
from transtailor.waiting import wait_for

LIMIT_S = 500.0
SPEC = """
name = "live"
imports = ["waits.py"]
[trial]
network = "friedman_mlp"
pruning.linear = true
data = { name = "friedman1", train_images = 20 }
source.epochs = 1
optimisation = { epochs = 1, head_epochs = 1 }
method = { name = "prune", criterion = "waits" }
[axes]
seed = [0, 1, 2, 3]
"""
# Each trial waits for a file of its seed, so the test decides which ends when.
MODULE = """
import os
from pathlib import Path

from tailor.extend import CRITERIA, Criterion
from transtailor.waiting import wait_for


def waits(scoring):
    wait_for(Path(os.environ["GO"]).exists, "the test", 500.0)
    layers = [member.layer for group in scoring.found for member in group.members]
    return {layer: scoring.state.tensors[f"{layer}.weight"].abs().flatten(1).mean(dim=1) for layer in layers}


CRITERIA.add("waits", Criterion(compute=waits, source="a test"))
"""
pytestmark = [
    pytest.mark.check,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium())),
]


def begun(words: list[str], folder: Path, **kwargs: object) -> subprocess.Popen[str]:
    env = os.environ | {"GO": str(folder / "go"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *words], cwd=folder, env=env, text=True, **kwargs)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A launch of four trials."""
    (tmp_path / "spec.toml").write_text(SPEC)
    (tmp_path / "waits.py").write_text(MODULE)
    with (tmp_path / "log").open("w") as log:
        process = begun([str(LAUNCH), "spec.toml"], tmp_path, stdout=log, stderr=log)
    yield process
    process.send_signal(signal.SIGINT)
    process.wait(LIMIT_S)


@pytest.fixture
def link(tmp_path: Path, sweep: subprocess.Popen[str]) -> Iterator[str]:
    """What `serve` prints, as soon as trials run."""
    run = tmp_path / "runs" / "live"
    running = "SELECT count(*) AS n FROM attempts WHERE status = 'running'"

    def trials() -> int:
        assert sweep.poll() is None, (tmp_path / "log").read_text()
        if not (run / "tables" / "attempts").exists():
            return 0
        with load(run) as tables:
            return int(tables.rows(running)[0]["n"])

    wait_for(lambda: trials() >= min(2, os.cpu_count() or 1), "two trials", LIMIT_S, poll_s=1.0)
    serving = begun(["-m", "transtailor", "serve", str(run)], tmp_path, stdout=subprocess.PIPE)
    assert serving.stdout
    yield serving.stdout.readline().removeprefix("open ").strip()
    serving.send_signal(signal.SIGINT)
    serving.wait(LIMIT_S)


def said(browser: Browser) -> str | None:
    """The page's large numbers; None while it is loaded anew."""
    found: str | None = browser.poll("document.querySelector('.lead')?.textContent")
    return found


def status(link: str, method: str = "GET", **headers: str) -> int:
    connection = HTTPConnection(urlsplit(link).netloc, timeout=60)
    connection.request(method, "/page", headers=headers)
    return connection.getresponse().status


def test_a_browser_follows_a_sweep_and_no_other_reader_is_told_anything(
    tmp_path: Path, sweep: subprocess.Popen[str], link: str
) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium(Path(folder)) as browser:
        browser.size(1280, 800)
        browser.call("Page.navigate", url=link)
        first = wait_for(lambda: said(browser), "the page", LIMIT_S)
        assert first.startswith("4 trials planned · 0 trials finished · 0 trials failed · 4 trials missing")
        assert "Running" in browser.run("document.getElementById('now').textContent")
        token = urlsplit(link).fragment.removeprefix("token=")
        bearer = f"Bearer {token}"
        assert status(link) == status(link, Authorization="Bearer x") == 401
        assert status(link, Host="evil.example", Authorization=bearer) == 421
        assert status(link, "POST", Authorization=bearer) == 501
        assert status(link, Authorization=bearer) == 200
        (tmp_path / "go").touch()
        seen = [0]

        def all_finished() -> bool:
            if text := said(browser):
                seen.append(int(text.split(" · ")[1].split(" ")[0]))
            return seen[-1] == 4

        wait_for(all_finished, "the last trial", LIMIT_S)
        assert seen == sorted(seen)
        assert sweep.wait(LIMIT_S) == 0, (tmp_path / "log").read_text()
        with load(tmp_path / "runs" / "live") as tables:
            (row,) = tables.rows("SELECT count(*) AS points, max(test_score) AS best FROM compared_points")

        def has_all_points() -> bool:
            shown = "document.querySelector('#points .count')?.textContent"
            return browser.poll(shown) == f"{row['points']} of {row['points']} operating points"

        wait_for(has_all_points, "the last rows", LIMIT_S)
        best = browser.run("document.querySelector('#points tbody tr[aria-rowindex] td:nth-child(7)').textContent")
        assert best == f"{row['best']:.2f}"
        assert browser.complaints == []
