"""Trajectory of full-batch gradient descent, VGG-11 on Tiny-ImageNet (walk)."""

from dataclasses import replace

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig21_gd_tiny")
draw = _trajectory.draw
