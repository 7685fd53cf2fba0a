"""Strategies on the lines of ResNet-18 without momentum (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig6_strategy_metrics

SPEC = replace(fig6_strategy_metrics.SPEC, id="linesearch/supp5_resnet18_metrics")
draw = fig6_strategy_metrics.draw
