"""A browser follows a run whose page is written again and again."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.install import no_chromium
from tests.results.chromium import IS_LEFT_OUT, chromium
from tests.results.conftest import Synthetic
from transtailor.__main__ import main
from transtailor.waiting import wait_for

LIMIT_S = 500.0
pytestmark = [
    pytest.mark.check,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(IS_LEFT_OUT, reason=str(no_chromium())),
]


def test_a_browser_follows_a_run_until_it_has_ended(tmp_path: Path) -> None:
    end = {("fine_tune", 1): "missing"}
    half = Synthetic(seeds=(0, 1), test_images=5, end=lambda *trial: end.get(trial, "finished"))
    run = half.write(tmp_path / "run")
    page = run / "report.html"
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        chromium(Path(folder)) as browser,
        ThreadPoolExecutor(1) as command,
    ):
        code = command.submit(main, ["report", str(run), "--every", "1"])
        wait_for(page.exists, "the first page", LIMIT_S)
        browser.open(page)

        def says(words: str) -> bool:
            return words in (browser.poll("document.querySelector('.lead')?.textContent") or "")

        wait_for(lambda: says("3 trials finished · 0 trials failed · 1 trial missing"), "the first trials", LIMIT_S)
        end.clear()
        half.write(run)
        wait_for(lambda: says("4 trials finished"), "the last trial", LIMIT_S)
        assert code.result(LIMIT_S) == 0
        assert browser.complaints == []
