"""Toys: simulations that need no data set and no network of the configuration.

A toy is a folder of this package with the name that the config uses. It has

- ``options.py``, its declaration (`sgdline.toys.base.ToyOptions`): the options, and the methods ``simulate`` and
  ``faults``;
- ``simulate.py``, which ``simulate`` imports;
- ``table.py``, the kind of table that it makes: one toy, one table. What has rows of another shape is another toy.

Toys import torch only if they compute with it: most of them should start in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sgdline.tables import Facts, Json

__all__ = ["simulate_toy"]


def simulate_toy(toy: str, output: str | Path, *, settings: Mapping[str, Json], provenance: Facts) -> None:
    """Run one toy and write its table.

    Args:
        toy: Name or entry of its declaration.
        output: Table of the toy's kind.
        settings: The toy's block of the config, its kind and its figures apart.
        provenance: Facts for the metadata.
    """
    # Imported here: reading options needs neither numpy nor pyarrow.
    from sgdline.declare.build import build_thing
    from sgdline.entries import working_directory_importable
    from sgdline.tables import write_table

    options = build_thing("toy", {**settings, "toy": toy}, tag="toy")
    with working_directory_importable(toy):  # a toy of the user's may import modules beside its file while it runs
        write_table(output, options.table(), options.simulate(), provenance=provenance)
