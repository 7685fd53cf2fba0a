"""Trajectory of SGD in the fourth epoch measured, VGG-11 (walk: epoch 100)."""

from dataclasses import replace
from functools import partial

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig17_sgd_vgg11_e100")
draw = partial(_trajectory.draw, place=4)
