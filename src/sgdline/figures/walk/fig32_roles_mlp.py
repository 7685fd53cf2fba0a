"""Roles of batch size and learning rate in runs of the MLP."""

from dataclasses import replace

from sgdline.figures.walk import _roles

SPEC = replace(_roles.SPEC, id="walk/fig32_roles_mlp")
draw = _roles.draw
