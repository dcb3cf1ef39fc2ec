"""Criteria that read only the weights, and the random control. F: filters of a layer."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tailor.data.task_data import generator
from tailor.model.factors import GROUPS
from tailor.pruning.criteria.base import Scoring, norms_behind
from tailor.pruning.surgery import Group


def l1(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) sum of the absolute weights of each filter (Li et al., ICLR 2017)."""
    return {layer: filters.abs().sum(dim=1) for layer, filters in _filters(scoring)}


def l2(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) Euclidean norm of each filter (SFP: He et al., IJCAI 2018)."""
    return {layer: filters.square().sum(dim=1).sqrt() for layer, filters in _filters(scoring)}


def l2_squared(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) squared Euclidean norm of each filter, which LeGR scales and shifts (Chin et al., CVPR 2020)."""
    return {layer: filters.square().sum(dim=1) for layer, filters in _filters(scoring)}


def fpgm(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) sum of the Euclidean distances to the layer's other filters (FPGM: He et al., CVPR 2019).

    The filters nearest to the geometric median are removed first, because the others can replace them.
    """
    scores = {}
    for layer, filters in _filters(scoring):
        # The faster way, by a matrix product, rounds equal filters apart.
        distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")
        scores[layer] = distances.sum(dim=1)
    return scores


def bn_gamma(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) absolute factor gamma of the norm after it (network slimming: Liu et al., ICCV 2017).

    Raises:
        ConfigError: a prunable layer has no norm with factors after it.
    """
    norms = norms_behind(scoring.state, scoring.found, "criterion 'bn_gamma'")
    return {layer: scoring.state.tensors[f"{norm}.weight"].abs() for layer, norm in norms.items()}


def random(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) uniform random numbers in [0, 1)."""
    assert scoring.seed is not None
    numbers = generator(scoring.seed, "random scores")
    return {layer: torch.rand(len(filters), generator=numbers) for layer, filters in _filters(scoring)}


def _filters(scoring: Scoring) -> Iterator[tuple[str, Tensor]]:
    """Yield each layer, convolution or linear, with its filters (F, weights of one)."""
    tensors = scoring.state.tensors
    for group in scoring.found:
        for member in group.members:
            if group.kind == "heads":
                yield member.layer, rows_of_values(tensors, group)
            elif group.kind == "conv_groups":
                name = f"{member.layer.removesuffix(GROUPS)}.weight"
                outputs = next(part for part in group.slices if part.tensor == name and part.dim == 0)
                yield member.layer, tensors[name][outputs.indices].flatten(1)
            else:
                yield member.layer, tensors[f"{member.layer}.weight"].flatten(1)


def rows_of_values(tensors: dict[str, Tensor], group: Group) -> Tensor:
    """(H, D x C): the weights that make each head's values: the last rows, behind those of queries and keys."""
    read = next(part for part in group.slices if part.dim == 1 and not part.loose)
    width = read.indices.shape[1]  # of a head
    matrices = [part for part in group.slices if part.dim == 0 and tensors[part.tensor].dim() == 2]
    making_values = [part for part in matrices if part.indices.shape[1] >= width][-1]
    return tensors[making_values.tensor][making_values.indices[:, -width:]].flatten(1)
