"""Torchvision's classifiers whose own builders need more than the number of classes: they have auxiliary heads."""

from functools import partial

from torchvision import models

googlenet = partial(models.googlenet, aux_logits=False, init_weights=True)
inception_v3 = partial(models.inception_v3, aux_logits=False, init_weights=True)
