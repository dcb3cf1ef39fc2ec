"""A saved sub-model as a program for plain torch, or as ONNX."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tailor.common.errors import ConfigError
from tailor.model.circumstance import Timing
from tailor.saved_model import explain_model_errors, folder_argument, module_option, opened_model
from tailor.trial_file import imports_option, load_modules
from transtailor import cli
from transtailor.documents import read_json
from transtailor.files import make_folder, refuse_unwritable_file, write_file
from transtailor.waiting import telling

if TYPE_CHECKING:
    from tailor.data.task_data import Splits
    from tailor.model.state import ModelState

ROUNDS = 12  # each file's turns


@cli.command(example="models/point_1 --to onnx")
@folder_argument
@cli.option("--to", required=True, metavar="FORMAT", help="torch-export (.pt2) or onnx (.onnx)")
@cli.option("--out", type=cli.FILE, metavar="FILE", help="file to write (default: FOLDER/model.pt2 or .onnx)")
@cli.option("--batch", default="dynamic", help="images at once: a number, or dynamic: any number")
@cli.option("--pad/--no-pad", hidden=True, default=None, help="gone")
@cli.option("--time/--no-time", "times", default=True, help="ONNX: time it beside the whole network")
@cli.option("--threads", type=cli.COUNT, metavar="N", help="CPU threads for timing (default: torch's)")
@cli.option("--int8", is_flag=True, help="ONNX: also a file of 8-bit integers, with its accuracy")
@cli.option("--data-root", type=cli.FOLDER, help="folder of prepared data sets, if --int8 needs one")
@imports_option
@module_option
def export(
    folder: Path,
    to: str,
    out: Path | None,
    batch: str,
    pad: bool | None,
    times: bool,
    threads: int | None,
    int8: bool,
    data_root: Path | None,
    imports: tuple[Path, ...],
    module: str | None,
) -> Iterator[str]:
    """Write a saved sub-model as a program for torch alone, or as ONNX.

    FOLDER is what `trial run --save` wrote or, with --module, tailor.prune(...).save. An ONNX file is timed on
    this CPU, in turns with the whole network.
    """
    load_modules(imports)
    if pad is not None:
        raise ConfigError("--pad is gone; set pruning.width_multiple = 8 before the pruning")
    if batch != "dynamic" and not (batch.isdecimal() and int(batch) >= 1):
        raise ConfigError(f"--batch is {batch!r}; expected a number of 1 or more, or dynamic")
    images_at_once = None if batch == "dynamic" else int(batch)
    if int8 and (to != "onnx" or images_at_once is not None):
        raise ConfigError("--int8 is for files of ONNX that take any number of images: --to onnx, without --batch")
    with opened_model(folder, module) as state:
        from tailor.deploy.card import record
        from tailor.deploy.export import FORMATS, export
        from tailor.deploy.int8 import splits_of
        from tailor.model.cost import macs_of

        file = out or folder / f"model{FORMATS[to].suffix}"
        for name, kind in FORMATS.items():
            if name != to and kind.suffix == file.suffix.lower():
                raise ConfigError(f"--out {file} is a name for --to {name}, but --to is {to}; change one of them")
        refuse_unwritable_file(file, "--out", ConfigError)
        try:
            with explain_model_errors(folder):
                data = splits_of(folder, data_root) if int8 else None
                with telling(f"exporting it to {to}"):
                    program = export(state, to, images_at_once)
                size = _write(program.content, to, file, card=folder)
                count = "any number of" if images_at_once is None else images_at_once
                yield f"{file}: {size:,} bytes, {macs_of(state):,} MACs, for {count} image(s) at once"
                yield f"read back and compared with the model: outputs differ by at most {program.difference:.1e}"
                programs = {"float32": (file, program.content)}
                if data is not None:
                    programs["int8"] = yield from _write_int8(program.content, file, data, card=folder)
                if to == "onnx" and times:
                    yield from _time(programs, state, images_at_once, threads, card=folder)
                    return
                for written_file, _content in programs.values():
                    record(folder, "speed_of_files", None, written_file)
                yield "speed: not measured"
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror or error}; type --out FILE") from error


def _write(content: bytes, to: str, file: Path, *, card: Path) -> int:
    """Write a program with what its model's card says of image files and their classes; return the file's bytes."""
    from tailor.deploy.card import OF_FILES
    from tailor.deploy.export import with_texts
    from tailor.model.state import DESCRIPTION_FILE

    description = read_json(card / DESCRIPTION_FILE)
    content = with_texts(content, to, {name: description[name] for name in OF_FILES if name in description})
    make_folder(file.parent)
    write_file(file, content)
    return len(content)


def _write_int8(floats: bytes, file: Path, data: "Splits", *, card: Path) -> Generator[str, None, tuple[Path, bytes]]:
    """Write a program of ONNX in 8-bit integers beside it; yield what it is and how good; return file and program."""
    import torch

    from tailor.data.objective import quality
    from tailor.data.task_data import ordered_batches
    from tailor.deploy.card import record
    from tailor.deploy.export import FORMATS
    from tailor.deploy.int8 import TYPES, quantise
    from tailor.model.state import DESCRIPTION_FILE

    int8_file = file.with_suffix(f".int8{file.suffix}")
    metric = read_json(card / DESCRIPTION_FILE)["facts"]["metric"]
    scores = []
    with telling("quantising it to 8-bit integers"):
        integers = quantise(floats, data.train)
        for content in (integers, floats):
            outputs = [FORMATS["onnx"].run(content, images.cpu()) for images, _ in ordered_batches(data.validation)]
            scores.append(quality(torch.cat(outputs), data.validation.labels.cpu(), metric).score)
    size = _write(integers, "onnx", int8_file, card=card)
    record(card, "types_of_files", TYPES, int8_file)
    yield f"{int8_file}: {size:,} bytes, for any number of image(s) at once; {TYPES}"
    yield (
        f"int8: validation {metric.replace('_', ' ')} {scores[0]:.4f}, in float32 {scores[1]:.4f}, on "
        f"{len(data.validation)} images"
    )
    return int8_file, integers


def _time(
    programs: Mapping[str, tuple[Path, bytes]],
    state: "ModelState",
    images_at_once: int | None,
    threads: int | None,
    *,
    card: Path,
) -> Iterator[str]:
    """Time programs of ONNX, by their precision, in turns with the whole network's; yield how fast each is.

    Writes: their speeds into the card beside them.
    """
    from tailor.deploy.card import record
    from tailor.deploy.export import written
    from tailor.deploy.speed import Speed
    from tailor.model.latency import THE_WHOLE, whole_network
    from tailor.model.passes import as_deployed, onnx_pass
    from tailor.model.programs import images_for
    from tailor.model.timing import time_in_turns

    timing = Timing(batch=images_at_once or 1, device="cpu", threads=threads, runtime="onnxruntime")
    circumstance, _device = timing.here()
    images = images_for(state, circumstance.batch, seed=0)
    with telling("timing it in turns with the whole network"), as_deployed(circumstance):
        whole = written(whole_network(state), "onnx", images_at_once)
        passes = {THE_WHOLE: onnx_pass(whole, images, circumstance.threads)}
        for precision, (_file, content) in programs.items():
            passes[precision] = onnx_pass(content, images, circumstance.threads)
        times = time_in_turns(passes, rounds=ROUNDS)
    for precision, (file, _content) in programs.items():
        of_file = times[precision]
        speed = Speed(
            times_as_fast=of_file.speed,
            latency_ms=of_file.median_ms,
            whole_latency_ms=of_file.first_ms,
            is_steady=of_file.is_steady and times[THE_WHOLE].is_steady,
            circumstance=str(replace(circumstance, precision=precision)),
        )
        record(card, "speed_of_files", asdict(speed), file)
        yield f"speed of {file.name}: {speed}"
