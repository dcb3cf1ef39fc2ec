"""Keep the operating points of runs in docs/results/evidence, for `tools.compared_pages` and readers of Parquet.

    python -m tools.keep_run runs/methods_on_digits --to docs/results/evidence/methods_on_digits/measured_points.parquet
    python -m tools.keep_run runs/study_4 runs/study_5 --to docs/results/evidence/photographs_study/points.parquet --add

With --add the points that the file has stay, except those of the same trials. Only finished trials are kept.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

import results
from transtailor.errors import UserError
from transtailor.files import make_folder, write_file

POINTS = """
SELECT * EXCLUDE (code_digest, written_at, stage_key, model_key) FROM measured_points
WHERE trial_id IN (SELECT trial_id FROM trials WHERE status = 'finished') ORDER BY label, network, seed, trial_id, point
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file and print how many trials it has; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="the Parquet file")
    parser.add_argument("--add", action="store_true", help="keep the trials that the file has already")
    given = parser.parse_args(arguments)
    try:
        tables = [points_of(run) for run in given.runs]
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if given.add and given.to.exists():
        new = pa.concat_tables(tables)["trial_id"]
        old = pq.read_table(given.to)
        tables = [old.filter(pa.compute.invert(pa.compute.is_in(old["trial_id"], new))), *tables]
    kept = pa.concat_tables(tables, promote_options="default")
    sink = pa.BufferOutputStream()
    pq.write_table(kept, sink)
    make_folder(given.to.parent)
    write_file(given.to, sink.getvalue().to_pybytes())
    print(f"{given.to}: {len(set(kept['trial_id'].to_pylist()))} trials, {len(kept)} points")
    return 0


def points_of(run: Path) -> pa.Table:
    """The points of a run's finished trials."""
    with results.load(run) as tables:
        return tables.arrow(POINTS)


if __name__ == "__main__":
    sys.exit(main())
