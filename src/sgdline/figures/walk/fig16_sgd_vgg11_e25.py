"""Trajectory of SGD in the third epoch measured, VGG-11 (walk: epoch 25)."""

from dataclasses import replace
from functools import partial

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig16_sgd_vgg11_e25")
draw = partial(_trajectory.draw, place=3)
