"""[[printed]]: a paper's numbers beside a spec, read strictly, kept in the resolved text, and written as rows."""

from pathlib import Path

from results.store.reader import load
from results.store.schema import TABLES
from results.store.writer import Writer
from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.spec.printed_rows import PrintedRow, printed_rows
from sweeps.spec.spec import load_spec
from tests.sweeps.conftest import WriteSpec

HEAD = 'name = "p"\n[trial]\nmethod.name = "head_only"\n'
ARM = '[[printed]]\npaper = "A (2020)"\nplace = "Table 1"\nlabel = "head_only"\nnetwork = "digits_vgg"\n'
ONE = ARM + 'dataset = "digits"\nvalue = 0.853\n'
AGAINST = ARM + 'dataset = "digits"\nagainst = "fine_tune"\n'
DIFFERENCE, CLAIM = AGAINST + "difference = 0.07\n", AGAINST + 'claim = "ahead"\n'
SEVERAL = (
    ARM
    + """method = "head_only"
points = [
    { dataset = "digits", asked_removed_macs_fraction = 0.0, value = 0.5 },
    { dataset = "digits", asked_removed_macs_fraction = 0.1, value = 1, note = "read from a figure" },
    { dataset = "friedman1", metric = "r_squared", value = -0.25 },
]
"""
)


def rows_of(path: Path) -> list[PrintedRow]:
    return load_spec(path).printed


def test_one_number_and_what_is_not_said_of_it(write_spec: WriteSpec) -> None:
    (row,) = rows_of(write_spec(HEAD + ONE))
    assert row == PrintedRow(
        paper="A (2020)", place="Table 1", label="head_only", network="digits_vgg", dataset="digits", value=0.853
    )
    assert (row.method, row.asked_removed_macs_fraction, row.metric, row.note) == (None, None, "accuracy", None)


def test_points_have_what_their_table_has_and_what_is_their_own(write_spec: WriteSpec) -> None:
    rows = rows_of(write_spec(HEAD + SEVERAL + ONE))
    assert [(row.dataset, row.asked_removed_macs_fraction, row.metric, row.value) for row in rows] == [
        ("digits", 0.0, "accuracy", 0.5),
        ("digits", 0.1, "accuracy", 1.0),
        ("friedman1", None, "r_squared", -0.25),
        ("digits", None, "accuracy", 0.853),
    ]
    assert [row.note for row in rows] == [None, "read from a figure", None, None]
    assert [row.method for row in rows] == ["head_only"] * 3 + [None]


def test_a_difference_and_a_claim_are_rows_of_their_own(write_spec: WriteSpec) -> None:
    value, difference, claim = rows_of(write_spec(HEAD + ONE + "n = 3\ndeviation = 0.01\n" + DIFFERENCE + CLAIM))
    assert (value.value, value.n, value.deviation, value.against) == (0.853, 3, 0.01, None)
    assert (difference.value, difference.difference, difference.against) == (None, 0.07, "fine_tune")
    assert (claim.claim, claim.difference, claim.against) == ("ahead", None, "fine_tune")
    assert len({value.key, difference.key, claim.key}) == 3


def test_the_resolved_text_keeps_the_numbers(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(HEAD + SEVERAL + DIFFERENCE))
    again = load_spec(write_spec(spec.to_toml(), "again.toml"))
    assert again.model_dump() == spec.model_dump()
    assert len(again.printed) == 4


def test_a_spec_that_extends_another_has_its_numbers_or_its_own(write_spec: WriteSpec) -> None:
    write_spec(HEAD + SEVERAL)
    below = 'name = "more"\nextends = "spec.toml"\n'
    assert len(rows_of(write_spec(below, "more.toml"))) == 3
    assert len(rows_of(write_spec(below + ONE, "more.toml"))) == 1
    assert rows_of(write_spec(below + "printed = []\n", "more.toml")) == []


def test_printed_numbers_are_in_no_id(write_spec: WriteSpec) -> None:
    plain, printed = (make_plan(load_spec(write_spec(text))) for text in (HEAD, HEAD + SEVERAL))
    assert [trial.trial_id for trial in plain.trials] == [trial.trial_id for trial in printed.trials]


def test_rows_are_written_and_writing_them_again_changes_nothing(write_spec: WriteSpec, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    rows = rows_of(write_spec(HEAD + SEVERAL))
    for _ in range(2):
        Writer(tmp_path / "run" / "tables").write("printed", printed_rows(rows, "d" * 64))
    with load(tmp_path / "run") as run:
        found = run.rows("SELECT * EXCLUDE (code_digest, written_at) FROM printed ORDER BY value DESC")
    assert [PrintedRow(**row) for row in found] == [rows[1], rows[0], rows[2]]
    assert set(PrintedRow.model_fields) == {column.name for column in TABLES["printed"].columns[:-2]}


def test_numbers_that_are_new_reach_a_run_that_is_resumed(write_spec: WriteSpec, tmp_path: Path) -> None:
    said = []
    for text in (HEAD, HEAD + ONE, HEAD + ONE.replace("0.853", "0.9")):
        run, lock, what = start(make_plan(load_spec(write_spec(text))), tmp_path, extend=False, update_code=False)
        lock.release()
        with load(run.path) as tables:
            said.append((what, [row["value"] for row in tables.rows("SELECT value FROM printed")]))
        assert [row.value for row in load_spec(run.spec).printed] == said[-1][1]
    assert said == [("created", []), ("resumed", [0.853]), ("resumed", [0.9])]
