"""The flags of an arm that is far behind the whole network, on tables of which each fact is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from results.questions.compare import versus_arm_page
from results.store.reader import load
from results.store.writer import Writer
from results.text.formats import answer_of
from tests.results.exact_run import Trial, rows_of, sha

LAYERS = {"conv1": (20, 32), "conv2": (2, 32), "conv3": (3, 16)}
NORMS = {"pruning": {"measure_norms": False}}


def trials(right: int = 60, config: dict[str, Any] | None = None) -> list[Trial]:
    settings = NORMS if config is None else config
    whole = [Trial(label="whole", method="fine_tune", seed=seed, asked=(0.0,), right=(90,)) for seed in range(3)]
    return whole + [Trial(label="small", seed=seed, asked=(0.4,), right=(right,), config=settings) for seed in range(3)]


def written(
    folder: Path,
    made: Sequence[Trial],
    kinds: Sequence[str] = ("prune", "fine_tune"),
    layers: dict[str, tuple[int, int]] | None = None,
    curve: Sequence[float] = (0.5, 0.7, 0.6),
) -> dict[str, list[str]]:
    """The flags of each arm of a run whose pruned trials have these stages, layers and validation curve."""
    rows = rows_of(made)
    rows["layers"] = []
    for trial in made:
        if trial.label == "whole":
            continue
        of = {"trial_id": trial.trial_id, "code_digest": "c"}
        (point,) = [
            row for row in rows["stages"] if (row["trial_id"], row["kind"]) == (of["trial_id"], "operating_point")
        ]
        for place, kind in enumerate(kinds, start=1):
            stage = {"stage_key": sha(trial.trial_id, kind), "kind": kind, "order": place}
            rows["stages"].append({**point, **stage})
            if kind.startswith("fine_tune"):
                rows["epochs"] += [
                    {**rows["epochs"][0], **of, **stage, "epoch": epoch, "validation_score": score}
                    for epoch, score in enumerate(curve)
                ]
        point["order"] = len(kinds) + 1
        rows["layers"] += [
            {**of, "point": 0, "layer": name, "order": order, "width": width, "original_width": filters, "macs": 1}
            for order, (name, (width, filters)) in enumerate((layers or {"conv1": (20, 32)}).items())
        ]
    (folder / "tables").mkdir(parents=True)
    writer = Writer(folder / "tables")
    for table, several in rows.items():
        writer.add(table, several)
    writer.commit()
    with load(folder) as run:
        records = answer_of(versus_arm_page(run, "whole", None)).tables["compare"].records
    return {row["arm"]: [flag for flag in row["flags"] if flag in ("untrained", "narrow", "rising")] for row in records}


def test_an_arm_without_a_reason_in_the_tables_or_that_is_not_far_behind_has_no_flag(tmp_path: Path) -> None:
    assert written(tmp_path / "no reason", trials()) == {"small": []}
    rising: dict[str, Any] = {"layers": LAYERS, "curve": (0.5, 0.6, 0.7)}
    assert written(tmp_path / "near", trials(right=86), **rising) == {"small": []}
    assert written(tmp_path / "far", trials(right=84), **rising) == {"small": ["narrow", "rising"]}


def test_each_arm_that_is_far_behind_for_a_reason_is_flagged(tmp_path: Path) -> None:
    others = [
        Trial(label=label, seed=seed, asked=(0.4,), right=(right,), config=NORMS)
        for label, right in (("middle", 70), ("near", 86))
        for seed in range(3)
    ]
    found = written(tmp_path / "run", trials() + others, layers=LAYERS)
    assert found == {"small": ["narrow"], "middle": ["narrow"], "near": []}


@pytest.mark.parametrize(("curve", "rises"), [
    ((0.5, 0.6, 0.7), True), ((0.5, 0.7, 0.7), True), ((0.5, 0.7, 0.69), False), ((0.7, 0.7, 0.7), False),
    ((0.5, 0.7), False),
])  # fmt: skip
def test_a_curve_rises_whose_last_score_is_its_best(tmp_path: Path, curve: Sequence[float], *, rises: bool) -> None:
    assert written(tmp_path / "run", trials(), curve=curve) == {"small": ["rising"] * rises}


@pytest.mark.parametrize(("kinds", "config", "is_said"), [
    (("fine_tune", "prune"), NORMS, True),
    (("fine_tune_softly", "prune_by_table"), NORMS, True),
    (("fine_tune", "prune", "measure_norms"), {"pruning": {"measure_norms": True}}, False),
    (("prune", "fine_tune"), NORMS, False),
    (("fine_tune", "prune"), {"pruning": {}}, False),
], ids=["no training", "softly", "measured", "tuned", "no norms"])  # fmt: skip
def test_norms_are_named_where_nothing_came_after_the_last_pruning(
    tmp_path: Path, kinds: Sequence[str], config: dict[str, Any], *, is_said: bool
) -> None:
    assert written(tmp_path / "run", trials(config=config), kinds) == {"small": ["untrained"] * is_said}
