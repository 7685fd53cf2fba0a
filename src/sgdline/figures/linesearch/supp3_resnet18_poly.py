"""Polynomial fits of the lines of ResNet-18, without and with momentum (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig4_poly_mae

SPEC = replace(fig4_poly_mae.SPEC, id="linesearch/supp3_resnet18_poly")
draw = fig4_poly_mae.draw
