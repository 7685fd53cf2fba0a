"""The largest eigenvalue of the full-batch Hessian where runs start, for learning rates in units of its inverse.

No probe: it is measured before the training. Runs that differ in their learning rate only share it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from sgdline.data.images import load_images
from sgdline.engine.eigenvalues import largest_eigenvalue
from sgdline.errors import SgdlineError
from sgdline.probes.hessian import MeasuredHessian
from sgdline.probes.hvp.options import HvpOptions
from sgdline.runtime import set_up_torch, write_text
from sgdline.train.checkpoints import load_checkpoint
from sgdline.train.loop import Trainer
from sgdline.train.run import origin_of
from sgdline.train.settings import TrainingSettings

logger = logging.getLogger(__name__)

# The measuring set as lines take it; a learning rate needs no more digits.
_OPTIONS = HvpOptions(samples=None, batch_norm="train", augment=False, tolerance=1e-3, max_products=1000)


def measure_sharpness(
    dataset: str | Path,
    *,
    output: str | Path,
    settings: TrainingSettings,
    start: str | Path | None = None,
    threads: int = 1,
) -> None:
    """Measure lambda_max at theta_0, BatchNorm with the statistics of each chunk, and write it as JSON.

    Args:
        dataset: Prepared data set.
        output: File to write: `largest_eigenvalue`, its `residual`, `products`.
        settings: Those of any of the runs.
        start: Checkpoints of the run that these continue, if they do.
        threads: CPU threads to use.

    Raises:
        SgdlineError: If data set or model are unfit, or no positive eigenvalue was found to the tolerance.

    Cost: half of that of one row of the hvp probe.
    """
    device = set_up_torch(threads)
    images = load_images(dataset, device=device)
    trainer = Trainer(settings, images, device=device)
    origin = origin_of(start, settings)
    if origin is not None and settings.start_from is not None:
        trainer.continue_from(load_checkpoint(origin.parent, settings.start_from.step, device=device))
    hessian = MeasuredHessian(trainer, images, settings, _OPTIONS, probe="hvp")
    measured, _ = hessian.found(largest_eigenvalue)
    if measured is None or not measured[0].converged or not measured[0].value > 0.0:
        found = "no finite one" if measured is None else f"{measured[0].value:g}"
        if measured is not None and not measured[0].converged:
            found += f", not converged after {measured[1]} products"
        raise SgdlineError(
            "lr_unit must be absolute where the largest eigenvalue of the Hessian at the start of a run is not known "
            f"to be positive, got sharpness ({found}). Set lr_unit: absolute and give learning rates as they are."
        )
    largest, products = measured
    document = {"largest_eigenvalue": largest.value, "residual": largest.residual, "products": products}
    logger.info("Largest eigenvalue %g after %d products.", largest.value, products)
    write_text(output, json.dumps(document, sort_keys=True) + "\n")
