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
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgdline.errors import SgdlineError
from sgdline.models.state import restored
from sgdline.probes.evaluator import BATCHES_PER_PASS
from sgdline.probes.feat.options import FeatOptions
from sgdline.probes.feat.table import FEAT
from sgdline.probes.layer_outputs import layers_of, listening
from sgdline.probes.measuring_images import first_samples
from sgdline.probes.probe import Probe, Rows
from sgdline.runtime import inner_progress
from sgdline.seeds import derive_seed, generator, kept_generators, seed_masks
from sgdline.sparsity import active_share, effective_rank, numerical_rank, pattern_distance, sparsity_coefficient
from sgdline.train.loop import Update

logger = logging.getLogger(__name__)

Activations = npt.NDArray[np.float64]


class FeatProbe(Probe[FeatOptions]):
    """Measures features at every n-th update of a run and at its end."""

    table = FEAT

    def prepare(self) -> None:
        """Choose images, layers and units.

        Raises:
            SgdlineError: If there are too few images, or a pattern matches no layer with features.
        """
        self._seed = self.run.seed
        self._samples_per_pass = BATCHES_PER_PASS * self.run.chunk_size
        samples = first_samples(self.images, self.options.samples, probe=self.table.name)
        self._inputs = self.images.train.inputs[:samples]
        self._units: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._choose_units(layers_of(self.trainer.model, self.options.layers))
        self._patterns: dict[str, npt.NDArray[np.bool_]] = {}

    def _choose_units(self, layers: list[str]) -> None:
        """Find the layers that have features by one pass over one image, and draw the units of each."""
        model, sizes = self.trainer.model, {}
        patterns, most = self.options.layers, self.options.units
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
            "threshold": self.options.threshold,
            "rank_tolerance": self.options.rank_tolerance,
            "updates_per_epoch": self.trainer.updates_per_epoch,
        }

    def observe(self, update: Update) -> None:
        """Keep the patterns of active units at the run's first update."""
        if update.step == 0:
            self._patterns = {name: features > 0 for name, features in self._activations().items()}

    def measure(self, update: Update) -> Rows:
        """Measure the features at theta_t.

        Returns:
            One row of the table `feat` per layer.

        Cost: one forward pass of the samples, and per layer two products of (samples, measured units) with its
            transpose and the eigenvalues of one of them.
        """
        return self._rows(update.step, update.epoch)

    def finish(self) -> Rows:
        """Measure the features of the last iterate."""
        return self._rows(*self.end())

    def _rows(self, step: int, epoch: float) -> Rows:
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
            "sparsity": sparsity_coefficient(features, threshold=self.options.threshold),
            "sparsity_with_duplicates": active_share(features),
            "active_units": float((features > 0).any(axis=0).mean()),
            "effective_rank": effective_rank(values),
            "rank": numerical_rank(values, tolerance=self.options.rank_tolerance),
            "pattern_distance": pattern_distance(self._patterns[name], features),
            "status": "ok",
        }

    def _activations(self) -> dict[str, Activations]:
        """Return the outputs of the chosen units. Shape (samples, measured units) each, in the order of the network."""
        model = self.trainer.model
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
