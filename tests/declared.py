"""Default settings of what declares itself, as the workflow hands them to a job."""

from __future__ import annotations

from typing import Any

from sgdline.declare import registry
from sgdline.declare.schema import as_json


def default_settings(kind: str, name: str) -> dict[str, Any]:
    """Return all settings of a probe or toy at their defaults; the figures apart."""
    settings: dict[str, Any] = as_json(registry.declaration(kind, name)(), complete=True)
    settings.pop("figures", None)
    return settings
