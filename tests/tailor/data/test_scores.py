"""Scores against scikit-learn's on the whole outputs, and the calibration error against ten lines."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from tailor.data.objective import quality
from tailor.data.scores import CALIBRATION_BINS, columns_of, scores_of

KINDS = {
    "balanced": (range(7), 400),
    "two of the classes have no sample": ((0, 1, 3, 4, 6), 300),
    "one sample": ((2,), 1),
    "imbalanced": ((0,) * 40 + (1, 2, 3, 4, 5, 6), 500),
}
"""Classes that are drawn of seven, and how many images."""


def drawn(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    classes, images = KINDS[kind]
    draw = torch.Generator().manual_seed(len(kind))
    labels = torch.tensor(list(classes))[torch.randint(0, len(classes), (images,), generator=draw)]
    outputs = 2.0 * torch.randn(images, 7, generator=draw)
    outputs[torch.arange(images), labels] += 1.5
    return outputs, labels


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Guo et al., Eq. 3, image by image: bin m has the confidences in ((m - 1) / M, m / M]."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities, labels, strict=True):
        bins.setdefault(int(np.ceil(row.max() * CALIBRATION_BINS)), []).append((row.max(), row.argmax() == label))
    error = 0.0
    for images in bins.values():
        confidence, accuracy = (sum(numbers) / len(images) for numbers in zip(*images, strict=True))
        error += len(images) / len(labels) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings(
    "ignore:y_pred contains classes not in y_true", "ignore:.*single label", "ignore:.*sum to one"
)
def test_scores_are_those_of_scikit_learn(kind: str) -> None:
    outputs, labels = drawn(kind)
    probabilities = outputs.softmax(dim=1).double().numpy()
    said, true, classes = probabilities.argmax(axis=1), labels.numpy(), list(range(7))
    expected = {
        "accuracy": metrics.accuracy_score(true, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(true, said),
        "macro_f1": metrics.f1_score(true, said, average="macro"),
        "top_5": metrics.top_k_accuracy_score(true, probabilities, k=5, labels=classes),
        "log_loss": metrics.log_loss(true, probabilities, labels=classes),
        "calibration_error": calibration_error(probabilities, true),
    }
    found = quality(outputs, labels).scores
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_score_is_that_of_the_metric() -> None:
    outputs, labels = drawn("imbalanced")
    scores = quality(outputs, labels).scores
    assert quality(outputs, labels).score == scores["accuracy"]
    for metric in ("balanced_accuracy", "macro_f1", "top_5"):
        assert quality(outputs, labels, metric).score == scores[metric]  # type: ignore[arg-type]
    assert len({scores[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "top_5")}) == 4


def test_the_rank_of_the_true_class_is_its_place_and_of_equal_ones_the_first_leads() -> None:
    outputs = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    columns = columns_of(outputs, torch.tensor([0, 1, 0, 1]))
    assert columns["true_rank"].tolist() == [1, 3, 1, 2]
    assert ((columns["true_rank"] == 1) == (columns["prediction"] == columns["label"])).all()
    outputs, labels = drawn("balanced")
    place = outputs.argsort(dim=1, descending=True).tolist()
    ranks = [row.index(label) + 1 for row, label in zip(place, labels.tolist(), strict=True)]
    assert columns_of(outputs, labels)["true_rank"].tolist() == ranks


def test_five_classes_have_no_top_5_and_what_is_no_number_has_no_probability() -> None:
    outputs, labels = drawn("balanced")
    assert quality(outputs[:, :5], labels % 5).scores["top_5"] is None
    outputs[3] = torch.nan
    columns = columns_of(outputs, labels)
    assert columns["true_rank"][3] == 7
    scores = scores_of(columns, 7)
    assert (scores["log_loss"], scores["calibration_error"]) == (None, None)
    assert scores["macro_f1"] == metrics.f1_score(labels.numpy(), columns["prediction"].numpy(), average="macro")


def test_a_certain_model_is_not_calibrated_by_chance() -> None:
    """Confidences of exactly 1 are in the last bin."""
    outputs = torch.tensor([[200.0, 0.0], [200.0, 0.0], [200.0, 0.0], [0.0, 200.0]])
    assert quality(outputs, torch.tensor([0, 1, 0, 1])).scores["calibration_error"] == pytest.approx(0.25, abs=1e-12)
