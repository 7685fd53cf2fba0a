"""Trajectory of full-batch gradient descent, VGG-11 (walk)."""

from dataclasses import replace

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig1_gd_vgg11")
draw = _trajectory.draw
