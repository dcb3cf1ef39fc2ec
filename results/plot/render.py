"""Writes figures as SVG, PDF, PNG or JSON, without a browser; makes the script that draws them in one."""

import json
import subprocess
import sys
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from results.errors import ResultsError
from transtailor.files import write_file

LIMIT_S = 600.0  # of a conversion, which takes seconds
KINDS = ("svg", "pdf", "png", "json")
_CONVERTER = Path(__file__).with_name("converter.py")
_SNIPPET = "window.vegaEmbed = vegaEmbed;"


def write_figure(spec: dict[str, Any], path: Path) -> Path:
    """Write a Vega-Lite figure with its data; the name's ending says in which format.

    Raises:
        ResultsError: no such format, the figure cannot be drawn, or the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise ResultsError(f"expected a name that ends with .{', .'.join(KINDS)}, given {str(path)!r}")
    text = json.dumps(spec, allow_nan=False, ensure_ascii=False)
    try:
        return write_file(path, text if kind == "json" else _converted(kind, text))
    except OSError as error:
        raise ResultsError(f"the figure cannot be written to {str(path)!r}: {error}") from error


@cache
def bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed, with their licence, as a script that is safe inside a script element.

    Raises:
        ResultsError: vl-convert does not run here.
    """
    licence = (resources.files("results") / "templates" / "vega_licence.txt").read_text(encoding="utf-8")
    script = _converted("bundle", _SNIPPET).decode().replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return f"/*\n{licence}*/\n{script}"


def _converted(kind: str, given: str) -> bytes:
    # -P: the converter's folder is not on its path, or this package's names would hide a library's.
    command = [sys.executable, "-P", str(_CONVERTER), kind]
    try:
        done = subprocess.run(command, input=given.encode(), capture_output=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise ResultsError(f"vl-convert has not made {kind} in {LIMIT_S:.0f} s") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ResultsError(f"vl-convert could not make {kind}: {' '.join(reason) or done.returncode}")
    return done.stdout
