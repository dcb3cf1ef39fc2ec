"""Input that is wrong on purpose: what is read from files and programs, mutated; and who reads it, with its own errors.

Each target takes an input into an empty folder and reads it as the product does. It may accept the input or refuse it
with one of the errors that commands print without a traceback; everything else that it raises is a fault.
"""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

from tests.faults import whole_files

ROOT = Path(__file__).parents[2]
TOKENS = (
    b"\0", b"\n", b'"', b"'", b"[", b"]]", b"{", b"=", b",", b"|", b"../../x", b"/etc/passwd", b"nan", b"-1", b"1e999",
    b"true", b"9" * 25, b"\xff\xfe", "é".encode(), b"<script>", b"$(touch x)", b"`touch x`", b";", b"null", b"[[a]]",
    b"0x10", b"1979-05-27", b"(null)", b"UNLIMITED", b"\x1b[2J\x1b]0;x\x07", "\u202e".encode(), b"[/x]",
)  # fmt: skip
NESTED = (
    b"[" * 3000, b"[" * 500 + b"]" * 500, b"[" * 60 + b"]" * 60, b'{"a":' * 3000, b'{"a":' * 90 + b"1" + b"}" * 90,
    b"{a = " * 3000, b"\n" + b"a." * 3000 + b"a = 1\n", b"\n[" + b"a." * 3000 + b"a]\n", b"\n[[" + b"a." * 60 + b"a]]",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Something that reads what others may have written.

    Attributes:
        whole: a valid input.
        inputs: draws one, from valid ones.
        read: takes it into an empty folder and reads it; returns whether it was accepted.
        refusals: the errors that say in words what is wrong.
        share: of all inputs, beside 1 of others; less where one takes long.
    """

    whole: Any
    inputs: st.SearchStrategy[Any]
    read: Callable[[Path, Any], bool]
    refusals: Callable[[], tuple[type[Exception], ...]]
    share: float = 1.0


@st.composite
def mutated(draw: st.DrawFn, base: bytes) -> bytes:
    """A text or file of which one to three places are flipped, cut out, doubled, cut off, odd, or nested deeply."""
    content = bytearray(base)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        to = min(len(content), at + draw(st.integers(1, 40)))
        odd = draw(st.one_of(st.sampled_from(TOKENS + NESTED), st.binary(min_size=1, max_size=6)))
        match draw(st.sampled_from(["odd", "value", "number", "flip", "remove", "double", "cut"])):
            case "odd":
                content[at:at] = odd
            case "value":
                start = content.find(b"=", at) + 1
                end = content.find(b"\n", start)
                content[start : end if end > 0 else len(content)] = b" " + odd
            case "number" if found := re.search(rb"[0-9][0-9.]*", content[at:]):
                number = draw(st.one_of(st.integers(-2, 100), st.integers(), st.floats()))
                content[at + found.start() : at + found.end()] = str(number).encode()
            case "flip" if content:
                content[min(at, len(content) - 1)] ^= 1 << draw(st.integers(0, 7))
            case "remove":
                del content[at:to]
            case "double":
                content[at:at] = content[at:to]
            case _:
                del content[at:]
    return bytes(content)


def one_mutated(whole: dict[str, bytes]) -> st.SearchStrategy[dict[str, bytes]]:
    """Several texts or files by name, of which one is mutated."""
    return st.sampled_from(sorted(whole)).flatmap(
        lambda name: mutated(whole[name]).map(lambda content: whole | {name: content})
    )


def put(folder: Path, contents: dict[str, bytes]) -> None:
    """Writes the files of a folder."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _spec(folder: Path, content: bytes) -> bool:
    from sweeps.planning.plan import make_plan
    from sweeps.spec.spec import load_spec

    (folder / "spec.toml").write_bytes(content)
    make_plan(load_spec(folder / "spec.toml"))
    return True


def _of_sweeps() -> tuple[type[Exception], ...]:
    from sweeps.errors import RunFolderError, SpecError
    from tailor.common.errors import ConfigError

    return SpecError, ConfigError, RunFolderError


def _site(folder: Path, content: bytes) -> bool:
    from hpc.sites.site import Need, read_site
    from hpc.slurm.script import script

    (folder / "site.toml").write_bytes(content)
    script(read_site(folder / "site.toml"), Need(log_folder=Path("/shared/logs")), ["true"])
    return True


def _of_hpc() -> tuple[type[Exception], ...]:
    from hpc.errors import SiteError, SlurmError

    return SiteError, SlurmError


def _trial(folder: Path, content: bytes) -> bool:
    from transtailor.__main__ import main
    from transtailor.errors import MISTAKE

    (folder / "trial.toml").write_bytes(content)
    code = main(["trial", "run", str(folder / "trial.toml"), "--plan"])
    assert code in (0, MISTAKE), code
    return code == 0


def _of_tailor() -> tuple[type[Exception], ...]:
    from tailor.common.errors import ConfigError

    return (ConfigError,)


def _run(folder: Path, contents: dict[str, bytes]) -> bool:
    from results.store.completeness import failed_trials, is_over, refuse_gaps
    from results.store.reader import finished_trial_ids, load
    from results.store.schema import TABLES
    from sweeps.operations.known_trials import find_trial
    from sweeps.operations.status import status
    from sweeps.run.run_folder import RunFolder, open_run

    put(folder, contents)
    with load(folder) as run:
        for table in TABLES:
            run.rows(f'SELECT * FROM "{table}"')
        run.rows("SELECT * FROM measured_points")
        failed_trials(run), is_over(run), refuse_gaps(run), finished_trial_ids(folder)
    record = open_run(RunFolder(folder))
    list(status(RunFolder(folder)))
    find_trial(min(record.trials), folder)
    return True


def _of_runs() -> tuple[type[Exception], ...]:
    from results.errors import ResultsError
    from sweeps.errors import RunFolderError

    return ResultsError, RunFolderError


def _stage(folder: Path, contents: dict[str, bytes]) -> bool:
    from safetensors.torch import load

    from tailor.execution.cache import Cache

    put(folder, contents)
    (key,) = {Path(name).stem for name in contents}
    cache = Cache(folder)
    if cache.read(key) is None:
        return False
    load(cache.read_tensors(key))
    return True


def _of_stages() -> tuple[type[Exception], ...]:
    from tailor.execution.cache import DamagedStage

    return (DamagedStage,)


def _checkpoint(folder: Path, contents: dict[str, bytes]) -> bool:
    import torch

    from tailor.parallel.process_group import join
    from tailor.training.checkpoint import Checkpoint
    from tailor.training.weight_average import WeightAverage

    put(folder, contents)
    (name,) = contents
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    checkpoint = Checkpoint(folder / name, 0.0, join("cpu"))
    return checkpoint.restore(model, optimiser, WeightAverage(model, 0.9), 10).epoch > 0


def _model(folder: Path, contents: dict[str, bytes]) -> bool:
    from tailor.model.state import load_state

    put(folder, contents)
    load_state(folder).build()
    return True


def _forged_model(folder: Path, contents: dict[str, bytes]) -> bool:
    """As `_model`, with a SHA-256 that fits the tensors, which are no others than were written."""
    described = json.loads(contents["model.json"])
    described["sha256"] = hashlib.sha256(contents["model.safetensors"]).hexdigest()
    return _model(folder, contents | {"model.json": json.dumps(described).encode()})


def _archive(folder: Path, given: tuple[str, bytes]) -> bool:
    from tailor.prepare.archives import unpack

    suffix, content = given
    (folder / f"a{suffix}").write_bytes(content)
    made = unpack(folder / f"a{suffix}", folder / "inside")
    assert not [path for path in made.rglob("*") if path.is_symlink() or not path.resolve().is_relative_to(made)]
    return True


def _image(folder: Path, content: bytes) -> bool:
    from tailor.prepare.pictures import decode

    (folder / "image").write_bytes(content)
    return not decode(folder / "image", 8).problem


def _slurm(_folder: Path, said: dict[str, bytes]) -> bool:
    from hpc.slurm.first_site import ask_cluster, site_text
    from hpc.slurm.jobs import jobs, queue

    with _programs(said):
        jobs(["12", "13"], None, tries=1)
        queue(["a sweep"], None, tries=1)
        site_text(ask_cluster())
    return True


@contextmanager
def _programs(said: dict[str, bytes]) -> Iterator[None]:
    """SLURM's commands, as hpc.slurm.calls starts them, that print what was drawn."""
    from hpc.slurm import calls

    class Program:
        returncode = 0

        def __init__(self, words: list[str], **_: object) -> None:
            self.out = said.get(" ".join(words[:3]), said.get(words[0], b""))

        def communicate(self, timeout: float) -> tuple[bytes, bytes]:  # noqa: ARG002
            return self.out, b""

    before = calls.subprocess
    calls.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": Program})  # type: ignore[assignment]
    try:
        yield
    finally:
        calls.subprocess = before


TRIAL = b"""network = "digits_vgg"
seed = 3
[method]
name = "prune"
criterion = "l1"
[data]
train_images = 64
"""
ANSWERS = {
    "squeue": b"12|RUNNING|None\n13_1|PENDING|Resources\n",
    "squeue --all --me": b"12|RUNNING|2026-11-20T10:00:00|node[1-2]|None|a sweep\n13_1|PENDING|N/A||Priority|x\n",
    "sacct": b"12|COMPLETED|0:0\n13_1|CANCELLED by 0|0:15\n",
    "scontrol --oneliner show": b"JobId=12 JobName=x JobState=RUNNING Reason=None x\n",
    "scontrol show config": b"ClusterName = c\nAccountingStorageEnforce = associations\n",
    "sinfo": b"main*|up|1-00:00:00|4|64|512000|NO|gpu:a100:4(S:0-1)\nlong|up|infinite|2|8+|1000+|NO|(null)\n",
    "sacctmgr": b"me\nother\n",
}


def archives() -> dict[str, bytes]:
    """A whole archive of each kind, and some that lead out: suffix and content."""
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/1.png", "a/2.png", "../b/3.png", "/c/4.png"):
            archive.writestr(name, name * 20)
    with tarfile.open(fileobj=tarred, mode="w:gz") as archive:
        for name, kind, link in (("a/1", b"0", ""), ("a/2", b"2", "../../x"), ("a/3", b"1", "/x"), ("../4", b"0", "")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, link, 9 * (kind == b"0")
            archive.addfile(entry, io.BytesIO(b"some text"))
    plain, plain_zip = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        entry = tarfile.TarInfo("a/1")
        entry.size = 9
        archive.addfile(entry, io.BytesIO(b"some text"))
    with zipfile.ZipFile(plain_zip, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", "some text" * 9)
    return {
        ".zip": plain_zip.getvalue(), "2.zip": zipped.getvalue(), ".tar": plain.getvalue(), ".tgz": tarred.getvalue()
    }  # fmt: skip


def images() -> dict[str, bytes]:
    """A small image in each format that is read."""
    from PIL import Image

    made = {}
    for kind in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"):
        stream = io.BytesIO()
        Image.effect_noise((12, 9), 50).convert("RGB").save(stream, kind)
        made[kind] = stream.getvalue()
    return made


def _files(write: Callable[[Path], None], place: Path) -> dict[str, bytes]:
    """The files of a folder that `write` fills, by their path in it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    write(place)
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def targets(place: Path) -> dict[str, Target]:
    """All targets by name; a small run, a stage, a checkpoint and a model are made below `place` to start from."""
    tour = (ROOT / "sweeps" / "specs" / "tour.toml").read_bytes()
    site = (ROOT / "hpc" / "sites" / "example.toml").read_bytes()
    several: dict[str, tuple[dict[str, bytes], Callable[[Path, Any], bool], Callable[..., tuple[type[Exception], ...]]]]
    several = {
        "run: tables, plan, provenance": (_files(whole_files.write_run, place), _run, _of_runs),
        "stage of the cache": (_files(whole_files.write_stage, place), _stage, _of_stages),
        "checkpoint": (_files(whole_files.write_checkpoint, place), _checkpoint, tuple),
        "saved sub-model": (_files(whole_files.write_model, place), _model, _of_tailor),
        "SLURM's answers": (ANSWERS, _slurm, _of_hpc),
    }
    kinds = archives()
    some_archive = st.sampled_from(sorted(kinds)).flatmap(
        lambda suffix: st.tuples(st.just(suffix), mutated(kinds[suffix]))
    )
    pictures = images()
    model = _files(whole_files.write_model, place)
    forged = mutated(model["model.safetensors"]).map(lambda content: model | {"model.safetensors": content})
    return {
        "forged sub-model": Target(model, forged, _forged_model, _of_tailor),
        "spec (TOML)": Target(tour, mutated(tour), _spec, _of_sweeps),
        "site file (TOML)": Target(site, mutated(site), _site, _of_hpc),
        "trial file (TOML)": Target(TRIAL, mutated(TRIAL), _trial, _of_tailor),
        "archive of images": Target((".zip", kinds[".zip"]), some_archive, _archive, _of_tailor),
        "image": Target(pictures["PNG"], st.sampled_from(list(pictures.values())).flatmap(mutated), _image, tuple),
    } | {
        name: Target(whole, one_mutated(whole), read, refusals, share=0.25 if read is _run else 1.0)
        for name, (whole, read, refusals) in several.items()
    }
