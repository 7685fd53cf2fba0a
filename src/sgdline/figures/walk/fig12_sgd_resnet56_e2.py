"""Trajectory of SGD in the second epoch measured, ResNet-56 (walk: epoch 2)."""

from dataclasses import replace
from functools import partial

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig12_sgd_resnet56_e2")
draw = partial(_trajectory.draw, place=2)
