"""Polynomial fits of the lines of MobileNetV2, without and with momentum (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig4_poly_mae

SPEC = replace(fig4_poly_mae.SPEC, id="linesearch/supp4_mobilenet_poly")
draw = fig4_poly_mae.draw
