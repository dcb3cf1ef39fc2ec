"""Torchvision's classifiers whose own builders need more than the number of classes."""

from torch import nn
from torchvision import models


def googlenet(num_classes: int) -> nn.Module:
    """Torchvision's, without the auxiliary heads."""
    model: nn.Module = models.googlenet(num_classes=num_classes, aux_logits=False, init_weights=True)
    return model


def inception_v3(num_classes: int) -> nn.Module:
    """Torchvision's, without the auxiliary head."""
    model: nn.Module = models.inception_v3(num_classes=num_classes, aux_logits=False, init_weights=True)
    return model
