"""Write the pages of comparisons in docs/results/evidence from the committed points: `make numbers`.

    python -m tools.compared_pages            # write each page of `PAGES`
    python -m tools.compared_pages --check    # say which ones differ; exit code 1 if any does

The pages are those of `transtailor compare` on a run with these points. The points are of finished trials: an arm
without points at a seed that others of its network and data set have counts as failed there. Models of equal numbers
count as the same one, and trainings that seeds share are not known. The heads' fits with which the paths of TransTailor
and GBN begin are left out: the files do not say which are the same.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from results.questions.compare import versus_arm_page
from results.store.reader import Run
from results.store.schema import TABLES
from results.store.views import computed_views, literal, quote, select
from results.text.formats import markdown_lines
from transtailor.files import write_file
from transtailor.sources import ROOT

EVIDENCE = ROOT / "docs" / "results" / "evidence"
ARM = "network, dataset, train_images, label, arm, method"
POINTS = f"""
CREATE TABLE kept AS SELECT * REPLACE (coalesce(arm, label) AS arm, md5(concat_ws(' ', network, dataset,
    train_images, seed, macs, params, validation_score, validation_loss, test_score)) AS model_key) FROM (
    FROM measured_points  -- which has no row yet, but columns that older files do not have
        UNION ALL BY NAME FROM read_parquet({{file}})
        WHERE point > 0 OR method NOT IN ('transtailor', 'gbn'));
DROP VIEW measured_points;
ALTER TABLE kept RENAME TO measured_points;
CREATE TABLE planned AS
    SELECT *, NULL::VARCHAR AS tuning_json, NULL::BIGINT AS tuning_order, NULL::BIGINT AS points_planned,
        NULL::VARCHAR[] AS stage_keys, NULL::VARCHAR AS config_json, now() AS written_at
    FROM (SELECT DISTINCT {ARM} FROM measured_points)
    JOIN (SELECT DISTINCT network, dataset, train_images, seed FROM measured_points)
        USING (network, dataset, train_images)
    LEFT JOIN (SELECT DISTINCT {ARM}, seed, trial_id FROM measured_points) USING ({ARM}, seed);
UPDATE planned SET trial_id = concat_ws(' ', {ARM}, seed) WHERE trial_id IS NULL;
CREATE TABLE trials AS SELECT trial_id,
    if(trial_id IN (SELECT trial_id FROM measured_points), 'finished', 'failed') AS status, NULL::BIGINT AS attempts,
    NULL::DOUBLE AS seconds, NULL::VARCHAR AS error, NULL::TIMESTAMPTZ AS ended_at FROM planned;
"""
GIVEN = ("planned", "trials")


@dataclass(frozen=True)
class Compared:
    """A page of comparisons: its path and that of the points, in docs/results/evidence without ending."""

    path: str
    title: str
    points: str
    against: str
    at: float | None = None

    def text(self) -> str:
        """The page as Markdown."""
        with kept_run(self.points) as run:
            lines = [*markdown_lines(versus_arm_page(run, self.against, self.at))]
        folder, _, file = self.points.partition("/")
        made = f"Made from [the points]({file}.parquet) by `make numbers`, as by"
        at = "" if self.at is None else f" --at {self.at:g}"
        run_name = folder if file == "measured_points" else file
        command = f'`transtailor compare runs/{run_name} --against "{self.against}"{at}`.'
        return "\n".join([f"# {self.title}", "", f"{made} {command}", "", *lines]).rstrip() + "\n"


_METHODS, _HEADS, _FEW, _ABLATION = (
    f"{name}/measured_points"
    for name in ("methods_on_digits", "heads_on_digits", "pac_net_few_samples", "transtailor_ablation")
)
_EVERY, _OF_HEADS = "Every system, rival and control", "Heads chosen by a criterion against random heads,"
_TRASHNET, _PHOTOGRAPHS = "trashnet/trashnet", "Real photographs and weights at"
_RANDOM_HEADS, _EACH = "prune random tune_first", "TransTailor, one setting at a time,"
_RECIPE, _RECIPES = "Today's recipe where images are few,", "recipe_on_photographs/measured_points"
PAGES = (
    Compared("methods_on_digits/at_20", f"{_EVERY} at 20% fewer MACs", _METHODS, "fine_tune 70 epochs", 0.2),
    Compared("methods_on_digits/at_40", f"{_EVERY} at 40% fewer MACs", _METHODS, "fine_tune 140 epochs", 0.4),
    Compared("methods_on_digits/all_budgets", f"{_EVERY} at all budgets", _METHODS, "fine_tune 140 epochs"),
    Compared("heads_on_digits/at_20", f"{_OF_HEADS} at 20% fewer MACs", _HEADS, _RANDOM_HEADS, 0.2),
    Compared("heads_on_digits/at_30", f"{_OF_HEADS} at 30% fewer MACs", _HEADS, _RANDOM_HEADS, 0.3),
    Compared(
        "pac_net_few_samples/against_fine_tune_adam", "PAC-Net where target samples are few", _FEW, "fine_tune adam"
    ),
    Compared("transtailor_ablation/at_20", f"{_EACH} at 20% fewer MACs", _ABLATION, "default", 0.2),
    Compared("transtailor_ablation/at_40", f"{_EACH} at 40% fewer MACs", _ABLATION, "default", 0.4),
    Compared("trashnet/at_20", f"{_PHOTOGRAPHS} 20% fewer MACs", _TRASHNET, "fine_tune", 0.2),
    Compared("trashnet/at_40", f"{_PHOTOGRAPHS} 40% fewer MACs", _TRASHNET, "fine_tune", 0.4),
    Compared("trashnet/pac_net", "PAC-Net on real photographs", "trashnet/trashnet_pac_net", "fine_tune"),
    Compared("recipe_on_photographs/whole", f"{_RECIPE} whole networks", _RECIPES, "whole, default", 0.0),
    Compared("recipe_on_photographs/at_40", f"{_RECIPE} 40% fewer MACs", _RECIPES, "40% fewer MACs, default", 0.4),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or check them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; print the pages that differ")
    checks = parser.parse_args(arguments).check
    differ = 0
    for page in PAGES:
        path = (EVIDENCE / page.path).with_suffix(".md")
        if (text := page.text()) != path.read_text():
            differ += 1
            print(f"{path.relative_to(ROOT)} differs from its points")
            if not checks:
                write_file(path, text)
    return int(checks and differ > 0)


@contextmanager
def kept_run(points: str) -> Iterator[Run]:
    """A run with the committed points, as far as comparisons read it."""
    file = (EVIDENCE / Path(points)).with_suffix(".parquet")
    with closing(duckdb.connect(":memory:")) as connection:
        for name, table in TABLES.items():
            if name not in GIVEN:
                connection.execute(f"CREATE VIEW {quote(name)} AS {select(table, {}, several=False)}")
        views = computed_views(several=False)
        for name in ("timed_on", "latencies", "measured_points"):
            connection.execute(f"CREATE VIEW {name} AS {views[name]}")
        connection.execute(POINTS.format(file=literal(str(file))))
        connection.execute(f"CREATE VIEW compared_points AS {views['compared_points']}")
        yield Run({points: file}, connection)


if __name__ == "__main__":
    sys.exit(main())
