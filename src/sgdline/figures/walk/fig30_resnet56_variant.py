"""Trajectory of SGD with another batch size or learning rate, ResNet-56 (walk)."""

from dataclasses import replace

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig30_resnet56_variant")
draw = _trajectory.draw
