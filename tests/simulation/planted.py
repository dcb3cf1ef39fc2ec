"""Faults that are planted in the product: a day that finds none of them would see less than it seems to."""

from tests.simulation.planted_fault import Planted
from tests.simulation.slurm.planted import PLANTED_ON_SLURM

FILES, CACHE, TRIAL = "transtailor.files", "tailor.execution.cache", "sweeps.worker.trial"
STATE, LEDGER, TUNE = "sweeps.driver.sweep_state", "sweeps.driver.ledger", "sweeps.driver.tune_site"
SEARCH = "sweeps.search.run_search"
QUEUE, DRIVER = "sweeps.scheduling.trial_queue", "sweeps.driver.driver"
WRITER, COMMITS = "results.store.writer", "sweeps.driver.commits"

PLANTED = (
    Planted(
        "a file is not synced",
        f"{FILES}:_write_new",
        "os.fsync(stream.fileno())",
        "pass",
    ),
    Planted(
        "a new cache's name is not synced",
        f"{DRIVER}:sweep_state",
        "make_folder(cache)",
        "cache.mkdir(parents=True, exist_ok=True)",
    ),
    Planted(
        "an attempt's end is not written",
        f"{LEDGER}:Ledger.note_end",
        "self._attempt_row(trial_id, attempt, status, cause, log_tail or None, now)",
        'self._attempt_row(trial_id, attempt, "running")',
    ),
    Planted(
        "a finished stage wakes no trial",
        f"{QUEUE}:TrialQueue.stage_finished",
        "self._claims_on[trial_id] -= was_claimed",
        "pass",
    ),
    Planted(
        "two trials may compute one stage",
        f"{QUEUE}:TrialQueue._start",
        "self._claims_on[other_id] += 1",
        "pass",
    ),
    Planted(
        "a stage is read without asking the file system",
        "tailor.execution.cache:_read",
        "open_there(path)",
        'path.open("rb")',
    ),
    Planted(
        "who looks for a file believes what its machine knows",
        f"{FILES}:_ask_again",
        "    try:\n        os.close(",
        "    return\n    try:\n        os.close(",
    ),
    Planted(
        "all attempts of a trial append to one log",
        "sweeps.run.run_folder:RunFolder.begin_log",
        'path = folder / f"log-{number:04}.jsonl"\n'
        "        with suppress(FileExistsError):\n"
        '            path.open("x").close()\n',
        'path = folder / "log-0001.jsonl"\n'
        "        with suppress(FileExistsError):\n"
        '            path.open("a").close()\n',
    ),
    Planted(
        "a stage that is not seen is given up after 30 s",
        "sweeps.driver.commits:Commits._wait_or_lose",
        "< FOUND_LIMIT_S",
        "< 30.0",
    ),
    Planted(
        "a search decides while a trial runs",
        f"{SEARCH}:RunSearch.decides",
        "live_limit(self.spec)",
        "live_limit(self.spec) + 1",
        kind="search",
    ),
    Planted(
        "a trial that is not continued has no row",
        f"{LEDGER}:Ledger.stop",
        "if trial_ids:",
        "if False:",
        kind="search",
    ),
    Planted(
        "rows are written in the opposite order",
        f"{WRITER}:Writer.commit",
        "for table in WRITE_ORDER:",
        "for table in reversed(WRITE_ORDER):",
    ),
    Planted(
        "a trial's own cache goes before its row is durable",
        f"{COMMITS}:Commits._make_rows_of",
        "self._over += [self._run.checkpoint(trial_id), self._run.private_cache(trial_id)]",
        "shutil.rmtree(self._run.private_cache(trial_id), ignore_errors=True)",
        kind="private",
    ),
    Planted(
        "two processes have one number",
        f"{WRITER}:_make_next",
        "        if not _made(folder):  # this machine did not see it yet\n            continue\n",
        "        number = max(1, number - 1)\n        _made(writing / str(number))\n        return number\n",
    ),
    Planted(
        "folders of earlier processes stay",
        f"{WRITER}:take_number",
        "_remove(writing / str(earlier))",
        "pass",
    ),
    Planted(
        "a launch does not read which rows are there",
        f"{DRIVER}:sweep_state",
        "written=units_written(tables)",
        "written={}",
    ),
    Planted(
        "a launch does not read which rows a commit has left that was cut off",
        f"{DRIVER}:sweep_state",
        "begun=units_begun(tables)",
        "begun=()",
    ),
    Planted(
        "who makes rows of a stage trusts its writer's sync",
        f"{COMMITS}:Commits._add_unreported",
        "finish_new_file(cache.path(stage.key))",
        "pass",
    ),
    Planted(
        "a trial rests though its last stage has no row",
        f"{DRIVER}:_states_of",
        "tables.rows(RESTED)",
        "tables.rows('SELECT trial_id, rung FROM rungs')",
        kind="search",
    ),
    Planted(
        "a file of a table is changed in place",
        f"{WRITER}:Writer._replace",
        "write_file(path, partial(_encode, rows, compression_to_replace(path)), made_in=self._folder)",
        "with path.open('wb') as stream:\n"
        "                _encode(rows, compression_to_replace(path), stream)\n"
        "                stream.flush()\n"
        "                os.fsync(stream.fileno())",
    ),
    Planted(
        "a temporary file stands beside those of a table",
        f"{WRITER}:Writer._replace",
        "made_in=self._folder",
        "made_in=None",
    ),
    Planted(
        "the rows of a stage come into a table one by one",
        f"{WRITER}:Writer.commit",
        "taken = len(units or ())",
        "units and units.__setitem__(slice(0, 1), [units[0][:1], units[0][1:]])\n"
        "                taken = len(units or ()) and 1",
    ),
    Planted(
        "rows are made of a damaged stage",
        f"{COMMITS}:Commits._make_rows_of_stage",
        "cache.read_tensors(stage.key)",
        "cache.path(stage.key).read_bytes().partition(b'\\n')[2]",
    ),
    Planted(
        "a trial of which a stage was damaged does not run again",
        f"{STATE}:SweepState.take_lost",
        "lost = self.commits.take_lost()",
        "lost = self.commits.take_lost() and []",
    ),
    Planted(
        "a commit that the disk refused loses its rows",
        f"{WRITER}:Writer.commit",
        "units = self._waiting.get(table)",
        "units, self._waiting[table] = list(self._waiting.get(table) or ()), []",
    ),
    Planted(
        "a search decides before the rows are written",
        f"{STATE}:SweepState.take_more",
        "self.commits.finish()",
        "pass",
        kind="search",
    ),
    *PLANTED_ON_SLURM,
)
