"""Whether the weights that trials read lie where they are looked for, before anything is started."""

from collections.abc import Iterable
from pathlib import Path

from tailor.catalogue.weights import is_name, verify
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError
from transtailor.shell import command


def refuse_missing(trials: Iterable[TrialConfig]) -> None:
    """Do nothing if the weights of all these trials lie where they are looked for, each file the right one.

    Called before anything is started, so that no compute node finds out. Where a method keeps the head of the
    pre-trained network, weights are loaded, too, to see whether it is that of the source task.

    Raises:
        ConfigError: some are not, or their head is another task's; the text says what to type.
    """
    wanted, keeping = {}, []
    for trial in trials:
        source = trial.source
        if source.weights is not None and source.weights_sha256 is not None and (file := source.weights_file):
            wanted[file, source.weights_sha256] = source.weights
            keeping += [trial] if trial.method.keeps_source_head else []
    missing = [f"{file}{_how_to_get(file, weights)}" for (file, _), weights in wanted.items() if not file.is_file()]
    if missing:
        raise ConfigError("\n".join(f"no weights at {line}" for line in missing))
    for file, sha256 in wanted:
        verify(file, sha256)
    if keeping:
        _refuse_other_heads(keeping)


def _refuse_other_heads(trials: Iterable[TrialConfig]) -> None:
    """Do nothing if the weights that these trials read are whole, and each has the head of its source task.

    Raises:
        ConfigError: some have not, or cannot be loaded.
    """
    from tailor.networks.pretrained import check_head, load  # imports torch, which plans do without

    heads = {
        (trial.source.weights_file, trial.source.weights_sha256, trial.network, trial.data.name): trial.data.info
        for trial in trials
    }
    for (file, sha256, network, data_name), info in heads.items():
        if file is not None and sha256 is not None:
            _, outputs = load(file, sha256, network)
            check_head(outputs, data_name, info.source_classes)


def _how_to_get(file: Path, weights: str) -> str:
    if is_name(weights):
        return f"; where there is a network, type: {command('fetch', weights, '--to', file.parent)}"
    return "; give source.weights the path of the file, or one of torchvision's names (see docs/weights.md)"
