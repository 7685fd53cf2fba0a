"""Default settings of what declares itself, as the workflow hands them to a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sgdline.declare import registry
from sgdline.declare.build import build, build_thing
from sgdline.declare.schema import as_json

if TYPE_CHECKING:
    from sgdline.probes.probe import Probe


def default_settings(kind: str, name: str) -> dict[str, Any]:
    """Return all settings of a probe or toy at their defaults; the figures apart."""
    settings: dict[str, Any] = as_json(registry.declaration(kind, name)(), complete=True)
    settings.pop("figures", None)
    return settings


def made_probe(name: str, trainer: Any, images: Any, run: Any, settings: Mapping[str, Any], plan: Any) -> Probe[Any]:
    """Return a probe as a job makes it from its slice of the configuration."""
    return build(registry.declaration("probe", name), settings).probe(trainer, images, run, plan)


def toy_of(name: str, settings: Mapping[str, Any]) -> Any:
    """Return the declaration of a toy filled with settings."""
    return build_thing("toy", {**settings, "toy": name}, tag="toy")
