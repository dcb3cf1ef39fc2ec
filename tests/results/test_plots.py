"""Figures as functions: what they draw is what the rows say, and each is a file without a browser."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import results
from results.arms.findings import findings_of
from results.errors import ResultsError
from results.loaded_run import LoadedRun
from results.questions.layers import budgets, kept_filters, over_data, widths
from results.questions.learning import learning_curves
from results.render.chart import Chart
from results.render.style import PALETTE, SHAPES, arm_channels, order_arms
from results.store.writer import Writer
from tests.results.exact_run import COMMON, Trial, write_run
from tests.results.many_trials import write_many

OF_THE_RUN = ("front", "costs", "printed")
OF_A_PROBLEM = ("differences", "effects", "learning_curves", "widths", "kept_filters")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    """A run that has every figure."""
    return results.load(write_many(tmp_path_factory.mktemp("many") / "run", 60))


def test_every_figure_has_a_name_and_no_other(run: LoadedRun) -> None:
    assert [name for name in dir(run.plot) if not name.startswith("_")] == sorted(
        (*OF_THE_RUN, *OF_A_PROBLEM, "over_data", "settled")
    )


@pytest.mark.check
def test_what_two_runs_have_is_drawn_once(run: LoadedRun, tmp_path: Path) -> None:
    """A copy of the run beside it: every figure is as of one."""
    shutil.copytree(run.path, tmp_path / "copy")
    both = results.load([run.path, tmp_path / "copy"])
    for name in (*OF_THE_RUN, *OF_A_PROBLEM):
        problem = {"network": "vgg16"} if name in OF_A_PROBLEM else {}
        texts = [json.dumps(getattr(one.plot, name)(**problem).to_dict()["datasets"]) for one in (run, both)]
        alone, together = (json.loads(text, parse_float=lambda number: round(float(number), 9)) for text in texts)
        for row in together["rows"]:
            row.pop("run", None)
        assert together == alone, name
    assert len(both.trials) == 2 * len(run.trials)


def test_beside_a_printed_number_without_a_budget_is_the_end_of_each_path(tmp_path: Path) -> None:
    trials = [Trial(label="arm", seed=seed, right=(50, 80, 70 + seed), asked=(0.0, 0.2, 0.4)) for seed in range(3)]
    row = {**COMMON, "paper": "P", "place": "Table 1", "label": "arm", "method": None, "network": "net",
           "dataset": "digits", "value": 0.8, "metric": "accuracy", "note": None}  # fmt: skip
    run = write_run(tmp_path, trials)
    Writer(run / "tables").write("printed", [{**row, "asked_removed_macs_fraction": asked} for asked in (None, 0.2)])
    with results.load(run) as opened:
        records = opened.plot.printed().data.records
    found = {one["asked_removed_macs_fraction"]: (one["seeds"], one["measured_test_score"]) for one in records}
    assert found == {None: (3, pytest.approx(0.71)), 0.2: (3, pytest.approx(0.8))}


def test_a_printed_number_has_a_row_for_each_arm_with_its_label(tmp_path: Path) -> None:
    """The mean over arms would be a number of none of them."""
    rates = {"l1, learning_rate = 0.01": 60, "l1, learning_rate = 0.1": 90}
    trials = [Trial(label="l1", arm=arm, seed=0, right=(right,), config={"x": arm}) for arm, right in rates.items()]
    row = {**COMMON, "paper": "P", "place": "Table 1", "network": "net", "dataset": "digits", "value": 0.8,
           "metric": "accuracy"}  # fmt: skip
    run = write_run(tmp_path, trials)
    Writer(run / "tables").write("printed", [row | {"label": label} for label in ("l1", "not measured")])
    with results.load(run) as opened:
        chart = opened.plot.printed()
    found = {one["arm"]: one["measured_test_score"] for one in chart.data.records}
    assert found == {arm: pytest.approx(right / 100) for arm, right in rates.items()} | {None: None}
    assert chart.extra["name"] == [
        *(f"{name}, net on digits (50 training images)" for name in rates),
        "not measured, net on digits",
    ]


DRAWS = """
import json, sys
from results.render.figures import convert
json.dump([convert("svg", spec).decode() for spec in json.load(sys.stdin)], sys.stdout)
"""


def drawn(*charts: Chart) -> list[str]:
    """Each chart as SVG; all from one process, whose engine takes longer to start than to draw."""
    specs = json.dumps([json.dumps(chart.to_dict()) for chart in charts])
    done = subprocess.run([sys.executable, "-c", DRAWS], input=specs, capture_output=True, text=True, check=True)
    pictures: list[str] = json.loads(done.stdout)
    return pictures


@pytest.mark.check
def test_every_figure_is_drawn_without_a_browser(run: LoadedRun) -> None:
    names = (*OF_THE_RUN, *OF_A_PROBLEM)
    problem_of = {name: {"network": "vgg16"} for name in OF_A_PROBLEM}
    pictures = drawn(*(getattr(run.plot, name)(**problem_of.get(name, {})) for name in names))
    for name, svg in zip(names, pictures, strict=True):
        assert len(re.findall('aria-roledescription="(?!axis|legend|title)', svg)) > 3, name
        assert "NaN" not in svg and "undefined" not in svg, name


@pytest.mark.check
def test_a_figure_is_saved_in_each_format(run: LoadedRun, tmp_path: Path) -> None:
    chart = run.plot.costs()
    (svg,) = drawn(chart)
    assert chart.save(tmp_path / "a.svg").read_text() == svg
    assert chart.save(tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert chart.save(str(tmp_path / "a.PNG")).read_bytes().startswith(b"\x89PNG")
    assert json.loads(chart.save(tmp_path / "a.json").read_text()) == chart.to_dict()
    with pytest.raises(ResultsError, match=r"ends with \.svg, \.pdf, \.png, \.json"):
        chart.save(tmp_path / "a.gif")
    with pytest.raises(ResultsError, match="cannot be written"):
        chart.save(tmp_path / "no" / "a.json")


def test_the_front_has_the_points_and_the_means_that_queries_give(run: LoadedRun) -> None:
    data = run.plot.front(score="validation", cost="params").to_dict()["datasets"]
    points = run.rows("SELECT trial_id, point, params FROM compared_points WHERE test_score IS NOT NULL")
    assert sorted((row["trial_id"], row["point"], row["params"]) for row in data["rows"]) == sorted(
        (row["trial_id"], row["point"], row["params"]) for row in points
    )
    means = run.rows(
        "SELECT label, network, round(asked_removed_macs_fraction, 9) AS asked, avg(params) AS params FROM (SELECT"
        " label, network, asked_removed_macs_fraction, seed, avg(params) AS params FROM compared_points WHERE"
        " test_score IS NOT NULL GROUP BY ALL) GROUP BY ALL"
    )
    drawn = [row for row in data["means"] if (row["score"], row["cost"]) == ("validation_score", "params")]
    assert len(drawn) == len(means)
    assert sorted(row["x"] for row in drawn) == pytest.approx(sorted(row["params"] for row in means))


def test_every_axis_of_accuracies_stays_between_0_and_100(run: LoadedRun) -> None:
    checked = set()
    for name in (*OF_THE_RUN, *OF_A_PROBLEM):
        problem = {"network": "vgg16"} if name in OF_A_PROBLEM else {}
        for channel in _channels(getattr(run.plot, name)(**problem).to_dict()):
            if channel.get("type") == "quantitative" and str(channel.get("title")).endswith("accuracy (%)"):
                low, high = channel["scale"]["domain"]
                assert 0 <= low < high <= 100, (name, channel)
                checked.add(name)
    assert checked == {"front", "printed", "learning_curves"}


def test_every_axis_of_epochs_has_whole_ticks(run: LoadedRun) -> None:
    channels = _channels(run.plot.learning_curves(network="vgg16").to_dict())
    epochs = [channel for channel in channels if channel["field"] == "epoch" and "axis" in channel]
    assert epochs
    for channel in epochs:
        ticks = channel["axis"]["values"]
        assert ticks == sorted(set(ticks)) and all(isinstance(tick, int) for tick in ticks)


def _channels(spec: Any) -> list[dict[str, Any]]:
    """All encodings by a field in a specification, across and up."""
    channels = []
    if isinstance(spec, list):
        for part in spec:
            channels += _channels(part)
    elif isinstance(spec, dict):
        for name, part in spec.items():
            if name in ("x", "y") and isinstance(part, dict) and "field" in part:
                channels.append(part)
            elif name != "datasets":
                channels += _channels(part)
    return channels


def test_an_unknown_axis_or_problem_is_refused_with_what_there_is(run: LoadedRun) -> None:
    with pytest.raises(ResultsError, match=r"'mac': did you mean 'macs'\? expected one of macs, params"):
        run.plot.front(cost="mac")
    with pytest.raises(ResultsError, match=rf"type: .*transtailor time {run.path}"):
        run.plot.front(cost="latency_ms")
    with pytest.raises(ResultsError, match="expected test or validation"):
        run.plot.front(score="train")
    with pytest.raises(ResultsError, match="2 problems fit; expected one of: .network='resnet101'"):
        run.plot.widths()


def test_a_problem_is_told_apart_by_its_training_images(tmp_path: Path) -> None:
    trials = [
        Trial(label=label, method=label, seed=seed, right=(80,), train_images=images, config={"n": images})
        for label in ("prune", "fine_tune") for seed in (0, 1) for images in (50, 90)
    ]  # fmt: skip
    with results.load(write_run(tmp_path, trials)) as opened:
        with pytest.raises(ResultsError, match="train_images=50.*train_images=90"):
            opened.plot.differences(network="net", dataset="digits")
        assert "(90 training images)" in opened.plot.differences(train_images=90).title


def test_a_run_without_rows_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    empty = results.load(tmp_path)
    with pytest.raises(ResultsError, match="this run has no test scores yet"):
        empty.plot.front()
    with pytest.raises(ResultsError, match="no problems fit; expected one of: none is tested yet"):
        empty.plot.widths()


@pytest.mark.check
def test_names_that_look_like_code_are_text(tmp_path: Path, synthetic: Any) -> None:
    evil = "</script><b>'] + \"datum' \\ {a}"
    path = synthetic(labels=((evil, "transtailor"), ("fine_tune", "fine_tune")), networks=(evil,)).write(tmp_path)
    (svg,) = drawn(results.load(path).plot.front())
    assert "<b>" not in svg and "&lt;/script&gt;&lt;b&gt;'] + \"datum' \\ {a}" in svg.replace("&quot;", '"')


def widths_on_two_data_sets(folder: Path, synthetic: Any, kept: dict[tuple[str, int], tuple[int, int]]) -> LoadedRun:
    """A run of two arms on two data sets with two seeds; `kept` filters, of 10 and 5, by data set and seed."""
    arms = (("transtailor", "transtailor"), ("prune", "prune"))
    for dataset in ("cars", "dogs"):
        synthetic(labels=arms, seeds=(0, 1), budgets=(0.0, 0.2, 0.4), dataset=dataset).write(folder)
    rows = list[dict[str, Any]]()
    chosen = "SELECT trial_id, point, dataset, seed, code_digest FROM operating_points"
    for row in results.load(folder).rows(f"{chosen} WHERE label = 'transtailor' AND point = 1"):
        common = {name: row[name] for name in ("trial_id", "point", "code_digest")}
        widths = zip(("a", "b"), kept.get((row["dataset"], row["seed"]), ()), (10, 5), strict=False)
        rows += [
            common | {"layer": layer, "order": order, "width": width, "original_width": of, "macs": 1}
            for order, (layer, width, of) in enumerate(widths)
        ]
    Writer(folder / "tables").write("layers", rows)
    return results.load(folder)


def test_widths_over_data_sets_agree_as_computed_by_hand(tmp_path: Path, synthetic: Any) -> None:
    """Two data sets, two layers, two seeds; the diagonal compares two seeds of one data set."""
    kept = {("cars", 0): (8, 4), ("cars", 1): (6, 4), ("dogs", 0): (2, 4), ("dogs", 1): (2, 2)}
    run = widths_on_two_data_sets(tmp_path / "run", synthetic, kept)
    charts = over_data(findings_of(run), "vgg11")
    found = {(row["dataset"], row["layer"]): row["kept_fraction"] for row in charts["over-data"].data.records}
    assert found == pytest.approx({("cars", "a"): 0.7, ("cars", "b"): 0.8, ("dogs", "a"): 0.2, ("dogs", "b"): 0.6})
    pairs = {(row["dataset"], row["other_dataset"]): row["agreement"] for row in charts["data-agreement"].data.records}
    between = 1 - (0.6 + 0.6 + 0.4 + 0.4 + 0.0 + 0.4 + 0.0 + 0.4) / 8
    assert pairs == pytest.approx(
        {("cars", "cars"): 1 - (0.2 + 0.0) / 2, ("dogs", "dogs"): 1 - (0.0 + 0.4) / 2, ("cars", "dogs"): between}
    )
    assert run.plot.over_data("vgg11").title == charts["over-data"].title
    with pytest.raises(ResultsError, match="no arm that pruned it on two data sets yet"):
        run.plot.over_data("vgg16")


def test_widths_of_one_data_set_are_compared_with_none(tmp_path: Path, synthetic: Any) -> None:
    run = widths_on_two_data_sets(tmp_path / "run", synthetic, {("cars", 0): (8, 4)})
    assert set(over_data(findings_of(run), "vgg11")) == {"over-data"}


def test_no_figure_mixes_two_numbers_of_training_images(tmp_path: Path) -> None:
    trials = [
        Trial(label="a", arm=f"a{images}", seed=0, right=(80,), train_images=images, config={"n": images})
        for images in (9, 50)
    ]  # fmt: skip
    trials += [Trial(label="b", seed=0, dataset=dataset, right=(80,), train_images=images, config={"n": images})
               for dataset, images in (("birds", 9), ("birds", 50), ("dogs", 9))]  # fmt: skip
    run = write_run(tmp_path, trials)
    Writer(run / "tables").write("layers", [
        {**COMMON, "trial_id": trial.trial_id, "point": 0, "layer": "x", "order": 0, "width": trial.train_images,
         "original_width": 100, "macs": 1} for trial in trials
    ])  # fmt: skip
    with results.load(run) as opened:
        curves = {chart.title.partition(":")[0]: chart.data.column("arm")
                  for chart in learning_curves(findings_of(opened)).values()}  # fmt: skip
        widths_of = over_data(findings_of(opened), "net")["over-data"].data.records
    assert curves["net on digits (9 training images)"] == ["a9"] and len(curves) == 5
    assert {row["dataset"]: row["kept_fraction"] for row in widths_of} == {
        "birds (9 training images)": 0.09, "birds (50 training images)": 0.5, "dogs": 0.09,
    }  # fmt: skip


def test_of_tuning_the_widths_are_those_of_the_best_setting(tmp_path: Path) -> None:
    trials = [
        Trial(label="a", seed=seed, dataset=dataset, right=(80 + tried,), config={"x": tried}, tuning_order=tried)
        for dataset in ("birds", "dogs") for seed in (0, 1) for tried in (0, 1)
    ]  # fmt: skip
    run = write_run(tmp_path, trials)
    Writer(run / "tables").write("layers", [
        {**COMMON, "trial_id": trial.trial_id, "point": 0, "layer": "x", "order": 0, "macs": 1,
         "width": 80 if trial.config["x"] else 20, "original_width": 100} for trial in trials
    ])  # fmt: skip
    with results.load(run) as opened:
        found = findings_of(opened)
        charts = [widths(found, *where)["widths"] for _, *where in budgets(found)]
        charts.append(over_data(found, "net")["over-data"])
    assert {row["kept_fraction"] for chart in charts for row in chart.data.records} == {0.8} and len(charts) == 3


@pytest.mark.check
def test_a_matrix_of_arms_has_each_pair_in_both_orders(run: LoadedRun) -> None:
    """Of the filters kept a query gives each pair once, of the widths in both orders."""
    found = findings_of(run)
    _, *where = next(iter(budgets(found)))
    charts = [kept_filters(found, *where)["same-filters"], widths(found, *where)["agreement"]]
    for chart, svg in zip(charts, drawn(*charts), strict=True):
        labels = {name for column in ("arm", "other_arm") for name in chart.data.column(column)}
        cells = re.findall(r'"rect mark" d="M([\d.]+),([\d.]+)h', svg)
        assert len(set(cells)) == len(labels) ** 2 > 4


@pytest.mark.check
def test_vl_convert_runs_in_a_process_of_its_own() -> None:
    """What reads or trains never has its engine in it."""
    script = "import results, results.plots, results.report, sys; print('vl_convert' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_seventy_arms_look_different_and_two_look_alike_in_every_run() -> None:
    methods = {f"arm {n}": "prune" for n in range(68)} | {"ours": "transtailor", "all": "fine_tune"}
    assert order_arms(methods)[:2] == ["ours", "all"]
    channels = arm_channels(methods, set(methods))
    looks = set(zip(channels["color"]["scale"]["range"], channels["shape"]["scale"]["range"], strict=True))
    assert len(looks) == 70
    assert (PALETTE[0], SHAPES[0]) in looks
    few = arm_channels(methods, {"all", "of no run"})["color"]["scale"]
    assert few == {"domain": ["all", "of no run"], "range": [PALETTE[1], "#76808c"]}
