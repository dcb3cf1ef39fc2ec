"""Writes figures as SVG, PDF, PNG or JSON, without a browser; makes the script that draws them in one.

vl-convert brings a JavaScript engine with threads and a heap. So it runs in a program of its own, which is this module:
standard input -> vl-convert -> standard output.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from results.errors import ResultsError
from transtailor.files import write_file
from transtailor.lines import last_line
from transtailor.ownership import refuse_shared

LIMIT_S = 600.0  # of a conversion, which takes seconds
KINDS = ("svg", "pdf", "png", "json")
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

    vl-convert takes seconds to make it, so the user's cache folder keeps it, by vl-convert's version.

    Raises:
        ResultsError: vl-convert does not run here.
    """
    licence = (resources.files("results") / "templates" / "vega_licence.txt").read_text(encoding="utf-8")
    script = _kept_script().replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return f"/*\n{licence}*/\n{script}"


def _kept_script() -> str:
    with suppress(OSError, ValueError, RuntimeError):  # RuntimeError: this user has no home
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transtailor"
        kept = folder / f"vega_{version('vl-convert-python')}.js"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not kept.exists():
            write_file(kept, _converted("bundle", _SNIPPET), mode=0o600)
        refuse_shared((folder, kept), PermissionError)  # browsers will run it
        return kept.read_text(encoding="utf-8")
    return _converted("bundle", _SNIPPET).decode()


def _converted(kind: str, source: str) -> bytes:
    """Return what `convert` makes of a specification or a script, in a program of its own."""
    # -P: the working folder is not on its path, or a file there could hide a library
    command = [sys.executable, "-P", "-m", "results.render.figures", kind]
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise ResultsError(f"vl-convert has not made {kind} in {LIMIT_S:.0f} s") from None
    if done.returncode:
        reason = last_line(done.stderr.decode(errors="replace"))
        raise ResultsError(f"vl-convert could not make {kind}: {reason or done.returncode}")
    return done.stdout


def convert(kind: str, source: str) -> bytes:
    """Return a specification as "svg", "pdf" or "png"; or, for "bundle", Vega's scripts and this one as one script.

    It runs in a program of its own.
    """
    import vl_convert

    if kind == "bundle":
        return vl_convert.javascript_bundle(source).encode()
    if kind == "png":
        return vl_convert.vegalite_to_png(source, scale=2.0, allowed_base_urls=[])
    if kind == "pdf":
        return vl_convert.vegalite_to_pdf(source, allowed_base_urls=[])
    return vl_convert.vegalite_to_svg(source, allowed_base_urls=[]).encode()


if __name__ == "__main__":
    sys.stdout.buffer.write(convert(sys.argv[1], sys.stdin.read()))
