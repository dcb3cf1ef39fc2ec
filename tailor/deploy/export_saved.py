"""A saved sub-model as a program for plain torch, or as ONNX."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tailor.common.errors import ConfigError
from tailor.saved_model import explain_model_errors, folder_argument, module_option, opened_model
from tailor.trial_file import imports_option, load_modules
from transtailor import cli
from transtailor.documents import read_json
from transtailor.files import make_folder, refuse_unwritable_file, write_file
from transtailor.waiting import telling

if TYPE_CHECKING:
    from tailor.data.task_data import Splits
    from tailor.deploy.export import Program
    from tailor.model.state import ModelState


@cli.command(example="models/point_1 --to onnx")
@folder_argument
@cli.option("--to", required=True, metavar="FORMAT", help="torch-export (.pt2) or onnx (.onnx)")
@cli.option("--out", type=cli.FILE, metavar="FILE", help="file to write (default: FOLDER/model.pt2 or .onnx)")
@cli.option("--batch", default="dynamic", help="images at once: a number, or dynamic: any number")
@cli.option("--pad/--no-pad", default=True, help="ONNX: pad odd widths with zero filters where that is faster here")
@cli.option(
    "--time/--no-time", "times", default=True, help="ONNX: time it beside the whole network; off: no padding either"
)
@cli.option("--threads", type=cli.COUNT, metavar="N", help="CPU threads for timing (default: torch's)")
@cli.option("--int8", is_flag=True, help="ONNX: also a file of 8-bit integers, with its accuracy and its time")
@cli.option("--data-root", type=cli.FOLDER, help="folder of prepared data sets, if --int8 needs one")
@imports_option
@module_option
def export(
    folder: Path,
    to: str,
    out: Path | None,
    batch: str,
    pad: bool,
    times: bool,
    threads: int | None,
    int8: bool,
    data_root: Path | None,
    imports: tuple[Path, ...],
    module: str | None,
) -> Iterator[str]:
    """Write a saved sub-model as a program for torch alone, or as ONNX.

    FOLDER is what `trial run --save` wrote or, with --module, tailor.prune(...).save. An ONNX file is padded if that
    is faster on this machine, and its speed is printed next to the whole network's.
    """
    load_modules(imports)
    if batch != "dynamic" and not (batch.isdecimal() and int(batch) >= 1):
        raise ConfigError(f"--batch is {batch!r}; expected a number of 1 or more, or dynamic")
    images_at_once = None if batch == "dynamic" else int(batch)
    if int8 and (to != "onnx" or images_at_once is not None):
        raise ConfigError("--int8 is for files of ONNX that take any number of images: --to onnx, without --batch")
    with opened_model(folder, module) as state:
        from tailor.deploy.export import FORMATS
        from tailor.deploy.int8 import splits_of

        file = out or folder / f"model{FORMATS[to].suffix}"
        for name, kind in FORMATS.items():
            if name != to and kind.suffix == file.suffix.lower():
                raise ConfigError(f"--out {file} is a name for --to {name}, but --to is {to}; change one of them")
        refuse_unwritable_file(file, "--out", ConfigError)
        try:
            with explain_model_errors(folder):
                data = splits_of(folder, data_root) if int8 else None
                if to == "onnx" and times:
                    yield from _write_fastest(state, file, images_at_once, pads=pad, threads=threads, card=folder)
                else:
                    yield from _write(state, to, file, images_at_once, card=folder)
                if data is not None:
                    yield from _write_int8(state, file, data, threads, card=folder)
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror or error}; type --out FILE") from error


def _write(state: "ModelState", to: str, file: Path, images_at_once: int | None, *, card: Path) -> Iterator[str]:
    """Write the model as it is; yield what the file is. The card's speed of a file that it replaces goes."""
    from tailor.deploy.card import record_speed
    from tailor.deploy.export import export
    from tailor.model.cost import macs_of

    with telling(f"exporting it to {to}"):
        program = export(state, to, images_at_once)
    yield from _write_program(program, to, macs_of(state), file, images_at_once, card)
    yield "speed: not measured"
    record_speed(card, None, file)


def _write_fastest(
    state: "ModelState", file: Path, images_at_once: int | None, *, pads: bool, threads: int | None, card: Path
) -> Iterator[str]:
    """Write the fastest ONNX file, and its speed into the card beside it; yield what the file is, and how fast."""
    from tailor.deploy.card import record_speed
    from tailor.deploy.fastest import fastest

    found = fastest(state, images_at_once, pads=pads, threads=threads, step=telling)
    yield from _write_program(found.program, "onnx", found.macs, file, images_at_once, card)
    yield from found.lines
    yield f"speed: {found.speed or 'that of the whole network, of which nothing was removed'}"
    record_speed(card, found.speed, file)


def _write_int8(state: "ModelState", file: Path, data: "Splits", threads: int | None, *, card: Path) -> Iterator[str]:
    """Write the written file in 8-bit integers beside it; yield what it is, how good and how fast."""
    from tailor.deploy.int8 import quantised
    from tailor.model.state import DESCRIPTION_FILE

    with telling("quantising it to 8-bit integers, and timing both"):
        metric = read_json(card / DESCRIPTION_FILE)["facts"]["metric"]
        content, lines = quantised(file.read_bytes(), state, data, threads, metric)
    content = _with_texts(content, "onnx", card)
    int8_file = file.with_suffix(f".int8{file.suffix}")
    write_file(int8_file, content)
    yield f"{int8_file}: {len(content):,} bytes, for any number of image(s) at once"
    yield from lines


def _with_texts(content: bytes, to: str, card: Path) -> bytes:
    """A program's file with what its model's card says of image files and their classes."""
    from tailor.deploy.card import OF_FILES
    from tailor.deploy.export import with_texts
    from tailor.model.state import DESCRIPTION_FILE

    description = read_json(card / DESCRIPTION_FILE)
    return with_texts(content, to, {name: description[name] for name in OF_FILES if name in description})


def _write_program(
    program: "Program", to: str, macs: int, file: Path, images_at_once: int | None, card: Path
) -> Iterator[str]:
    """Write a program with the card's texts; yield what the file is."""
    content = _with_texts(program.content, to, card)
    make_folder(file.parent)
    write_file(file, content)
    count = "any number of" if images_at_once is None else images_at_once
    yield f"{file}: {len(content):,} bytes, {macs:,} MACs, for {count} image(s) at once"
    yield f"read back and compared with the model: outputs differ by at most {program.difference:.1e}"
