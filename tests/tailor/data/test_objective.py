"""Losses and scores against the plain sums that define them."""

import math

import pytest
import torch
from sklearn.metrics import r2_score
from torch.nn import functional as F

from tailor.common.errors import ConfigError
from tailor.data.objective import is_right, loss_sum, quality

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0], [1.0, 4.0, -2.0], [0.1, 0.2, 0.3]])
CLASSES = torch.tensor([0, 1, 1, 2])
OUTPUTS = torch.tensor([[0.5], [-1.0], [2.0], [0.25]])
VALUES = torch.tensor([1.0, -0.5, 1.5, 0.0])


def test_classes_are_judged_by_cross_entropy_and_accuracy() -> None:
    losses = []
    for row, label in zip(LOGITS.tolist(), CLASSES.tolist(), strict=True):
        losses.append(math.log(sum(math.exp(logit) for logit in row)) - row[label])
    assert float(loss_sum(LOGITS, CLASSES)) == pytest.approx(sum(losses))
    assert int(is_right(LOGITS, CLASSES).sum()) == 3
    found = quality(LOGITS, CLASSES)
    assert (found.metric, found.score) == ("accuracy", 0.75)
    assert found.loss == pytest.approx(sum(losses) / 4)


def test_real_values_are_judged_by_squared_error_and_r_squared() -> None:
    squares = [(output - value) ** 2 for (output,), value in zip(OUTPUTS.tolist(), VALUES.tolist(), strict=True)]
    assert float(loss_sum(OUTPUTS, VALUES)) == pytest.approx(sum(squares))
    assert math.isnan(is_right(OUTPUTS, VALUES).sum())
    found = quality(OUTPUTS, VALUES)
    assert found.metric == "r_squared"
    assert found.score == pytest.approx(r2_score(VALUES.numpy(), OUTPUTS.flatten().numpy()))
    assert found.loss == pytest.approx(sum(squares) / 4)


def test_the_gradient_of_the_squared_error_is_per_sample() -> None:
    """One output column and a row of labels must not be broadcast to a square."""
    outputs = OUTPUTS.clone().requires_grad_(True)
    loss_sum(outputs, VALUES).backward()
    assert torch.allclose(outputs.grad, 2.0 * (OUTPUTS - VALUES[:, None]))


def test_a_column_of_labels_is_a_row_of_them() -> None:
    outputs = OUTPUTS.clone().requires_grad_(True)
    loss = loss_sum(outputs, VALUES[:, None])
    loss.backward()
    assert torch.equal(loss, loss_sum(OUTPUTS, VALUES))
    assert torch.equal(outputs.grad, 2.0 * (OUTPUTS - VALUES[:, None]))


def test_the_loss_of_a_sample_with_many_labels_is_their_mean() -> None:
    draw = torch.Generator().manual_seed(0)
    outputs, values = (torch.randn(4, 2, 5, 3, generator=draw) for _ in range(2))
    torch.testing.assert_close(loss_sum(outputs, values) / 4, F.mse_loss(outputs, values))
    classes = torch.randint(0, 2, (4, 5, 3), generator=draw)
    torch.testing.assert_close(loss_sum(outputs, classes) / 4, F.cross_entropy(outputs, classes))


def test_always_saying_the_mean_explains_nothing() -> None:
    assert quality(VALUES.mean().expand(4, 1), VALUES).score == pytest.approx(0.0, abs=1e-6)
    assert quality(VALUES[:, None], VALUES).score == 1.0
    assert quality(-3.0 * VALUES[:, None], VALUES).score < 0.0


def test_r_squared_of_equal_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 equal labels"):
        float(quality(torch.zeros(3, 1), torch.full((3,), 0.5)).score)
