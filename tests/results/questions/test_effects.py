"""Effects of settings: which are found, under which name, and what is said of designs that are not crossed."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from results.arms.findings import findings_of
from results.errors import ResultsError
from results.questions.effects import chart, effects_of, effects_page, effects_table, interaction
from results.statistics.means import mean_interval
from results.statistics.variance import anova
from results.store.reader import load
from results.text.formats import latex_lines, markdown_lines
from results.text.number_format import NOTHING, p_text
from tests.results.exact_run import Trial, write_run


def crossed(seeds: Sequence[int] = range(4), rates: Sequence[float] = (0.1, 0.01)) -> list[Trial]:
    """Two networks x two rates: the rate is worth 10 images on the first network and none on the other."""
    return [
        Trial(
            label=f"rate {rate}", seed=seed, network=network,
            right=(70 + (seed % 2) + (10 if rate == 0.1 and network == "net" else 0),),
            config={"optimisation": {"learning_rate": rate, "twin": str(rate)}},
        )
        for network in ("net", "other") for rate in rates for seed in seeds
    ]  # fmt: skip


def test_settings_that_vary_are_the_factors_and_those_that_vary_together_are_one(tmp_path: Path) -> None:
    with load(write_run(tmp_path, crossed())) as run:
        (found,) = effects_of(findings_of(run))
    assert list(found.factors) == ["network", "optimisation.learning_rate"]
    assert dict(found.aliases) == {"optimisation.learning_rate": ["optimisation.twin"]}
    shares = {effect.name: effect.sum_of_squares for effect in found.result.effects}
    # Cells 0.8, 0.7, 0.7, 0.7: each of the three terms takes 16 x 0.025^2; seeds: 16 x 0.005^2; nothing is left over.
    assert shares == pytest.approx(
        {
            "seed": 16 * 0.005**2,
            "network": 16 * 0.025**2,
            "optimisation.learning_rate": 16 * 0.025**2,
            "network x optimisation.learning_rate": 16 * 0.025**2,
        }
    )
    assert found.result.is_balanced


def test_seeds_that_are_tied_to_the_trials_seed_are_no_factors(tmp_path: Path) -> None:
    trials = [replace(trial, config={**trial.config, "source": {"seed": trial.seed}}) for trial in crossed()]
    with load(write_run(tmp_path, trials)) as run:
        (found,) = effects_of(findings_of(run))
    assert list(found.factors) == ["network", "optimisation.learning_rate"]
    assert found.result.is_balanced


def test_the_page_has_effects_levels_and_counts(tmp_path: Path) -> None:
    tuned = [replace(trial, tuning_order=place % 2) for place, trial in enumerate(crossed())]
    folder = write_run(tmp_path, [*tuned, Trial(label="lost", seed=0, right=(), ended="failed")])
    with load(folder) as run:
        text = "\n".join(markdown_lines(effects_page(run, 0.2)))
    assert re.search(r"\| network x optimisation.learning_rate \| 1 \| 0.329", text)
    assert re.search(r"\| 0.01 \| 70.50 \|.*\| 4 \| 8 \|\n\| 0.1 \| 75.50 ", text)  # numbers by size
    assert "1 failed" in text and "- Left out: no trial of lost has a score here." in text
    assert "best by validation" not in text  # the scores are of all settings
    assert "also stands for optimisation.twin" in text


def test_holms_correction_is_over_the_effects_without_the_seed(tmp_path: Path) -> None:
    """The seed is a block, and no hypothesis: of three effects the smallest p counts three times."""
    noise = iter((0, 3, 1, 4, 2, 0, 5, 1, 3, 2, 4, 0, 1, 5, 2, 3))
    noisy = [replace(trial, right=(trial.right[0] + next(noise),)) for trial in crossed()]
    with load(write_run(tmp_path, noisy)) as run:
        (found,) = effects_of(findings_of(run))
    ps = {effect.name: effect.p for effect in found.result.effects if effect.name != "seed"}
    smallest = min(ps, key=lambda name: ps[name] or 0.0)
    rows = {row[0]: row for row in effects_table(found).rows}
    assert rows[smallest][-1] == p_text(min(1.0, 3 * (ps[smallest] or 0.0)))
    assert rows["seed"][-1] == NOTHING


def test_latex_is_written_without_greek_letters_and_without_noise_there_is_no_p(tmp_path: Path) -> None:
    with load(write_run(tmp_path, crossed())) as run:
        text = "\n".join(latex_lines(effects_page(run, 0.2)))
    assert text.isascii()
    assert r"share $\eta$$^2$" in text
    assert "leave no noise, so no F and no p can be given" in text


def test_the_strongest_interaction_is_drawn_with_the_mean_of_each_combination(tmp_path: Path) -> None:
    """The rate is worth 10 images on one network; a third setting does nothing."""
    several = [replace(trial, config={**trial.config, "spare": spare}) for trial in crossed() for spare in (1, 2)]
    with load(write_run(tmp_path, several)) as run:
        (found,) = effects_of(findings_of(run))
    chart = interaction(found)
    assert chart is not None and "network and optimisation.learning_rate" in chart.title
    shown = {(row["value"], row["other_value"]): row for row in chart.data.records}
    assert set(shown) == {(network, rate) for network in ("net", "other") for rate in ("0.1", "0.01")}
    for (network, rate), row in shown.items():
        best = 0.10 if (network, rate) == ("net", "0.1") else 0.0
        assert (row["seeds"], row["mean_test_score"]) == (4, pytest.approx(0.705 + best))
        mean = mean_interval([0.70 + best, 0.71 + best, 0.70 + best, 0.71 + best])
        assert (row["low"], row["high"]) == pytest.approx((mean.low, mean.high))
    with load(write_run(tmp_path / "one", crossed(rates=(0.1,)))) as run:
        assert interaction(effects_of(findings_of(run))[0]) is None


def test_variants_that_are_not_crossed_go_by_their_label(tmp_path: Path) -> None:
    several = [
        Trial(label=label, seed=seed, network=network, right=(right + seed,), config=config)
        for network in ("net", "other")
        for label, right, config in (
            ("a", 70, {"x": {"p": 1}}),
            ("b", 75, {"x": {"q": 2}}),
            ("c", 80, {"x": {"q": 3}}),
        )
        for seed in range(3)
    ]
    with load(write_run(tmp_path, several)) as run:
        (found,) = effects_of(findings_of(run))
        (asked,) = effects_of(findings_of(run), of=["network"])
        (text,) = effects_of(findings_of(run), of="network")
    assert list(found.factors) == ["label", "network"]
    assert any("label stands for them" in note for note in found.notes)
    assert list(asked.factors) == list(text.factors) == ["network"]
    assert any(
        "Other settings vary too, and the scores are averaged over them: label, x.p" in note for note in asked.notes
    )


def test_a_setting_that_an_arm_does_not_read_is_neither_a_factor_nor_an_alias(tmp_path: Path) -> None:
    """The arm "head" reads no rate: the label stands for what the arms differ in, the rate for nothing."""
    several = [
        Trial(label=label, seed=seed, network=network, right=(right + seed,), config=config)
        for network in ("net", "other")
        for label, right, config in (
            ("head", 70, {}), ("a", 75, {"optimisation": {"rate": 0.1}}), ("b", 80, {"optimisation": {"rate": 0.2}})
        )
        for seed in range(3)
    ]  # fmt: skip
    with load(write_run(tmp_path, several)) as run:
        (found,) = effects_of(findings_of(run))
        (of_rate,) = effects_of(findings_of(run), of="optimisation.rate")
        with pytest.raises(ResultsError, match="--of other: no such .* between the trials that have all that --of"):
            effects_of(findings_of(run), of=["optimisation.rate", "other"])
    assert set(of_rate.factors["optimisation.rate"]) == {"0.1", "0.2"}
    assert "Left out: 6 scores of trials that do not have optimisation.rate." in of_rate.notes
    assert list(found.factors) == ["label", "network"]
    assert "rate" not in " ".join(found.notes) and not found.aliases


def test_crossed_settings_beside_one_that_a_network_does_not_read_are_not_called_incomplete(tmp_path: Path) -> None:
    several = [
        replace(trial, label="arm", config={"rate": trial.label, **({"norm": "on"} if trial.network == "net" else {})})
        for trial in crossed()
    ]
    with load(write_run(tmp_path, several)) as run:
        (found,) = effects_of(findings_of(run))
    assert list(found.factors) == ["network", "rate"] and dict(found.aliases) == {"network": ["norm"]}
    assert not any("Not all combinations" in note for note in found.notes)
    with load(tmp_path) as run, pytest.raises(ResultsError, match=r"--of norm: no such setting varies here \(valid: "):
        effects_of(findings_of(run), of=["norm"])  # it has one value, where it is read


@pytest.mark.parametrize("label", ["TransTailor", "transtailor"])  # before and after "head_only" in the order of names
def test_a_path_counts_with_its_end_whatever_its_arm_is_called(tmp_path: Path, label: str) -> None:
    """A path begins with the fit of its head, which is a point of another arm."""
    trials = [
        Trial(label=label, seed=seed, right=(90, 50 + seed), asked=(0.0, 0.2), head_arm="head_only")
        for seed in range(3)
    ]
    trials += [Trial(label="fine", seed=seed, right=(70 + seed,), asked=(0.0,)) for seed in range(3)]
    with load(write_run(tmp_path, trials)) as run:
        (found,) = effects_of(findings_of(run))
    scores = sorted(point.test for point in found.points if point.test is not None)
    assert scores == pytest.approx([0.50, 0.51, 0.52, 0.70, 0.71, 0.72])


def test_a_trial_that_still_runs_has_no_end_of_its_path(tmp_path: Path) -> None:
    trials = [Trial(label=label, seed=seed, right=(60, 90), asked=(0.1, 0.2)) for label in "ab" for seed in (0, 1)]
    trials.append(Trial(label="b", seed=2, right=(60,), asked=(0.1, 0.2), ended="missing"))
    with load(write_run(tmp_path, trials)) as run:
        (at_the_end,), (at_ten,) = effects_of(findings_of(run)), effects_of(findings_of(run), 0.1)
        assert len(at_the_end.points) == 4 and len(at_ten.points) == 5
        findings = findings_of(run)
        drawn = chart(findings, findings.problems[0], ["seed"])
    assert drawn is not None and {row["value"]: row["trials"] for row in drawn.data.records} == {"0": 2, "1": 2}


def test_scores_of_one_seed_at_the_same_levels_are_one_value(tmp_path: Path) -> None:
    """Three budgets of each seed are not three times as many seeds: F is that of the means."""
    right = {("a", 0): 70, ("a", 1): 74, ("a", 2): 69, ("b", 0): 76, ("b", 1): 75, ("b", 2): 78}
    trials = [
        Trial(label=label, seed=seed, right=(count + more,), config={"m": label, "step": more})
        for (label, seed), count in right.items() for more in (-3, 0, 3)
    ]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        (found,) = effects_of(findings_of(run), of=["m"])
    seeds = [str(seed) for _, seed in right]
    expected = anova([count / 100 for count in right.values()], {"m": [label for label, _ in right]}, ("seed", seeds))
    assert found.result.residual_degrees == 2
    assert [effect.p for effect in found.result.effects] == pytest.approx([effect.p for effect in expected.effects])
    assert "18 scores, 6 means of a seed and its levels; the seed is a block" in found.notes[-1]


def test_an_unbalanced_design_is_marked(tmp_path: Path) -> None:
    several = crossed()
    with load(write_run(tmp_path, several[1:])) as run:
        (found,) = effects_of(findings_of(run))
    assert not found.result.is_balanced
    assert any(note.startswith("Unbalanced: 15 of 16") for note in found.notes)


def test_bad_input_says_why(tmp_path: Path) -> None:
    with (
        load(write_run(tmp_path / "one", crossed(seeds=[7]))) as run,
        pytest.raises(ResultsError, match="only one seed.*; finish the planned ones, or list more in the spec and"),
    ):
        effects_of(findings_of(run))
    with load(write_run(tmp_path / "same", [Trial(label="a", seed=s, right=(70 + s,)) for s in range(3)])) as run:
        with pytest.raises(ResultsError, match="only the seed varies"):
            effects_of(findings_of(run))
        with pytest.raises(ResultsError, match=r"no trial has a test score at 0.5"):
            effects_of(findings_of(run), 0.5)
    some = [Trial(label="a", seed=0, right=(70,)), Trial(label="a", seed=1, right=(71,))]
    lost = [Trial(label="b", seed=0, right=(), ended="failed"), Trial(label="c", seed=0, right=(), ended="missing")]
    with (
        load(write_run(tmp_path / "lost", [*some, *lost])) as run,
        pytest.raises(ResultsError, match=r"only the seed varies .*; no trial of b, c has a score here$"),
    ):
        effects_of(findings_of(run))
    failed = [write_run(tmp_path / name, [Trial(label="a", seed=0, right=(), ended="failed")]) for name in "ab"]
    with load(failed) as run, pytest.raises(ResultsError, match=r"^no trial has a test score yet$"):
        effects_of(findings_of(run))
    with (
        load(write_run(tmp_path / "near", crossed())) as run,
        pytest.raises(ResultsError, match="did you mean 'network'"),
    ):
        effects_of(findings_of(run), of=["netwrk"])


def test_levels_that_were_measured_on_other_data_sets_are_told_apart(tmp_path: Path) -> None:
    on_sets = {"one": ("birds", "shells"), "two": ("birds", "shells"), "three": ("birds",)}
    trials = [
        Trial(label=label, seed=seed, dataset=dataset, right=(70 + seed,),
              config={"data": {"name": dataset}, "m": label})
        for label, datasets in on_sets.items() for dataset in datasets for seed in range(3)
    ]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        (found,) = effects_of(findings_of(run))
        (both,) = effects_of(findings_of(run), of=["label", "data.name"])
    assert list(found.factors) == ["label"]
    assert "Other settings vary too, and the scores are averaged over them: data.name." in found.notes
    assert any("Not every level was measured with each value of data.name, so" in note for note in found.notes)
    assert not any("averaged over them" in note for note in both.notes)  # the label says what `m` is
    many = [
        replace(one, label=f"{n}", config={"data": {"name": one.dataset}, **{f"s{m}": m == n for m in range(8)}})
        for one in trials if one.label == "one" for n in range(8)
    ]  # fmt: skip
    with load(write_run(tmp_path / "many", many)) as run:
        (found,) = effects_of(findings_of(run), of="data.name")
    assert any(note.endswith("averaged over them: label, s0, s1, s2, s3, s4 and 3 more.") for note in found.notes)
