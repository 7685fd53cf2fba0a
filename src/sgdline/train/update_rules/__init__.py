"""Update rules: from a gradient to the m_t and lr_t of theta_{t+1} = theta_t - lr_t * m_t.

A rule is a module of this package with the name that the config uses. It has a function `make(settings)`, which takes
the config's `optimizer` block with the options of this rule alone and returns an `UpdateRule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from sgdline.train.update_rules._interface import Move, UpdateRule

__all__ = ["Move", "UpdateRule", "make_update_rule"]


def make_update_rule(settings: Mapping[str, Any]) -> UpdateRule:
    """Return the update rule that the config's `optimizer` block describes."""
    rule: UpdateRule = import_module(f"{__name__}.{settings['name']}").make(settings)
    return rule
