"""A long step is never silent, and a short one says little."""

import threading

from transtailor.waiting import telling

LIMIT_S = 60.0  # until a line that has to come is missed


def test_a_step_that_goes_on_is_told_until_it_ends() -> None:
    lines: list[str] = []
    is_told_twice = threading.Event()

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            is_told_twice.set()

    with telling("exporting", first_s=0.01, tell=tell):
        assert is_told_twice.wait(LIMIT_S)
    assert lines[0] == "exporting ..."
    assert lines[1] == lines[2] == "exporting: 0 s so far"
    assert lines[-1].startswith("exporting: done in ")


def test_a_step_that_fails_is_told_no_more_and_a_short_one_has_one_line() -> None:
    lines: list[str] = []
    before = threading.active_count()
    try:
        with telling("exporting", first_s=LIMIT_S, tell=lines.append):
            raise ValueError
    except ValueError:
        assert lines == ["exporting ..."]
    assert threading.active_count() == before
