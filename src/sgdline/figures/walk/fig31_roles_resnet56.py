"""Roles of batch size and learning rate in runs of ResNet-56."""

from dataclasses import replace

from sgdline.figures.walk import _roles

SPEC = replace(_roles.SPEC, id="walk/fig31_roles_resnet56")
draw = _roles.draw
