"""What a callback is given for its meter, checked before there is a network."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from sgdline.engine.samples import Samples
from sgdline.errors import SgdlineError
from sgdline.lines import LineMeter
from sgdline.losses._pairs import MeterLoss
from sgdline.meter_samples import check_model, moved

_GIVEN = ("self", "model", "loss", "inputs", "targets")


class WantedMeter:
    """Loss, measuring set and options of a meter that is made where the training begins."""

    def __init__(self, loss: MeterLoss | None, inputs: Any, targets: Samples | None, options: dict[str, Any]) -> None:
        """Take what a callback is given.

        Raises:
            SgdlineError: If there is no loss or no measuring set, or a meter has no such option.
        """
        if not callable(loss):
            raise SgdlineError(
                "LineCallback must have a loss of its own, one number per sample, got none: a model or a training_step "
                "returns the mean of a batch only. Pass a function of (outputs, targets), for example "
                'nn.CrossEntropyLoss(reduction="none").'
            )
        if inputs is None:
            raise SgdlineError(
                "LineCallback must have a measuring set, got none. Pass inputs and targets, or a loader without "
                "shuffling."
            )
        known = [name for name in inspect.signature(LineMeter.__init__).parameters if name not in _GIVEN]
        unknown = sorted(options.keys() - set(known))
        if unknown:
            raise SgdlineError(
                f"An option of LineCallback must be one of LineMeter's ({', '.join(known)}), got {unknown[0]!r}. "
                "Correct it."
            )
        self._loss, self._inputs, self._targets, self._options = loss, inputs, targets, options

    def made(self, network: nn.Module) -> LineMeter:
        """Return the meter of a network, the measuring set moved to its device.

        Raises:
            SgdlineError: As `LineMeter`.
        """
        inputs, targets = self._inputs, self._targets
        if targets is not None:  # a loader's batches are moved as they are read
            device = check_model(network)
            inputs, targets = moved(inputs, device), moved(targets, device)
        return LineMeter(network, self._loss, inputs, targets, **self._options)
