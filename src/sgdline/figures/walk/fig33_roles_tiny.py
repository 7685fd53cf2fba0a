"""Roles of batch size and learning rate in runs of VGG-11 on Tiny-ImageNet."""

from dataclasses import replace

from sgdline.figures.walk import _roles

SPEC = replace(_roles.SPEC, id="walk/fig33_roles_tiny")
draw = _roles.draw
