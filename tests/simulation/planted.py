"""Faults that are planted in the product: a day that finds none of them would see less than it seems to."""

from tests.simulation.planted_fault import Planted
from tests.simulation.slurm.planted import PLANTED_ON_SLURM

FILES, CACHE, TRIAL = "transtailor.files", "tailor.execution.cache", "sweeps.worker.trial"
BOARD, LEDGER, TUNE = "sweeps.driver.board", "sweeps.driver.ledger", "sweeps.driver.tune_site"
SEARCH = "sweeps.search.run_search"
QUEUE, DRIVER, MERGE = "sweeps.scheduling.order", "sweeps.driver.driver", "results.store.merge"
SETTLE = "results.store.settle"

PLANTED = (
    Planted(
        "a file is not synced",
        f"{FILES}:_write_new",
        "os.fsync(stream.fileno())",
        "pass",
    ),
    Planted(
        "a replaced file's folder is not synced",
        f"{FILES}:write_file",
        "    sync(path.parent)\n",
        "",
    ),
    Planted(
        "a new file's folder is not synced",
        f"{FILES}:write_new_file",
        "sync(path.parent)",
        "pass",
    ),
    Planted(
        "a file is written under its final name",
        f"{FILES}:write_file",
        "temporary = _temporary(path if made_in is None else made_in / path.name)",
        "temporary = path\n    path.unlink(missing_ok=True)",
    ),
    Planted(
        "a file is renamed before it is synced",
        f"{FILES}:write_file",
        "_write_new(temporary, content, mode)\n        temporary.replace(path)",
        "stream = temporary.open('xb')\n"
        "        content(stream) if callable(content) else stream.write(\n"
        "            content.encode() if isinstance(content, str) else content)\n"
        "        stream.close()\n"
        "        temporary.replace(path)\n"
        "        sync(path)",
    ),
    Planted(
        "a new folder is not synced",
        f"{FILES}:make_folder",
        "sync(path.parent)",
        "pass",
    ),
    Planted(
        "of several new folders only one is synced",
        f"{FILES}:make_folder",
        "        sync(path.parent)\n",
        "        path == folder and sync(path.parent)\n",
    ),
    Planted(
        "a renamed folder's name is not synced",
        f"{FILES}:name_folder",
        "    sync(path.parent)\n",
        "",
    ),
    Planted(
        "a half-written file stays after an error",
        f"{FILES}:write_file",
        "temporary.unlink(missing_ok=True)",
        "pass",
    ),
    Planted(
        "a new cache's name is not synced",
        f"{DRIVER}:sweep_state",
        "make_folder(cache)",
        "cache.mkdir(parents=True, exist_ok=True)",
    ),
    Planted(
        "the second writer of a stage trusts the first sync",
        f"{CACHE}:Cache.write",
        "sync(path.parent)",
        "pass",
    ),
    Planted(
        "who uses a stage trusts its writer's sync",
        "tailor.execution.runner:_Store.find",
        "finish_new_file(self.cache.path(key))",
        "pass",
    ),
    Planted(
        "a stage counts while it is written",
        f"{CACHE}:Cache.write",
        'write_new_file(path, lambda file: file.writelines((first_line, b"\\n", tensors)))',
        "path.exists() or path.write_bytes(first_line + b'\\n' + tensors)",
    ),
    Planted(
        "an attempt's end is not written",
        f"{LEDGER}:Ledger.note_end",
        "self._write_attempt(trial_id, attempt, status, cause, log_tail or None, now)",
        "pass",
    ),
    Planted(
        "a trial is counted twice",
        f"{LEDGER}:Ledger.note_end",
        'self._writer.write("trials", [row])',
        'self._writer.write("trials", [row, row])',
    ),
    Planted(
        "a finished trial's row is written again",
        f"{LEDGER}:Ledger.note_end",
        'self._writer.write("trials", [row])',
        '[self._writer.write("trials", [row]) for _ in range(attempt.number)]',
    ),
    Planted(
        "attempts are numbered from one in each launch",
        f"{LEDGER}:Ledger.note_start",
        "self._attempts.get(trial_id, 0) + 1",
        "1",
    ),
    Planted(
        "a killed launch's attempts stay open",
        f"{LEDGER}:Ledger.close_abandoned",
        "if rows:",
        "if not rows:",
    ),
    Planted(
        "a trial finishes before its rows are written",
        f"{TRIAL}:TrialRank._finish",
        "    self._write()\n",
        "",
    ),
    Planted(
        "rows are written without the trial's hold",
        f"{TRIAL}:TrialRank._write",
        "!= self._task.holder:",
        "== 'nobody':",
    ),
    Planted(
        "a trial that pauses counts as over",
        f"{TRIAL}:TrialRank.advance",
        'kind="moved"',
        'kind="finished"',
    ),
    Planted(
        "a lost trial is not tried again",
        f"{BOARD}:SweepState.note_loss",
        "if not over:",
        "if over:",
    ),
    Planted(
        "an ended trial holds its stages",
        f"{BOARD}:SweepState._note_end",
        "    if over:\n",
        "    if not over:\n",
    ),
    Planted(
        "a failed attempt releases no stage",
        f"{QUEUE}:TrialQueue.trial_ended",
        "self._release(claim.key)",
        "pass",
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
        "failed trials count as finished",
        f"{DRIVER}:_states_of",
        "status = 'finished'",
        "status IN ('finished', 'failed')",
    ),
    Planted(
        "later rows may have earlier times",
        "results.store.writer:Writer._moment",
        "max(datetime.now(UTC), self._last + timedelta(microseconds=1))",
        "datetime.now(UTC)",
    ),
    Planted(
        "the last launch's times are not looked at",
        f"{DRIVER}:_open_ledger",
        "if last_us is None",
        "if True",
    ),
    Planted(
        "the run is not locked",
        "sweeps.run.run_lock:_wait_and_take",
        "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
    ),
    Planted(
        "a merged file lacks a part",
        f"{MERGE}:_merge",
        "partial(copy_rows, paths, schema_of(TABLES[table], parts), {})",
        "partial(copy_rows, paths[1:], schema_of(TABLES[table], parts), {})",
    ),
    Planted(
        "a merged file is not synced",
        f"{MERGE}:_merge",
        "write_file(final, partial(copy_rows, paths, schema_of(TABLES[table], parts), {}))",
        "stream = final.open('wb')\n"
        "    copy_rows(paths, schema_of(TABLES[table], parts), {}, stream)\n    stream.close()",
    ),
    Planted(
        "the names of settled files are not synced",
        f"{SETTLE}:_settle_table",
        "sync(folder)",
        "pass",
    ),
    Planted(
        "a part that comes while tables are settled is not taken along",
        f"{SETTLE}:_take_late_parts",
        "if path.name not in names",
        "if not path.name",
    ),
    Planted(
        "a replaced row stays when tables are settled",
        f"{SETTLE}:_replaced_rows",
        "{LAST_FIRST}) > 1",
        "{LAST_FIRST}) > 9",
    ),
    Planted(
        "a run is extended before its rows are written",
        "sweeps.run.run_folder:add_trials",
        "    write_planned(run.tables, plan, trials, code_digest)\n"
        "    write_file(run.spec, plan.spec_text)\n"
        "    write_file(run.plan, _plan_text(plan))",
        "    write_file(run.plan, _plan_text(plan))\n    write_planned(run.tables, plan, trials, code_digest)",
    ),
    Planted(
        "a hanging rank is never noticed",
        "hpc.ranks.ranks:Watchdog.is_hung",
        "self._silent_s > self._limit_s",
        "False",
    ),
    Planted(
        "a process that does not start is waited for",
        f"{TUNE}:_BoardSearcher.late_trials",
        "if since_s < too_long_ago_s",
        "if False",
    ),
    Planted(
        "a stop is forgotten",
        "sweeps.driver.signals:StopSignals.check",
        "is not None:",
        "is None and False:",
    ),
    Planted(
        "a full disk is looked at once",
        "sweeps.driver.quota:DiskGuard.why_paused",
        "looked_s + max(",
        "1e12 + max(",
    ),
    Planted(
        "a lost slot's trial is forgotten",
        f"{TUNE}:_BoardSearcher.on_trial_complete",
        "self._board.note_loss(ours, cause, counts=not self._pool.has_lost(nodes))",
        "pass",
    ),
    Planted(
        "each launch writes all proposals again",
        f"{SEARCH}:RunSearch.save",
        "self.proposals[self._saved :]",
        "self.proposals",
        kind="search",
    ),
    Planted(
        "a search decides while a trial runs",
        f"{SEARCH}:RunSearch.more",
        "live_limit(self.spec)",
        "live_limit(self.spec) + 1",
        kind="search",
    ),
    Planted(
        "scores of earlier launches are not read",
        f"{DRIVER}:_earlier",
        "read_scores(tables) if launch.producer else {}",
        "{}",
        kind="search",
    ),
    Planted(
        "a launch forgets promotions",
        f"{SEARCH}:RunSearch._to_rungs",
        "for proposal in self.proposals:",
        "for proposal in reversed(self.proposals):",
        kind="search",
    ),
    Planted(
        "a trial that rests runs again in the next launch",
        f"{DRIVER}:_states_of",
        "(trial.trial_id, trial.rung.number) in rested",
        "False",
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
        "a stop that cannot be written down ends with a traceback",
        f"{BOARD}:SweepState.set_stopping",
        "with suppress(OSError):",
        "if True:",
    ),
    *PLANTED_ON_SLURM,
)
