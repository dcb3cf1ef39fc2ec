"""Where the product suggests what to type: found in its source, so that a test can check each place."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.import_graph import ROOMS, ROOT

MAKERS = {"command", "to_type", "rerun", "pip", "set_option"}
"""Functions that build text to paste."""
WORDS = re.compile(
    r"\b[Tt]ype(:? ?$|: | [a-z-])|\btranstailor [a-z]|\b(pip|chmod|scancel|squeue|sinfo|sha256sum) |[a-z,] --[a-z]"
)
"""Texts that suggest something to type."""
HELP = {"add_argument", "add_parser", "ArgumentParser", "Option", "Entry"}

FILE = "it belongs in a TOML file, next to its key"
OWN = "a folder, file, name or number of the user, after a named option"
OTHER = "another option of the same command"
AGAIN = "the same command again"
CLUSTER = "it is for a cluster and its commands; tests/hpc has these messages"
NONE = "it suggests nothing to type"
NOT_PASTED: Mapping[str, str] = {
    place: reason
    for reason, found in {
        FILE: "sweeps/spec/printed_rows.py:_points sweeps/spec/spec.py:_absolute sweeps/spec/spec.py:_check_keys"
        " sweeps/spec/axes.py:check_tied sweeps/spec/axes.py:flat_axes sweeps/spec/spec.py:_completed"
        " sweeps/spec/spec.py:_table sweeps/spec/ranges.py:Range.values sweeps/spec/search_settings.py:check_search"
        " sweeps/spec/search_settings.py:_check_halving sweeps/search/checks.py:_refuse_more_than_end"
        " sweeps/search/checks.py:_refuse_other_than_choices"
        " sweeps/spec/spec.py:_tables sweeps/spec/spec.py:_variant tailor/config/trial.py:TrialConfig._source_exists"
        " tailor/config/source.py:SourceConfig._weights_are_pinned hpc/sites/site.py:Need._dependency_names_jobs"
        " tailor/methods/transtailor.py:TransTailor.check",
        OWN: "hpc/slurm/first_site.py:write_new results/store/reader.py:_runs_by_name"
        " sweeps/commands/clean.py:_needed_keys sweeps/commands/clean.py:clean sweeps/commands/explain.py:find_trial"
        " sweeps/commands/launch.py:_run sweeps/commands/latencies.py:_summary sweeps/run/run_folder.py:_read_json"
        " sweeps/spec/spec.py:_read_toml sweeps/run/run_folder.py:check_is_run"
        " sweeps/run/run_lock.py:_wait_for.is_free sweeps/spec/spec.py:check_name"
        " sweeps/commands/launch.py:_plan_launch sweeps/search/run_search.py:_refuse_changed"
        " tailor/deploy/card.py:refuse_unsavable tailor/execution/plugins.py:load tailor/prepare/archive.py:_look"
        " tailor/prepare/archive.py:_own tailor/prepare/folder.py:list_folder tailor/prepare/preparation.py:_decode"
        " tailor/prepare/preparation.py:prepare tailor/prepare/tasks.py:_draw tailor/prepare/tasks.py:cut"
        " transtailor/files.py:refuse_unwritable tailor/model/state.py:_refuse_other_sizes"
        " tailor/commands/model.py:run_export",
        OTHER: "results/analysis/versus_arm.py:_compare_arms results/analysis/effects.py:_choose_factors"
        " results/analysis/seeds_needed.py:_notes"
        " results/analysis/seeds_needed.py:seeds_needed_page results/export/command.py:export_lines"
        " sweeps/commands/explain.py:_shared_stages sweeps/planning/plan.py:select_trials hpc/ray/local.py:_why_not"
        " sweeps/commands/latencies.py:_unsteady sweeps/commands/latencies.py:call_in"
        " tailor/parallel/process_group.py:join results/arms/selection.py:select_arms",
        AGAIN: "sweeps/driver/local_pool.py:_LocalPool.check tailor/commands/fetch.py:_download"
        " tailor/commands/fetch.py:_why tailor/commands/fetch.py:run tailor/prepare/workspace.py:_lock"
        " sweeps/commands/control.py:_launch_of sweeps/commands/control.py:stop",
        CLUSTER: "hpc/cluster/head.py:main hpc/doctor/job.py:_ray hpc/doctor/job.py:_signal"
        " hpc/doctor/login.py:Doctor._clear hpc/doctor/login.py:Doctor._end hpc/doctor/login.py:Doctor._check_folder"
        " hpc/doctor/login.py:Doctor._check_login_node hpc/doctor/login.py:Doctor._signal.check"
        " hpc/doctor/login.py:Doctor._walltime hpc/doctor/login.py:_gpus_of hpc/doctor/login.py:_rights_finding"
        " hpc/doctor/torch_check.py:_gpus hpc/slurm/first_site.py:ask_cluster hpc/slurm/jobs.py:ask"
        " hpc/slurm/jobs.py:submit",
        NONE: "results/store/parts.py:read_manifest"
        " sweeps/driver/driver.py:_backend sweeps/driver/quota.py:why_pause sweeps/spec/expand.py:_place"
        " transtailor/__main__.py: hpc/ray/stranger.py:_request sweeps/followed_run.py:FollowedRun.save_model"
        " tailor/data/task_data.py:_problems",
        "a number in the place of a percentage; test_bad_input.py has it": "transtailor/validation.py:_percentage"
        " transtailor/validation.py:fraction",
        "a package that the environment of the tests has": "sweeps/search/study.py:_optuna",
        "tests/results/plot/test_plot.py has its message": "results/plot/plots.py:Plots.front",
        "tests/transtailor/test_start.py has its message": "transtailor/start.py:_remedy",
        "tests/hpc/slurm/test_init.py pastes what follows a file that was written": "hpc/__main__.py:_init",
    }.items()
    for place in found.split()
}
"""Place -> why its suggestion cannot be pasted into a shell, or the other test that pastes it."""


def places(root: Path = ROOT) -> set[str]:
    """`file:function` of each; of a method with its class."""
    found = set[str]()
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            if path != root / "transtailor" / "shell.py":
                tree = ast.parse(path.read_text())
                found |= {f"{path.relative_to(root).as_posix()}:{name}" for name in _names(tree, "")}
    return found


NO_WORDS = ("type", "Content-Type")  # a key of Vega-Lite, a header of HTTP


def _suggests(text: str) -> bool:
    return text not in NO_WORDS and WORDS.search(text) is not None


def _names(node: ast.AST, name: str) -> Iterator[str]:
    """The functions below a node that suggest something; help texts and docstrings are not suggestions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        if isinstance(child, ast.Call):
            called = child.func.attr if isinstance(child.func, ast.Attribute) else getattr(child.func, "id", "")
            if called in HELP:
                continue
            if called in MAKERS and isinstance(child.func, ast.Name):
                yield name
        if isinstance(child, ast.Constant) and isinstance(child.value, str) and _suggests(child.value):
            yield name
        is_named = isinstance(child, ast.FunctionDef | ast.ClassDef)
        yield from _names(child, f"{name}.{child.name}".lstrip(".") if is_named else name)
