"""Spectral norm of the Hessian and validation accuracy along a run of ResNet-56."""

from dataclasses import replace

from sgdline.figures.walk import _spectral

SPEC = replace(_spectral.SPEC, id="walk/fig6_spectral_resnet56")
draw = _spectral.draw
