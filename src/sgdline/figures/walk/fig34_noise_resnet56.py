"""Gradient descent with isotropic noise and SGD in runs of ResNet-56."""

from dataclasses import replace

from sgdline.figures.walk import _noise

SPEC = replace(_noise.SPEC, id="walk/fig34_noise_resnet56")
draw = _noise.draw
