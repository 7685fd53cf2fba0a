"""Trajectory of SGD in the first epoch measured, ResNet-56 (walk: epoch 1)."""

from dataclasses import replace

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig11_sgd_resnet56_e1")
draw = _trajectory.draw
