"""Batch sizes on the lines of ResNet-18 (supplement of linesearch)."""

from dataclasses import replace

from sgdline.figures.linesearch import fig7_batch_size

SPEC = replace(fig7_batch_size.SPEC, id="linesearch/supp9_resnet18_batch")
draw = fig7_batch_size.draw
