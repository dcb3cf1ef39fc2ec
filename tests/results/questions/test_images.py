"""Two arms on the same images, by hand from the predictions."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from results.arms.class_names import class_names
from results.errors import ResultsError
from results.questions.confusion import confusion_chart, confusion_records
from results.questions.images import compare_by_image, image_page
from results.store.reader import load
from results.store.writer import Writer
from results.text.formats import markdown_lines
from tests.results.exact_run import Trial, write_run


def arms(first: list[list[int]], second: list[list[int]]) -> list[Trial]:
    named = (("first", first), ("second", second))
    return [Trial(label=label, seed=seed, right=(right,)) for label, of in named for seed, right in enumerate(of)]


def test_seeds_whole_and_classes_by_hand(tmp_path: Path) -> None:
    """The first alone names image 97 and 99 in seed 0, 99 in seed 1; the second alone image 0 in seed 1."""
    common = list(range(1, 90))
    run_folder = write_run(tmp_path, arms([[0, *common, 97, 99], [*common, 99]], [[0, *common], [0, *common]]))
    with load(run_folder) as run:
        (found,) = compare_by_image(run, "first", "second")
        text = "\n".join(markdown_lines(image_page(run, "first", "second")))
    counts = {seed: (one.images, one.first_only, one.second_only, one.p) for seed, one in found.by_seed.items()}
    assert counts == {0: (100, 2, 0, 0.5), 1: (100, 1, 1, 1.0)}
    assert found.overall is not None
    assert (found.overall.seeds, found.overall.images) == (2, 100)
    assert found.overall.difference == pytest.approx((2 + 0) / 200)
    assert {number: (one.images, one.difference) for number, one in found.by_class.items()} == {
        0: (50, pytest.approx(-1 / 100)),
        1: (50, pytest.approx(3 / 100)),
    }
    assert found.scores_of_classes == {
        0: (pytest.approx((45 + 44) / 100), pytest.approx((45 + 45) / 100)),
        1: (pytest.approx((47 + 46) / 100), pytest.approx((45 + 45) / 100)),
    }
    assert "Over 2 seeds and 100 images" in text
    assert "| 0 | 100 | 2 | 0 | 0.5 |" in text


def named_run(folder: Path, names: Sequence[str]) -> Path:
    """A run on the data set "birds", with the names of its classes as a launch writes them."""
    trials = [replace(trial, dataset="birds") for trial in arms([[0, 1, 2]] * 2, [[2, 3]] * 2)]
    run = write_run(folder, trials)
    rows = [{"dataset": "birds", "label": label, "name": name, "code_digest": "c"} for label, name in enumerate(names)]
    Writer(run / "tables").write("classes", rows)
    return run


def test_classes_have_their_names_unless_runs_disagree(tmp_path: Path) -> None:
    runs = [named_run(tmp_path / "-".join(names), names) for names in (("auk", "jay"), ("emu", "jay"))]
    with load(runs[0]) as run:
        named = "\n".join(markdown_lines(image_page(run, "first", "second")))
    assert "| auk | 50 |" in named and "| jay | 50 |" in named
    with load(runs) as both:
        assert (class_names(both, "birds"), class_names(both, "digits")) == ({}, {})


def test_no_two_arms_are_said_to_differ_where_trials_failed_or_settings_were_chosen_unequally(tmp_path: Path) -> None:
    plain = arms([list(range(90))] * 6, [list(range(60))] * 6)
    failed = Trial(label="first", seed=9, right=(), ended="failed")
    chosen = [replace(trial, config={"x": n}, tuning_order=n) for trial in plain[:6] for n in (0, 1)]
    for name, trials, verdict in (
        ("plain", plain, "the two differ"), ("failed", [*plain, failed], "incomplete"),
        ("chosen", [*chosen, *plain[6:]], "not equally tuned"),
        ("few", [trial for trial in plain if trial.seed < 4], "inconclusive"),
    ):  # fmt: skip
        with load(write_run(tmp_path / name, trials)) as run:
            text = "\n".join(markdown_lines(image_page(run, "first", "second")))
        (said,) = re.findall(r"both as samples: .*, p = [^:]*: (.*)\.", text)
        assert said == verdict


def test_one_seed_has_mcnemar_and_no_interval(tmp_path: Path) -> None:
    with load(write_run(tmp_path, arms([[0, 1, 2]], [[2, 3]]))) as run:
        text = "\n".join(markdown_lines(image_page(run, "first", "second")))
    assert "Only one seed" in text and "no interval" in text


def test_other_images_are_refused_within_a_pair_and_counted_between_seeds(tmp_path: Path) -> None:
    of_pair = [Trial(label="first", seed=0, right=([0],)), Trial(label="second", seed=0, right=([0],))]
    write_run(tmp_path / "pair", of_pair[:1])
    write_run(tmp_path / "pair", of_pair[1:], images=range(50, 150))
    with load(tmp_path / "pair") as run, pytest.raises(ResultsError, match="tested on different images"):
        compare_by_image(run, "first", "second")
    several = arms([[0], [0]], [[1], [1]])
    write_run(tmp_path / "seeds", [trial for trial in several if trial.seed == 0])
    write_run(tmp_path / "seeds", [trial for trial in several if trial.seed == 1], images=range(1, 101))
    with load(tmp_path / "seeds") as run:
        (found,) = compare_by_image(run, "first", "second")
        assert "Over 2 seeds and 101 images" in "\n".join(markdown_lines(image_page(run, "first", "second")))
    assert found.overall is not None
    assert found.overall.difference == pytest.approx((0 - 1 / 100) / 2)  # image 0 is in the first seed alone
    assert {number: one.images for number, one in found.by_class.items()} == {0: 51, 1: 50}
    assert set(found.by_seed) == {0, 1}


def test_unpaired_seeds_several_trials_of_a_seed_and_unknown_arms(tmp_path: Path) -> None:
    with load(write_run(tmp_path / "a", arms([[0], [0], [1]], [[1], [1]]))) as run:
        (found,) = compare_by_image(run, "first", "second")
        assert found.unpaired == 1
        with pytest.raises(ResultsError, match="did you mean 'second'"):
            compare_by_image(run, "first", "secnd")
        with pytest.raises(ResultsError, match="'first' is given twice; type two arms"):
            compare_by_image(run, "first", "first")
        with pytest.raises(ResultsError, match="at 0.9 of the MACs removed; budgets: 0.2"):
            compare_by_image(run, "first", "second", 0.9)
    elsewhere = [*arms([[0]], [[1]]), Trial(label="third", seed=0, right=([0],), asked=(0.4,))]
    with (
        load(write_run(tmp_path / "c", elsewhere)) as run,
        pytest.raises(ResultsError, match="in common at 0.4 of the MACs removed; to see .* type: .* table .*/c"),
    ):
        compare_by_image(run, "first", "third", 0.4)
    twice = [*arms([[0]], [[1]]), Trial(label="first", seed=0, right=([0],), config={"x": 1})]
    with (
        load(write_run(tmp_path / "b", twice)) as run,
        pytest.raises(ResultsError, match="several trials have one seed"),
    ):
        compare_by_image(run, "first", "second")


def test_the_notes_say_which_images_the_seeds_have_in_common(tmp_path: Path) -> None:
    """Each seed is a run of its own here, whose test images are those that it drew."""
    for name, second, said in (
        ("the same", range(100), "The seeds share the images, so their p values cannot be combined."),
        (
            "some",
            range(50, 150),
            "Each seed drew its own test images, and some are in several, so their p values cannot",
        ),
        ("none", range(100, 200), "Each seed drew its own test images, and no image is in two of them."),
    ):
        runs = []
        for seed, drawn in enumerate((range(100), second)):
            trials = [Trial(label=label, seed=seed, right=(right,)) for label, right in (("first", 90), ("second", 80))]
            runs.append(write_run(tmp_path / name / str(seed), trials, images=drawn))
        with load(runs) as run:
            text = "\n".join(markdown_lines(image_page(run.counted_once(), "first", "second")))
        assert said in text, name
        assert text.count("The seeds share the images") == (name == "the same")


def test_what_each_class_is_taken_for_by_hand(tmp_path: Path) -> None:
    """Of the 50 images of either class the first arm names two and one rightly, in each of two seeds."""
    with load(named_run(tmp_path, ("auk", "jay"))) as run:
        (found,) = compare_by_image(run, "first", "second")
        records = confusion_records(run, found.first, class_names(run, "birds"))
        chart = confusion_chart(run, [found.first, found.second])
        text = "\n".join(markdown_lines(image_page(run, "first", "second")))
    counted = [(record["class_name"], record["predicted_name"], record["images"]) for record in records]
    assert counted == [("auk", "auk", 4), ("auk", None, 96), ("jay", "jay", 2), ("jay", None, 98)]  # all else is a 9
    assert [record["fraction"] for record in records] == [0.04, 0.96, 0.02, 0.98]
    assert (
        "- first at 20% fewer MACs takes most often jay for 9 (98.0% of its images), auk for 9 (96.0% of its images)."
        in text
    )
    assert chart is not None
    drawn = {(row["arm"], row["true class"], row["predicted class"]) for row in chart.to_dict()["datasets"]["rows"]}
    assert ("first at 20% fewer MACs", "auk", "9") in drawn and len(drawn) == 8


def test_what_is_in_no_table_is_named(tmp_path: Path) -> None:
    """Of classes, budgets and seeds; what a class is taken for is counted over the seeds that are compared."""
    apart = [Trial(label="second", seed=9, right=([],))]
    paths = [Trial(label=label, seed=0, right=([0, 1], [2]), asked=(0.2, 0.4)) for label in ("first", "second")]
    elsewhere = Trial(label="second", seed=0, dataset="birds", right=([],))
    with load(write_run(tmp_path / "run", [*paths, *apart, elsewhere])) as run:
        text = "\n".join(markdown_lines(image_page(run, "first", "second")))
    others = "first at 40% fewer MACs; second at 40% fewer MACs"
    assert f"- Not compared here: {others}; to choose a budget, type --at." in text
    assert "- Not compared: net on birds (50 training images), where not both can be, image by image." in text
    assert text.count("takes most often 0 for 9 (98.0% of its images), 1 for 9 (98.0% of its images).") == 2
    runs = []
    for seed, drawn in enumerate((range(100), range(0, 100, 2))):
        trials = [Trial(label=label, seed=seed, right=([0],)) for label in ("first", "second")]
        runs.append(write_run(tmp_path / str(seed), trials, images=drawn))
    with load(runs) as run:
        text = "\n".join(markdown_lines(image_page(run.counted_once(), "first", "second")))
    assert "- Classes that are in no row, as not every seed has test images of them: 1." in text
