"""The Jacobian of a network's output with respect to all its parameters along a run: its rank.

Row i of phi_theta(X) is the gradient of one number, h_theta(x_i). BatchNorm takes its running statistics, nothing is
augmented, and everything is computed in float64: singular values far below the largest are to count.

ASSUME: h is the logit of the sample's own class, as papers.md S-M4 speaks of networks with one output; and the samples
are the first training images, which every data set has.

Source: papers.md 4.1, S-M4 and S-M7. Oracle in the tests: torch.func.jacrev and numpy's singular values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from sgdline.errors import SgdlineError
from sgdline.models.parameters import trainable_parameters
from sgdline.models.state import copied, to_float64
from sgdline.probes.jac.options import JacOptions
from sgdline.probes.jac.table import JAC
from sgdline.probes.measuring_images import first_samples
from sgdline.probes.probe import Probe, Rows
from sgdline.runtime import beat, inner_progress
from sgdline.seeds import kept_generators
from sgdline.sparsity import effective_rank, numerical_rank
from sgdline.train.loop import Update

# Of the rows of the Jacobian that are held at a time; what is beyond is computed again.
_BYTES = 2**30
_ROW_BYTES = 8  # float64
_SAMPLES_PER_PASS = 16


class JacProbe(Probe[JacOptions]):
    """Measures the Jacobian at every n-th update of a run."""

    table = JAC
    memory_bytes = _BYTES  # of the rows that are held at a time; at least two rows are

    def prepare(self) -> None:
        """Choose the samples.

        Raises:
            SgdlineError: If there are fewer training images than samples.
        """
        samples, train = first_samples(self.images, self.options.samples, probe=self.table.name), self.images.train
        self._inputs, self._targets = train.inputs[:samples], train.targets[:samples]
        # Two blocks of rows are held, one against the other.
        self._block = max(1, self.memory_bytes // (2 * _ROW_BYTES * self.trainer.vector.size))

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {
            "batch_norm": "eval",
            "samples": len(self._inputs),
            "tolerance": self.options.tolerance,
            "output": "logit of the sample's class",
        }

    def measure(self, update: Update) -> Rows:
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
            "parameters": self.trainer.vector.size,
        }
        gram = self.gram()
        if not np.isfinite(gram).all():
            return [{**row, "status": "non_finite"}]
        # Singular values are known to 1e-8 of the largest: those of J J^T are their squares.
        values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
        return [
            {
                **row,
                "rank": numerical_rank(values, tolerance=self.options.tolerance),
                "effective_rank": effective_rank(values),
                "largest_singular_value": float(values.max()),
                "frobenius_norm": float(np.sqrt(max(np.trace(gram), 0.0))),
                "status": "ok",
            }
        ]

    def gram(self) -> Any:
        """Return J J^T at the present parameters. Shape (n, n), float64."""
        model, count = copied(self.trainer.model), len(self._inputs)
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
