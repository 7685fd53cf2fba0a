"""The Jacobian of a network's output with respect to all its parameters along a run: its rank.

Row i of phi_theta(X) is the gradient of one number, h_theta(x_i). BatchNorm takes its running statistics, nothing is
augmented, and everything is computed in float64: singular values far below the largest are to count.

ASSUME: h is the logit of the sample's own class, as papers.md S-M4 speaks of networks with one output; and the samples
are the first training images, which every data set has.

Source: papers.md 4.1, S-M4 and S-M7. Oracle in the tests: torch.func.jacrev and numpy's singular values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from sgdline.data.images import ImageData
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import trainable_parameters
from sgdline.models.state import copied, to_float64
from sgdline.runtime import beat, inner_progress
from sgdline.seeds import kept_generators
from sgdline.sparsity import effective_rank, numerical_rank
from sgdline.tables.kinds.jac import JAC
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

TABLE = JAC

# Of the rows of the Jacobian that are held at a time; what is beyond is computed again.
_BYTES = 2**30
_ROW_BYTES = 8  # float64
_SAMPLES_PER_PASS = 16


class Probe:
    """Measures the Jacobian at every n-th update of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self,
        trainer: Trainer,
        images: ImageData,
        run: TrainingSettings,
        settings: Mapping[str, Any],
        plan: Plan,
        *,
        memory_bytes: int = _BYTES,
    ) -> None:
        """Choose the samples.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's jac block.
            plan: Not used; passes are plain ones.
            memory_bytes: Of the rows that are held at a time; at least two rows are.

        Raises:
            SgdlineError: If there are fewer training images than samples.
        """
        samples, here = int(settings["samples"]), len(images.train)
        if samples > here:
            raise SgdlineError(
                f"probes.jac.samples must be at most the {here} training images, got {samples}. Lower it."
            )
        self._trainer = trainer
        self._every, self._tolerance = int(settings["every"]), float(settings["tolerance"])
        self._inputs, self._targets = images.train.inputs[:samples], images.train.targets[:samples]
        # Two blocks of rows are held, one against the other.
        self._block = max(1, memory_bytes // (2 * _ROW_BYTES * trainer.vector.size))

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {
            "batch_norm": "eval",
            "samples": len(self._inputs),
            "tolerance": self._tolerance,
            "output": "logit of the sample's class",
        }

    def due(self, step: int) -> bool:
        """Return whether to measure at this update."""
        return step % self._every == 0

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Measure the Jacobian at theta_t.

        Returns:
            One row of the table `jac`.

        Raises:
            SgdlineError: If the network has a layer that torch.func cannot map over samples.

        Cost: one backward pass per sample where all rows fit the memory; with k blocks of rows (k + 1) / 2 of them.
        """
        row = {
            "step": update.step,
            "epoch": update.epoch,
            "samples": len(self._inputs),
            "parameters": self._trainer.vector.size,
        }
        gram = self.gram()
        if not np.isfinite(gram).all():
            return [{**row, "status": "non_finite"}]
        # Singular values are known to 1e-8 of the largest: those of J J^T are their squares.
        values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
        return [
            {
                **row,
                "rank": numerical_rank(values, tolerance=self._tolerance),
                "effective_rank": effective_rank(values),
                "largest_singular_value": float(values.max()),
                "frobenius_norm": float(np.sqrt(max(np.trace(gram), 0.0))),
                "status": "ok",
            }
        ]

    def gram(self) -> Any:
        """Return J J^T at the present parameters. Shape (n, n), float64."""
        model, count = copied(self._trainer.model), len(self._inputs)
        to_float64(model)
        parameters = {name: tensor.detach() for name, tensor in trainable_parameters(model).items()}
        named = [*model.named_parameters(), *model.named_buffers()]
        fixed = {name: tensor.detach() for name, tensor in named if name not in parameters}

        def output(values: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
            logits = functional_call(model, (values, fixed), (image.unsqueeze(0),))
            own: Tensor = logits[0].gather(0, target.unsqueeze(0))[0]
            return own

        rows_of = vmap(grad(output), in_dims=(None, 0, 0), chunk_size=min(_SAMPLES_PER_PASS, self._block))

        def block(first: int) -> Tensor:
            chosen = slice(first, first + self._block)
            found = rows_of(parameters, self._inputs[chosen].double(), self._targets[chosen])
            return torch.cat([found[name].flatten(1) for name in parameters], dim=1)

        gram = torch.zeros(count, count, dtype=torch.float64)
        starts = range(0, count, self._block)
        with kept_generators(self._inputs.device):
            model.eval()
            try:
                for first in inner_progress(starts, total=len(starts), label="blocks of the Jacobian"):
                    rows = block(first)
                    for other in starts[: first // self._block + 1]:
                        columns = rows if other == first else block(other)
                        beat()
                        product = (rows @ columns.T).cpu()
                        gram[first : first + len(rows), other : other + len(columns)] = product
                        gram[other : other + len(columns), first : first + len(rows)] = product.T
            except RuntimeError as error:
                raise SgdlineError(
                    "probes.jac needs a network that torch.func.vmap can map over samples in eval mode, got an error "
                    f"({str(error).splitlines()[0]}). Leave the probe out for this network."
                ) from error
        return gram.numpy()
