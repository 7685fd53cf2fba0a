"""Trajectory of SGD in the first epoch measured, VGG-11 (walk: epoch 1)."""

from dataclasses import replace

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig2_sgd_vgg11_e1")
draw = _trajectory.draw
