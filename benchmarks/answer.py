"""What an answer costs: which of five prunings is better or worse than fine-tuning, and than pruning once by Taylor?

    python benchmarks/answer.py            # 40 minutes on two cores; resumes: --ways settled measures one way again
    python benchmarks/answer.py --quick    # two minutes: two seeds

Four ways to answer it, on the same machine with the same images, splits, epochs and two trials at a time:

- `plain`: a script for Ray Tune alone (benchmarks/answers/plain_tune.py), 10 seeds, paired t tests, Holm's correction;
- `plain, ASHA`: the same with Ray Tune's ASHA, which stops trials that are behind;
- `ten seeds`: this program (benchmarks/answers/ten_seeds.toml), sign-flip tests with Holm's correction;
- `settled`: this program with [settle] (benchmarks/answers/settled_*.toml), once against each of the two, on one cache.

[settle] and halving do not apply together: halving stops by validation scores, and a stopped arm has no verdict.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import csv
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

import results
from benchmarks.process import Taken, run_with_descendants
from benchmarks.record import EVIDENCE, ROOT, Measured, Row, parser_of, table_of, verdict, write
from results.statistics.pairs import holm, sign_flip_p
from results.statistics.sequential import Design, look_at
from results.store.reader import Run, finished_trial_ids
from tailor.data import task_data
from tailor.stages import Task

FILES = ROOT / "benchmarks" / "answers"
SEEDS, REFERENCE_SEEDS, REFERENCE = 10, 50, "fifty seeds"
BUDGETS = (0.2, 0.4)
AGAINST = ("fine_tune", "taylor")
ALPHA, MATTERS, LOOKS = 0.05, 0.01, (10, 13, 18, 25, 35, 50)
GOALS = {"ten seeds": 1.0, "settled": 0.5}  # of the processor time of "plain", written before anything was measured
RESAMPLES = 1_000
POINTS = """
SELECT network, label, seed, nullif(asked_removed_macs_fraction, 0) AS budget, test_score FROM measured_points
WHERE label = 'fine_tune' OR asked_removed_macs_fraction IN (0.2, 0.4)
"""
VERDICTS = """
SELECT network, arm, asked_removed_macs_fraction AS budget, verdict FROM looks
QUALIFY row_number() OVER (PARTITION BY comparison ORDER BY look DESC) = 1
"""
Arm = tuple[str, str, float | None]  # network, label, budget
Compared = tuple[Arm, str]  # an arm, and the label that it is compared with
Scores = Mapping[Arm, Mapping[int, float]]  # arm -> seed -> test accuracy
Verdicts = Mapping[Compared, str]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What one way took, and what it says."""

    taken: Taken
    begun: int  # trials
    finished: int
    scores: Scores
    verdicts: Verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the ways that were not measured yet, and write the table."""
    parser = parser_of(__doc__, "answer", quick="two seeds, two ways")
    parser.add_argument("--again", nargs="*", choices=ASKS, default=(), help="measure these ways again")
    parser.add_argument(
        "--kept", type=Path, default=EVIDENCE / "answer", help="the folder of what each way took and said"
    )
    asked = parser.parse_args(arguments)
    seeds = 2 if asked.quick else SEEDS
    answers: dict[str, Answered] = {}
    asked.kept.mkdir(parents=True, exist_ok=True)
    for way in ("plain", "ten seeds") if asked.quick else ASKS:
        file = asked.kept / f"{way}.json"
        if way in asked.again or not file.exists():
            print(f"asking: {way}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as name:
                file.write_text(text_of(ASKS[way](Path(name), seeds)))
        answers[way] = answer_in(file.read_text())
        write(results_table(answers), asked.out, ("torch", "ray", "torch-pruning"))  # also if the next way is cut off
    return 0


def plain(folder: Path, seeds: int, *more: str) -> Answered:
    """Ask the script for Ray Tune."""
    write_tasks(folder / "tasks.npz", seeds)
    words = ["--tasks", "tasks.npz", "--seeds", str(seeds), "--out", "scores.csv", *more]
    taken = run_with_descendants([sys.executable, FILES / "plain_tune.py", *words], folder)
    scores: dict[Arm, dict[int, float]] = {}
    with (folder / "scores.csv").open() as file:
        trials = list(csv.DictReader(file))
    last = [column for column in trials[0] if column.startswith("test ")][-1]
    for trial in trials:
        for budget in (None, *BUDGETS):
            if score := trial.get(f"test {budget}"):
                arm = trial["config/network"], trial["config/arm"], budget
                scores.setdefault(arm, {})[int(trial["config/seed"])] = float(score)
    finished = sum(bool(trial[last] or trial.get("test None")) for trial in trials)
    verdicts = judged_once(scores, t_test)
    return Answered(taken=taken, begun=len(trials), finished=finished, scores=scores, verdicts=verdicts)


def ten_seeds(folder: Path, seeds: int) -> Answered:
    """Ask this program for a fixed number of seeds."""
    taken = launch(folder, "ten_seeds", "--set", f"axes.seed={list(range(seeds))}")
    trials = len(finished_trial_ids(folder / "runs" / "ten_seeds"))
    with results.load(folder / "runs" / "ten_seeds") as run:
        scores = scores_of(run)
    verdicts = judged_once(scores, sign_flip_p)
    return Answered(taken=taken, begun=trials, finished=trials, scores=scores, verdicts=verdicts)


def settled(folder: Path, _seeds: int) -> Answered:
    """Ask this program for as many seeds as each verdict needs, against one arm and then against the other."""
    parts = []
    verdicts: dict[Compared, str] = {}
    scores: dict[Arm, dict[int, float]] = {}
    ids: set[str] = set()
    for against in AGAINST:
        parts.append(launch(folder, f"settled_{against}"))
        with results.load(folder / "runs" / f"settled_{against}") as run:
            for look in run.rows(VERDICTS):
                arm = look["network"], look["arm"], look["budget"]
                if arm[1] != "fine_tune":  # its comparison with Taylor is the one of Taylor with it
                    verdicts[arm, against] = look["verdict"]
            scores |= {
                arm: of_seeds for arm, of_seeds in scores_of(run).items() if len(of_seeds) > len(scores.get(arm, ()))
            }
        ids |= finished_trial_ids(folder / "runs" / f"settled_{against}")
    taken = Taken(
        wall_s=sum(part.wall_s for part in parts),
        cpu_s=sum(part.cpu_s for part in parts),
        peak_gb=max(part.peak_gb for part in parts),
    )
    return Answered(taken=taken, begun=len(ids), finished=len(ids), scores=scores, verdicts=verdicts)


def reference(folder: Path, _seeds: int) -> Answered:
    """Ask this program for many seeds: what the other ways should find."""
    return ten_seeds(folder, REFERENCE_SEEDS)


def plain_asha(folder: Path, seeds: int) -> Answered:
    """Ask the script for Ray Tune to stop trials that are behind."""
    return plain(folder, seeds, "--asha")


ASKS: Mapping[str, Callable[[Path, int], Answered]] = {
    "plain": plain, "ten seeds": ten_seeds, "settled": settled, "plain, ASHA": plain_asha, REFERENCE: reference,
}  # fmt: skip


def launch(folder: Path, spec: str, *more: str) -> Taken:
    """Run a spec on two slots; what was cached in the folder is read."""
    words = [str(FILES / f"{spec}.toml"), "--runs", "runs", "--cache", "cache", *more]
    return run_with_descendants([sys.executable, ROOT / "sweeps" / "launch.py", *words], folder)


def write_tasks(path: Path, seeds: int) -> None:
    """Write the images of each seed as this program splits and normalises them."""
    arrays: dict[str, np.ndarray] = {}
    for seed in range(seeds):
        split = task_data.splits(
            Task(name="digits", sha256="", train_images=200, images_per_class=None, split_seed=seed, subset_seed=None,
                 augmentation="none")
        )  # fmt: skip
        parts = {"train": split.train, "validation": split.validation, "test": split.test}
        for name, samples in ({"source": task_data.source("digits")} | parts).items():
            fetched = samples.fetch()
            arrays[f"{seed}.{name}.images"] = task_data.normalise(fetched.images).numpy()
            arrays[f"{seed}.{name}.labels"] = fetched.labels.numpy()
    np.savez(path, **arrays)


def scores_of(run: Run) -> dict[Arm, dict[int, float]]:
    """Return the test accuracies of a run at the budgets that are asked for."""
    scores: dict[Arm, dict[int, float]] = {}
    for row in run.rows(POINTS):
        scores.setdefault((row["network"], row["label"], row["budget"]), {})[row["seed"]] = row["test_score"]
    return scores


def differences_of(scores: Scores, against: str) -> dict[Compared, list[float]]:
    """Return the paired differences of each arm with one of them, in the order of the seeds."""
    found: dict[Compared, list[float]] = {}
    for (network, label, budget), of_seeds in scores.items():
        if label in (against, "fine_tune"):
            continue
        control = scores.get((network, against, None if against == "fine_tune" else budget), {})
        found[(network, label, budget), against] = [
            of_seeds[seed] - control[seed] for seed in sorted(of_seeds) if seed in control
        ]
    return found


def judged_once(scores: Scores, test: Callable[[list[float]], float]) -> dict[Compared, str]:
    """Return the verdicts of a test of a fixed number of seeds, with Holm's correction over those against one arm."""
    verdicts: dict[Compared, str] = {}
    for against in AGAINST:
        differences = {name: values for name, values in differences_of(scores, against).items() if len(values) > 1}
        corrected = holm([test(values) for values in differences.values()])
        for (name, values), p in zip(differences.items(), corrected, strict=True):
            sided = "better" if np.mean(values) > 0 else "worse"
            verdicts[name] = sided if p is not None and p <= ALPHA else "open"
    return verdicts


def t_test(differences: Sequence[float]) -> float:
    """Return the two-sided p of a paired t test; 1 if all differences are 0."""
    p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return 1.0 if np.isnan(p) else p


def judged_by_looks(scores: Scores, order: Sequence[int]) -> dict[Compared, str]:
    """Return the verdicts of [settle] where seeds are added in this order."""
    verdicts: dict[Compared, str] = {}
    for against in AGAINST:
        differences = differences_of(drawn(scores, order), against)
        design = Design(LOOKS, ALPHA, MATTERS, len(differences))
        verdicts |= {name: looks[-1].verdict for name, looks in look_at(differences, design).items()}
    return verdicts


def drawn(scores: Scores, seeds: Sequence[int]) -> dict[Arm, dict[int, float]]:
    """Return the scores of these seeds, numbered in this order."""
    return {arm: {number: of_seeds[seed] for number, seed in enumerate(seeds)} for arm, of_seeds in scores.items()}


def errors_of(judge: Callable[[Scores, Sequence[int]], Verdicts], scores: Scores, seeds: int) -> tuple[float, float]:
    """Return the shares of verdicts that are wrong, and of comparisons without one, over draws of this many seeds.

    Wrong: better or worse against the sign of the mean over all seeds, or "no difference that matters" where that mean
    is beyond what matters.
    """
    generator = np.random.default_rng(0)
    truth = {
        name: float(np.mean(values)) for against in AGAINST for name, values in differences_of(scores, against).items()
    }
    wrong = none = 0
    for _ in range(RESAMPLES):
        order = [int(seed) for seed in generator.permutation(REFERENCE_SEEDS)[:seeds]]
        for name, said in judge(scores, order).items():
            none += said == "open"
            wrong += (said == "better" and truth[name] < 0) or (said == "worse" and truth[name] > 0)
            wrong += said.startswith("no difference") and abs(truth[name]) > MATTERS
    return wrong / RESAMPLES / len(truth), none / RESAMPLES / len(truth)


def results_table(answers: Mapping[str, Answered]) -> Measured:
    """Return a row for each way."""
    rows: list[Row] = []
    whole = answers["plain"]
    many = answers.get(REFERENCE)
    judges: dict[str, tuple[Callable[[Scores, Sequence[int]], Verdicts], int]] = {
        "plain": (lambda scores, order: judged_once(drawn(scores, order), t_test), SEEDS),
        "ten seeds": (lambda scores, order: judged_once(drawn(scores, order), sign_flip_p), SEEDS),
        "settled": (judged_by_looks, REFERENCE_SEEDS),
    }
    for way, answer in answers.items():
        wrong = none = None
        if many is not None and way in judges:
            wrong, none = errors_of(judges[way][0], many.scores, judges[way][1])
        said = list(answer.verdicts.values())
        share = answer.taken.cpu_s / whole.taken.cpu_s
        goal = GOALS.get(way)
        rows.append({
            "way": way, "trials begun": answer.begun, "finished": answer.finished,
            "processor s": answer.taken.cpu_s, "of plain": share,
            "processor s per verdict": answer.taken.cpu_s / max(1, len(said) - said.count("open")),
            "wall s": answer.taken.wall_s, "peak GB": answer.taken.peak_gb, "lines to write": LINES.get(way),
            "better": said.count("better"), "worse": said.count("worse"),
            "no difference that matters": sum(text.startswith("no difference") for text in said),
            "open": said.count("open"), "wrong": wrong, "without a verdict": none,
            "goal": "" if goal is None else f"<= {goal:g} of plain: {verdict(share <= goal)}",
        })  # fmt: skip
    return table_of("What an answer costs", rows, (*NOTES, *agreement_of(whole.scores, answers)))


def agreement_of(plain: Scores, answers: Mapping[str, Answered]) -> Iterator[str]:
    """Say which arms have other test accuracies in the script than in this program, for as many seeds."""
    if "ten seeds" not in answers:
        return
    ours = answers["ten seeds"].scores
    others = []
    for (network, label, budget), of_seeds in plain.items():
        scores = list(of_seeds.values()), list(ours[network, label, budget].values())
        interval = stats.ttest_ind(*scores, equal_var=False).confidence_interval()
        if interval.low > 0 or interval.high < 0:
            means = " and ".join(f"{100 * np.mean(values):.1f}" for values in scores)
            others.append(f"{label} at {budget or 0:.0%} on {network}, {means} in the script and here")
    equal = len(plain) - len(others)
    yield f"Test accuracies of plain and ten seeds: equal within the 95% interval in {equal} of {len(plain)} arms."
    if others:
        yield f"Not equal: {'; '.join(others)}."


def _lines(*names: str) -> int:
    """Count lines that are neither empty nor a comment or docstring."""
    texts = [re.sub(r'"""[^"]*"""', "", (FILES / name).read_text()) for name in names]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


LINES = {
    "plain": _lines("plain_tune.py"),
    "ten seeds": _lines("question.toml", "ten_seeds.toml"),
    "settled": _lines("question.toml", "settled_fine_tune.toml", "settled_taylor.toml"),
}
NOTES = (
    "36 comparisons: five prunings at two budgets on two networks, with fine-tuning for as long as the longest of them "
    "and with pruning once by Taylor. Digits, the same images and splits; two trials at a time.",
    "Processor time and memory are of all processes, Ray's too; memory that processes share counts once. A trial that "
    "ASHA stops has no scores, so the verdicts there are about the seeds that are left.",
    f"wrong, without a verdict: shares of the comparisons, over {RESAMPLES} draws from the scores of {REFERENCE}. It is"
    " wrong against the sign of the mean over all of them, and as no difference where that is beyond a point. Seeds are"
    " drawn without repetition, so verdicts from more of them agree with the mean more easily.",
    "lines to write: without comments and docstrings.",
)


def text_of(answer: Answered) -> str:
    """Write as JSON, which has no tuples as keys: in lists."""
    scores = [[*arm, dict(of_seeds)] for arm, of_seeds in answer.scores.items()]
    verdicts = [[*arm, against, said] for (arm, against), said in answer.verdicts.items()]
    return json.dumps({**asdict(answer), "scores": scores, "verdicts": verdicts}, indent=1) + "\n"


def answer_in(text: str) -> Answered:
    """Read what `text_of` wrote."""
    read = json.loads(text)
    return Answered(
        taken=Taken(**read["taken"]),
        begun=read["begun"],
        finished=read["finished"],
        scores={(*arm,): {int(seed): score for seed, score in of_seeds.items()} for *arm, of_seeds in read["scores"]},
        verdicts={((*arm,), against): said for *arm, against, said in read["verdicts"]},
    )


if __name__ == "__main__":
    sys.exit(main())
