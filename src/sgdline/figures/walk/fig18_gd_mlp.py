"""Trajectory of full-batch gradient descent, the MLP (walk)."""

from dataclasses import replace

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig18_gd_mlp")
draw = _trajectory.draw
