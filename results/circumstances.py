"""Where and how the models of a run were timed: times of different circumstances are never put together."""

from typing import Any

from results.store.reader import Run
from results.store.views import CIRCUMSTANCE
from transtailor.plural import counted

ALL = f"""
SELECT {", ".join(CIRCUMSTANCE)}, count(DISTINCT model_key) AS models, count(*) FILTER (NOT is_steady) AS unsteady
FROM timings GROUP BY ALL ORDER BY models DESC, max(written_at) DESC
"""

Circumstance = dict[str, Any]
"""A row of `ALL`; the first one is that of the view `timed_on`."""
LATENCY = "latency_ms"


def circumstances_of(run: Run) -> list[Circumstance]:
    """Return the circumstances in which models were timed, the one with most models first; empty if none was."""
    return run.rows(ALL)


def circumstance_text(circumstance: Circumstance) -> str:
    """Say it in words: "1 image in eager on AMD EPYC (avx2), 2 threads, float32, contiguous, torch 2.15"."""
    images = counted(circumstance["batch"], "image")
    threads = counted(circumstance["threads"], "thread")
    return (
        f"{images} in {circumstance['runtime']} on {circumstance['device_name']}, {threads},"
        f" {circumstance['precision']}, {circumstance['memory_format']}, {circumstance['versions']}"
    )


def circumstance_lines(run: Run) -> list[str]:
    """Say in which circumstance the models of `measured_points` were timed, and how many others there are."""
    circumstances = circumstances_of(run)
    if not circumstances:
        return []
    text = f"{circumstance_text(circumstances[0])}; models timed like this: {circumstances[0]['models']}."
    others = f" Timed in {len(circumstances) - 1} more circumstances: table timings." if len(circumstances) > 1 else ""
    return [f"Latency and memory are those of one forward pass of {text}{others}", COMPARED_BY, *unsteady_lines(run)]


def unsteady_lines(run: Run) -> list[str]:
    """Say how many times are not to be relied on; no line if all are."""
    unsteady = sum(circumstance["unsteady"] for circumstance in circumstances_of(run))
    (others,) = run.rows("SELECT count(*) AS times FROM latencies WHERE is_at_other_speed")
    again = f"to time them again: {run.to_type('time', '--again')}, with the options of the first time"
    lines = []
    if unsteady:
        lines.append(
            f"Times that were not steady (column is_steady of timings): {unsteady}. Differences within their quartiles"
            f" say nothing; {again}"
        )
    if others["times"]:
        lines.append(
            "Times taken while the machine was at another speed (column is_at_other_speed of latencies):"
            f" {others['times']}. There the whole network took clearly more or less time than beside the other"
            f" sub-models. Their shares of it were measured in turns all the same; {again}"
        )
    return lines


COMPARED_BY = (
    "latency_ms is a share of one reference measurement of the whole network: the share that was measured in turns with"
    " it (1 / speed), so that times of different minutes can be compared."
)
