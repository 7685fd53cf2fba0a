"""Lines in a training by Lightning.

callback = LineCallback(nn.CrossEntropyLoss(reduction="none"), inputs, targets, chunk_size=128, budget=0.1)
trainer = lightning.Trainer(callbacks=[callback])
trainer.fit(module, loader)
callback.lines.write("run.arrow")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sgdline.engine.samples import Samples
from sgdline.errors import SgdlineError
from sgdline.extras import extra_packages
from sgdline.integrations.wanted_meter import WantedMeter
from sgdline.lines import LineLog, LineMeter, MeasuredLine
from sgdline.losses._pairs import MeterLoss

with extra_packages():
    from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["LineCallback"]


class LineCallback(Callback):
    """Measures the line of each step that an optimizer takes, and logs its numbers to the trainer's loggers.

    It is the strategy's `optimizer_step` that is watched: the one call that every step goes through, with automatic and
    manual optimization, gradient clipping, accumulation, mixed precision and its scaler, closures and several
    optimizers. A step that a scaler skips gives the status zero_direction. The training takes the same steps bit for
    bit with the callback and without it. Strategies that shard parameters (FSDP, DeepSpeed) are refused.

    Attributes:
        meter: The meter, from the beginning of the training on.
        lines: Its log; empty before.
    """

    def __init__(
        self,
        loss: MeterLoss | None = None,
        inputs: Any = None,
        targets: Samples | None = None,
        *,
        network: Callable[[LightningModule], nn.Module] | None = None,
        **options: Any,
    ) -> None:
        """Say what is to be measured.

        Args:
            loss: Outputs and targets -> one loss per sample; see `LineMeter`.
            inputs: The measuring set, on any device, or a loader that gives the same batches each time.
            targets: Of the same samples; None for a loader.
            network: Returns what is measured of the LightningModule, such as the network inside it, for example
                lambda module: module.net. None: the module itself, by its forward.
            options: Of `LineMeter`: every, budget, chunk_size, mode, interval, tolerance, plan and so on.

        Raises:
            SgdlineError: If there is no loss or no measuring set, or a meter has no such option.
        """
        self._wanted = WantedMeter(loss, inputs, targets, options)
        self._network = network
        self._restore: Callable[[], None] | None = None
        self.meter: LineMeter | None = None

    @property
    def lines(self) -> LineLog:
        """The measured lines."""
        return LineLog() if self.meter is None else self.meter.log

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the meter and watch the steps.

        Raises:
            SgdlineError: If the module has no forward, or as `LineMeter`.
        """
        if self._network is None and type(pl_module).forward is LightningModule.forward:
            raise SgdlineError(
                f"{type(pl_module).__name__} must define forward(inputs), which gives the outputs for the loss, got "
                "none: training_step returns its own loss only. Define it, or name the network: "
                "LineCallback(..., network=lambda module: module.net)."
            )
        network = pl_module if self._network is None else self._network(pl_module)
        with _apart(pl_module):
            meter = self._wanted.made(network)
        own = {id(parameter) for parameter in network.parameters()}
        self.meter = meter
        strategy = trainer.strategy
        take = strategy.optimizer_step

        def measured(optimizer: Any, *arguments: Any, **named: Any) -> Any:
            if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
                return take(optimizer, *arguments, **named)  # it moves another network of the module
            step = meter.begin_step(optimizer)
            result = take(optimizer, *arguments, **named)
            with _apart(pl_module):
                line = meter.end_step(step)
            self._tell(trainer, optimizer, line)
            return result

        def restore() -> None:
            del strategy.optimizer_step

        strategy.optimizer_step = measured  # type: ignore[method-assign]
        self._restore = restore

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the strategy as it was."""
        self._unwatch()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the strategy as it was."""
        self._unwatch()

    def _unwatch(self) -> None:
        if self._restore is not None:
            self._restore()
            self._restore = None

    @staticmethod
    def _tell(trainer: Trainer, optimizer: Any, line: MeasuredLine) -> None:
        """Log the numbers of a line; with several optimizers under the number of its own."""
        if line.status == "skipped":
            return
        prefix = "line/"
        if len(trainer.optimizers) > 1:
            prefix += f"optimizer_{next(i for i, own in enumerate(trainer.optimizers) if own is optimizer)}/"
        for logger in trainer.loggers:
            logger.log_metrics(line.scalars(prefix), step=trainer.global_step)


@contextmanager
def _apart(module: LightningModule) -> Iterator[None]:
    """Take a module out of its trainer inside the block: a meter looks at all that a network holds."""
    inside = [part for part in module.modules() if isinstance(part, LightningModule)]
    trainers = [part._trainer for part in inside]
    try:
        for part in inside:
            part._trainer = None
        yield
    finally:
        for part, trainer in zip(inside, trainers, strict=True):
            part._trainer = trainer
