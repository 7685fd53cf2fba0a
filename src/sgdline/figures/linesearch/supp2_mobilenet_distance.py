"""Distances between the lines of MobileNetV2, without and with momentum (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig3_distance_matrix

SPEC = replace(fig3_distance_matrix.SPEC, id="linesearch/supp2_mobilenet_distance")
draw = fig3_distance_matrix.draw
