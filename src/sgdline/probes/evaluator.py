"""Loss and accuracy of a network as a user would use it: BatchNorm with its running statistics, nothing augmented."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sgdline.data.images import ImageData, ImageSet
from sgdline.models.state import restored
from sgdline.runtime import inner_progress
from sgdline.seeds import derive_seed, kept_generators, seed_masks
from sgdline.train.loop import Trainer
from sgdline.train.settings import TrainingSettings

# Without gradients a pass keeps the activations of one layer at a time: less memory than a training step.
BATCHES_PER_PASS = 4


class Evaluator:
    """Evaluates a network on some splits of a data set and leaves it as it was."""

    def __init__(self, trainer: Trainer, parts: Mapping[str, ImageSet], run: TrainingSettings) -> None:
        """Take the splits by name.

        Args:
            trainer: The run, whose network and loss are taken.
            parts: Its splits, those without images included.
            run: Its training slice.
        """
        self._model = trainer.model
        self._loss = trainer.loss.of_samples()
        self._parts = parts
        self._seed = run.seed
        self._samples_per_pass = BATCHES_PER_PASS * run.chunk_size

    def facts(self) -> dict[str, int]:
        """Return what a table's metadata has to say about the splits."""
        return {"samples" if name == "train" else f"{name}_samples": len(part) for name, part in self._parts.items()}

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
            loss += self._loss(outputs, targets).double().sum()
            # The largest of outputs with a NaN is the NaN: no answer, whatever class it stands for.
            correct += ((outputs.argmax(1) == targets) & ~outputs.isnan().any(1)).sum()
        return float(loss) / len(part), int(correct) / len(part)


def all_splits(images: ImageData) -> dict[str, ImageSet]:
    """Return the splits of a data set by name, those without images included."""
    return {"train": images.train, "validation": images.validation, "test": images.test}
