"""Batch sizes on the lines of MobileNetV2 (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig7_batch_size

SPEC = replace(fig7_batch_size.SPEC, id="linesearch/supp10_mobilenet_batch")
draw = fig7_batch_size.draw
