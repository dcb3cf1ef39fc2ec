"""What `make test-long` runs: `python -m tests.long PART...` runs the named parts, without a name all of them.

    awkward        all tests, in a clone of the last commit in a folder named "a -c b's"
    3.11 3.12 3.13 those of `make test` with that Python and the newest versions of all packages
    lowest         those of `make test` with the oldest versions that pyproject.toml allows

Takes about two and a half hours on two cores; each part needs 8 GB of disk while it runs, and uv (in the extra `dev`).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
PARTS = ("awkward", *PYTHONS, "lowest")
OF_MAKE_TEST = ("-m", "not check and not long")
SIDE_BY_SIDE = ("-n", "3", "--no-loadscope-reorder", "-q")


def run_awkward(folder: Path) -> int:
    """Run all tests in a clone whose name contains a space, an option and a quote; returns the exit code."""
    clone = folder / "a -c b's"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = os.environ | {"PYTHONPATH": str(clone)}  # before the checkout that this Python has installed
    return _pytest(Path(sys.executable), clone, (), environment)


def run_with(folder: Path, python: str, *, lowest: bool) -> int:
    """Run the tests of `make test` in a new environment; returns the exit code."""
    environment = folder / "environment"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", python, str(environment)], check=True)
    versions = ["--resolution", "lowest-direct"] if lowest else []
    into = ["--python", str(environment / "bin" / "python")]
    subprocess.run(
        [*uv, "pip", "install", "--quiet", "--compile-bytecode", *into, *versions, "--editable", f"{ROOT}[dev]"],
        check=True,
    )
    return _pytest(environment / "bin" / "python", ROOT, OF_MAKE_TEST, dict(os.environ))


def _pytest(python: Path, where: Path, options: tuple[str, ...], environment: dict[str, str]) -> int:
    words = [str(python), "-m", "pytest", *SIDE_BY_SIDE, *options]
    return subprocess.run(words, cwd=where, env=environment, check=False).returncode


def main() -> int:
    """Runs the named parts, by default all; returns 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.long", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=" ".join(PARTS))
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)} (valid: {', '.join(PARTS)})")
    codes = {}
    for part in parts:
        sys.stdout.write(f"== {part}\n")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory(prefix="long-") as folder:
            if part == "awkward":
                codes[part] = run_awkward(Path(folder))
            else:
                python = PYTHONS[0] if part == "lowest" else part
                codes[part] = run_with(Path(folder), python, lowest=part == "lowest")
    for part, code in codes.items():
        sys.stdout.write(f"{part}: {'passed' if code == 0 else f'failed with {code}'}\n")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())
