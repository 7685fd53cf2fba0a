"""Trajectory of SGD in the first epoch measured, the MLP (walk: epoch 1)."""

from dataclasses import replace

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig19_sgd_mlp_e1")
draw = _trajectory.draw
