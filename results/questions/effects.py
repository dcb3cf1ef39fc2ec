"""Which settings matter.

Analysis of variance: main effects and interactions of the settings that vary, with effect sizes.
"""

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from results.arms.comparison import FINISHED, POINTS_OF_ARMS, Environment, Point, last_points
from results.arms.counts import MORE_SEEDS
from results.arms.findings import Findings, findings_of, problem_condition
from results.arms.names import PLACES
from results.arms.problem import Problem
from results.arms.shared_training import support_lines
from results.arms.trial_settings import texts_of
from results.command_options import at_option
from results.errors import ResultsError
from results.question import question
from results.questions.settled import at_title
from results.render.blocks import Figure, Section, TableBlock, Words
from results.render.chart import Chart, Spec
from results.render.style import GREY, PALETTE, WIDTH, names_width, row_axis, score_channel, tooltip
from results.statistics.means import Mean, mean_interval
from results.statistics.pairs import holm
from results.statistics.variance import Anova, Effect, anova
from results.store.query_table import query_table
from results.store.reader import Run
from results.store.views import literal
from results.text.number_format import SCALES, number, p_text
from results.text.page import Heading, Part, Shown, Table, answer_table, notes
from results.text.shown import SCORE_INTERVAL
from transtailor import cli
from transtailor.names import nearest
from transtailor.plural import counted, first_few

SETTINGS = "SELECT trial_id, label, arm, config_json FROM planned"
BLOCK = "seed"
LABEL = "label"
NOT_A_FACTOR = (BLOCK, "last_point", *PLACES)
"""Settings that are no factor: the block, and one that changes no score."""
NOT_READ = "(does not have it)"
"""The level of a setting in trials that do not read it. Its effect is not defined there: the label stands for it."""
MOST_FACTORS = 6
SHOWN = (
    "effect", "degrees_of_freedom", "eta_squared", "partial_eta_squared", "omega_squared", "f", "p", "p_holm",
)  # fmt: skip
L = TypeVar("L", bound=Hashable)


@dataclass(frozen=True)
class Effects:
    """An analysis of one metric."""

    metric: str
    factors: Mapping[str, Sequence[str]]  # name -> the level of each observation
    aliases: Mapping[str, Sequence[str]]  # factor -> other settings that change exactly when it does
    points: Sequence[Point]  # the observations
    result: Anova
    notes: Sequence[str]  # sentences to print below the table


def effects_of(findings: Findings, asked: float | None = None, of: Sequence[str] = ()) -> list[Effects]:
    """Analyse, for each metric, the test score of each trial at a budget or at the end of its path.

    Args:
        asked: share of the MACs to remove; None takes each trial's last operating point.
        of: settings to analyse, such as "optimisation.learning_rate", or "label"; empty: all that vary. If these are
            not crossed with each other, as in a sweep of variants, the label stands for them. A text is one of them.

    Raises:
        ResultsError: there is only one seed, nothing varies, or no such setting varies.
    """
    of = [of] if isinstance(of, str) else of  # else its letters
    points = findings.points
    if asked is None:  # a path that has not ended yet has no end
        finished = {row["trial_id"] for row in findings.run.rows(FINISHED)}
        points = [point for point in points if point.trial_id in finished]
    points = _choose_points(points, asked)
    if not points:
        if asked is None:
            raise ResultsError("no trial has a test score yet")
        raise ResultsError(
            f"no trial has a test score at {asked:g} of the MACs removed; look at the budgets with:"
            f" {findings.run.to_type('table')}"
        )
    planned = findings.run.rows(SETTINGS)
    settings = {row["trial_id"]: _settings(row["config_json"], row["label"]) for row in planned}
    scored = {point.trial_id for point in points}
    unscored = {row["arm"] for row in planned} - {row["arm"] for row in planned if row["trial_id"] in scored}
    no_trial = f"no trial of {', '.join(sorted(unscored))} has a score here"
    why = f"; {no_trial}" if unscored and not of else ""
    analyses = []
    for metric in sorted({point.metric for point in points}):
        of_metric = [point for point in points if point.metric == metric and point.trial_id in settings]
        finite = [point for point in of_metric if point.test is not None and math.isfinite(point.test)]
        if not finite:
            raise ResultsError(
                f"no test score in {metric} is finite: all {len(of_metric)} are NaN, infinite or missing"
            )
        read = [point for point in finite if all(name in settings[point.trial_id] for name in of)] or finite
        if len({point.seed for point in read}) < 2:
            raise ResultsError(
                "only one seed: an effect cannot be distinguished from chance, so no interval and no p can be given;"
                f" {MORE_SEEDS}"
            )
        environments: set[Environment] = set()
        for point in read:
            environments |= findings.environments.get(point.trial_id, frozenset())
        lost = len(of_metric) - len(finite)
        try:
            analysis = _analysis(metric, read, settings, of, lost, is_mixed=len(environments) > 1)
        except ResultsError as error:
            raise ResultsError(f"{error}{why}") from error
        left_out = [f"Left out: {no_trial}."] if unscored else []
        if len(read) < len(finite):
            scores = counted(len(finite) - len(read), "score")
            left_out.append(f"Left out: {scores} of trials that do not have {' or '.join(of)}.")
        analyses.append(replace(analysis, notes=[*left_out, *analysis.notes]))
    return analyses


def _choose_points(points: Sequence[Point], asked: float | None) -> list[Point]:
    """Choose one point per trial: its last, or its last at a budget."""
    if asked is None:
        along_paths = sorted(points, key=lambda point: point.point)  # not by arm: a path may begin with `head_only`
        last_by_trial = {point.trial_id: point for point in along_paths}
        return list(last_by_trial.values())
    with_budget = [point for point in points if point.asked is not None]
    return last_points(point for point in with_budget if math.isclose(point.asked or 0.0, asked, abs_tol=1e-6))


def _settings(config_json: str, label: str) -> dict[str, str]:
    """Return the level of every setting of a trial, as text."""
    levels = {LABEL: label}
    for key, text in texts_of(config_json).items():
        if key not in NOT_A_FACTOR:
            levels[key] = text
    return levels


def _analysis(
    metric: str,
    points: Sequence[Point],
    settings: Mapping[str, Mapping[str, str]],
    of: Sequence[str],
    lost: int,
    *,
    is_mixed: bool,
) -> Effects:
    seeds = [str(point.seed) for point in points]
    settings_of_points = [settings[point.trial_id] for point in points]
    varying = {}
    for name, levels in _varied_levels(settings_of_points).items():
        is_tied_to_the_block = name.endswith("seed") and _go_together(levels, seeds)  # such as source.seed
        if not is_tied_to_the_block:
            varying[name] = levels
    factors, aliases, why = _choose_factors(varying, of)
    of_cells: dict[tuple[str, ...], list[float]] = {}  # scores of a seed at the same levels are no samples of their own
    for point, *cell in zip(points, seeds, *factors.values(), strict=True):
        of_cells.setdefault(tuple(cell), []).append(point.test or 0.0)
    block, *columns = zip(*of_cells, strict=True)
    means = [math.fsum(scores) / len(scores) for scores in of_cells.values()]
    result = anova(means, dict(zip(factors, columns, strict=True)), (BLOCK, block))
    notes = [why] if why else []
    notes += _notes_of_others(varying, factors)
    notes += [f"{name} also stands for {', '.join(others)}, which change with it." for name, others in aliases.items()]
    notes += _marks(result, len(points), lost)
    if is_mixed:
        notes.append("Computed on mixed hardware, ranks or torch versions, which may cause an effect.")
    return Effects(metric, factors, aliases, points, result, notes)


def _go_together(levels: Sequence[str], others: Sequence[str]) -> bool:
    """Whether each of two columns changes exactly when the other does."""
    return len(set(zip(levels, others, strict=True))) == len(set(levels)) == len(set(others))


def _varied_levels(rows: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the levels of each setting that has more than one, in the order in which the settings first occur."""
    names: list[str] = []
    known: set[str] = set()
    for row in rows:
        new_names = [name for name in row if name not in known]
        names += new_names
        known.update(new_names)
    varied = {}
    for name in names:
        levels = [row.get(name, NOT_READ) for row in rows]
        if len(set(levels)) > 1:
            varied[name] = levels
    return varied


def _choose_factors(
    varying: Mapping[str, list[str]], of: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, list[str]], str]:
    """Choose the factors; return them, their aliases, and why they are not all settings that vary."""
    of_several_values = [name for name, levels in varying.items() if len({*levels} - {NOT_READ}) > 1]
    for name in of:
        if name not in of_several_values:
            where = "here" if len(of) == 1 else "between the trials that have all that --of names"
            raise ResultsError(f"--of {name}: no such setting varies {where}{nearest(name, of_several_values)}")
    if of:
        return {name: varying[name] for name in of}, {}, ""
    if not varying:
        raise ResultsError("only the seed varies between the trials with a score, so there is no effect to analyse")
    without_label = {name: levels for name, levels in varying.items() if name != LABEL}
    read_by_all = {name: levels for name, levels in without_label.items() if NOT_READ not in levels}
    factors, aliases = _separate_settings(read_by_all)
    is_small = 0 < len(factors) <= MOST_FACTORS and len(read_by_all) == len(without_label)
    if is_small and _is_crossed(list(factors.values())):
        return factors, aliases, ""
    labels = varying.get(LABEL)
    if labels is None:
        factors, aliases = _separate_settings(without_label)
        if _is_crossed(list(factors.values())):
            return factors, aliases, ""
        return factors, aliases, "Not all combinations of these settings were run: choose settings with --of."
    kept: dict[str, list[str]] = {LABEL: labels}
    for name, levels in factors.items():
        if _is_crossed([labels, levels]) and _is_crossed([*kept.values(), levels]):
            kept[name] = levels
    kept_aliases = {name: aliases[name] for name in kept if name in aliases}
    why = "The variants' settings are not crossed, so the label stands for them; choose settings with --of."
    return kept, kept_aliases, why


def _notes_of_others(varying: Mapping[str, list[str]], factors: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Say which settings vary where no factor does, and which of them differ from level to level of a factor."""
    cells = list(zip(*factors.values(), strict=True))
    others: list[str] = []
    uneven: list[str] = []
    for name, values in _separate_settings(varying)[0].items():
        is_of_factors = len(set(zip(cells, values, strict=True))) == len(set(cells))
        if name in factors or is_of_factors:
            continue
        others.append(name)
        if not all(_is_crossed([levels, values]) for levels in factors.values()):
            uneven.append(name)
    if others:
        yield f"Other settings vary too, and the scores are averaged over them: {first_few(others, MOST_FACTORS)}."
    if uneven:
        yield (
            f"Not every level was measured with each value of {first_few(uneven, MOST_FACTORS)}, so a difference of"
            " means may be that of these; --of separates those that all trials have."
        )


def _separate_settings(columns: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return one setting of each set that changes together, and the other settings of its set."""
    first: dict[tuple[int, ...], str] = {}
    factors: dict[str, list[str]] = {}
    aliases: dict[str, list[str]] = {}
    for name, levels in columns.items():
        # With the levels numbered as they first occur, columns that change together are equal.
        number_of: dict[str, int] = {}
        for level in levels:
            number_of.setdefault(level, len(number_of))
        pattern = tuple(number_of[level] for level in levels)
        if pattern in first:
            aliases.setdefault(first[pattern], []).append(name)
        else:
            first[pattern] = name
            factors[name] = levels
    return factors, aliases


def _is_crossed(columns: Sequence[Sequence[str]]) -> bool:
    """Whether every combination of these levels occurs."""
    return len(set(zip(*columns, strict=True))) == math.prod(len(set(levels)) for levels in columns)


def _marks(result: Anova, scores: int, lost: int) -> list[str]:
    notes = []
    if lost:
        notes.append(f"{lost} trials have no finite test score and are left out.")
    if not result.is_balanced:
        measured, possible = result.cells
        notes.append(
            f"Unbalanced: {measured} of {possible} combinations of levels and seeds have a score (from {result.fewest}"
            f" to {result.most} each). Sums of squares are of type II, and shares do not add up."
        )
    if any(not effect.degrees for effect in result.effects):
        notes.append("A term with 0 degrees of freedom cannot be separated from the terms above it in these trials.")
    if not result.residual_degrees:
        notes.append("No degrees of freedom are left for noise, so no F and no p can be given.")
    elif not result.residual_sum_of_squares:
        notes.append("These terms explain all scores and leave no noise, so no F and no p can be given.")
    means = "" if scores == result.n else f", {result.n} means of a seed and its levels"
    notes.append(
        f"{scores} scores{means}; the seed is a block, and its interactions are the noise ("
        f"{counted(result.residual_degrees, 'degree')} of freedom). p (Holm) is corrected over this table without the"
        " seed. F tests assume equal, normal noise."
    )
    return notes


def means_by_level(levels: Sequence[L], points: Sequence[Point]) -> dict[L, Mean]:
    """Average the test scores of each level with their 95% interval, within each seed first: n is that of seeds."""
    scores: dict[L, dict[int, list[float]]] = {}
    for level, point in zip(levels, points, strict=True):
        scores.setdefault(level, {}).setdefault(point.seed, []).append(point.test or 0.0)
    means = {}
    for level, by_seed in scores.items():
        means[level] = mean_interval([math.fsum(of_seed) / len(of_seed) for of_seed in by_seed.values()])
    return means


def strongest_pair(effects: Effects) -> tuple[tuple[str, str], Effect] | None:
    """Find the two factors that interact most, beyond chance, and their effect; None with a single factor."""
    pairs = {" x ".join(pair): pair for pair in itertools.combinations(effects.factors, 2)}
    interactions = [effect for effect in effects.result.effects if effect.name in pairs and effect.degrees]
    if not interactions:
        return None
    strongest = max(interactions, key=lambda effect: (effect.omega_squared or 0.0, effect.eta_squared or 0.0))
    return pairs[strongest.name], strongest


def level_order(level: str) -> tuple[float, str]:
    """Sort key: numbers by size, then texts."""
    try:
        return float(level), level
    except ValueError:
        return math.inf, level


def effects_page(run: Run, asked: float | None = None, of: Sequence[str] = ()) -> Iterator[Part]:
    """Yield for each metric a table of effects, the means of each factor's levels, and notes.

    Raises:
        ResultsError: as `effects_of`.
    """
    effects_by_metric = effects_of(findings_of(run), asked, of)
    where = "at the end of each trial's path" if asked is None else f"with {at_title(asked)}"
    for effects in effects_by_metric:
        heading = f"Effects on the test score ({SCALES[effects.metric].noun}) {where}"
        yield Heading(heading)
        yield ""
        yield effects_table(effects)
        for name, levels in effects.factors.items():
            yield ""
            yield _levels_table(name, levels, effects)
        problems = {point.problem for point in effects.points}
        yield ""
        lines = [*effects.notes, *support_lines(run, problems, all_settings=True)]
        yield from notes(lines, heading if len(effects_by_metric) > 1 else "")
        yield ""


def effects_table(effects: Effects, *, with_noise: bool = True, **facts: str) -> Table:
    """Build the table of all effects, with the noise in the last row; `facts` are attributes of the table."""
    result = effects.result
    p_holm = holm([None if effect.name == BLOCK else effect.p for effect in result.effects])
    records: list[dict[str, Any]] = []
    for effect, corrected in zip(result.effects, p_holm, strict=True):
        records.append({
            "metric": effects.metric, "effect": effect.name, "degrees_of_freedom": effect.degrees,
            "eta_squared": effect.eta_squared, "partial_eta_squared": effect.partial_eta_squared,
            "omega_squared": effect.omega_squared, "f": effect.f, "p": effect.p, "p_holm": corrected,
        })  # fmt: skip
    if with_noise:
        share = result.residual_sum_of_squares / result.sum_of_squares if result.sum_of_squares else None
        noise = {"effect": "noise", "degrees_of_freedom": result.residual_degrees, "eta_squared": share}
        records.append({**dict.fromkeys(SHOWN), "metric": effects.metric, **noise})
    return answer_table("effects", records, shown=SHOWN, **facts)


def _levels_table(name: str, levels: Sequence[str], effects: Effects) -> Table:
    """Build the table of each level's mean; n is the number of seeds."""
    scores = Counter(levels)
    means = means_by_level(levels, effects.points)
    records = []
    for level in sorted(means, key=level_order):
        mean = means[level]
        records.append({
            "metric": effects.metric, "setting": name, "level": level, "score": mean.mean,
            "score_low": mean.low, "score_high": mean.high, "seeds": mean.n, "scores": scores[level],
        })  # fmt: skip
    shown = (Shown("level", name), "score", SCORE_INTERVAL, "seeds", "scores")
    return answer_table("effects", records, "levels", shown=shown)


EFFECTS = """
WITH ends AS (
    SELECT trial_id, test_score FROM compared_points
    WHERE {problem} AND trial_id IN {finished} QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1
), settings AS (
    SELECT trial_id, setting, json_extract(config_json, '$."' || replace(setting, '.', '"."') || '"') AS json
    FROM planned, (SELECT unnest([{settings}]) AS setting) WHERE {problem}
)
SELECT setting, coalesce(json_extract_string(json, '$'), 'none') AS value, count(*) AS trials,
    avg(test_score) AS mean_test_score, median(test_score) AS median_test_score,
    quantile_cont(test_score, 0.25) AS lower_quartile, quantile_cont(test_score, 0.75) AS upper_quartile
FROM ends JOIN settings USING (trial_id)
WHERE isfinite(test_score) AND json IS NOT NULL AND json_type(json) <> 'OBJECT'
GROUP BY setting, value
QUALIFY count(*) OVER (PARTITION BY setting) BETWEEN 2 AND {most_values}
ORDER BY setting, try_cast(value AS DOUBLE), value
"""
MOST_VALUES = 12
_MOST_SETTINGS = 10


def chart(findings: Findings, problem: Problem, settings: Sequence[str]) -> Chart | None:
    """Draw a group of rows for each setting, that with the widest range on top; None where none varies.

    Args:
        settings: dotted names, such as "optimisation.learning_rate".
    """
    names_in_sql = ", ".join(literal(name) for name in settings) or "NULL"
    sql = EFFECTS.format(
        problem=problem_condition(problem), settings=names_in_sql, most_values=MOST_VALUES, finished=FINISHED
    )
    data = query_table(findings.run, sql)
    if not data.records:
        return None
    scale = findings.scales[problem]
    records = data.records
    medians: dict[str, list[float]] = {}
    for record in records:
        medians.setdefault(record["setting"], []).append(record["median_test_score"])
    order = sorted(medians, key=lambda setting: min(medians[setting]) - max(medians[setting]))
    names = [f"{record['value']} ({counted(record['trials'], 'trial')})" for record in records]
    left = names_width(names)
    columns = {"median_shown": "median_test_score", "lower_shown": "lower_quartile", "upper_shown": "upper_quartile"}
    ends: list[float] = []
    for record in records:
        ends += [record[column] for column in columns.values()]
    axis_title = f"test {scale.noun}{scale.axis_unit}"
    y = {"field": "name", "type": "nominal", "axis": row_axis(), "sort": {"field": "place"}}
    colour = {"condition": {"test": "datum.setting == 'seed'", "value": GREY}, "value": PALETTE[0]}
    tip = tooltip(setting="setting", name="value", median_shown=f"median {axis_title}|.{scale.digits}f")
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {
                "x": score_channel("lower_shown", axis_title, scale, ends, axis={"tickCount": 8}),
                "x2": {"field": "upper_shown"},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {"x": score_channel("median_shown", axis_title, scale, ends), "tooltip": tip},
        },
    ]
    panels = []
    for setting in order[:_MOST_SETTINGS]:
        panels.append(
            {
                "title": {"text": setting, "fontSize": 11},
                "transform": [{"filter": {"field": "setting", "equal": setting}}],
                "width": WIDTH - left,
                "height": {"step": 20},
                "encoding": {"y": y, "color": colour},
                "layer": layers,
            }
        )
    spec: Spec = {
        "data": {"name": "rows"},
        "transform": [
            {"calculate": f"datum.{column} * {scale.factor}", "as": name} for name, column in columns.items()
        ],
        "columns": 1,
        "spacing": 12,
        "resolve": {"scale": {"x": "shared"}},
        "usermeta": {"left": left},
        "concat": panels,
    }
    hidden = len(order) - len(panels)
    note = f"{hidden} more settings, whose medians lie closer together, are in the table." if hidden else ""
    title = f"{problem}: test {scale.noun} for each value, the setting with the largest range on top"
    return Chart(title, spec, data, {"name": names, "place": list(range(len(names)))}, note=note)


def interaction(effects: Effects) -> Chart | None:
    """Draw the mean score of each combination of the two settings that interact most; None if only one setting varies.

    The setting with more levels goes across, the other one has a line for each level.
    """
    strongest = strongest_pair(effects)
    if strongest is None:
        return None
    pair, effect = strongest
    levels = {name: sorted(set(effects.factors[name]), key=level_order) for name in pair}
    across, lines = sorted(pair, key=lambda name: -len(levels[name]))
    cells = list(zip(effects.factors[across], effects.factors[lines], strict=True))
    means = means_by_level(cells, effects.points)
    records: list[dict[str, Any]] = []
    ends: list[float | None] = []
    for cell in sorted(means, key=lambda cell: (level_order(cell[0]), level_order(cell[1]))):
        mean = means[cell]
        value, other_value = cell
        records.append({
            "value": value, "other_value": other_value, "seeds": mean.n, "mean_test_score": mean.mean,
            "low": mean.low, "high": mean.high,
        })  # fmt: skip
        ends += [mean.mean, mean.low, mean.high]
    scale = SCALES[effects.metric]
    axis_title = f"test {scale.noun}{scale.axis_unit}"
    columns = {"mean": "mean_test_score", "lowest": "low", "highest": "high"}
    in_unit = []
    for name, column in columns.items():
        in_unit.append({"calculate": f"isValid(datum.{column}) ? datum.{column} * {scale.factor} : null", "as": name})
    tip = tooltip(value=across, other_value=lines, mean=f"mean {axis_title}|.{scale.digits}f", seeds="seeds")
    spec: Spec = {
        "data": {"name": "rows"},
        "transform": in_unit,
        "width": WIDTH - 80,
        "height": 220,
        "encoding": {
            "x": {"field": "value", "type": "nominal", "sort": levels[across], "title": across,
                  "axis": {"labelAngle": 0}, "scale": {"type": "point", "padding": 0.5}},
            "color": {"field": "other_value", "type": "nominal", "title": lines, "sort": levels[lines],
                      "scale": {"range": [*PALETTE]}},
            "tooltip": tip,
        },
        "layer": [
            {"mark": {"type": "rule", "opacity": 0.5, "clip": True},
             "encoding": {"y": score_channel("lowest", axis_title, scale, ends), "y2": {"field": "highest"}}},
            {"mark": {"type": "line", "point": {"size": 50}},
             "encoding": {"y": score_channel("mean", axis_title, scale, ends)}},
        ],
    }  # fmt: skip
    data = Table(records=records, sql=f"{SETTINGS};\n{POINTS_OF_ARMS.strip()}")
    title = f"The settings that interact most: {across} and {lines}"
    note = (
        "Means over seeds with 95% t intervals. The interaction's share of the variance is"
        f" {number(effect.eta_squared, 3)}, its p {p_text(effect.p)}."
    )
    return Chart(title, spec, data, note=note, derived=True)


def section(findings: Findings) -> Section:
    """Draw one figure for each problem, with one group of rows for each setting that varies."""
    section_effects = Section(
        "effects",
        "Effects of the settings",
        "The test score of each trial's last operating point, for each value of each setting that varies: median"
        " and quartiles over all trials with that value. The difference of two rows is the effect of the setting only"
        " if all values occur with the same other settings (crossed axes). The rows of the seed show the effect of"
        " chance.",
        short="Settings",
        empty=f"No setting has between 2 and {MOST_VALUES} values in trials with a test score.",
    )
    keys = findings.settings.effects()
    if not keys:
        return section_effects
    section_effects.blocks += _analysis_blocks(findings)
    for index, problem in enumerate(findings.problems):
        drawn = chart(findings, problem, keys)
        if drawn is not None:
            section_effects.blocks.append(Figure(f"effects{index}", drawn))
    return section_effects


def _analysis_blocks(findings: Findings) -> list[TableBlock | Words | Figure]:
    """Build the analysis of variance for each metric with its strongest interaction, or explain why there is none."""
    try:
        effects_by_metric = effects_of(findings)
    except ResultsError as error:
        return [Words(f"No analysis of variance: {error}.")]
    blocks: list[TableBlock | Words | Figure] = []
    for index, effects in enumerate(effects_by_metric):
        blocks.append(_analysis_block(effects))
        drawn = interaction(effects)
        if drawn is not None:
            blocks.append(Figure(f"interaction{index}", drawn))
    return blocks


def _analysis_block(effects: Effects) -> TableBlock:
    sql = f"{SETTINGS};\n{POINTS_OF_ARMS}"
    table = effects_table(effects, with_noise=False, sql=sql, note=" ".join(effects.notes))
    title = f"Analysis of variance of the test {SCALES[effects.metric].noun} at the end of each trial's path"
    return TableBlock(table, title, derived=True)


@question(example="runs/demo")
@at_option
@cli.option(
    "--of", multiple=True, metavar="SETTING",
    help="such as optimisation.learning_rate or label (repeatable; default: all that vary)",
)  # fmt: skip
def effects(run: Run, at: float | None = None, of: Sequence[str] = ()) -> Iterator[Part]:
    """Which settings matter: analysis of variance with effect sizes."""
    return effects_page(run, at, of)
