"""Reads a report as its readers do: its text, its tags, its figures with their data and queries, its tables."""

import html
import json
import re
from html.parser import HTMLParser
from typing import Any


def text_of(page: str) -> str:
    """What a reader sees: the page without its tags, in single spaces."""
    body = re.sub(r"<(style|script|pre)\b.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def without_scripts(page: str) -> str:
    """The page without Vega and its own script."""
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


class Tags(HTMLParser):
    """Collects tags, and every attribute that could fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br", "link", "img", "input"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data") and value:
                self.links.append(value)
            if name == "id" and value:
                self.ids.append(value)
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


class Shown:
    """One figure of a page: its specification and its data, column by column, and the query under it."""

    def __init__(self, figure: str) -> None:
        (self.name,) = re.findall(r'<figure id="([^"]+)"', figure)
        (data,) = re.findall(r'<script type="application/json">(.*?)</script>', figure, flags=re.DOTALL)
        self.data: dict[str, Any] = json.loads(data)
        ((title, query),) = re.findall(r"<summary>(SQL.*?)</summary><pre>(.*?)</pre>", figure, flags=re.DOTALL)
        self.derived = title == "SQL of its rows"  # computed from the query's rows
        self.query = html.unescape(query)


def figures_of(page: str) -> dict[str, Shown]:
    found = [Shown(figure) for figure in re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL)]
    return {figure.name: figure for figure in found}


def tables_of(page: str) -> list[tuple[list[list[str]], str]]:
    """Each table that is a query's answer: its rows of cells, and the query under it."""
    found = []
    for listing in re.findall(r'<div class="listing" data-answer>(.*?)</pre>', page, flags=re.DOTALL):
        table, query = listing.split("<pre>")
        body = re.search(r"<tbody>(.*?)</tbody>", table, flags=re.DOTALL)
        lines = re.findall(r"<tr>(.*?)</tr>", body[1], flags=re.DOTALL) if body else []
        cells = [re.findall(r"<td[^>]*>(?:<a [^>]*>)?(.*?)(?:</a>)?</td>", line, re.DOTALL) for line in lines]
        rows = [[html.unescape(one) for one in several] for several in cells]
        found.append((rows, html.unescape(query)))
    return found
