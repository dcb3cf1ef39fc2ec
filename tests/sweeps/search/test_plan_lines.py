"""What `--plan` says of a search, on small ones that are worked out by hand."""

from sweeps.search.plan_lines import plan_lines, settings_bounds
from sweeps.spec.search_settings import SearchSettings
from sweeps.spec.spec import load_spec
from tests.sweeps.search.test_halving import WriteSpec

SPEC = """
name = "s"
[trial]
network = "digits_vgg"
method.name = "fine_tune"
[axes]
optimisation.epochs = [4, 6, 8, 10]
[search]
sampler = "random"
trials = 3
halving = { eta = 3, epochs = [2] }
"""


def test_the_lines_say_least_and_most(write_spec: WriteSpec) -> None:
    def lines(text: str) -> list[str]:
        return [line.strip() for line in plan_lines(load_spec(write_spec(text)))]

    assert lines(SPEC) == [
        "search    random: at most 3 of 4 settings, 3 at a time",
        "of the settings run 3 until 2 epochs, 1 until the end",
        "3 trials if none fails, 4 in the grid; above is what runs first",
    ]
    confirmed = lines(
        SPEC.replace("trials = 3", "trials = 4\nbatch = 1\nhours = 1") + "[confirm]\ntop = 2\nseeds = 5\n"
    )
    assert confirmed[2].startswith("14 trials if none fails"), "random settings are all proposed at once"
    limited = lines(SPEC.replace("random", "tpe").replace("trials = 3", "trials = 4\nbatch = 1\nhours = 1"))
    assert limited[1:3] == [
        "of the settings run 1 to 4 until 2 epochs, 1 to 2 until the end",
        "1 to 4 trials if none fails, 4 in the grid; above is what runs first",
    ]


def test_asynchronously_more_may_continue() -> None:
    """Of nine settings the first two wait; each of the others is promoted if it is better than all before it."""
    search = SearchSettings(trials=9, halving={"epochs": (2, 6), "asynchronous": True})  # type: ignore[arg-type]
    assert settings_bounds(search, 63) == ((9, 9), (3, 7), (1, 5))
    assert settings_bounds(search, 5) == ((5, 5), (2, 3), (1, 1))
