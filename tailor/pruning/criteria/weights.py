"""Criteria that read only the weights, and the random control. F: filters of a layer."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tailor.data.task_data import generator
from tailor.pruning.criteria.base import Scoring, norms_behind


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
    exact = "donot_use_mm_for_euclid_dist"  # the fast way rounds equal filters apart
    return {layer: torch.cdist(filters, filters, compute_mode=exact).sum(dim=1) for layer, filters in _filters(scoring)}


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
    """Each layer, convolution or linear, with its filters (F, weights of one)."""
    for member in (member for group in scoring.found for member in group.members):
        yield member.layer, scoring.state.tensors[f"{member.layer}.weight"].flatten(1)
