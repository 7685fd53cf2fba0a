"""Strategies on the lines of MobileNetV2 without momentum (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig6_strategy_metrics

SPEC = replace(fig6_strategy_metrics.SPEC, id="linesearch/supp6_mobilenet_metrics")
draw = fig6_strategy_metrics.draw
