"""Facts of a network that is in no table: it is built and analysed, once, in a process of its own if torch is not here.

`python -m tailor.facts.analysis NAME` is that process.
"""

import json
import subprocess
import sys
from dataclasses import asdict, astuple, replace
from functools import lru_cache
from typing import Any

from tailor.common.errors import ConfigError
from tailor.common.registry import function_of
from tailor.facts.feasibility_table import Prunable, read_rows
from tailor.facts.networks import NETWORKS, NetworkInfo
from transtailor.lines import last_line

LIMIT_S = 900.0  # the slowest known takes 20


def facts_of(name: str) -> NetworkInfo:
    """Return the facts of a network whose first record is registered."""
    if "torch" in sys.modules:
        network_info: NetworkInfo = function_of("tailor.pruning.network_facts:find_facts")(name)
        return network_info
    facts = _analyse_apart(name)["info"]
    return replace(NETWORKS[name], **facts | {"input_shape": tuple(facts["input_shape"])})


def rules_of(name: str) -> dict[str, Prunable]:
    """Return what a network can lose under each rule, by the rule's `name`."""
    if "torch" in sys.modules:
        prunable_by_rule: dict[str, Prunable] = function_of("tailor.pruning.feasibility_count:rules")(name)
        return prunable_by_rule
    return read_rows(_analyse_apart(name)["rules"])


@lru_cache
def _analyse_apart(name: str) -> dict[str, Any]:
    """Return facts and rules of a network, found in a process of its own.

    Raises:
        ConfigError: the network cannot be analysed.
    """
    words = [sys.executable, "-m", "tailor.facts.analysis", name]
    try:
        process = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"network {name!r} was not analysed in {LIMIT_S:.0f} s; choose another one") from error
    if process.returncode:
        reason = last_line(process.stderr) or f"exit code {process.returncode}"
        is_message_for_user = process.returncode == 2
        raise ConfigError(reason if is_message_for_user else f"network {name!r} cannot be analysed: {reason}")
    facts_and_rules: dict[str, Any] = json.loads(process.stdout)
    return facts_and_rules


def main(name: str) -> int:
    """Print facts and rules of a network as JSON; return the exit code."""
    import torch  # noqa: F401  # with torch the two functions above analyse in this process

    try:
        info = asdict(replace(NETWORKS[name], builder=""))
        rules = {rule: astuple(prunable) for rule, prunable in rules_of(name).items()}
    except ConfigError as error:
        sys.stderr.write(str(error))
        return 2
    info.pop("builder")
    sys.stdout.write(json.dumps({"info": info, "rules": rules}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
