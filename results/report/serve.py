"""The report live: the same page on this machine's loopback, for who has the token, renewed when a run has new rows."""

import getpass
import hashlib
import hmac
import secrets
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from results.errors import ResultsError
from results.report.command import apart_option, check_apart, runs_argument
from results.report.page import hash_source, page_of, policy_of, render
from results.report.point_pages import PointPages
from results.store.files import tables_folder
from results.store.reader import load
from transtailor import cli
from transtailor.waiting import WaitedTooLong, wait_for

ADDRESS = "127.0.0.1"
_TOKEN_BYTES = 24
_LIMIT_S = 20.0  # for a reader that sends nothing
_NEWER_S = 10.0  # a question for newer rows is answered then, although there are none


class ReportServer(ThreadingHTTPServer):
    """Answers four questions, to readers that name this host and have the token.

    `/` is a page without data: its script takes the token from the address behind "#", which no browser sends and no
    log has, and puts it into the head of what it asks then. `/page` is the report that was made last. `/version?KNOWN`
    is answered when the rows are not those of this version any more and their report is made; until then, the reader
    has the one before. `/points?QUESTION` has some of the operating points, where they are too many for the page.

    Attributes:
        token: 24 random bytes, new in each server.
    """

    daemon_threads = True

    def __init__(self, runs: Sequence[Path], port: int = 0, *, apart: str | None = None) -> None:
        self.runs = runs
        self.apart = apart
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._page: tuple[str, str] | None = None
        self._points: PointPages | None = None
        self._rendering = threading.Lock()
        self.renew()  # a run that cannot be read is refused before anything listens
        super().__init__((ADDRESS, port), _Handler)
        self.hosts = {f"{ADDRESS}:{self.server_port}", f"localhost:{self.server_port}"}

    @property
    def link(self) -> str:
        """The address that opens the report in a browser on this machine."""
        return f"http://{ADDRESS}:{self.server_port}/#token={self.token}"

    def _version(self) -> str:
        """Return a text that changes when a file of the tables comes or is replaced; empty when a run has gone."""
        try:
            folders = [tables_folder(run) for run in self.runs]
        except ResultsError:
            return ""
        files = [f"{path} {_identity(path)}" for folder in folders for path in sorted(folder.rglob("*.parquet"))]
        return hashlib.sha256("\n".join(files).encode(errors="replace")).hexdigest()

    def page(self) -> tuple[str, str]:
        """Return the version and the report of the last rows that could be read. Raises ResultsError: there is none."""
        return self._page or self.renew()

    def newer(self, known: str) -> str:
        """Wait until the rows are not those of this version, at most `_NEWER_S`; render, and return their version."""
        with suppress(WaitedTooLong):
            wait_for(lambda: self._version() != known, "new rows", _NEWER_S, tell=None)
        return self.renew()[0]

    def renew(self) -> tuple[str, str]:
        """Render the report, once for each version, and return both. Raises ResultsError: a file cannot be read."""
        with self._rendering:
            version = self._version()
            if self._page is None or self._page[0] != version:
                self._page = None
                before = self._points
                text, self._points = self._render()
                self._page = (version, text)
                if before:
                    before.close()
            return self._page

    def _render(self) -> tuple[str, PointPages]:
        """Render the report of the last rows."""
        run = load(self.runs if len(self.runs) > 1 else self.runs[0])
        try:
            text = render(page_of(run, apart=self.apart), live=True)
        except BaseException:
            run.close()
            raise
        return text, PointPages(run)

    def points(self, question: str) -> str:
        """Return some operating points of the last page, as JSON. Raises ResultsError: the question is none."""
        assert self._points
        return self._points.answer(question)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a reader who has gone, as one does who loads the page again."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _identity(path: Path) -> tuple[int, ...]:
    """Return what differs between a file and the one that replaces it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return (found.st_ino, found.st_mtime_ns, found.st_size)


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    timeout = _LIMIT_S

    def do_GET(self) -> None:
        """Answer one question; what is no GET is refused by the base class."""
        if self.headers.get("Host") not in self.server.hosts:  # a name of a stranger that leads here (DNS rebinding)
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "this report is served on 127.0.0.1 and localhost only")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, _opening(), html=True)
        elif not hmac.compare_digest(self._given_token().encode(), self.server.token.encode()):
            self._answer(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong: open the link that serve printed")
        else:
            path, _, question = self.path.partition("?")
            self._answer_reader(path, question)

    def _answer_reader(self, path: str, question: str) -> None:
        """Answer a reader who has the token."""
        try:
            if path == "/version":
                self._answer(HTTPStatus.OK, self.server.newer(question))
            elif path == "/page":
                version, text = self.server.page()
                self._answer(HTTPStatus.OK, text, version=version)
            elif path == "/points":
                self._answer(HTTPStatus.OK, self.server.points(unquote(question)))
            else:
                self._answer(HTTPStatus.NOT_FOUND, "there is / and nothing else")
        except ResultsError as error:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            if path == "/points":  # the question is wrong
                status = HTTPStatus.BAD_REQUEST
            self._answer(status, str(error))

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""

    def _given_token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _answer(self, status: HTTPStatus, text: str, *, html: bool = False, version: str = "") -> None:
        content = text.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", f"text/{'html' if html else 'plain'}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if html:
            self.send_header("Content-Security-Policy", policy_of(live=True, more=(hash_source(_script()),)))
        if version:
            self.send_header("X-Version", version)
        self.end_headers()
        self.wfile.write(content)


def serve_lines(runs: Sequence[Path], port: int, apart: str | None = None) -> Iterator[str]:
    """Serve the report until Ctrl-C; the lines say how to open it, also from another machine.

    Raises:
        ResultsError: the folder is no run, or the port is taken or none.
    """
    try:
        server = ReportServer(runs, port, apart=apart)
    except (OSError, OverflowError) as error:
        raise ResultsError(f"--port {port}: cannot listen on {ADDRESS}:{port} ({error}); leave it out") from error
    with server:
        login = f"{getpass.getuser()}@{socket.gethostname()}"
        yield f"open {server.link}"
        yield f"from another machine, first: ssh -N -L {server.server_port}:{ADDRESS}:{server.server_port} {login}"
        yield "Ctrl-C ends it; the sweep is not touched"
        server.serve_forever()


def _script() -> str:
    return (resources.files("results") / "templates" / "live.js").read_text(encoding="utf-8")


def _opening() -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>report</title></head>'
        f'<body><p id="state">Waiting for the report …</p><script>{_script()}</script></body></html>'
    )


@cli.command(example="runs/demo")
@runs_argument
@cli.option("--port", default=0, help="to listen on", show_default="any that is free")
@apart_option
def serve(runs: tuple[Path, ...], port: int, apart: str | None) -> Iterator[str]:
    """Serve the report of RUN to this machine's browser; it follows the sweep."""
    check_apart(runs, apart)
    yield from serve_lines(runs, port, apart)
