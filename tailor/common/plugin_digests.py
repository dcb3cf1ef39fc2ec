"""The digests of plugins, the user's own modules: one file each, identified by its SHA-256. No torch.

A plugin registers methods, criteria, networks, data sets, allocations or regularisers. Trials use them by name, and
the SHA-256 of the plugin's source counts in the ids of the trials and stages that use them.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailor.common.registry import Registry
from transtailor.documents import walk

PACKAGE = "user_modules"  # its modules are called user_modules.<stem>_<first 8 digits of the SHA-256>


@dataclass(frozen=True)
class PluginRecord:
    """What identifies a loaded plugin; its module has it as `_PLUGIN`."""

    sha256: str
    registered: frozenset[tuple[str, str]]  # noun of the registry, name of the record
    file: Path  # that was loaded


def anything_is_loaded() -> bool:
    """Whether a plugin may have been loaded in this process."""
    return PACKAGE in sys.modules


def plugin_of(registry: Registry[Any], name: str) -> PluginRecord | None:
    """The plugin that registered `name`; None for this program's own records."""
    return next((plugin for plugin in _loaded_plugins() if (registry.noun, name) in plugin.registered), None)


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
    for plugin in _loaded_plugins():
        for noun, name in sorted(plugin.registered):
            if name in texts:
                digests[f"{noun} {name}"] = plugin.sha256
    return digests


def digest_of_class(kind: type) -> str | None:
    """The SHA-256 of the plugin that defines a class (of stages, of settings); None for this program's own classes."""
    module = sys.modules.get(kind.__module__)
    plugin = getattr(module, "_PLUGIN", None)
    return plugin.sha256 if isinstance(plugin, PluginRecord) else None


def _loaded_plugins() -> Iterator[PluginRecord]:
    if PACKAGE not in sys.modules:
        return
    for module in vars(sys.modules[PACKAGE]).values():
        plugin = getattr(module, "_PLUGIN", None)
        if isinstance(plugin, PluginRecord):
            yield plugin
