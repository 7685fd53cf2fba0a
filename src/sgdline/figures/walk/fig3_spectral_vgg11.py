"""Spectral norm of the Hessian and validation accuracy along a run of VGG-11."""

from dataclasses import replace

from sgdline.figures.walk import _spectral

SPEC = replace(_spectral.SPEC, id="walk/fig3_spectral_vgg11")
draw = _spectral.draw
