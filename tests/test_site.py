"""The documentation site builds without a warning, has every page and public name, and needs no network.

Sphinx warns of links, files and anchors that are not there (-W).
"""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.product import ROOT
from tests.test_examples import PUBLIC

DOCS = ROOT / "docs"
LOADED_FROM_ELSEWHERE = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')


@pytest.mark.check
def test_the_site_has_all_pages_and_names_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = tmp_path / "site"
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", str(DOCS), str(site)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md") if "_build" not in path.parts}
    assert {page for page in pages if not (site / page).is_file()} == set()
    assert names_missing_in((site / "api.html").read_text()) == []
    texts = {
        path.relative_to(site): path.read_text() for path in site.rglob("*.html") if "_downloads" not in path.parts
    }
    assert {page: found for page, text in texts.items() if (found := LOADED_FROM_ELSEWHERE.findall(text))} == {}


def names_missing_in(api_page: str) -> list[str]:
    """The public names that the page lacks: functions and classes have an anchor there, data are named."""
    missing = []
    for module in PUBLIC:
        for name in module.__all__:
            thing = getattr(module, name)
            has_anchor = inspect.isroutine(thing) or isinstance(thing, type)
            mark = f'id="{module.__name__}.{name}"' if has_anchor else f">{name}<"
            if mark not in api_page:
                missing.append(f"{module.__name__}.{name}")
    return missing


def test_what_is_missing_or_loaded_from_elsewhere_is_found() -> None:
    missing = names_missing_in('<dt id="results.load"></dt><code>CRITERIA</code>')
    assert "results.load" not in missing and "tailor.extend.CRITERIA" not in missing
    assert {"tailor.load_model", "tailor.extend.METHODS", "tailor.extend.register"} <= {*missing}
    found = LOADED_FROM_ELSEWHERE.findall(
        '<a href="https://example.org"></a><script src="_static/a.js"></script>'
        '<script async src="https://example.org/a.js"></script><link rel="x" href="//example.org/a.css">'
    )
    assert len(found) == 2
