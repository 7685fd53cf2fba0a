"""Trajectory of SGD in the third epoch measured, ResNet-56 (walk: epoch 25)."""

from dataclasses import replace
from functools import partial

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig13_sgd_resnet56_e25")
draw = partial(_trajectory.draw, place=3)
