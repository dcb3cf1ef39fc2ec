"""A browser, and the report of a run of many trials in it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from results.report import write_report
from tests.results.chromium import Browser, chromium
from tests.results.many_trials import write_many

TRIALS = 260  # so many that a figure has more rows than its table shows


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run of many trials that has everything."""
    return write_report(write_many(tmp_path_factory.mktemp("many") / "run", TRIALS))


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium(Path(folder)) as browser:
        yield browser


@pytest.fixture
def browser(running: Browser) -> Browser:
    """The browser as new: of the usual size, light, nothing kept, no complaints."""
    running.size(1280, 800)
    running.colours("light")
    running.call("Page.navigate", url="about:blank")
    running.wait_for("Page.loadEventFired")
    running.complaints.clear()
    running.requests.clear()
    return running
