"""Run a sweep: `python sweeps/launch.py SPEC` is `transtailor run SPEC`."""

import sys
from pathlib import Path


def _explain_missing() -> str:
    """Say which Python has the program."""
    here = Path(__file__).resolve().parents[1]
    own = here / ".venv" / "bin" / "python"
    typed = " ".join(["sweeps/launch.py", *sys.argv[1:]])
    if own.is_file():
        return f"this Python, {sys.executable}, lacks the program; in {here} type: .venv/bin/python {typed}"
    return f"this Python, {sys.executable}, lacks the program; to install it, in {here} type: make demo"


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python puts the folder of this script first; its modules must not hide libraries of the same name.
        del sys.path[0]
    try:
        from transtailor.__main__ import main
    except ModuleNotFoundError:
        sys.stderr.write(f"error: {_explain_missing()}\n")
        sys.exit(2)

    sys.exit(main(["run", *sys.argv[1:]]))
