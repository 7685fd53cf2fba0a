"""Roles of batch size and learning rate in runs of VGG-11."""

from dataclasses import replace

from sgdline.figures.walk import _roles

SPEC = replace(_roles.SPEC, id="walk/fig4_roles_vgg11")
draw = _roles.draw
