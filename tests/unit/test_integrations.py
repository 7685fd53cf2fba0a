"""Callbacks of other packages' training loops: the training is the same bit for bit, and every step has its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sgdline.errors import SgdlineError

LOSS = nn.CrossEntropyLoss(reduction="none")
_GENERATOR = torch.Generator().manual_seed(1)
INPUTS = torch.randn(64, 6, generator=_GENERATOR)
TARGETS = torch.randint(0, 3, (64,), generator=_GENERATOR)
TOKENS = torch.randint(0, 30, (32, 8), generator=_GENERATOR)

# Lightning's own: about this machine's commands, about torch's newer trees, about loaders without workers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The `srun` command is available"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# --- Lightning --------------------------------------------------------------------------------------------------------


def fit(folder: Path, callbacks: list[Any], *, manual: bool = False, **options: Any) -> tuple[Any, Any]:
    """Train a small network by Lightning; two optimizers take turns where it is manual."""
    lightning = pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.loggers import CSVLogger

    class Module(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = not manual
            self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
            self.head = nn.Linear(8, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(self.net(inputs))

        def training_step(self, batch: Any, place: int) -> Any:
            loss = LOSS(self(batch[0]), batch[1]).mean()
            if not manual:
                return loss
            optimizer = self.optimizers()[place % 2]
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            return None

        def configure_optimizers(self) -> Any:
            if not manual:
                return torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.5)
            return [torch.optim.SGD(self.net.parameters(), lr=0.1), torch.optim.SGD(self.head.parameters(), lr=0.3)]

    torch.manual_seed(0)
    module = Module()
    loader = DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=8, shuffle=True)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=1, logger=CSVLogger(folder), callbacks=callbacks, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1, **options,
    )  # fmt: skip
    trainer.fit(module, loader)
    return module, trainer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 8),
        ({"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}, 4),
        ({"precision": "bf16-mixed"}, 8),
        ({"manual": True}, 8),
    ],
)
def test_lightning_trains_bit_for_bit_as_without_the_callback(
    options: dict[str, Any], steps: int, tmp_path: Path
) -> None:
    pytest.importorskip("lightning")
    from sgdline.integrations.lightning import LineCallback

    plain, _ = fit(tmp_path, [], **options)
    callback = LineCallback(LOSS, INPUTS, TARGETS, chunk_size=16)
    watched, trainer = fit(tmp_path, [callback], **options)
    assert equal(plain, watched)
    assert [line.step for line in callback.lines] == list(range(steps))
    assert "optimizer_step" not in vars(trainer.strategy)
    rates = [line.step_learning_rate for line in callback.lines]
    assert rates == ([0.1, 0.3] * 4 if options.get("manual") else [0.2] * steps)
    ends, starts = [line.step_loss for line in callback.lines], [line.loss for line in callback.lines]
    assert ends[:-1] == pytest.approx(starts[1:], abs=1e-6)  # each line begins where the one before it has ended


def test_lightning_s_logger_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from sgdline.integrations.lightning import LineCallback

    callback = LineCallback(LOSS, DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=16), every=4)
    _, trainer = fit(tmp_path, [callback])
    rows = (Path(trainer.logger.log_dir) / "metrics.csv").read_text().splitlines()
    place = rows[0].split(",").index("line/loss")
    written = [float(value) for row in rows[1:] if (value := row.split(",")[place])]
    assert written == pytest.approx([line.loss for line in callback.lines])
    assert [line.step for line in callback.lines] == [0, 4]


def test_lightning_modules_without_a_forward_are_refused(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from sgdline.integrations.lightning import LineCallback

    class OwnLoss(lightning.LightningModule):  # type: ignore[name-defined,misc]
        pass

    with pytest.raises(SgdlineError, match="OwnLoss must define forward"):
        LineCallback(LOSS, INPUTS, TARGETS).on_train_start(
            lightning.Trainer(logger=False, accelerator="cpu"), OwnLoss()
        )


# --- transformers -----------------------------------------------------------------------------------------------------


def train(folder: Path, callback: Any = None, *, attached: bool = False, **options: Any) -> tuple[Any, Any]:
    """Train a small GPT-2 with dropout by the Trainer."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    arguments = transformers.TrainingArguments(
        str(folder), max_steps=3, per_device_train_batch_size=8, use_cpu=True, report_to=[], logging_steps=1,
        save_strategy="no", disable_tqdm=True, learning_rate=1e-2, dataloader_pin_memory=False, **options,
    )  # fmt: skip
    data = [{"input_ids": row, "labels": row} for row in TOKENS]
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[callback] if callback else [])
    if attached:
        callback.trainer = trainer
    trainer.train()
    return model, trainer


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "attached": True}, {"bf16": True}])
def test_the_trainer_trains_bit_for_bit_as_without_the_callback(options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from sgdline.integrations.transformers import LineCallback, language_model_loss

    plain, _ = train(tmp_path, **{name: value for name, value in options.items() if name != "attached"})
    data = [{"input_ids": row, "labels": row} for row in TOKENS]
    callback = LineCallback(language_model_loss, DataLoader(data, batch_size=16))
    watched, trainer = train(tmp_path, callback, **options)
    assert equal(plain, watched)
    assert [line.step for line in callback.lines] == [0, 1, 2]
    logged = [entry for entry in trainer.state.log_history if "line/loss" in entry]
    assert [entry["step"] for entry in logged] == [1, 2, 3]
    assert [entry["line/loss"] for entry in logged] == [line.loss for line in callback.lines]
    assert callback.lines.facts["optimizers"] == ["AdamW"]
    assert callback.lines[0].step_learning_rate == 1e-2


def test_a_model_s_own_loss_is_the_mean_over_tokens(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from sgdline.integrations.transformers import language_model_loss

    sizes = {"vocab_size": 30, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
    labels = TOKENS.clone()
    labels[:5, 4:] = -100
    outputs = model.requires_grad_(False)(input_ids=TOKENS, labels=labels)
    sums, counts = language_model_loss(outputs, labels)
    assert float(sums.sum() / counts.sum()) == pytest.approx(float(outputs.loss), rel=1e-6)
    with pytest.raises(SgdlineError, match="The model must return logits, got dict without any"):
        language_model_loss({"loss": outputs.loss}, labels)


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["lightning", "transformers"])
def test_wrong_use_is_one_sentence(package: str) -> None:
    pytest.importorskip(package)
    from importlib import import_module

    callback = import_module(f"sgdline.integrations.{package}").LineCallback
    with pytest.raises(SgdlineError, match="must have a measuring set, got none"):
        callback(LOSS)
    with pytest.raises(SgdlineError, match="must have a loss of its own, one number per sample, got none"):
        callback(inputs=INPUTS, targets=TARGETS)
    with pytest.raises(SgdlineError, match=r"must be one of LineMeter's \(.*every, budget.*\), got 'evry'"):
        callback(LOSS, INPUTS, TARGETS, evry=3)
