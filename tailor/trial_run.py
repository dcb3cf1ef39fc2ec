"""One trial without a sweep: its stages, and their run."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tailor.common import heartbeat
from tailor.common.errors import ConfigError
from tailor.config.optimisation import weights_text
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import DryRun, dry_run
from tailor.trial_file import imports_option, read_trial, trial_argument
from transtailor import cli
from transtailor.files import refuse_unwritable
from transtailor.plural import counted
from transtailor.terminal import say

if TYPE_CHECKING:
    from tailor.execution.runner import StageEvent

LINE_PERIOD_S = 10.0  # between two lines about a stage in a log
LIVE_PERIOD_S = 0.5  # between two updates of the line about a stage on a terminal


@cli.command(example="trial.toml --save models")
@trial_argument
@imports_option
@cli.option("--cache", type=cli.FOLDER, default="cache", help="folder of finished stages")
@cli.option("--save", type=cli.FOLDER, help="folder to save each operating point's sub-model in")
@cli.option("--licence", metavar="TEXT", help="the line on the licence in each saved sub-model's card")
@cli.option("--device", default="auto", help="auto, cpu or cuda")
@cli.option("--threads", default=1, type=cli.COUNT, metavar="N", help="CPU threads of each rank")
@cli.option("--plan", is_flag=True, help="show its id and stages; run nothing")
def run(
    trial: Path,
    imports: tuple[Path, ...],
    cache: Path,
    save: Path | None,
    licence: str | None,
    device: str,
    threads: int,
    plan: bool,
) -> None:
    """Run the trial that the TOML file TRIAL describes, and print its operating points.

    With several processes: torchrun --nproc-per-node 2 -m transtailor trial run TRIAL
    """
    config, texts = read_trial(trial, imports)
    planned = dry_run(config)
    if plan:
        _show_plan(config, planned, texts)
        return
    from tailor.deploy.card import refuse_other_model, refuse_unsavable, save_point, saved_text
    from tailor.execution.cache import Cache
    from tailor.execution.runner import run_trial
    from tailor.parallel.process_group import join, leave

    refuse_unsavable(save, licence)
    refuse_unwritable(cache, "--cache", ConfigError)
    ranks = join(device, threads=threads)
    for text in texts if ranks.rank == 0 else ():
        say(f"warning: {text}", to=sys.stderr)
    macs_before: int | None = None  # of the operating point before
    checkpoints = cache / "checkpoints"
    kinds = [stage.kind for stage in planned.stages]
    for stage in planned.stages:
        if save is not None and stage.point is not None:
            refuse_other_model(save / f"point_{stage.point}", planned.trial_id, stage.point)
    try:
        with _progress_shown(kinds if ranks.rank == 0 else []) as finished_keys:
            for event in run_trial(config, cache=Cache(cache), ranks=ranks, checkpoint_folder=checkpoints):
                finished_keys.append(event.result.key)
                state = event.result.model_state() if save and event.point is not None else None  # collective
                if ranks.rank > 0:
                    continue
                seconds = event.result.description.made_by.compute_s
                duration = "cached" if event.result.cached else f"{seconds:.2f} s"
                say(f"{event.order:3}  {event.result.key[:12]}  {event.result.stage.kind:18} {duration:>8}")
                if event.point is not None:
                    say(f"     {_point(event, macs_before)}")
                    macs_before = event.result.point_facts().macs
                if save is not None and state is not None:
                    folder = save / f"point_{event.point}"
                    save_point(config, event, state, folder, command=cli.typed(), licence=licence)
                    say(f"     {saved_text(folder, config.network)}")
    finally:
        leave()


def _show_plan(config: TrialConfig, planned: DryRun, warnings: list[str]) -> None:
    for text in warnings:
        say(f"warning: {text}", to=sys.stderr)
    say(f"trial {planned.trial_id}: {counted(len(planned.stages), 'stage')}")
    for number, stage in enumerate(planned.stages):
        point = "" if stage.point is None else f"  operating point {stage.point}"
        say(f"{number:3}  {stage.key[:12]}  {stage.kind}{point}")
    if isinstance(config.optimisation.class_weights, dict):
        say(weights_text(config.optimisation.class_weights))


@contextmanager
def _progress_shown(kinds: list[str]) -> Iterator[list[str]]:
    """Show how far the running stage is; yield the list to append the keys of finished stages to.

    On a terminal this is one line that is updated; otherwise a line now and then on standard error.
    """
    from rich.console import Console
    from rich.text import Text

    finished_keys: list[str] = []
    is_over = threading.Event()
    is_live = sys.stdout.isatty()

    def show_again_and_again() -> None:
        while not is_over.wait(LIVE_PERIOD_S if is_live else LINE_PERIOD_S):
            number = len(finished_keys)
            progress = heartbeat.latest()[2]
            text = f"{kinds[number]} {number + 1}/{len(kinds)}  {progress}" if number < len(kinds) else ""
            if is_live:
                status.update(Text(text))
            elif text and progress:
                say(f"     {text}", to=sys.stderr)

    thread = threading.Thread(target=show_again_and_again, daemon=True)
    with Console(quiet=not is_live).status("", spinner="line") as status:
        thread.start()
        try:
            yield finished_keys
        finally:
            is_over.set()
            thread.join(LINE_PERIOD_S)


def _point(event: "StageEvent", macs_before: int | None) -> str:
    """Return an operating point as a line; `macs_before` are the MACs of the previous one on the path, if any."""
    facts = event.result.point_facts()
    note = "; it removed nothing" if facts.macs == macs_before else ""
    return f"point {event.point}: {facts}{note}"
