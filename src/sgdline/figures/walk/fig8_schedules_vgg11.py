"""Cyclical, trapezoid and step-wise learning rates in runs of VGG-11."""

from dataclasses import replace

from sgdline.figures.walk import _schedules

SPEC = replace(_schedules.SPEC, id="walk/fig8_schedules_vgg11")
draw = _schedules.draw
