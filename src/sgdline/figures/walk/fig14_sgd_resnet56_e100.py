"""Trajectory of SGD in the fourth epoch measured, ResNet-56 (walk: epoch 100)."""

from dataclasses import replace
from functools import partial

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig14_sgd_resnet56_e100")
draw = partial(_trajectory.draw, place=4)
