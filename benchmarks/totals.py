"""Seconds from the start to the end of any stage, for rows that were not read from a run."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StageRow:
    """The time that a stage took, and the keys of its parents."""

    compute_s: float
    parents: tuple[str, ...]


class Totals:
    """Seconds from the start to the end of any stage; results are kept for the next call."""

    def __init__(self, stages: Mapping[str, StageRow]) -> None:
        self.stages = stages
        self._known: dict[str, float] = {}

    def seconds_from_start(self, key: str) -> float:
        """Sum the seconds of a stage and all its ancestors, each once; a stage without a row counts 0.

        Chains are followed in a loop, so they may be long. The ancestors of a stage with several parents are
        collected as a set, since they may overlap.
        """
        chain: list[str] = []
        seen: set[str] = set()
        total = 0.0
        while key in self.stages and key not in self._known and key not in seen:
            parents = set(self.stages[key].parents)
            if len(parents) > 1:
                total = self._collect(key)
                break
            chain.append(key)
            seen.add(key)
            if not parents:
                break
            (key,) = parents
        else:
            total = self._known.get(key, 0.0)
        for link in reversed(chain):
            total += self.stages[link].compute_s
            self._known[link] = total
        return total

    def _collect(self, key: str) -> float:
        if key not in self._known:
            ancestors = {key}
            waiting = [key]
            while waiting:
                for parent in self.stages[waiting.pop()].parents:
                    if parent in self.stages and parent not in ancestors:
                        ancestors.add(parent)
                        waiting.append(parent)
            self._known[key] = sum(self.stages[ancestor].compute_s for ancestor in sorted(ancestors))
        return self._known[key]
