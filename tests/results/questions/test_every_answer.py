"""Every question on two runs with other data: numbers are numbers in every format, and no key changes with the data."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest

from results.arms.findings import findings_of
from results.best import best_page
from results.columns import answer_columns, declared
from results.command_output import Output, write
from results.errors import ResultsError
from results.loaded_run import LoadedRun
from results.question import question_named
from results.store.reader import load
from results.store.writer import Writer
from results.text.formats import TEXTS
from results.text.page import Part
from tests.commands import parsed, transtailor_command
from tests.results.answers import check_answer
from tests.results.exact_run import Trial, write_run
from tests.results.questions import test_effects
from tests.results.questions.test_front import TIMING
from tests.results.questions.test_printed import printed_row

ANSWERS = {
    "front": "front RUN",
    "front of latency": "front RUN --cost latency_ms",
    "front by validation": "front RUN --cost device_hours --by validation_score",
    "compare": "compare RUN --against fine_tune",
    "compare --anytime": "compare RUN --against fine_tune --anytime",
    "compare --stop-at": "compare RUN --stop-at 0.003",
    "table": "table RUN --at 0.2",
    "classes": "classes RUN transtailor fine_tune --at 0.2",
    "best": "best RUN",
    "printed": "printed RUN",
}
"""Answer, and what is typed."""
OVER_DATA = {
    "effects": ("effects RUN", test_effects.of_donors(), test_effects.of_donors(("birds",))),
    "effects of arms": ("effects RUN --of arm --against base", test_effects.of_arms(),
                        test_effects.of_arms({"birds": 1, "leaves": 1}, config={"x": 1})),
}  # fmt: skip
"""The same of questions on several data sets, with the trials of two runs."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks, 12 seeds, failed trials and times; one network, 3 seeds, equal arms, and a rule that decides."""
    return written_runs(tmp_path_factory.mktemp("answers"))


def of_metric(trial: Trial, metric: str) -> Trial:
    """The same trial, with a name of its own, and the same scores by another metric."""
    setting = {} if metric == "accuracy" else {"metric": metric}
    return replace(trial, metric=metric, config={**trial.config, **setting})


def written_runs(folder: Path, metric: str = "accuracy") -> list[Path]:
    arms = {"fine_tune": ("fine_tune", (0.0,), 1), "transtailor": ("transtailor", (0.0, 0.2, 0.4), 1)}
    arms |= {"rival, long": ("prune", (0.2,), 9)}
    many = [
        Trial(label=label, method=method, network=network, seed=seed, asked=asked, epochs=epochs,
              right=tuple(80 + seed % 5 + 3 * place - len(label) % 7 for place in range(len(asked))),
              config={"optimisation": {"rate": rate}}, arm=f"{label} {rate}" if method == "prune" else label,
              ended="failed" if (label, seed, network) == ("rival, long", 3, "one") else "finished")
        for label, (method, asked, epochs) in arms.items() for network in ("one", "two") for seed in range(12)
        for rate in ((0.1, 0.2) if method == "prune" else (0.1,))
    ]  # fmt: skip
    few = [
        Trial(label=label, method=method, seed=seed, dataset="flowers", asked=asked, right=(70 + seed,) * len(asked),
              config={"x": rate}, train_images=9, removed=tuple(0.1 if share is None else share for share in asked))
        for label, method, asked in (("fine_tune", "fine_tune", (0.0,)), ("transtailor", "transtailor", (0.2, 0.3)),
                                     ("rule", "prune", (None,)))
        for seed in range(3) for rate in ("a",)
    ]  # fmt: skip
    by_metric = [[of_metric(trial, metric) for trial in trials] for trials in (many, few)]
    written = [write_run(folder / name, trials) for name, trials in zip(("many", "few"), by_metric, strict=True)]
    for run in written:
        with load(run) as tables:
            keys = [row["model_key"] for row in tables.rows("SELECT model_key FROM operating_points ORDER BY ALL")]
        Writer(run / "tables").write("timings", [TIMING | {"model_key": key} for key in keys])
    for run, network, dataset, values in (
        (written[0], "one", "digits", (0.8, 0.9)),
        (written[1], "net", "flowers", (0.7,)),
    ):
        rows = [
            printed_row(network, dataset, 0.2, value=value, place=f"Table {value}", metric=metric) for value in values
        ]
        if len(values) == 1:
            rows.append(printed_row(network, dataset, 0.2, against="fine_tune", claim="ahead", metric=metric))
        Writer(run / "tables").write("printed", rows)
    return written


def parts_of(words: list[str]) -> Iterator[Part]:
    """The page that a command prints."""
    options = parsed(words)
    name = words[0]
    for option in ("format", "wide", "limit"):
        del options[option]
    with load(options.pop("run")) as run:
        if name == "best":
            yield from best_page(run, "validation_score", [])
        else:
            options.pop("over", None)
            yield from question_named(name).answer(run, **options)


@pytest.mark.parametrize(
    "answer", [pytest.param(name, marks=pytest.mark.check if name.startswith("front ") else ()) for name in ANSWERS]
)
def test_a_number_is_a_number_in_every_format_and_no_key_changes_with_the_data(
    answer: str, runs: list[Path], tmp_path: Path
) -> None:
    check_formats(answer, ANSWERS[answer], runs, tmp_path)


@pytest.mark.parametrize("answer", OVER_DATA)
def test_the_same_of_several_data_sets(answer: str, tmp_path: Path) -> None:
    typed, *trials = OVER_DATA[answer]
    runs = [write_run(tmp_path / name, made) for name, made in zip(("one", "other"), trials, strict=True)]
    check_formats(answer, typed, runs, tmp_path)


def check_formats(answer: str, typed: str, runs: list[Path], tmp_path: Path) -> None:
    """Check an answer to each run; it is computed once, and by the command once more, of the last run."""
    counts = []
    for run in runs:
        words = typed.replace("RUN", str(run)).split()
        with chdir(tmp_path):  # on which the commands to type depend
            parts = list(parts_of(words))
        name = answer if answer in declared()["answers"] else words[0]
        counts.append({table: len(records) for table, records in check_answer(name, parts).items()})
        for format_ in ("json", "csv", "markdown"):
            options = parsed([*words, "--format", format_])
            assert list(write(parts, Output(str(options["format"])))) == list(TEXTS[format_](parts))
    done = transtailor_command(*words, "--format", "json", folder=tmp_path)
    assert done.stdout == "\n".join(TEXTS["json"](parts)) + "\n"
    assert counts[0] != counts[1]


@pytest.fixture(scope="module")
def by_macro_f1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of `runs`, compared by another metric."""
    return written_runs(tmp_path_factory.mktemp("by_macro_f1"), metric="macro_f1")[0]


@pytest.mark.parametrize("answer", [name for name in ANSWERS if name != "classes"])
def test_another_metric_is_named_in_every_format_and_nothing_else_is_called_accuracy(
    answer: str, by_macro_f1: Path, tmp_path: Path
) -> None:
    words = ANSWERS[answer].replace("RUN", str(by_macro_f1)).split()
    check_named(answer, words, tmp_path)


@pytest.mark.parametrize("answer", OVER_DATA)
def test_the_same_of_another_metric_over_several_data_sets(answer: str, tmp_path: Path) -> None:
    typed, trials, _ = OVER_DATA[answer]
    run = write_run(tmp_path / "run", [of_metric(trial, "macro_f1") for trial in trials])
    check_named(answer, typed.replace("RUN", str(run)).split(), tmp_path)


def check_named(answer: str, words: list[str], folder: Path) -> None:
    with chdir(folder):
        parts = list(parts_of(words))
    texts = {format_: "\n".join(TEXTS[format_](parts)) for format_ in ("markdown", "latex")}
    texts["terminal"] = "\n".join(write(parts, Output("terminal", wide=True)))
    for format_, text in texts.items():
        assert "macro F1" in text, (answer, format_, text)
        assert "accurac" not in text.lower(), (answer, format_)
    said = json.loads("\n".join(TEXTS["json"](parts)))
    metrics = {record["metric"] for records in said["tables"].values() for record in records if "metric" in record}
    assert metrics == {"macro_f1"}


def test_classes_of_another_metric_are_refused_with_what_to_type(by_macro_f1: Path, tmp_path: Path) -> None:
    done = transtailor_command(*ANSWERS["classes"].replace("RUN", str(by_macro_f1)).split(), folder=tmp_path)
    assert done.returncode == 2
    _, _, typed = done.stderr.strip().partition("transtailor compare ")
    assert transtailor_command("compare", *shlex.split(typed), folder=tmp_path).returncode == 0


def test_the_report_of_another_metric_calls_no_score_accuracy(by_macro_f1: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert transtailor_command("report", by_macro_f1, "--out", page, folder=tmp_path).returncode == 0
    html = page.read_text()
    shown = re.sub(r"<script(?! type=.application/json).*?</script>|<style.*?</style>", "", html, flags=re.DOTALL)
    assert shown.count("macro F1") > 10
    of_training = re.sub("training accuracy|train_accuracy|accuracy_(lower|upper)_quartile", "", shown)
    assert not re.findall(r".{60}accurac.{60}", of_training, flags=re.IGNORECASE)


def test_runs_of_two_metrics_are_not_compared(runs: list[Path], by_macro_f1: Path) -> None:
    with (
        load([runs[0], by_macro_f1]) as run,
        pytest.raises(ResultsError, match=r"by accuracy and by macro_f1|by macro"),
    ):
        findings_of(run)


def test_methods_of_a_run_return_the_same_columns(runs: list[Path]) -> None:
    with load(runs[0]) as plain:
        run = LoadedRun(plain.paths, plain.connection)
        compared = run.compare("fine_tune", at=0.2)
        assert list(compared.columns) == [column.name for column in answer_columns("compare", "compare")]
        assert (compared["score"] - compared["against_score"]).round(4).isin(compared["difference"].round(4)).any()
        assert list(run.best().columns) == [column.name for column in answer_columns("best", "best")]
        page = run.front(cost="params")
        assert set(page.tables["front"]["cost_column"]) == {"params"} and page.notes[0].startswith("On the front")
