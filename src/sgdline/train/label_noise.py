"""Random labels in the batches of a training, drawn anew at every update."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sgdline.seeds import generator
from sgdline.train.settings import LabelNoiseOptions

# Share of the run, x = (t + 1) / steps -> share of the full probability.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda x: 1.0,
    "inverted_cosine": lambda x: (1.0 - math.cos(math.pi * x)) / 2.0,
    "piecewise": lambda x: 1.0 if x < 0.5 else 0.1 if x < 0.75 else 0.01,
}


class LabelNoise:
    """Gives members of a batch a label drawn from all classes: a pure function of seed and update.

    The paper draws k from Binomial(B, p) and then k members of the batch. Each member having the probability p, on its
    own, is the same distribution. As the new label may be the old one, labels really change with p (1 - 1/K).

    Source: papers.md 4.4, label-noise SGD; 7.2, P9.
    """

    def __init__(self, options: LabelNoiseOptions, *, steps: int, classes: int, seed: int) -> None:
        """Take the options.

        Args:
            options: The config's label_noise block.
            steps: Updates of the run.
            classes: K.
            seed: Of the run's draws.
        """
        self._probability = options.probability
        self._share = SCHEDULES[options.schedule]
        self._steps, self._classes, self._seed = steps, classes, seed

    def probability(self, step: int) -> float:
        """Return the probability p that a member of the batch of an update gets a random label."""
        return self._probability * self._share((step + 1) / self._steps)

    def applied(self, targets: Tensor, *, step: int) -> Tensor:
        """Return the labels of the batch of an update.

        Args:
            targets: Its own labels, left as they are. Shape (B,), int64.
            step: The update.
        """
        draws = generator(self._seed, "label_noise", step)
        chosen = torch.rand(len(targets), generator=draws, dtype=torch.float64) < self.probability(step)
        labels = torch.randint(self._classes, (len(targets),), generator=draws)
        return torch.where(chosen.to(targets.device), labels.to(targets.device), targets)
