"""Started as a program of its own: standard input -> vl-convert -> standard output.

vl-convert brings a JavaScript engine with threads and a heap. They end with this process.
"""

import sys

import vl_convert


def convert(kind: str, given: str) -> bytes:
    """The figure as "svg", "pdf" or "png"; or, for "bundle", Vega and Vega-Lite as one script of a page."""
    if kind == "bundle":
        return vl_convert.javascript_bundle(given).encode()
    if kind == "png":
        return vl_convert.vegalite_to_png(given, scale=2.0, allowed_base_urls=[])
    if kind == "pdf":
        return vl_convert.vegalite_to_pdf(given, allowed_base_urls=[])
    return vl_convert.vegalite_to_svg(given, allowed_base_urls=[]).encode()


if __name__ == "__main__":
    sys.stdout.buffer.write(convert(sys.argv[1], sys.stdin.read()))
