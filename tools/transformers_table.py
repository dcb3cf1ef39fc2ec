"""What of each transformer can be removed, checked by removing it: `python -m tools.transformers_table [NAME ...]`.

Writes docs/transformers_table.json after each network, and docs/transformers_table.md from it. Without names: those of
NAMES that are not in the file yet, so an interrupted run continues.
"""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tailor.catalogue.networks import NETWORKS
from tailor.data.task_data import generator
from tailor.model.budget import macs_of
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.networks.timm_builders import first_record
from tailor.pruning import surgery
from tailor.pruning.groups import candidates
from tailor.stages import GroupRule
from tools.masked_reference import masked

RULE = GroupRule(residual="coupled", linear=True, stream=True, heads=True)
CLASSES = 5
MOST_DIFFERENCE, LEAST_EFFECT = 1e-9, 1e-3  # of the largest logit, in float64
TABLE = Path(__file__).parent.parent / "docs" / "transformers_table.json"
KINDS = ("heads", "stream", "filters")
TORCHVISION = ("vit_b_16", "swin_t", "swin_v2_t", "maxvit_t", "convnext_tiny")
TIMM = """
beit3_base_patch16_224 beit_base_patch16_224 caformer_s18 cait_xxs24_224 coat_tiny coatnet_nano_rw_224 convit_tiny
convmixer_768_32 convnext_atto convnextv2_atto crossvit_tiny_240 davit_tiny deit3_small_patch16_224
deit_tiny_patch16_224 eca_nfnet_l0 edgenext_xx_small efficientformer_l1 efficientvit_m0 eva02_tiny_patch14_224
fastvit_t8 focalnet_tiny_srf gcvit_xxtiny gmlp_s16_224 hiera_tiny_224 inception_next_atto levit_128s mambaout_femto
maxvit_nano_rw_256 mixer_s32_224 mobilevit_xxs mobilevitv2_050 mvitv2_tiny naflexvit_base_patch16_gap nest_tiny
nextvit_small nfnet_l0 pit_ti_224 poolformer_s12 pvt_v2_b0 regnetx_002 resmlp_12_224 resnest14d resnext26ts
shvit_s1 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 tiny_vit_5m_224 tnt_s_legacy_patch16_224
twins_svt_small visformer_tiny vit_base_patch16_siglip_224 vit_pe_core_tiny_patch16_384 vit_small_patch14_dinov2
vit_small_patch14_reg4_dinov2 vit_small_patch16_dinov3 vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 vitamin_small_224
volo_d1_224 xcit_nano_12_p16_224
""".split()  # noqa: SIM905
NAMES = (*TORCHVISION, *(f"timm/{name}" for name in TIMM))


def main(arguments: list[str]) -> int:
    """Check the named networks, and write both files after each; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.transformers_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="the lines of others do not change")
    parser.add_argument("--only-analyse", action="store_true", help="do not remove anything")
    asked = parser.parse_args(arguments)
    lines: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    for name in asked.names or [name for name in NAMES if name not in lines]:
        lines[name] = line_of(name, is_removed=not asked.only_analyse)
        print(name, lines[name], flush=True)  # noqa: T201
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(lines[name])}" for name in sorted(lines))
        TABLE.write_text(f"{{\n{rows}\n}}\n")
        TABLE.with_suffix(".md").write_text(document(lines))
    return 0


def line_of(name: str, *, is_removed: bool) -> dict[str, Any]:
    """What can go of a network, why the rest cannot, and what removing half of it showed."""
    if name.startswith("timm/"):
        NETWORKS._records[name] = first_record(name)  # its facts need not be found
    shape = NETWORKS[name].input_shape
    before = time.process_time()
    found = candidates(building.skeleton(name, CLASSES), shape, RULE)
    analysed_s = time.process_time() - before
    goes = tuple(candidate.group for candidate in found if candidate.reason is None)
    counted: Counter[str] = Counter(group.kind for group in goes)
    why = Counter(f"{c.group.kind}: {c.reason}" for c in found if c.reason and "the network's output" not in c.reason)
    line: dict[str, Any] = {kind: counted[kind] for kind in KINDS}
    line["hidden_units"] = sum(is_hidden_unit(group) for group in goes)
    line |= {"analysed_s": round(analysed_s, 1), "refused": dict(why.most_common(3))}
    return line | (removed(name, shape, goes) if is_removed and goes else {})


def is_hidden_unit(group: surgery.Group) -> bool:
    """Whether a group is that of one layer's outputs, as those inside an MLP are."""
    return group.kind == "filters" and len(group.members) == 1


def noisy(name: str) -> dict[str, Tensor]:
    """Weights in float64 that are all noisy: some are made zero, tiny or all alike."""
    draw = generator(0, "noise")
    tensors = {}
    for key, tensor in building.build(name, CLASSES, seed=0).state_dict().items():
        noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
        scale = 0.2 if tensor.dim() == 1 else 0.02
        is_fixed = not tensor.dtype.is_floating_point or key.endswith("running_var")
        tensors[key] = tensor.clone() if is_fixed else tensor.double() + scale * noise
    return {key: tensor.double() if tensor.dtype.is_floating_point else tensor for key, tensor in tensors.items()}


def removed(name: str, shape: tuple[int, ...], found: tuple[surgery.Group, ...]) -> dict[str, Any]:
    """How far masked and slimmed networks are apart without a drawn half of each group, and what that changes."""
    draw = generator(1, "kept")
    kept = {g.name: torch.randperm(g.filters, generator=draw)[: (g.filters + 1) // 2].sort().values for g in found}
    state = ModelState(network=name, classes=CLASSES, input_shape=shape, tensors=noisy(name))
    whole = state.build().eval()
    expected_whole = logits_of(whole, shape)
    masked(whole, kept, found)
    expected = logits_of(whole, shape)
    del whole
    slimmed = surgery.slim(state, kept, found)
    model = slimmed.build().eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = logits_of(model, shape)
    in_float32 = {key: t.float() if t.dtype.is_floating_point else t for key, t in slimmed.tensors.items()}
    largest = float(expected.abs().max())
    difference = float((logits - expected).abs().max()) / largest
    effect = float((expected - expected_whole).abs().max()) / largest
    return {
        "difference": float(f"{difference:.1e}"),
        "effect": float(f"{effect:.1e}"),
        "passes": difference <= MOST_DIFFERENCE and effect >= LEAST_EFFECT,
        "macs_are_half_of_flops": 2 * macs_of(replace(slimmed, tensors=in_float32)) == counter.get_total_flops(),
    }


def logits_of(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Of one image of noise."""
    with torch.no_grad():
        made: Tensor = model(torch.randn(1, *shape, generator=generator(0, "images"), dtype=torch.float64))
    return made


def document(lines: dict[str, Any]) -> str:
    """The table as a page."""
    rows = []
    for name, line in sorted(lines.items()):
        why = "; ".join(f"{reason} ({count})" for reason, count in line["refused"].items()).replace("|", "\\|")
        passes = {True: "yes", False: "no", None: "not tried"}[line.get("passes")]
        macs = {True: "yes", False: "no", None: "not tried"}[line.get("macs_are_half_of_flops")]
        parts = [name, *(str(line[kind]) for kind in (*KINDS, "hidden_units")), passes, macs, str(line["analysed_s"])]
        rows.append(f"| {' | '.join(parts)} | {why} |")
    of_timm = [line for name, line in lines.items() if name.startswith("timm/")]
    counts = {kind: sum(line[kind] > 0 for line in of_timm) for kind in (*KINDS, "hidden_units")}
    return (
        f"""# Transformers, one by one

Written by `python -m tools.transformers_table`; for the kinds see [transformers](transformers.md). Numbers are those of
groups that can lose units with `residual = "coupled"`, `linear`, `stream` and `heads`. "Passes": without a random
half of each group, masked and slimmed networks agree to {MOST_DIFFERENCE:g} of the largest logit in float64, and the
logits changed by at least {LEAST_EFFECT:g} of it. "MACs": twice the counted ones are what torch's flop counter counts.
Seconds are those of the processor for the analysis.

Of {len(of_timm)} networks of timm, the stream goes in {counts["stream"]}, heads in {counts["heads"]}, filters or hidden
units in {counts["filters"]}, among them layers by themselves in {counts["hidden_units"]}.

| network | heads | streams | filters | of one layer | passes | MACs | s | most frequent reasons of what stays |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
        + "\n".join(rows)
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
