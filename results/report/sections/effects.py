"""The effect of each setting: the score at the end of the path for each value of each setting that varies."""

from results.analysis.effects import SETTINGS, Effects, effects_of, effects_table
from results.arms.comparison import POINTS
from results.arms.findings import Findings
from results.arms.trial_settings import TrialSettings
from results.errors import ResultsError
from results.plot.effects import MOST_VALUES, effects, interaction
from results.report.elements.blocks import Figure, Section, TableBlock, Words
from results.report.elements.tables import HtmlTable, TableRow
from results.text.number_format import SCALES


def section(found: Findings, settings: TrialSettings) -> Section:
    """Draw one figure for each problem, with one group of rows for each setting that varies."""
    made = Section(
        "effects",
        "Effects of the settings",
        "The test score of each trial's last operating point, for each value of each setting that varies: median"
        " and quartiles over all trials with that value. The difference of two rows is the effect of the setting only"
        " if all values occur with the same other settings (crossed axes). The rows of the seed show the effect of"
        " chance.",
        short="Settings",
        empty=f"No setting has between 2 and {MOST_VALUES} values in trials with a test score.",
    )
    keys = settings.effects()
    if not keys:
        return made
    made.blocks += _analyses(found)
    for place, problem in enumerate(found.problems):
        if chart := effects(found, problem, keys):
            made.blocks.append(Figure(f"effects{place}", chart))
    return made


def _analyses(found: Findings) -> list[TableBlock | Words | Figure]:
    """Build the analysis of variance for each metric with its strongest interaction, or explain why there is none."""
    try:
        several = effects_of(found)
    except ResultsError as error:
        return [Words(f"No analysis of variance: {error}.")]
    made: list[TableBlock | Words | Figure] = []
    for place, one in enumerate(several):
        made.append(_analysis(one))
        if chart := interaction(one):
            made.append(Figure(f"interaction{place}", chart))
    return made


def _analysis(effects: Effects) -> TableBlock:
    page = effects_table(effects.result)
    rows = [TableRow(tuple(map(str, row))) for row in page.rows[:-1]]  # without the noise
    title = f"Analysis of variance of the test {SCALES[effects.metric].noun} at the end of each trial's path"
    table = HtmlTable(
        tuple(page.columns), (False, *[True] * 7), rows, f"{SETTINGS};\n{POINTS}", " ".join(effects.notes)
    )
    return TableBlock(table, title, derived=True)
