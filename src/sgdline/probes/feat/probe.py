"""The features of a network along a run: how many units of a layer are active, and how many do the same.

The network is that of the evaluation probe: BatchNorm with its running statistics, nothing augmented, theta_t before
update t; the training's own pass of update t has moved the statistics once. The first training images are used, the
same at every update, and of a large layer a random subset of its units that is drawn once per run (papers.md P3, P6).

Patterns of active units are compared with those at the run's first update, so that the whole run is one segment.

ASSUME: layers are taken by the name of their module. `*`, the default, stands for the modules of the top level, without
the one whose output is the network's, as logits are no features, and without those that change nothing (flattening). A
module that takes part in a pass more than once counts with its last output.

Source: papers.md 4.1, S-M6 and S-M7; 4.4.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgdline.data.images import ImageData
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.state import restored
from sgdline.probes.layer_outputs import layers_of, listening
from sgdline.runtime import inner_progress
from sgdline.seeds import derive_seed, generator, kept_generators, seed_masks
from sgdline.sparsity import active_share, effective_rank, numerical_rank, pattern_distance, sparsity_coefficient
from sgdline.tables.kinds.feat import FEAT
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

logger = logging.getLogger(__name__)

TABLE = FEAT
SEQUENTIAL = True

Activations = npt.NDArray[np.float64]

# Without gradients a pass keeps the activations of one layer at a time: less memory than a training step.
_BATCHES_PER_PASS = 4


class Probe:
    """Measures features at every n-th update of a run and at its end; see sgdline.probes.segment."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Choose images, layers and units.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's feat block.
            plan: Not used; passes are plain ones.

        Raises:
            SgdlineError: If there are too few images, or a pattern matches no layer with features.
        """
        self._trainer = trainer
        self._steps, self._every = run.steps, int(settings["every"])
        self._seed = run.seed
        self._samples_per_pass = _BATCHES_PER_PASS * run.chunk_size
        self._inputs = _first(images.train.inputs, settings["samples"], probe="feat")
        self._threshold, self._tolerance = float(settings["threshold"]), float(settings["rank_tolerance"])
        self._units: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._choose_units(layers_of(trainer.model, settings["layers"]), settings["layers"], int(settings["units"]))
        self._patterns: dict[str, npt.NDArray[np.bool_]] = {}

    def _choose_units(self, layers: list[str], patterns: list[str], most: int) -> None:
        """Find the layers that have features by one pass over one image, and draw the units of each."""
        model, sizes = self._trainer.model, {}
        last: dict[str, Tensor] = {}

        def receive(name: str, output: Tensor) -> None:
            sizes[name] = output[0].numel()
            last[name] = output

        with torch.no_grad(), kept_generators(self._inputs.device), restored(model), listening(model, layers, receive):
            model.eval()
            logits = model(self._inputs[:1])
        modules = dict(model.named_modules())
        for name in layers:
            # What is no feature is left out unless somebody asks for it by name.
            plain = name in last and (last[name] is logits or isinstance(modules[name], nn.Flatten | nn.Identity))
            if name not in sizes or (plain and name not in patterns):
                continue
            chosen = torch.arange(sizes[name])
            if sizes[name] > most:
                draws = generator(self._seed, f"feature_units_{name}")
                chosen = torch.randperm(sizes[name], generator=draws)[:most].sort().values
            self._units[name] = chosen.to(self._inputs.device)
            self._counts[name] = sizes[name]
        if not self._units:
            raise SgdlineError(
                "probes.feat.layers must match modules that the forward pass uses, the one with the logits apart, got "
                f"{', '.join(map(repr, patterns))}. Name others."
            )
        logger.info("Layers: %s.", ", ".join(f"{name} ({count} units)" for name, count in self._counts.items()))

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {
            "batch_norm": "eval",
            "samples": len(self._inputs),
            "layers": list(self._units),
            "threshold": self._threshold,
            "rank_tolerance": self._tolerance,
            "updates_per_epoch": self._trainer.updates_per_epoch,
        }

    def due(self, step: int) -> bool:
        """Return whether to measure at this update."""
        return step % self._every == 0

    def observe(self, update: Update) -> None:
        """Keep the patterns of active units at the run's first update."""
        if update.step == 0:
            self._patterns = {name: features > 0 for name, features in self._activations().items()}

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Measure the features at theta_t.

        Returns:
            One row of the table `feat` per layer.

        Cost: one forward pass of the samples, and per layer two products of (samples, measured units) with its
            transpose and the eigenvalues of one of them.
        """
        return self._rows(update.step, update.epoch)

    def finish(self) -> list[dict[str, Any]]:
        """Measure the features of the last iterate."""
        return self._rows(self._steps, self._steps / self._trainer.updates_per_epoch)

    def _rows(self, step: int, epoch: float) -> list[dict[str, Any]]:
        return [
            {"step": step, "epoch": epoch, "layer": name, **self._measured(name, features)}
            for name, features in self._activations().items()
        ]

    def _measured(self, name: str, features: Activations) -> dict[str, Any]:
        sizes = {"units": self._counts[name], "measured_units": features.shape[1]}
        if not np.isfinite(features).all():
            return {**sizes, "status": "non_finite"}
        # Singular values are known to 1e-8 of the largest, in a fifth of the time of their own decomposition.
        gram = features.T @ features if features.shape[1] <= len(features) else features @ features.T
        values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
        return {
            **sizes,
            "sparsity": sparsity_coefficient(features, threshold=self._threshold),
            "sparsity_with_duplicates": active_share(features),
            "active_units": float((features > 0).any(axis=0).mean()),
            "effective_rank": effective_rank(values),
            "rank": numerical_rank(values, tolerance=self._tolerance),
            "pattern_distance": pattern_distance(self._patterns[name], features),
            "status": "ok",
        }

    def _activations(self) -> dict[str, Activations]:
        """Return the outputs of the chosen units. Shape (samples, measured units) each, in the order of the network."""
        model = self._trainer.model
        parts: dict[str, list[Tensor]] = {name: [] for name in self._units}
        found: dict[str, Tensor] = {}

        def receive(name: str, output: Tensor) -> None:
            found[name] = output.flatten(1)[:, self._units[name]]

        device = self._inputs.device
        with torch.no_grad(), kept_generators(device), restored(model), listening(model, self._units, receive):
            model.eval()
            starts = range(0, len(self._inputs), self._samples_per_pass)
            for index, first in inner_progress(enumerate(starts), total=len(starts), label="passes over images"):
                # A network may draw random numbers in eval mode too: an update has one row.
                seed_masks(derive_seed(self._seed, "feature_masks", index), device)
                model(self._inputs[first : first + self._samples_per_pass])
                for name, output in found.items():
                    parts[name].append(output)
        return {name: torch.cat(outputs).double().cpu().numpy() for name, outputs in parts.items()}


def _first(inputs: Tensor, samples: int | None, *, probe: str) -> Tensor:
    """Return the first so many training images, all if None."""
    if samples is not None and samples > len(inputs):
        raise SgdlineError(
            f"probes.{probe}.samples must be at most the {len(inputs)} training images, got {samples}. "
            "Lower it, or set it to null."
        )
    return inputs[:samples]
