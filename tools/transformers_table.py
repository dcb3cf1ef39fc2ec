"""What of each network can be removed whole, checked by removing it: `python -m tools.transformers_table [NAME ...]`.

Writes docs/transformers_table.json after each network, and docs/transformers_table.md from it. Without names: those of
torchvision and timm that are not complete in the file, so an interrupted run continues.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.facts.networks import NETWORKS
from tailor.model.cost import macs_of
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.networks.timm_builders import first_record
from tailor.pruning import surgery
from tailor.pruning.groups import candidates
from tailor.stages import GroupRule
from tools.masked_reference import mask_model
from tools.networks_saved import YES, save_example, try_export, try_rebuild
from transtailor.files import write_file

RULE = GroupRule(residual="coupled", linear=True, stream=True, heads=True, conv_groups="whole")
CLASSES, SMALL_PX = 5, 96  # of images, where a network reads any size
MOST_DIFFERENCE, LEAST_EFFECT = 1e-9, 1e-3  # of the largest logit, in float64
TABLE = Path(__file__).parent.parent / "docs" / "transformers_table.json"
KINDS = ("heads", "stream", "filters", "hidden_units", "conv_groups")
COLUMNS = (
    *("network", "heads", "streams", "filters", "of one layer", "conv groups", "passes", "float32", "MACs"),
    *("rebuilt", "exported", "s", "most frequent reasons of what stays"),
)
EXPORTED = (
    *("vit_b_16", "swin_t", "swin_v2_t", "convnext_tiny", "resnext50_32x4d", "timm/vit_tiny_patch16_224"),
    *("timm/deit3_small_patch16_224", "timm/swin_tiny_patch4_window7_224", "timm/levit_128s", "timm/hiera_tiny_224"),
    *("timm/mixer_s32_224", "timm/poolformer_s12"),
)
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


def main(arguments: list[str]) -> int:
    """Check the named networks, and write both files after each; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.transformers_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="the lines of others do not change")
    lines: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    for name in parser.parse_args(arguments).names or [
        name for name in names() if "rebuilt" not in lines.get(name, {})
    ]:
        lines[name] = line_of(name)
        print(name, lines[name], flush=True)
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(lines[name])}" for name in sorted(lines))
        write_file(TABLE, f"{{\n{rows}\n}}\n")
        write_file(TABLE.with_suffix(".md"), document(lines))
    return 0


def names() -> list[str]:
    """timm's networks of the list, and all classifiers of torchvision."""
    return [*(f"timm/{name}" for name in TIMM), *models.list_models(module=models)]


def line_of(name: str) -> dict[str, Any]:
    """What can go of a network, why the rest cannot, and what removing half of it showed."""
    if name.startswith("timm/"):
        NETWORKS._records[name] = replace(first_record(name), facts_from="")  # they need not be found
    shape = (3, SMALL_PX, SMALL_PX) if NETWORKS[name].any_size else NETWORKS[name].input_shape
    before = time.process_time()
    found = candidates(building.skeleton(name, CLASSES), shape, RULE)
    analysed_s = time.process_time() - before
    goes = tuple(candidate.group for candidate in found if candidate.reason is None)
    counted: Counter[str] = Counter(group.kind for group in goes)
    counted["hidden_units"] = sum(map(is_hidden_unit, goes))
    refused = [c for c in found if c.reason and c.group.slices and "the network's output" not in c.reason]
    why = Counter(f"{c.group.kind}: {c.reason}" for c in refused)
    line: dict[str, Any] = {kind: counted[kind] for kind in KINDS}
    line |= {"analysed_s": round(analysed_s, 1), "refused": dict(why.most_common(3)), "rebuilt": "nothing goes"}
    try:
        return line | (measure_removal(name, shape, goes) if goes else {})
    except (RuntimeError, IndexError, ConfigError) as error:
        failed: dict[str, Any] = {"passes": False, "macs_are_half_of_flops": False}
        return line | failed | {"rebuilt": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}


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


def measure_removal(name: str, shape: tuple[int, ...], found: tuple[surgery.Group, ...]) -> dict[str, Any]:
    """How far masked and slimmed networks are apart without a drawn half of each group, and what that changes."""
    draw = generator(1, "kept")
    kept = {g.name: torch.randperm(g.filters, generator=draw)[: (g.filters + 1) // 2].sort().values for g in found}
    state = ModelState(network=name, classes=CLASSES, input_shape=shape, tensors=noisy(name))
    reference = state.build().double().eval()  # buffers that are in no state, too
    expected_whole = logits_of(reference, shape)
    mask_model(reference, kept, found)
    expected = logits_of(reference, shape)
    largest = float(expected.abs().max())
    del reference
    slimmed = surgery.slim(state, kept, found)
    del state
    model = slimmed.build().double().eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = logits_of(model, shape)
    small = logits_of(model.float(), shape)
    del model
    slimmed = replace(
        slimmed, tensors={k: t.float() if t.is_floating_point() else t for k, t in slimmed.tensors.items()}
    )
    difference = float((logits - expected).abs().max()) / largest
    effect = float((expected - expected_whole).abs().max()) / largest
    return {
        "difference": float(f"{difference:.1e}"),
        "difference_float32": float(f"{float((small - expected).abs().max()) / largest:.1e}"),
        "effect": float(f"{effect:.1e}"),
        "passes": difference <= MOST_DIFFERENCE and effect >= LEAST_EFFECT,
        "macs_are_half_of_flops": 2 * macs_of(slimmed) == counter.get_total_flops(),
        **taken_home(slimmed),
    }


def taken_home(slimmed: ModelState) -> dict[str, str]:
    """Whether a pruned network is rebuilt in a fresh process and, if it is one of EXPORTED, exported; or the error."""
    with tempfile.TemporaryDirectory() as place:
        save_example(slimmed, Path(place), batch=1)
        found = {"rebuilt": try_rebuild(Path(place))}
        if slimmed.network in EXPORTED:
            found["exported"] = try_export(Path(place), "torch-export")
    return found


def logits_of(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Of one image of noise, in float64."""
    images = torch.randn(1, *shape, generator=generator(0, "images"), dtype=torch.float64)
    with torch.no_grad():
        made: Tensor = model(images.to(next(model.parameters()).dtype))
    return made.double()


def document(lines: dict[str, Any]) -> str:
    """The table as a page."""
    rows = []
    for name, line in sorted(lines.items()):
        why = "; ".join(f"{reason} ({count})" for reason, count in line["refused"].items()).replace("|", "\\|")
        said = {True: YES, False: "no", None: "not tried"}
        parts = [name, *(str(line.get(kind, "")) for kind in KINDS), said[line.get("passes")]]
        parts += [f"{line['difference_float32']:g}" if "difference_float32" in line else ""]
        parts += [said[line.get("macs_are_half_of_flops")], line.get("rebuilt", ""), line.get("exported", "")]
        rows.append(f"| {' | '.join(parts)} | {line['analysed_s']} | {why} |")
    return (
        f"""# What goes of each network

Written by `python -m tools.transformers_table`; for the kinds see [transformers](transformers.md). Numbers are those of
groups that can lose units with `residual = "coupled"`, `linear`, `stream`, `heads` and `conv_groups = "whole"`.

- Passes: without a random half of each group, masked and slimmed networks agree to {MOST_DIFFERENCE:g} of the largest
  logit in float64, and the logits changed by at least {LEAST_EFFECT:g} of it.
- Float32: how far the slimmed network in float32 is from the masked one in float64, of the largest logit.
- MACs: twice the counted ones are what torch's flop counter counts.
- Rebuilt: in a fresh process that may not unpickle, the same outputs bit for bit. Exported: by torch.export; it
  is tried with {len(EXPORTED)} networks.
- Seconds are those of the processor for the analysis. Images have {SMALL_PX} x {SMALL_PX} pixels where the network
  reads images of any size.

{sentence("timm", [line for name, line in lines.items() if name.startswith("timm/")])}
{sentence("torchvision", [line for name, line in lines.items() if not name.startswith("timm/")])}

| {" | ".join(COLUMNS)} |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
        + "\n".join(rows)
        + "\n"
    )


def sentence(whose: str, lines: list[dict[str, Any]]) -> str:
    """How many of these lines have each kind, and pass."""
    tried = [line for line in lines if "passes" in line]
    counts = {kind: sum(line.get(kind, 0) > 0 for line in lines) for kind in KINDS}
    passing, right = (sum(line[key] for line in tried) for key in ("passes", "macs_are_half_of_flops"))
    return (
        f"Of {len(lines)} networks of {whose}, the stream goes in {counts['stream']}, heads in {counts['heads']}, "
        f"filters or hidden units in {counts['filters']}, among them layers by themselves in {counts['hidden_units']}, "
        f"groups of convolutions in {counts['conv_groups']}. {len(tried)} were pruned: {passing} pass, the MACs of "
        f"{right} are right, {sum(line.get('rebuilt') == YES for line in tried)} are rebuilt."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
