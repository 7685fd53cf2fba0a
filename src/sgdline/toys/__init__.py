"""Toys: simulations that need no data set and no network of the configuration.

A toy is a module of this package with the name that the config uses. It has

- ``TABLE``, the kind of table that it makes: one toy, one table. What has rows of another shape is another toy;
- ``simulate(settings)``, which takes the toy's block of the config, its kind and its figures apart, and returns the
  columns of that table. Every draw comes from generators that are seeded by the settings.

Toys import torch only if they compute with it: most of them should start in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["simulate_toy"]


def simulate_toy(toy: str, output: str | Path, *, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Run one toy and write its table.

    Args:
        toy: Module of this package.
        output: Table of the toy's kind.
        settings: The toy's block of the config, its kind and its figures apart.
        provenance: Facts for the metadata.
    """
    from sgdline.tables import write_table  # numpy and pyarrow, which reading options does not need

    module = import_module(f"{__name__}.{toy}.simulate")
    write_table(output, module.TABLE, module.simulate(settings), provenance=provenance)
