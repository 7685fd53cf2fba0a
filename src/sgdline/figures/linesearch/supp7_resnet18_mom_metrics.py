"""Strategies on the lines of ResNet-18 with momentum (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig6_strategy_metrics

SPEC = replace(fig6_strategy_metrics.SPEC, id="linesearch/supp7_resnet18_mom_metrics")
draw = fig6_strategy_metrics.draw
