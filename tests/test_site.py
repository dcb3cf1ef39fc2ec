"""The documentation site builds without a warning, has every page, and its links lead somewhere without a network."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.test_examples import PUBLIC

DOCS = Path(__file__).parents[1] / "docs"
BUILD = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet"]
READ_BY_THE_BROWSER = {"script", "img", "link", "iframe"}


class Page(HTMLParser):
    """The anchors of a page, and the addresses that it links to or loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors = set[str]()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag is called and where it leads."""
        values = dict(attrs)
        self.anchors |= {name for name in (values.get("id"), values.get("name")) if name}
        address = values.get("href") or values.get("src")
        if address:
            (self.loads if tag in READ_BY_THE_BROWSER else self.links).append(address)


def lost(site: Path) -> Iterator[str]:
    """Each link of a site that leads nowhere in it, and each address that a browser would load from elsewhere."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html") if "_downloads" not in path.parts}
    for path, page in pages.items():
        for address in (*page.links, *page.loads):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                wrong = address in page.loads and parts.scheme != "data"
            else:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                anchors = pages[target].anchors if target in pages else set()
                wrong = not target.exists() or (target in pages and parts.fragment not in {"", *anchors})
            if wrong:
                yield f"{path.relative_to(site)}: {address}"


def pages_of_docs() -> set[str]:
    """The name in the site of each page."""
    names = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    return {name for name in names if not name.startswith("_build/")}


def missing_names(page: str) -> Iterator[str]:
    """Each public name that the page of the Python interface lacks: classes and functions as entries, data as text."""
    anchors = Page(page).anchors
    for module in PUBLIC:
        for name in module.__all__:
            is_entry = inspect.isroutine(thing := getattr(module, name)) or isinstance(thing, type)
            if (f"{module.__name__}.{name}" not in anchors) if is_entry else (f">{name}<" not in page):
                yield f"{module.__name__}.{name}"


@pytest.mark.check
def test_the_site_builds_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = subprocess.run([*BUILD, str(DOCS), str(site)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {name for name in pages_of_docs() if not (site / name).is_file()} == set()
    assert list(lost(site)) == []
    assert len(Page((site / "promises.html").read_text()).links) > 100
    assert list(missing_names((site / "api.html").read_text())) == []


def test_a_name_that_is_not_on_the_page_is_found() -> None:
    found = list(missing_names('<dt id="results.load"></dt><code>CRITERIA</code>'))
    assert "results.load" not in found and "tailor.extend.CRITERIA" not in found
    assert {"tailor.load_model", "tailor.extend.METHODS", "tailor.extend.register"} <= {*found}


def test_what_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here"></a><a href="#gone"></a><a href="b.html"></a><a href="a%2Ehtml#here"></a>'
        '<a href="https://example.org"></a><script src="https://example.org/a.js"></script><img src="b.png">'
    )
    found = [link.removeprefix("a.html: ") for link in lost(tmp_path)]
    assert found == ["#gone", "b.html", "https://example.org/a.js", "b.png"]


def test_a_broken_page_fails(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text('extensions = ["myst_parser"]\nmyst_heading_anchors = 4\n')
    wrong = "[a page](other.md) [an anchor](#no-such-heading)\n\n```{no_such_directive}\n```"
    (tmp_path / "index.md").write_text(f"# A page\n\n[right](#a-page)\n\n{wrong}\n")
    words = [*BUILD, "-b", "dummy", str(tmp_path), str(tmp_path / "site")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("WARNING")) == (1, 3), done.stderr
    assert all(name in done.stderr for name in ("other.md", "no-such-heading", "no_such_directive"))
