"""The digests of plugins, the user's own modules: one file each, identified by `UserFile.sha256`. No torch.

A plugin registers methods, criteria, networks, data sets, allocations or regularisers. Trials use them by name, and
the SHA-256 of the plugin's source and its neighbours' counts in the ids of the trials and stages that use them.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailor.common.neighbours import PACKAGE, UserFile
from tailor.common.registry import Registry
from transtailor.documents import walk


@dataclass(frozen=True)
class PluginRecord:
    """What identifies a loaded plugin; its module has it as `_PLUGIN`."""

    sha256: str
    registered: frozenset[tuple[str, str]]  # noun of the registry, name of the record
    user_file: UserFile
    files: frozenset[str]  # its own and those of its neighbours

    @property
    def copy(self) -> Path:
        """Where its copy is in a run's folder of imports; another content has another place."""
        return Path(self.sha256) / f"{self.user_file.path.stem}.py"


def anything_is_loaded() -> bool:
    """Whether a plugin may have been loaded in this process."""
    return PACKAGE in sys.modules


def plugin_of(registry: Registry[Any], name: str) -> PluginRecord | None:
    """The plugin that registered `name`; None for this program's own records."""
    return next((plugin for plugin in loaded_plugins() if (registry.noun, name) in plugin.registered), None)


def digest_of(registry: Registry[Any], name: str) -> str | None:
    """The SHA-256 of the plugin that registered `name`; None for this program's own records."""
    plugin = plugin_of(registry, name)
    return None if plugin is None else plugin.sha256


def digests_in(settings: object) -> dict[str, str]:
    """The records of plugins that settings (plain JSON values) name anywhere: noun and name -> SHA-256.

    Any text that equals the name of such a record counts as a use of it, so that no use is missed.
    """
    if not anything_is_loaded():
        return {}
    texts = {value for value in walk(settings) if isinstance(value, str)}
    digests = {}
    for plugin in loaded_plugins():
        for noun, name in sorted(plugin.registered):
            if name in texts:
                digests[f"{noun} {name}"] = plugin.sha256
    return digests


def digest_of_class(kind: type) -> str | None:
    """The SHA-256 of the plugin that defines a class (of stages, of settings); None for this program's own classes."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return next((plugin.sha256 for plugin in loaded_plugins() if file in plugin.files), None)


def loaded_plugins() -> Iterator[PluginRecord]:
    """Yield the plugins that were loaded in this process."""
    if PACKAGE not in sys.modules:
        return
    for module in vars(sys.modules[PACKAGE]).values():
        plugin = getattr(module, "_PLUGIN", None)
        if isinstance(plugin, PluginRecord):
            yield plugin
