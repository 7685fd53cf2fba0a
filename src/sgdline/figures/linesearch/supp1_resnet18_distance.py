"""Distances between the lines of ResNet-18, without and with momentum (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig3_distance_matrix

SPEC = replace(fig3_distance_matrix.SPEC, id="linesearch/supp1_resnet18_distance")
draw = fig3_distance_matrix.draw
