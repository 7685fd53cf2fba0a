"""Cyclical, trapezoid and step-wise learning rates in runs of ResNet-56."""

from dataclasses import replace

from sgdline.figures.walk import _schedules

SPEC = replace(_schedules.SPEC, id="walk/fig7_schedules_resnet56")
draw = _schedules.draw
