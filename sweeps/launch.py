"""Runs a sweep: `python sweeps/launch.py SPEC`; see `sweeps.commands.launch`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python put the folder of this script first; a module in it must never come before a library of the same name.
        del sys.path[0]
    from sweeps.commands.launch import main

    sys.exit(main())
