"""Trajectory of full-batch gradient descent, ResNet-56 (walk)."""

from dataclasses import replace

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig10_gd_resnet56")
draw = _trajectory.draw
