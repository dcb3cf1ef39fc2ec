"""A saved sub-model as a program for plain torch, or as ONNX."""

from collections.abc import Iterator
from pathlib import Path

from tailor.core.errors import ConfigError
from tailor.saved_model import explain_model_errors, folder_argument, read_model
from tailor.trial_file import imports_option, load_modules
from transtailor import cli


@cli.command(example="models/point_1 --to onnx")
@folder_argument
@cli.option("--to", required=True, metavar="FORMAT", help="torch-export (.pt2) or onnx (.onnx)")
@cli.option("--out", type=cli.FILE, metavar="FILE", help="file to write (default: FOLDER/model.pt2 or .onnx)")
@cli.option("--batch", default="dynamic", help="images at once: a number, or dynamic: any number")
@imports_option
def export(folder: Path, to: str, out: Path | None, batch: str, imports: tuple[Path, ...]) -> Iterator[str]:
    """Write a saved sub-model as a program for torch alone, or as ONNX; `trial run --save` wrote it to FOLDER."""
    load_modules(imports)
    images_at_once = None if batch == "dynamic" else _number(batch)
    state = read_model(folder)
    from tailor.deploy import export as exporting

    file = out or folder / f"model{exporting.FORMATS[to].suffix}"
    try:
        with explain_model_errors(folder):
            exported = exporting.export(state, to, file, images_at_once)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror or error}; type --out FILE") from error
    count = "any number of" if images_at_once is None else images_at_once
    yield f"{exported.file}: {exported.size_bytes:,} bytes, for {count} image(s) at once"
    yield f"read back and compared with the model: outputs differ by at most {exported.difference:.1e}"


def _number(batch: str) -> int:
    if not batch.isdecimal() or int(batch) < 1:
        raise ConfigError(f"--batch is {batch!r}; expected a number of 1 or more, or dynamic")
    return int(batch)
