"""Trajectory of SGD with another batch size or learning rate, VGG-11 (walk)."""

from dataclasses import replace

from sgdline.figures.walk import _trajectory

SPEC = replace(_trajectory.SPEC, id="walk/fig24_vgg11_variant")
draw = _trajectory.draw
