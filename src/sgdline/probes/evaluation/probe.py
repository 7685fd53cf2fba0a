"""The evaluation probe: loss and accuracy of the network as a user would use it, on every split of the data set.

BatchNorm takes its running statistics, unlike in the line probe, and nothing is augmented. The network is that of
theta_t, before update t; the training's own forward pass of update t has moved the running statistics once by then. The
first evaluations see statistics that are still near their initial values. The network at the very end of a run is not
evaluated: the last row is that of the last due update.

Source: papers.md 7, L3 and L25 (evaluation without gradients, its mode stated).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from sgdline.data.images import ImageData, ImageSet
from sgdline.engine.plan import Plan
from sgdline.models.state import restored
from sgdline.runtime import inner_progress
from sgdline.seeds import derive_seed, kept_generators, seed_masks
from sgdline.tables.kinds.evaluation import EVALUATION
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

TABLE = EVALUATION

# Without gradients a pass keeps the activations of one layer at a time: less memory than a training step.
_BATCHES_PER_PASS = 4


class Evaluator:
    """Evaluates a network on some splits of a data set and leaves it as it was."""

    def __init__(self, model: nn.Module, parts: Mapping[str, ImageSet], run: TrainingSettings) -> None:
        """Take the splits by name.

        Args:
            model: The network.
            parts: Its splits, those without images included.
            run: Its training slice.
        """
        self._model = model
        self._parts = parts
        self._seed = run.seed
        self._samples_per_pass = _BATCHES_PER_PASS * run.chunk_size

    def measure(self) -> dict[str, float]:
        """Return `<split>_loss` and `<split>_accuracy` of every split that has images.

        Cost: one forward pass of all splits.
        """
        found = {}
        with torch.no_grad(), kept_generators(next(self._model.parameters()).device), restored(self._model):
            self._model.eval()
            for name, part in self._parts.items():
                if len(part):
                    found[f"{name}_loss"], found[f"{name}_accuracy"] = self._evaluated(name, part)
        return found

    def _evaluated(self, name: str, part: ImageSet) -> tuple[float, float]:
        """Return the mean loss in nats and the share of samples whose largest output is that of their class."""
        loss = torch.zeros((), dtype=torch.float64, device=part.targets.device)
        correct = torch.zeros((), dtype=torch.int64, device=part.targets.device)
        starts = range(0, len(part), self._samples_per_pass)
        for index, first in inner_progress(enumerate(starts), total=len(starts), label=f"passes over {name} images"):
            rows = slice(first, first + self._samples_per_pass)
            targets = part.targets[rows]
            # A network may draw random numbers in eval mode too; equal rows whatever the number of segments.
            seed_masks(derive_seed(self._seed, f"evaluation_masks_{name}", index), targets.device)
            outputs = self._model(part.inputs[rows])
            loss += functional.cross_entropy(outputs, targets, reduction="none").double().sum()
            # The largest of outputs with a NaN is the NaN: no answer, whatever class it stands for.
            correct += ((outputs.argmax(1) == targets) & ~outputs.isnan().any(1)).sum()
        return float(loss) / len(part), int(correct) / len(part)


class Probe:
    """Evaluates the network at every n-th update of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Take the splits of the data set.

        Args:
            trainer: The run to evaluate.
            images: Its data set.
            run: Its training slice.
            settings: The config's evaluation block.
            plan: Not used; passes are plain ones.
        """
        self._parts = {"train": images.train, "validation": images.validation, "test": images.test}
        self._every = int(settings["every"])
        self._evaluator = Evaluator(trainer.model, self._parts, run)

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        counts = {name: len(part) for name, part in self._parts.items()}
        return {
            "batch_norm": "eval",
            "samples": counts["train"],
            "validation_samples": counts["validation"],
            "test_samples": counts["test"],
        }

    def due(self, step: int) -> bool:
        """Return whether to evaluate at this update."""
        return step % self._every == 0

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Evaluate the network at theta_t.

        Returns:
            One row of the table `evaluation`; null for a split without images.

        Cost: one forward pass of all splits.
        """
        return [{"step": update.step, "epoch": update.epoch, **self._evaluator.measure()}]
