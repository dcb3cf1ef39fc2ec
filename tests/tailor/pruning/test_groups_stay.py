"""What `residual` and `linear` find in shipped networks stays as it was before heads, streams and groups were found.

The digests were made by the code before that, with `digest` below; those of swin_v2_t, _s and _b with `linear` by the
first code with one trace, which finds the first layer of their cpb_mlp, too.
"""

import hashlib
import json
from pathlib import Path

import pytest

from tailor.facts.networks import NETWORKS
from tailor.networks import building
from tailor.pruning.groups import groups
from tailor.stages import GroupRule

BEFORE = json.loads(Path(__file__).with_name("groups_before.json").read_bytes())  # network -> rule -> digest
QUICK = ("digits_resnet", "mobilenet_v2")
SLOWER = ("regnet_y_400mf", "swin_t", "googlenet")


def digest(network: str, rule: GroupRule) -> str:
    """Of the groups' names, layers, and what of each tensor belongs to each filter."""
    found = groups(building.skeleton(network, 5), NETWORKS[network].input_shape, rule)
    said = []
    for group in found:
        members = [(member.layer, member.norm, member.activation) for member in group.members]
        parts = sorted((part.tensor, part.dim, part.indices.tolist()) for part in group.slices)
        said.append((group.name, group.filters, members, parts))
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "network",
    [
        *QUICK,
        *(pytest.param(name, marks=pytest.mark.check) for name in SLOWER),
        *(pytest.param(name, marks=pytest.mark.long) for name in sorted(BEFORE.keys() - {*QUICK, *SLOWER})),
    ],
)
def test_what_goes_without_the_switches_is_as_before(network: str) -> None:
    for name, expected in BEFORE[network].items():
        rule = GroupRule(residual=name.partition(" ")[0], linear="linear" in name)  # type: ignore[arg-type]
        assert rule.name == name
        assert digest(network, rule) == expected, name


def test_all_shipped_classifiers_are_there() -> None:
    assert len([name for name in BEFORE if not name.startswith(("digits_", "friedman_"))]) == 80
