"""Lines in a training by the Trainer of transformers.

callback = LineCallback(language_model_loss, loader, chunk_size=8, every=50)
trainer = Trainer(model, arguments, train_dataset=dataset, callbacks=[callback])
callback.trainer = trainer  # its other loggers get the numbers as well
trainer.train()
callback.lines.write("run.arrow")
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sgdline.engine.samples import Samples
from sgdline.errors import SgdlineError
from sgdline.extras import extra_packages
from sgdline.integrations.wanted_meter import WantedMeter
from sgdline.lines import LineLog, LineMeter, MeasuredStep
from sgdline.losses._pairs import MeterLoss

with extra_packages():
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["LineCallback", "language_model_loss"]

_IGNORED = -100  # label of tokens that do not count


def language_model_loss(outputs: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of predicting the next token: sums over the tokens of each sample, and their numbers.

    Args:
        outputs: Of a causal language model, with logits. Shape (N, T, V).
        labels: Tokens; -100 where they do not count. Shape (N, T).

    Raises:
        SgdlineError: If the outputs have no logits.
    """
    logits = getattr(outputs, "logits", None)
    if logits is None:
        raise SgdlineError(
            f"The model must return logits, got {type(outputs).__name__} without any: a model that returns its own "
            "loss only cannot be measured sample by sample. Return logits as well, or pass a loss of your own."
        )
    targets = labels[:, 1:]
    losses = functional.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none", ignore_index=_IGNORED)
    return losses.sum(dim=1), (targets != _IGNORED).sum(dim=1).to(torch.float64)


class LineCallback(TrainerCallback):
    """Measures the line of each step that the optimizer takes, and logs its numbers to the history of the training.

    The Trainer calls `on_pre_optimizer_step` right before the step, after accumulation and clipping, and
    `on_optimizer_step` right after it. A step that a scaler skips gives the status zero_direction. The training takes
    the same steps bit for bit with the callback and without it. FSDP and DeepSpeed are not supported: they shard
    parameters or step elsewhere.

    Attributes:
        trainer: Set it to the Trainer, and the numbers go through `trainer.log` to TensorBoard, W&B and so on; without
            it to `state.log_history` alone.
        meter: The meter, from the beginning of the training on.
        lines: Its log; empty before.
    """

    def __init__(
        self, loss: MeterLoss | None = None, inputs: Any = None, targets: Samples | None = None, **options: Any
    ) -> None:
        """Say what is to be measured.

        Args:
            loss: Outputs and targets -> one loss per sample, or (sums, counts), for example `language_model_loss`; see
                `LineMeter`.
            inputs: The measuring set, on any device: a dict of the model's arguments without labels, or a loader of
                dicts with "labels" that gives the same batches each time.
            targets: Labels of the same samples; None for a loader.
            options: Of `LineMeter`: every, budget, chunk_size, mode, interval, tolerance, plan and so on.

        Raises:
            SgdlineError: If there is no loss or no measuring set, or a meter has no such option.
        """
        self._wanted = WantedMeter(loss, inputs, targets, options)
        self._step: MeasuredStep | None = None
        self.trainer: Trainer | None = None
        self.meter: LineMeter | None = None

    @property
    def lines(self) -> LineLog:
        """The measured lines."""
        return LineLog() if self.meter is None else self.meter.log

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the meter of the model."""
        self.meter = self._wanted.made(kwargs["model"])

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin a step."""
        assert self.meter is not None
        self._step = self.meter.begin_step(kwargs["optimizer"])

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the line of the step."""
        assert self.meter is not None
        assert self._step is not None
        self.meter.end_step(self._step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log the numbers, now that the step counts."""
        step, self._step = self._step, None
        if step is None or step.line.status == "skipped":
            return
        if self.trainer is not None:
            self.trainer.log(step.line.scalars())
        else:
            state.log_history.append({**step.line.scalars(), "epoch": state.epoch, "step": state.global_step})
