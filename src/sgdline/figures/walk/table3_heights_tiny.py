"""Table of the heights above the valley floor for VGG-11 on Tiny-ImageNet (walk)."""

from dataclasses import replace

from sgdline.figures.walk import table2_heights

SPEC = replace(table2_heights.SPEC, id="walk/table3_heights_tiny")
draw = table2_heights.draw
