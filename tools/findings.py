"""Write the tables of docs/results/README.md and docs/accuracy.md from docs/results/evidence: `make numbers`.

    python -m tools.findings            # write each table of `FINDINGS` below its heading
    python -m tools.findings --check    # say which ones differ; exit code 1 if any does

A row of such a table is a row of an evidence page, cell by cell, with a link to that page. So no number of the results
is typed by hand, and none is in a sentence. A table stands below the heading of its question: the first table there.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from results.sharing import ONE_SCRIPT, SOURCE_GIVEN
from tools.evidence_page import row_of
from transtailor.files import write_file
from transtailor.sources import ROOT

PAGE = ROOT / "docs" / "results" / "README.md"
ACCURACY = ROOT / "docs" / "accuracy.md"


@dataclass(frozen=True)
class Excerpt:
    """A row of an evidence page, and what the findings say of it."""

    what: str  # the first cell
    page: str  # in docs/results/evidence, without ending
    where: Mapping[str, str]  # column -> text that finds the row
    cells: tuple[str, ...]  # templates of the other cells: "{low_95} … {high_95}"
    under: str = ""  # how the heading above the row begins


@dataclass(frozen=True)
class FindingsTable:
    """The table below a question."""

    columns: tuple[str, ...]
    rows: tuple[Excerpt, ...]

    def lines(self, evidence: str = "evidence") -> list[str]:
        """Return the lines of the Markdown table; its last column links to the evidence, in this folder."""
        columns = ["", *self.columns, "all rows"]
        lines = [_line(columns), _line(["---"] * len(columns))]
        for row in self.rows:
            found = row_of(row.page, row.where, row.under)
            cells = [template.format_map(found) for template in row.cells]
            name = row.page.partition("/")[0]
            lines.append(_line([row.what, *cells, f"[{name}]({evidence}/{row.page}.md)"]))
        return lines


def compared(page: str, *arms: str, at: str, under: str = "All together", **where: str) -> tuple[Excerpt, ...]:
    """Return rows of a page of comparisons, one for each arm; `where` adds columns that find the row."""
    cells = ("{difference}", "{95%}", "{p}", "{p (Holm)}")
    return tuple(Excerpt(f"`{arm}`{at}", page, {"arm": arm} | where, cells, under) for arm in arms)


def studied(contrast: str) -> Excerpt:
    """Return a row of the study on photographs."""
    cells = ("{points}", "{low_95} … {high_95}", "{p}", "{p_holm}")
    first, second = contrast.split(" - ")
    what = f"photographs, at 40%: `{first}` against `{second}`"
    return Excerpt(what, "photographs_study_contrasts", {"contrast": contrast}, cells)


def over(baseline: str, what: str) -> Excerpt:
    """Return what sharing saves over a baseline in a sweep as in papers."""
    where = {"what": what, "against": baseline}
    return Excerpt(f"over {baseline}", "sharing_paper_like", where, ("{what}", "{without / sharing}"))


def benchmark(label: str, page: str, measured: str, goal: str, /, **where: str) -> Excerpt:
    """Return a row of a benchmark that has a goal."""
    return Excerpt(label, page, where, (measured, goal, "{verdict}"))


def speed(network: str, device: str, model: str, page: str) -> Excerpt:
    """Return a forward pass of a network that lost half of its MACs."""
    where = {"network": network, "what": "forward", "model": model, "asked_removed_macs_fraction": "0.5"}
    return Excerpt(f"{network}, {device}: {model}", page, where, ("{speed_up}", "{removed_macs_fraction}"))


def in_ms(network: str, model: str) -> Excerpt:
    """Return a network that was pruned to half of its milliseconds."""
    where = {"network": network, "model": model, "asked_latency_fraction": "0.5"}
    what = f"{network}, ONNX Runtime, half of the ms: {model}"
    return Excerpt(what, "table_budgets", where, ("{speed_up}", "{removed_macs_fraction}"))


def faster(*arms: str) -> tuple[Excerpt, ...]:
    """Return rows of the study on faster networks."""
    cells = ("{test_accuracy_percent}", "{ms_fraction}", "{p_holm}")
    return tuple(Excerpt(f"`{arm}`", "faster_photographs_contrasts", {"arm": arm}, cells) for arm in arms)


def default(arm: str, what: str) -> Excerpt:
    """Return a row of what could be pruned by default, over all four sets of photographs."""
    where = {"arm": arm, "data": "all four"}
    return Excerpt(
        what, "default_photographs_rule", where, ("{accuracy}", "{points}", "{low_95} … {high_95}", "{rule}")
    )


def on_targets(contrast: str, what: str) -> Excerpt:
    """Return a contrast of the study on donors, over its targets and on each."""
    targets = ("{trashnet6}", "{clothing10}", "{fruit14}", "{packages9}")
    cells = ("{points}", "{low_95} … {high_95}", "{p_corrected}", *targets)
    return Excerpt(what, "is_it_the_target_contrasts", {"contrast": contrast}, cells)


COMPARED = ("difference", "95%", "p", "p (Holm)")
DIGITS_20, DIGITS_40 = "methods_on_digits/at_20", "methods_on_digits/at_40"
RECIPE_40 = "recipe_on_photographs/at_40"
PHOTOGRAPHS = "mobilenet_v2 on clothing10"  # the heading of its rows
ABLATION_20, ABLATION_40 = "transtailor_ablation/at_20", "transtailor_ablation/at_40"
AGAINST_TRANSTAILOR = " at 20%, against TransTailor"
AGAINST_70, AGAINST_140 = ", against 70 epochs", ", against 140 epochs"
STRUCK = ("{struck}", "{lives}", "{lives that broke a promise}")
RULE_95 = "{low_95} … {high_95}"
OURS, ROUNDED = "ours", "ours, widths in multiples of 8"

FINDINGS: Mapping[str, FindingsTable] = {
    "What does it save, beside a script for Ray Tune?": FindingsTable(
        (
            "trials finished",
            "lines to write",
            "processor time, over the script's",
            "verdicts: better, worse, no difference",
            "open",
        ),
        tuple(
            Excerpt(
                what,
                "answer",
                {"way": way},
                (
                    "{finished} of {trials begun}",
                    "{lines to write}",
                    "{of plain}",
                    "{better}, {worse}, {no difference that matters}",
                    "{open}",
                ),
            )
            for way, what in (
                ("plain", "a script for Ray Tune, ten seeds"),
                ("plain, ASHA", "the same script with ASHA"),
                ("ten seeds", "this program, ten seeds"),
                ("settled", "this program, `[settle]`"),
            )
        ),
    ),
    "What does sharing save?": FindingsTable(
        ("counted by", "factor"),
        (
            over(ONE_SCRIPT, "processor time, s"),
            over(SOURCE_GIVEN, "stage-seconds computed from the first sharing run"),
        ),
    ),
    "Is a pruned network better than the whole one, tuned for as long?": FindingsTable(
        COMPARED,
        (
            *compared(DIGITS_40, "transtailor", at=" at 40%, 140 epochs" + AGAINST_140),
            *compared(DIGITS_40, "prune taylor iterative", at=" at 40%, 100 epochs" + AGAINST_140),
            *compared(DIGITS_40, "smaller_dense", at=" at 40%, 25 epochs" + AGAINST_140),
            *compared(DIGITS_40, "fine_tune", at=", 25 epochs" + AGAINST_140),
            studied("transtailor - fine_tune 28 epochs"),
        ),
    ),
    "Does it matter which filters are removed?": FindingsTable(
        COMPARED,
        (
            *compared(ABLATION_40, "random filters", "pruning nothing", at=" at 40%, against TransTailor"),
            studied("transtailor - transtailor pruning random"),
            *compared(
                "heads_on_digits/at_20",
                "prune taylor tune_first",
                at=" at 20%, `digits_vit`, against random heads",
                under="digits_vit",
            ),
        ),
    ),
    "Does it matter whose images choose the filters?": FindingsTable(
        ("difference", "95%", "p (Holm)", "trashnet6", "clothing10", "fruit14", "packages9"),
        (
            on_targets("target - the three other sets", "at 40%: the target's images, against the three other sets'"),
            on_targets("target - shuffled", "the same, against its images with permuted labels"),
            on_targets("target - scrambled", "the same, against its images with scrambled phases"),
            on_targets("target - noise", "the same, against noise of its colours"),
            on_targets("target - random filters", "the same, against random filters"),
            on_targets(
                "the three other sets - random filters", "at 40%: the three other sets' images, against random filters"
            ),
        ),
    ),
    "Is what is pruned by default better than random filters?": FindingsTable(
        ("test accuracy (%)", "minus random filters", "95%", "rule for a default"),
        (
            default("default with data", "`taylor` on the target's images, the default"),
            default("bn_gamma", "`bn_gamma`"),
            default("l2 uniform", "`l2`, the same share of each layer"),
            default("l1 global, not normalised", "`l1` over all layers as it is, once the default"),
        ),
    ),
    "Does TransTailor's importance help beyond the Taylor criterion?": FindingsTable(
        COMPARED,
        (
            *compared(ABLATION_20, "alpha untrained (plain Taylor)", "placebo: permuted", at=AGAINST_TRANSTAILOR),
            studied("transtailor - prune taylor iterative"),
            Excerpt(
                "photographs, half of the ms: `TransTailor by ms` against `Taylor by ms`",
                "faster_photographs_contrasts",
                {"arm": "Taylor by ms"},
                ("{TransTailor by ms, minus it}", "{low_95} … {high_95}", "{p}", "{p_holm}"),
            ),
        ),
    ),
    "What changes the score most?": FindingsTable(
        COMPARED,
        (
            *compared(DIGITS_20, "fine_tune", at=", 25 epochs" + AGAINST_70),
            *compared(ABLATION_20, "default at ten times the rate", at=AGAINST_TRANSTAILOR),
            *compared(DIGITS_20, "prune taylor tune_first", at=" at 20%, 50 epochs" + AGAINST_70),
            *compared(
                RECIPE_40,
                "40% fewer MACs, Adam",
                "40% fewer MACs, recipe",
                at=", six seeds of clothing10, against the defaults",
                under=PHOTOGRAPHS,
            ),
        ),
    ),
    "How do the other methods do?": FindingsTable(
        COMPARED,
        (
            *compared(DIGITS_40, "pac_net", at=", all MACs, 25 epochs" + AGAINST_140),
            *compared(DIGITS_40, "sfp", at=" at 40%, 25 epochs" + AGAINST_140),
            *compared(
                "pac_net_few_samples/against_fine_tune_adam",
                "pac_net",
                at=", 25 images, `digits_resnet`, against fine-tuning with Adam",
                under="digits_resnet on digits (25 ",
            ),
        ),
    ),
    "Is a pruned network faster?": FindingsTable(
        ("times as fast as the whole network", "MACs removed"),
        (
            *(speed("resnet50", "H200", model, "pruned_speed_on_a_gpu") for model in (OURS, ROUNDED)),
            in_ms("mobilenet_v2", "by the table"),
        ),
    ),
    "What should I take to be faster on a CPU?": FindingsTable(
        ("test accuracy (%)", "share of the whole network's ms", "p against `TransTailor by ms` (Holm)"),
        faster("whole network", "Taylor by ms", "TransTailor by ms", "whole network, 65 px", "whole network, INT8"),
    ),
    "Does a sweep survive kills, full disks and bad input?": FindingsTable(
        ("faults or inputs", "launches", "promises broken"),
        (
            Excerpt("a sweep, killed at its writes", "faults", {"fault": "all"}, STRUCK),
            Excerpt(
                "a sweep on Ray, its processes struck (SIGKILL + SIGTERM + SIGSTOP)",
                "faults_ray",
                {"process": "all"},
                ("{SIGKILL} + {SIGTERM} + {SIGSTOP}", "{lives}", "{lives that broke a promise}"),
            ),
            Excerpt("a sweep on a real SLURM, anything struck", "faults_slurm", {"fault": "all"}, STRUCK),
            Excerpt("the same, each node a client of its own", "faults_clients", {"fault": "all"}, STRUCK),
            Excerpt("mutated input of every kind", "fuzzing", {"what was read": "all"}, ("{inputs}", "–", "{faults}")),
        ),
    ),
    "How fast is the program itself?": FindingsTable(
        ("measured", "goal", "verdict"),
        (
            benchmark("planning 10,000 trials", "planning", "{cpu_s} s", "{goal_s} s", what="--plan", trials="10000"),
            benchmark(
                "ResNet-50 on an H200: our loop / a bare one", "gpu_step", "{ratio}", "{goal}", network="resnet50"
            ),
            benchmark(
                "SLURM: share of the held time in use, a worker lost every two minutes",
                "utilisation",
                "{value}",
                "{goal}",
                what="utilisation of the jobs",
            ),
        ),
    ),
}

WORTH: Mapping[str, FindingsTable] = {
    "What each was worth": FindingsTable(
        ("difference", "95%"),
        (
            *(
                Excerpt(what, "default_photographs_rule", {"arm": arm, "data": "all four"}, ("{points}", RULE_95))
                for arm, what in (
                    ("default with data", "1. photographs: `taylor` on the target's images, against random filters"),
                    ("default without data", "1. photographs: `l2`, weights alone, against random filters"),
                )
            ),
            Excerpt(
                "3. one set of photographs, at 40%: Adam with a cosine, against the defaults",
                RECIPE_40,
                {"arm": "40% fewer MACs, Adam"},
                ("{difference}", "{95%}"),
                PHOTOGRAPHS,
            ),
            *(
                Excerpt(what, page, {"arm": arm}, ("{difference}", "{95%}"), "All together")
                for what, page, arm in (
                    ("2. digits: 25 epochs, against 70", DIGITS_20, "fine_tune"),
                    (
                        "4. digits: ten times the rate, against TransTailor's",
                        ABLATION_20,
                        "default at ten times the rate",
                    ),
                    (
                        "5. digits: `prune taylor` at 40%, 25 epochs, against the whole network's 140",
                        DIGITS_40,
                        "prune taylor",
                    ),
                    ("5. the same in steps of 10%, 100 epochs", DIGITS_40, "prune taylor iterative"),
                    ("6. the same at once, after a fine-tuning, 50 epochs", DIGITS_40, "prune taylor tune_first"),
                )
            ),
        ),
    ),
}
TABLES = {PAGE: (FINDINGS, "evidence"), ACCURACY: (WORTH, "results/evidence")}
"""Page -> its tables by their headings, and where the evidence is from there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or check it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; say if the page differs")
    checks = parser.parse_args(arguments).check
    differing = 0
    for page, (tables, evidence) in TABLES.items():
        text = page.read_text(encoding="utf-8")
        renewed = with_tables(text, tables, evidence)
        if renewed == text:
            continue
        differing += 1
        print(f"{page.relative_to(ROOT)} differs from docs/results/evidence")
        if not checks:
            write_file(page, renewed)
    return int(checks and differing > 0)


def with_tables(text: str, tables: Mapping[str, FindingsTable] = FINDINGS, evidence: str = "evidence") -> str:
    """Return the page with each of these tables made anew: the first one below its heading.

    Raises:
        ValueError: the page lacks a heading, or a heading has no table below it.
    """
    sections = text.split("\n## ")
    titles = [section.partition("\n")[0] for section in sections]
    for question, table in tables.items():
        if question not in titles:
            raise ValueError(f"the page has no heading {question!r}; add it, with a table below it")
        place = titles.index(question)
        sections[place] = _with_table(sections[place], table.lines(evidence))
    return "\n## ".join(sections)


def _with_table(section: str, table: Sequence[str]) -> str:
    lines = section.split("\n")
    is_row = [line.startswith("|") for line in lines]
    if True not in is_row:
        raise ValueError(f"no table below the heading {lines[0]!r}; write a line that begins with |")
    first = is_row.index(True)
    last = first
    while last < len(lines) and is_row[last]:
        last += 1
    return "\n".join([*lines[:first], *table, *lines[last:]])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
