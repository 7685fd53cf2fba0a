"""Strategies on the lines of MobileNetV2 with momentum (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig6_strategy_metrics

SPEC = replace(fig6_strategy_metrics.SPEC, id="linesearch/supp8_mobilenet_mom_metrics")
draw = fig6_strategy_metrics.draw
