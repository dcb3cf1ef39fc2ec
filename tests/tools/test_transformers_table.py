"""The committed table of what goes whole: complete, as the page says, and without a network that fails."""

import json

from tools.networks_saved import YES
from tools.transformers_table import EXPORTED, LEAST_EFFECT, MOST_DIFFERENCE, TABLE, document, names

LINES = json.loads(TABLE.read_text())
CAN = {name: line for name, line in LINES.items() if line["rebuilt"] != "nothing goes"}
OF_TIMM = [line for name, line in LINES.items() if name.startswith("timm/")]


def test_the_page_is_what_the_file_says_of_all_networks() -> None:
    assert set(LINES) == set(names())
    assert TABLE.with_suffix(".md").read_text() == document(LINES)


def test_what_is_removed_is_exact() -> None:
    for name, line in CAN.items():
        assert line["difference"] <= MOST_DIFFERENCE and line["effect"] >= LEAST_EFFECT and line["passes"], name
        assert line["difference_float32"] < 1e-5 and line["macs_are_half_of_flops"], name
        assert line["rebuilt"] == YES and line.get("exported", YES) == YES, name
    assert {name for name, line in LINES.items() if "exported" in line} == set(EXPORTED)


def test_as_many_networks_as_promised_lose_each_kind() -> None:
    assert set(LINES) - set(CAN) == {"timm/eca_nfnet_l0", "timm/eva02_tiny_patch14_224"}
    least = {"stream": 30, "heads": 20, "hidden_units": 50}
    assert all(sum(line[kind] > 0 for line in OF_TIMM) >= count for kind, count in least.items())
