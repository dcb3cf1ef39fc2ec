"""The sums of an epoch against the plain sums of its steps, whenever they are read."""

import math

import torch

from tailor.training.epoch_meter import EpochMeter

LOSSES = [0.1, 1e8, 3.7, -2.25, 1e-7]


def test_the_sums_are_those_of_the_steps_one_after_the_other_whoever_reads_when() -> None:
    often, once, total = EpochMeter([0.5, 2.0, 8.0]), EpochMeter([0.5, 2.0, 8.0]), 0.5
    for number, value in enumerate(LOSSES):
        loss, is_right = torch.tensor(value), torch.arange(4) < number
        total += loss.item()
        often.add(loss, is_right)
        once.add(loss, is_right)
        assert often.read()[2] == 8.0 + 4 * (number + 1)
    assert often.read() == once.read() == [total, 2.0 + 0 + 1 + 2 + 3 + 4, 28.0]
    assert often.losses == once.losses == [torch.tensor(value).item() for value in LOSSES]


def test_real_values_have_no_right_answers_and_an_empty_share_counts_nothing() -> None:
    meter = EpochMeter([0.0, 0.0, 0.0])
    meter.add(torch.tensor(0.0), torch.zeros(0, dtype=torch.bool))
    assert meter.read() == [0.0, 0.0, 0.0]
    meter.add(torch.tensor(2.0), torch.full((3,), float("nan")))
    loss, right, images = meter.read()
    assert (loss, images) == (2.0, 3) and math.isnan(right)
