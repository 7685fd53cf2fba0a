"""Gradient descent with isotropic noise and SGD in runs of VGG-11."""

from dataclasses import replace

from sgdline.figures.walk import _noise

SPEC = replace(_noise.SPEC, id="walk/fig5_noise_vgg11")
draw = _noise.draw
