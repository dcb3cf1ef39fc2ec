"""How many more seeds: what the page says is what the statistics say of the differences."""

from pathlib import Path

import pytest

from results.errors import ResultsError
from results.questions.compare import versus_arm_page
from results.questions.power import seeds_needed_page
from results.sign_flip import LOOKS
from results.statistics.means import mean_interval
from results.statistics.power import detectable_effect, pairs_for
from results.statistics.sequential import Design
from results.statistics.sequential_plan import expected_seeds
from results.store.reader import load
from results.text.formats import markdown_lines
from tests.results.exact_run import Trial, write_run

BASE = (90, 91, 92, 90, 91, 92)
ARM = (91, 91, 93, 90, 93, 92)


def write(folder: Path, seeds: int) -> Path:
    arms = {"base": BASE, "arm": ARM, "same": BASE}
    return write_run(
        folder, [Trial(label=label, seed=s, right=(of[s],)) for label, of in arms.items() for s in range(seeds)]
    )


def row(lines: list[str], name: str) -> dict[str, str]:
    head, line = [line for line in lines if line.startswith(("| arm |", f"| {name}"))]
    columns, cells = ([cell.strip() for cell in of.strip("|").split("|")] for of in (head, line))
    return dict(zip(columns, cells, strict=True))


def test_pairs_and_what_they_find(tmp_path: Path) -> None:
    with load(write(tmp_path, 6)) as run:
        lines = list(markdown_lines(seeds_needed_page(run, "base", 0.2, None)))
        planned = list(markdown_lines(seeds_needed_page(run, "base", 0.2, 0.002)))
    mean = mean_interval([(one - two) / 100 for one, two in zip(ARM, BASE, strict=True)])
    assert mean.mean is not None and mean.deviation is not None
    found = row(lines, "arm at")
    needed = pairs_for(mean.mean / mean.deviation)
    assert needed is not None
    assert (found["pairs"], found["needed"], found["more"]) == ("6", str(needed), str(needed - 6))
    assert found["with Holm"] == str(pairs_for(mean.mean / mean.deviation, significance=0.05 / 2))
    assert int(found["cautious"]) > needed
    design = Design(LOOKS, 0.05, abs(mean.mean), 2)
    expected = expected_seeds(mean.mean, mean.deviation, design)
    assert found["sequential"] == f"{expected.mean:.0f} ({expected.settled:.0%})"
    assert row(lines, "same")["sequential"] == "–"
    assert float(found["detectable"]) == pytest.approx(100 * detectable_effect(6) * mean.deviation, abs=0.006)
    assert row(planned, "arm at")["needed"] == f"{pairs_for(0.002 / mean.deviation):,}"
    assert row(lines, "same")["needed"] == "–"
    assert any("no spread" in line for line in lines)
    assert any(line.startswith("- Trials: 18 planned, 18 finished") for line in lines)


def test_one_seed_and_an_unknown_arm_say_why(tmp_path: Path) -> None:
    with load(write(tmp_path, 1)) as run:
        with pytest.raises(
            ResultsError, match="two or more seeds .*; finish the planned ones, or list more in the spec and"
        ):
            list(markdown_lines(seeds_needed_page(run, "base", None, None)))
        with pytest.raises(ResultsError, match="did you mean 'base'"):
            list(markdown_lines(seeds_needed_page(run, "bas", None, None)))
    with (
        load(write_run(tmp_path / "alone", [Trial(label="base", seed=seed, right=(9,)) for seed in (0, 1)])) as run,
        pytest.raises(ResultsError, match="no other arm than 'base' has a tested point here; to see all trials, type"),
    ):
        list(markdown_lines(seeds_needed_page(run, "base", None, None)))


def test_equal_differences_of_unequal_scores_plan_nothing(tmp_path: Path) -> None:
    """The differences of 0.92 and 0.67, and of 0.58 and 0.33, are equal but for their last bits."""
    trials = [Trial(label=label, seed=s, right=(right,)) for label, of in {"base": (92, 58), "arm": (67, 33)}.items()
              for s, right in enumerate(of)]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        lines = list(markdown_lines(seeds_needed_page(run, "base", 0.2, None)))
    planned = row(lines, "arm")
    assert (planned["deviation"], planned["detectable"], planned["needed"]) == ("0.00", "–", "–")
    assert any("In 1 comparison all differences are equal" in line for line in lines)


def test_what_is_planned_is_what_compare_compares(tmp_path: Path) -> None:
    """The same controls and family, and no number of seeds where there is no verdict."""
    arms = {"short": (80, 1), "long": (85, 9), "ours": (83, 9), "twin": (82, 1), "twin 2": (82, 1), "lost": (70, 1)}
    trials = [
        Trial(label=label, method="fine_tune" if label in ("short", "long") else "prune", seed=seed, epochs=epochs,
              right=(right + seed * (len(label) % 3),), model=f"twin {seed}" if "twin" in label else None,
              asked=(0.0,) if label in ("short", "long") else (0.2,),
              ended="failed" if (label, seed) == ("lost", 0) else "finished")
        for label, (right, epochs) in arms.items() for seed in range(4)
    ]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        text = list(markdown_lines(seeds_needed_page(run, "short", None, None)))
        compared = list(markdown_lines(versus_arm_page(run, "short", None)))
    ours = row(text, "ours")
    assert ours["against"] == "long" and ours["difference"].startswith("-")
    assert any("| ours | " in line and f"| {ours['difference']} |" in line for line in compared)
    assert any("over 3 comparisons" in line for line in compared) and any("at 0.05 / 3, " in line for line in text)
    said = "- No number of seeds settles what compare has no verdict on: lost at 20% fewer MACs (incomplete)."
    assert said in text
