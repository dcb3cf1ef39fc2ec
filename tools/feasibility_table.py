"""Write tailor/facts/possible.json, what each network can lose: `python -m tools.feasibility_table`."""

import argparse
import json
import sys
from dataclasses import astuple

from tailor.facts.feasibility_table import TABLE_FILE
from tailor.facts.networks import NETWORKS
from tailor.pruning.feasibility_count import rules
from transtailor.files import write_file


def main(arguments: list[str]) -> int:
    """Write the rows of the named networks (default: all); returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.feasibility_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="networks; the rows of others do not change")
    known = json.loads(TABLE_FILE.read_bytes()) if TABLE_FILE.exists() else {}
    for name in parser.parse_args(arguments).names or list(NETWORKS):
        known[name] = {rule: astuple(found) for rule, found in rules(name).items()}
        rows = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known)]
        write_file(TABLE_FILE, "{\n" + ",\n".join(rows) + "\n}\n")
        print(name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
