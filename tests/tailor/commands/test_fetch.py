"""Weights brought from a server of the test's own on the loopback: whole and verified, or not there at all."""

import hashlib
import http.server
import io
import itertools
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest

from tailor.common.errors import ConfigError
from tailor.facts import pins, weights
from tailor.facts.weights import WeightsInfo
from tailor.networks import fetch as fetching
from tailor.networks.fetch import fetch_weights as fetch
from tailor.networks.fetch import places_of
from transtailor.__main__ import main

NAME, OTHER = "ResNet18_Weights.IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V2"
CONTENT = bytes(range(256)) * 10_000  # 2.5 MB, more than two blocks


@dataclass
class Server:
    """What answers, and what it was asked."""

    origin: str = ""
    content: bytes = CONTENT
    says_bytes: int | str | None = len(CONTENT)  # None: no length is said
    sends_to: str | None = None
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    known = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802  # the standard library's name
            known.asked.append(self.path)
            if not self.path.endswith(".pth"):
                self.send_error(404)
                return
            self.send_response(200 if known.sends_to is None else 302)
            if known.sends_to is not None:
                self.send_header("Location", known.sends_to)
            if known.says_bytes is not None:
                self.send_header("Content-Length", str(known.says_bytes))
            self.end_headers()
            self.wfile.write(known.content)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        known.origin = f"http://127.0.0.1:{running.server_port}/models"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield known
        running.shutdown()
        thread.join()


@pytest.fixture
def info(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WeightsInfo:
    """Weights by NAME, whose file has CONTENT."""
    monkeypatch.chdir(tmp_path)
    digits = hashlib.sha256(CONTENT).hexdigest()[:8]
    facts = asdict(weights.find(NAME)) | {"file": f"resnet18-{digits}.pth", "sha256": digits}
    monkeypatch.setitem(weights.table(), NAME, WeightsInfo(**facts))
    return weights.find(NAME)


def test_a_file_comes_whole_and_once(server: Server, info: WeightsInfo, tmp_path: Path) -> None:
    out = io.StringIO()
    target = fetch(NAME, tmp_path / "w", out, server.origin)
    assert target == tmp_path / "w" / info.file
    assert target.read_bytes() == CONTENT
    assert server.asked == [f"/models/{info.file}"]
    assert f"SHA-256 {hashlib.sha256(CONTENT).hexdigest()}" in out.getvalue()
    assert f"fetching {info.file.removesuffix('.pth')}: {len(CONTENT)} bytes" in out.getvalue()
    assert fetch(NAME, tmp_path / "w", out, server.origin) == target
    assert len(server.asked) == 1
    assert "is there already" in out.getvalue()
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["SHA256SUMS", info.file]


def test_a_damaged_file_is_replaced(server: Server, info: WeightsInfo, tmp_path: Path) -> None:
    (tmp_path / info.file).write_bytes(CONTENT[:-1])
    fetch(NAME, tmp_path, io.StringIO(), server.origin)
    assert (tmp_path / info.file).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "says_bytes", "message"),
    [
        (CONTENT[:-1], len(CONTENT), rf"ended after {len(CONTENT) - 1} of {len(CONTENT)} bytes; not kept"),
        (b"", len(CONTENT), rf"ended after 0 of {len(CONTENT)} bytes"),
        (CONTENT[:-1], None, r"has SHA-256 \w+, expected was one that begins with \w{8}; not kept"),
        (CONTENT[:-1] + b"x", len(CONTENT), r"has SHA-256 \w+, expected was one that begins with \w{8}; not kept"),
        (b"<html>log in first</html>", 25, r"expected was one that begins with"),
    ],
)
def test_what_is_not_the_file_is_not_kept(
    content: bytes, says_bytes: int | None, message: str, server: Server, info: WeightsInfo, tmp_path: Path
) -> None:
    server.content, server.says_bytes = content, says_bytes
    (tmp_path / "w").mkdir()
    with pytest.raises(ConfigError, match=message):
        fetch(NAME, tmp_path / "w", io.StringIO(), server.origin)
    assert list(tmp_path.glob("w/*")) == []
    server.content, server.says_bytes = CONTENT, len(CONTENT)
    assert fetch(NAME, tmp_path / "w", io.StringIO(), server.origin).name == info.file


def forged(digits: str) -> bytes:
    """Another content whose SHA-256 begins with these digits: for one or two of them a moment, for eight a day."""
    contents = (CONTENT + str(number).encode() for number in itertools.count())
    return next(content for content in contents if hashlib.sha256(content).hexdigest().startswith(digits))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, info: WeightsInfo) -> WeightsInfo:
    """The weights by NAME, of which two digits are published."""
    monkeypatch.setitem(weights.table(), NAME, replace(info, sha256=info.sha256[:2]))
    return weights.find(NAME)


def test_digests_written_on_windows_are_read(tmp_path: Path) -> None:
    lines = f"{'0' * 64}  net.pth\r\n{'1' * 64} *other.pth\r\n"
    (tmp_path / "SHA256SUMS").write_text(lines, encoding="utf-8-sig", newline="")
    assert pins.other_pin(tmp_path / "net.pth", "0" * 64) is None
    assert "0" * 64 in str(pins.other_pin(tmp_path / "net.pth", "2" * 64))
    (tmp_path / "SHA256SUMS").write_text(lines, encoding="utf-16")
    with pytest.raises(ConfigError, match="SHA256SUMS cannot be read: .*UTF-16"):
        pins.other_pin(tmp_path / "net.pth", "0" * 64)


def test_the_first_fetch_pins_all_digits(server: Server, short: WeightsInfo, tmp_path: Path) -> None:
    out, found = io.StringIO(), hashlib.sha256(CONTENT).hexdigest()
    target = fetch(NAME, tmp_path, out, server.origin)
    assert (
        f"only its first digits are published: from now on {tmp_path}/SHA256SUMS requires the whole digest"
        in out.getvalue()
    )
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)
    server.content = forged(short.sha256)
    server.says_bytes = None
    fetch(NAME, tmp_path, io.StringIO(), server.origin)
    target.unlink()
    with pytest.raises(ConfigError, match=f"SHA256SUMS says {found}; not kept"):
        fetch(NAME, tmp_path, io.StringIO(), server.origin)
    assert [path.name for path in tmp_path.iterdir()] == ["SHA256SUMS"]
    target.write_bytes(server.content)  # put there by somebody else
    with pytest.raises(ConfigError, match="its first digits are right, as a forged file's can be"):
        weights.verify(target, short.sha256)
    server.content = CONTENT
    assert fetch(NAME, tmp_path, io.StringIO(), server.origin).read_bytes() == CONTENT
    weights.verify(target, short.sha256)


def test_a_file_that_was_brought_by_hand_is_pinned_by_fetch(server: Server, short: WeightsInfo, tmp_path: Path) -> None:
    (tmp_path / short.file).write_bytes(CONTENT)
    (tmp_path / "SHA256SUMS").write_text(f"# by hand\n\n{'0' * 64} *other.pth\n")
    out = io.StringIO()
    fetch(NAME, tmp_path, out, server.origin)
    assert (server.asked, "from now on" in out.getvalue()) == ([], True)
    listed = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert listed[:3] == ["# by hand", "", f"{'0' * 64} *other.pth"]
    assert listed[3:] == [f"{hashlib.sha256(CONTENT).hexdigest()}  {short.file}"]


@pytest.mark.check
def test_all_digits_that_are_known_are_required(
    server: Server, short: WeightsInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pins.known_sha256(), short.file, hashlib.sha256(CONTENT).hexdigest())
    server.content, server.says_bytes = forged(short.sha256), None
    with pytest.raises(ConfigError, match=r"torchvision_sha256.json says \w{64}; not kept"):
        fetch(NAME, tmp_path, io.StringIO(), server.origin)
    server.content = CONTENT
    fetch(NAME, tmp_path, io.StringIO(), server.origin)
    assert [path.name for path in tmp_path.iterdir()] == [short.file]


@pytest.mark.parametrize("torn", ["0" * 63 + "  net.pth\n", "\xff", "a forged line"])
def test_a_torn_list_of_digests_is_refused(torn: str, server: Server, short: WeightsInfo, tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(torn, encoding="latin-1")
    with pytest.raises(ConfigError, match="SHA256SUMS"):
        fetch(NAME, tmp_path, io.StringIO(), server.origin)
    assert not (tmp_path / short.file).exists()


def test_a_file_that_is_not_there(server: Server, info: WeightsInfo, tmp_path: Path) -> None:
    facts = asdict(info) | {"file": "gone.bin"}
    weights.table()[NAME] = WeightsInfo(**facts)
    with pytest.raises(
        ConfigError, match=r"cannot fetch http://127.*gone.bin: the server answers 404 Not Found. On a machine"
    ):
        fetch(NAME, tmp_path, io.StringIO(), server.origin)


@pytest.mark.usefixtures("info")
def test_no_network_ends_with_2_and_says_what_to_do(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = server.origin.replace("/models", "").rpartition(":")[0] + ":1"  # no server listens on port 1
    assert main(["fetch", NAME, "--to", "w", "--origin", nobody]) == 2
    assert "On a machine with a network, type the same command or download the file" in capsys.readouterr().err
    assert not Path("w").exists()
    for open_way in ("ftp.example", "http://mirror.example/models", "ftp://127.0.0.1/"):
        assert main(["fetch", NAME, "--to", "w", "--origin", open_way]) == 2
        assert "expected https://..." in capsys.readouterr().err


@pytest.mark.parametrize("said", ["many", "1e9", "-1", "9" * 5000, "٣"])
@pytest.mark.usefixtures("info")
def test_a_length_that_makes_no_sense_is_told_in_words(said: str, server: Server, tmp_path: Path) -> None:
    server.says_bytes = said
    with pytest.raises(ConfigError, match=r"cannot fetch|not kept"):
        fetch(NAME, tmp_path / "w", io.StringIO(), server.origin)
    assert list(tmp_path.glob("w/*")) == []


@pytest.mark.parametrize(
    "to", ["http://[", "file:///etc/passwd", "http://192.0.2.1/x", "ftp://127.0.0.1/x", "//[::", ""]
)
@pytest.mark.usefixtures("info")
def test_a_server_that_sends_one_elsewhere_is_not_followed(to: str, server: Server, tmp_path: Path) -> None:
    server.sends_to = to
    with pytest.raises(ConfigError):
        fetch(NAME, tmp_path / "w", io.StringIO(), server.origin)
    assert list(tmp_path.glob("w/*")) == []


@pytest.mark.usefixtures("info")
def test_a_file_without_end_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LIMIT_BYTES", len(CONTENT) - 1)
    server.says_bytes = None
    with pytest.raises(ConfigError, match="has more than"):
        fetch(NAME, tmp_path / "w", io.StringIO(), server.origin)
    assert list(tmp_path.glob("w/*")) == []


def test_the_command_reads_trials_and_specs(server: Server, info: WeightsInfo, tmp_path: Path) -> None:
    """Names stand in a trial, in an axis, and in the spec that another extends."""
    Path("base.toml").write_text(f'[trial.source]\nweights = "{NAME}"\nweights_folder = "w"\n')
    Path("spec.toml").write_text(f'extends = "base.toml"\n[axes]\n"source.weights" = ["{OTHER}", "{NAME}"]\n')
    Path("trial.toml").write_text(f'[source]\nweights = "{NAME}"\n')
    places = [(OTHER, Path("w")), (NAME, Path("w")), (NAME, Path("weights"))]
    assert places_of(["spec.toml", "trial.toml", NAME]) == places
    assert main(["fetch", "trial.toml", "--origin", server.origin]) == 0
    assert (tmp_path / "weights" / info.file).read_bytes() == CONTENT
    assert main(["fetch", "base.toml", "--origin", server.origin]) == 0
    assert (tmp_path / "w" / info.file).read_bytes() == CONTENT


def test_a_mirror_can_be_a_folder(info: WeightsInfo, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / info.file).write_bytes(CONTENT)
    assert main(["fetch", NAME, "--origin", f"file://{tmp_path}/mirror"]) == 0
    assert (tmp_path / "weights" / info.file).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[source]\nweights = "ResNet18_Weights.DEFAULT"\n', "give an exact name: ResNet18_Weights.IMAGENET1K_V1"),
        ("[source\n", "is not valid TOML"),
        ('extends = "trial.toml"\n', "extends itself"),
    ],
)
@pytest.mark.usefixtures("info")
def test_what_a_trial_needs_and_is_not_there_is_named(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("trial.toml").write_text(text)
    assert main(["fetch", "trial.toml"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("weights").exists()
