"""The state of a run, read from its folder at any moment and from any terminal; starts and changes nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from hpc.cluster.autoscaler import BACKOFF_MAX_S
from hpc.errors import ClusterError, SlurmError
from hpc.slurm.jobs import BY_SLURM
from results.arms.below_head import MEANING, below_heads
from results.store.completeness import failed_trials
from results.store.points import points_file
from results.store.reader import Run, last_written_us, load
from results.text.number_format import SCALES
from results.text.page import Heading, Part, Shown, answer_table
from results.text.shown import blank
from sweeps.driver.display import PAUSED, SweepProgress, done_text, left_text, time_text
from sweeps.driver.progress_file import read_progress
from sweeps.operations.attach import end_text, log_tail
from sweeps.operations.control import job_lines
from sweeps.planning.devices import devices_text, spec_on_site
from sweeps.run.run_folder import LaunchRecord, RunFolder, open_run
from sweeps.run.run_lock import holder_of
from sweeps.slurm.cluster_run import ClusterRun
from sweeps.spec.spec import load_spec
from transtailor.errors import UserError
from transtailor.files import is_there
from transtailor.lines import hanging, lines_of
from transtailor.shell import command as to_type

FAILURES_SHOWN = 10
READ = ("planned", "trials", "attempts", "operating_points", "events")

BEST = """
SELECT arm, network, dataset, train_images, metric, validation_score, removed_macs_fraction, seed, trial_id, point,
       count(DISTINCT stage_key) OVER arm AS of_points, count(DISTINCT seed) OVER arm AS of_seeds
FROM operating_points WHERE trial_id NOT IN (SELECT trial_id FROM trials WHERE status = 'failed')
WINDOW arm AS (PARTITION BY network, dataset, train_images, arm)
QUALIFY row_number() OVER (arm ORDER BY isnan(validation_score), validation_score DESC, macs, trial_id, point) = 1
ORDER BY network, dataset, train_images, isnan(validation_score), validation_score DESC, arm
"""
RUNNING_SHOWN = (
    Shown("trial_id", "trial"), Shown("arm", text=lambda record: record["arm"] or "?"), blank("what"),
    blank("seed", before="seed ", is_text=True), blank("nodes"), blank("stage"), blank("progress"),
    Shown("running_s", text=lambda record: time_text(record["running_s"]), is_text=True),
)  # fmt: skip
RUNNING_USUAL = ("trial_id", "arm", "stage", "progress", "running_s", "what", "seed", "nodes")
BEST_SHOWN = (
    "arm", "network", "dataset", "train_images", Shown("metric", text=lambda best: SCALES[best["metric"]].noun),
    "validation_score", "removed_macs_fraction", "seed", "trial_id", "point", "of_points", "of_seeds",
)  # fmt: skip
BEST_USUAL = (
    "arm", "network", "validation_score", "removed_macs_fraction", "seed", "trial_id", "of_points", "of_seeds", "point",
    "metric", "dataset", "train_images",
)  # fmt: skip

# Microseconds since 1970: converting Arrow's timestamps to Python imports pandas, which takes most of a second.
RUNNING = """
SELECT trial_id, epoch_us(started_at) AS started_us, nodes FROM attempts WHERE status = 'running' ORDER BY started_at
"""

STATES_OF_TRIALS = """
SELECT trial_id, coalesce(trials.status, 'resting') AS status
FROM (FROM attempts QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY attempt DESC) = 1) AS last
FULL JOIN trials USING (trial_id)
WHERE last.status = 'rested' OR trials.status IN ('finished', 'failed')
"""
"""Of trials that have ended, and of those that rest: whose last attempt has reached a rung. A stopped trial that was
continued since is neither."""

LAST_EVENTS = """
SELECT kind, arg_max(detail, happened_at) AS detail, epoch_us(max(happened_at)) AS at_us FROM events
WHERE driver = (SELECT arg_max(driver, happened_at) FROM events) GROUP BY kind
"""
# The state of a run after the newest of these events; "": it is running.
STATES = {"waiting": "waiting", "paused": "paused", "stopping": "stopping", "resumed": "", "worker_joined": ""}
ACCEPTED = ("worker_submitted", "worker_joined")  # events after which a refusal is no longer of interest
REFUSAL_LASTS_S = 2 * BACKOFF_MAX_S  # what SLURM refuses is asked for again before, and is an event again


def status(run: RunFolder) -> Iterator[Part]:
    """Yield a page to print: who runs it, the trials by state, the best so far by validation, the failures.

    Raises:
        RunFolderError: the folder is no run, or damaged.
        ResultsError: one of its files is torn.
    """
    record = open_run(run)
    holder = holder_of(run.lock)  # before the rows, so that trials that end in between are seen as ended
    now = datetime.now(UTC)
    with load(run.path, READ) as rows:
        rows.hold("trials", "attempts")  # which several queries read
        progress = None if holder is None else _progress(run)
        running, counts = _running_attempts(record, rows, progress, is_run=holder is not None)
        yield _headline(run, holder, counts, now)
        last_us = last_written_us(rows)
        if last_us is not None:
            yield f"last row  written {_age(_moment(last_us), now)} ago"
        points = points_file(run.path)
        if is_there(points):
            written_at = datetime.fromtimestamp(points.stat().st_mtime, UTC)
            yield f"points    {points.name} was written {_age(written_at, now)} ago"
        # Say which devices trials get where the run was launched last, and why
        cluster = ClusterRun(run)
        try:
            site = cluster.folder.site() if cluster.is_last_launch else None
            text = devices_text(spec_on_site(load_spec(run.spec), site).resources, site)
        except (ClusterError, UserError) as error:  # the rest of the page is still worth reading
            text = f"not known: {error}"
        yield f"devices   {text}"
        for text in record.provenance["history"][-1].get("warnings", []):  # of the whole plan, as in the report
            yield f"warning   {text}"
        yield from _states(run, rows, progress, is_run=holder is not None, now=now)
        yield from _jobs(run)
        record_of_run = {
            "run": str(run.path), "state": state_of(counts, is_run=holder is not None), "trials": len(record.trials),
            "resting": 0, "stopped": 0, **counts, **_progress_record(progress),
            "last_row_at": None if last_us is None else _moment(last_us),
        }  # fmt: skip
        yield answer_table("status", [record_of_run], shown=("trials", *counts))
        yield ""  # else Markdown would take the next line for a row
        yield from _running_page(record, running, progress, now)
        yield from best_so_far(rows)
        for problem, arm in below_heads(rows):
            yield f"baseline  {arm}, {problem}: {MEANING}."
        yield from _failures(run, rows)


def best_so_far(rows: Run) -> Iterator[Part]:
    """Yield the best point of each arm by validation, with its seed and the number of points that it is the best of."""
    best = rows.rows(BEST)
    if best:
        yield Heading("best so far, by validation")
    yield answer_table("status", best, "best", shown=BEST_SHOWN if best else (), usual=BEST_USUAL)
    if best:
        yield ""


def _states(run: RunFolder, rows: Run, progress: SweepProgress | None, *, is_run: bool, now: datetime) -> Iterator[str]:
    """Say whether the run stops, is paused or waits, and what SLURM has refused lately if it took no worker since."""
    cluster = ClusterRun(run)
    last_events = {row["kind"]: row for row in rows.rows(LAST_EVENTS)}
    state_events = [row for kind, row in last_events.items() if kind in STATES]
    newest = max(state_events, key=lambda row: row["at_us"], default=None)
    state = "" if newest is None else STATES[newest["kind"]]
    if cluster.is_stop_asked() and cluster.outcome is None:
        asked = datetime.fromtimestamp(cluster.stop_file.stat().st_mtime, UTC)
        yield f"stopping  for {_age(asked, now)}; no new stage starts"
    elif is_run and newest is not None and state:
        detail, told = newest["detail"], "" if progress is None else progress.state
        if state == "paused" and told.startswith(PAUSED):  # with what is left on the disk now
            detail = told.removeprefix(PAUSED)
        yield f"{state.ljust(9)} {detail}, for {_age(_moment(newest['at_us']), now)}"
    over_us = [int((now.timestamp() - REFUSAL_LASTS_S) * 1e6)]
    over_us += [last_events[kind]["at_us"] for kind in ACCEPTED if kind in last_events]
    refused = last_events.get("worker_refused")
    if is_run and refused is not None and refused["at_us"] > max(over_us):
        yield f"refused   {refused['detail']}, {_age(_moment(refused['at_us']), now)} ago; SLURM is asked again"


def _jobs(run: RunFolder) -> Iterator[str]:
    """Yield the run's jobs on SLURM, or the error if SLURM does not answer."""
    try:
        yield from job_lines(run)
    except SlurmError as error:
        yield f"jobs      unknown: {error}"


def count_trials(run: RunFolder) -> dict[str, int]:
    """Return how many trials of a run are finished, running, waiting and failed. Raises as `status`."""
    record = open_run(run)
    is_run = holder_of(run.lock) is not None
    with load(run.path, ("trials", "attempts")) as rows:
        _running, counts = _running_attempts(record, rows, _progress(run) if is_run else None, is_run=is_run)
    return counts


def _running_attempts(
    record: LaunchRecord, rows: Run, progress: SweepProgress | None, *, is_run: bool
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the attempts of trials that have not ended, and the number of trials in each state."""
    state_of_ended = {row["trial_id"]: row["status"] for row in rows.rows(STATES_OF_TRIALS)}
    running = []
    if is_run:
        running = [attempt for attempt in rows.rows(RUNNING) if attempt["trial_id"] not in state_of_ended]
    if progress is not None:  # newer than the rows, which do not say yet that a trial has lost its worker
        reported = {trial.trial_id for trial in progress.running}
        running = [attempt for attempt in running if attempt["trial_id"] in reported]
    running_ids = {attempt["trial_id"] for attempt in running}
    trials_in_state: Counter[str] = Counter()
    for trial_id in record.trials:
        not_ended = "running" if trial_id in running_ids else "waiting"
        trials_in_state[state_of_ended.get(trial_id, not_ended)] += 1
    counts = {state: trials_in_state[state] for state in ("finished", "running", "waiting", "failed")}
    for state in ("resting", "stopped"):  # only searches have them
        if trials_in_state[state]:
            counts[state] = trials_in_state[state]
    return running, counts


def state_of(counts: Mapping[str, int], *, is_run: bool) -> str:
    """Return "running", "finished", "failed" (some trials have), or "interrupted": launched again, it resumes."""
    if is_run:
        return "running"
    if counts["waiting"] or counts.get("resting"):
        return "interrupted"
    return "failed" if counts["failed"] else "finished"


def _progress(run: RunFolder) -> SweepProgress | None:
    """Return the progress as last reported by the driver; None if it has reported none."""
    seen = read_progress(run.lock) or read_progress(run.progress)
    return None if seen is None else seen.progress


def _progress_record(progress: SweepProgress | None) -> dict[str, float | None]:
    least_s = most_s = None
    if progress is not None and progress.left_s is not None:
        least_s, most_s = progress.left_s
    done_fraction = None if progress is None else progress.done_fraction
    return {"done_fraction": done_fraction, "left_least_s": least_s, "left_most_s": most_s}


def _running_page(
    record: LaunchRecord, running: list[dict[str, Any]], progress: SweepProgress | None, now: datetime
) -> Iterator[Part]:
    """Yield the progress of the sweep and of each running trial, and its run time."""
    if progress is not None:
        counts = progress.counts  # newer than those of the rows
        now_text = f"{counts.finished} finished and {counts.running} running now"
        yield f"progress  {done_text(progress)}, time left {left_text(progress)}; {now_text}"
    reported = {} if progress is None else {trial.trial_id: trial for trial in progress.running}
    records = []
    for attempt in running:
        trial_id = attempt["trial_id"]
        planned = record.trials.get(trial_id)
        of_trial: dict[str, Any] = dict.fromkeys(("what", "seed", "stage", "progress"))
        of_trial |= {
            "arm": None if planned is None else planned.arm,
            "nodes": ", ".join(attempt["nodes"] or ()) or None,
        }
        if trial_id in reported:  # else its driver has not reported it yet
            trial = reported[trial_id]
            of_trial = {
                "arm": trial.arm, "what": f"{trial.network} on {trial.dataset}", "seed": trial.seed,
                "nodes": trial.node or None, "stage": trial.stage, "progress": trial.words or None,
            }  # fmt: skip
        seconds = max(0.0, (now - _moment(attempt["started_us"])).total_seconds())
        records.append({"trial_id": trial_id, **of_trial, "running_s": seconds})
    if not records:
        yield answer_table("status", [], "running")
        return
    yield Heading("running")
    yield answer_table("status", records, "running", shown=RUNNING_SHOWN, usual=RUNNING_USUAL)
    yield ""


def _headline(run: RunFolder, holder: dict[str, Any] | None, counts: dict[str, int], now: datetime) -> str:
    if holder is not None:
        since = f", for {_age(datetime.fromisoformat(holder['since']), now)}" if "since" in holder else ""
        return f"{run.path}: running in process {holder.get('pid', '?')} on {holder.get('host', '?')}{since}"
    command = f"type: {to_type('run', run.path, '--retry')}"
    cluster = ClusterRun(run)
    if cluster.is_last_launch and cluster.outcome is None and counts["waiting"]:
        return f"{run.path}: {_before_an_outcome(cluster)}, {command}"
    if counts["waiting"] or counts.get("resting"):
        return f"{run.path}: not running; to resume, {command}"
    if counts["failed"]:
        return f"{run.path}: has ended with failures; to retry them, {command}"
    stopped = counts.get("stopped", 0)
    if stopped:
        return f"{run.path}: has ended; {counts['finished']} trials are finished, {stopped} stopped"
    return f"{run.path}: has ended; all trials are finished"


def _before_an_outcome(cluster: ClusterRun) -> str:
    """Say where the controller is of a launch that nobody runs now; to be followed by what to type."""
    if cluster.submission.job is None:
        site = "if that refuses the site, change it, or give another --site"
        return f"was not submitted to SLURM; {site}; if no job is listed below"
    not_begun = "launched on SLURM; its controller has not begun yet"
    try:
        state = cluster.controller_end()
    except (ClusterError, SlurmError):  # the lines of the jobs say why
        return f"{not_begun}, or ended without an outcome; if no job is listed below"
    if not state.is_over:
        return f"{not_begun}; if no job is listed below"
    tail = "" if state.state in BY_SLURM else log_tail(cluster)  # killed processes print no cause
    return f"{end_text(cluster, state)}{tail and f' and ends: {lines_of(tail)[-1]}'}; to resume"


def _failures(run: RunFolder, rows: Run) -> Iterator[Part]:
    failed = failed_trials(rows)
    yield answer_table("status", failed, "failed")
    for trial in failed[:FAILURES_SHOWN]:
        text = f"failed    {trial['trial_id']}  {trial['arm']}: {trial['error']}"
        yield from lines_of(hanging(text, 10))
        yield f"          attempts: {trial['attempts']}; its log: {to_type('logs', run.path, trial['trial_id'])}"
    if len(failed) > FAILURES_SHOWN:
        query = to_type("query", run.path, "SELECT trial_id, error FROM trials WHERE status = 'failed'")
        yield f"... and {len(failed) - FAILURES_SHOWN} more failed trials; to list all: {query}"


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def _age(moment: datetime, now: datetime) -> str:
    return time_text(max(0.0, (now - moment).total_seconds()))
