"""Gradient descent with isotropic noise and SGD in runs of the MLP."""

from dataclasses import replace

from sgdline.figures.walk import _noise

SPEC = replace(_noise.SPEC, id="walk/fig35_noise_mlp")
draw = _noise.draw
