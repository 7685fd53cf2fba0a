"""An update rule and a schedule of the user's, by entry: checked, trained, refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import MLP, line_settings, prepare_digits, probe_segment
from torch import nn

from sgdline.config import ConfigError, resolve_config
from sgdline.data.batches import BatchOrder
from sgdline.data.images import load_images
from sgdline.declare import registry
from sgdline.declare.build import build
from sgdline.errors import SgdlineError
from sgdline.models import build_model
from sgdline.seeds import derive_seed
from sgdline.tables import provenance, read_table
from sgdline.train.checkpoints import load_checkpoint
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings
from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import rule_of
from sgdline.workflow.slices import training_slice
from sgdline.workflow.tables import analyses

CPU = torch.device("cpu")
RUN = RunKey("own", "mlp", "0.01", 32, 5)
MINE = '''
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Gt, Lt
from sgdline.train.rules.base import Move, UpdateRule
from sgdline.train.schedules.base import Rates, Schedule


@dataclass(frozen=True, kw_only=True)
class Signs(UpdateRule):
    """Steps along the signs of a moving average."""

    now: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Share of the memory in the direction."""
    later: Annotated[float, Ge(0), Lt(1)] = 0.99
    """Share of the old memory in the new one."""

    def rule(self):
        return SignsRule(self)

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        if self.now > self.later:
            yield Fault(("now",), f"must be at most later ({self.later}), got {self.now}. Lower it.")


class SignsRule:
    def __init__(self, options):
        self.options, self.memory = options, None

    def move(self, parameters, gradient, *, step, lr, landscape):
        memory = gradient * 0 if self.memory is None else self.memory
        direction = (self.options.now * memory + (1 - self.options.now) * gradient).sign()
        self.memory = self.options.later * memory + (1 - self.options.later) * gradient
        return Move(direction, lr)

    def state(self):
        return {} if self.memory is None else {"memory": self.memory.clone()}

    def load(self, state):
        self.memory = state["memory"].clone() if "memory" in state else None


@dataclass(frozen=True, kw_only=True)
class Halving(Schedule):
    """Half as large after every so many updates."""

    every: Annotated[int, Gt(0)] = 5
    """Updates."""

    def rates(self, lr: float, *, steps: int) -> Rates:
        return lambda step: lr * 0.5 ** (step // self.every)

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        if run.steps is not None and self.every >= run.steps:
            yield Fault(("every",), f"must be below steps ({run.steps}), got {self.every}. Lower it.")


@dataclass(frozen=True, kw_only=True)
class Nothing(Schedule):
    """No function of the update."""


@dataclass(frozen=True, kw_only=True)
class Zero(Halving):
    """Its own default is at fault, and one of its options takes any number."""

    after: Annotated[int, Ge(1)] = 0
    """Updates."""
    scale: int | float = 2
    """A number."""


@dataclass(frozen=True, kw_only=True)
class Bare(Signs):
    """Returns a direction alone."""

    def rule(self):
        return BareRule(self)


class BareRule(SignsRule):
    def move(self, parameters, gradient, *, step, lr, landscape):
        return gradient


@dataclass(frozen=True, kw_only=True)
class Words(Signs):
    """Yields a text in the place of a fault."""

    def faults(self, run):
        yield "too large"


@dataclass(frozen=True, kw_only=True)
class Strict(Signs):
    """Has an option without a default."""

    beta: float
    """A number."""


@dataclass(frozen=True, kw_only=True)
class Uncertain(Signs):
    """Fails to say whether it has a theory."""

    def stationary_theory(self):
        raise ValueError("no theory")


@dataclass(frozen=True, kw_only=True)
class Failing(Halving):
    """Its checks and its making fail."""

    fails: bool = False
    """Whether it cannot be made."""

    def __post_init__(self):
        if self.fails:
            raise ValueError("no such thing")

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        yield from run.nothing
'''


ANALYSES = '''
from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import Analysis


@dataclass(frozen=True, kw_only=True)
class Mean(Analysis):
    """Of something."""

    reads: ClassVar[tuple[str, ...]] = ("trace",)

    def columns(self, tables, settings):
        return {}

    def table(self):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Failing(Mean):
    """Cannot be made."""

    def __post_init__(self):
        raise ValueError("no such thing")


@dataclass(frozen=True, kw_only=True)
class Lists(Mean):
    """Reads a list in a list."""

    def tables(self, probes):
        return [["trace"]]


@dataclass(frozen=True, kw_only=True)
class Text(Mean):
    """Reads a text."""

    reads: ClassVar[str] = "trace"
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.joinpath("mine.py").write_text(MINE)
    tmp_path.joinpath("analyses.py").write_text(ANALYSES)
    monkeypatch.chdir(tmp_path)
    registry.declaration.cache_clear()
    return tmp_path


def config(**changes: Any) -> dict[str, Any]:
    experiment: dict[str, Any] = {
        "dataset": "digits",
        "models": ["mlp"],
        "lr": [0.01],
        "batch_size": [32],
        "seed": [5],
        "steps": 12,
        "segments": 2,
        "drop_last": False,
        "optimizer": {"name": "mine.py:Signs", "now": 0.8},
        "schedule": {"name": "mine.py:Halving"},
    }
    return {
        "datasets": {"digits": {"source": "digits", "train": 100, "validation": 40, "test": 10}},
        "models": {"mlp": MLP},
        "experiments": {"own": experiment | changes},
    }


def faults_of(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve_config(config(**changes))
    return [fault.removeprefix("experiments.own.") for fault in caught.value.faults]


def test_an_own_rule_and_schedule_train_as_a_loop_by_hand_does(here: Path) -> None:
    block = training_slice(resolve_config(config()), RUN)
    assert block["optimizer"] == {"name": "mine.py:Signs", "now": 0.8, "later": 0.99}
    settings = build(TrainingSettings, json.loads(json.dumps(block)))
    dataset = prepare_digits(here, train=100)
    train_run(dataset, trace=here / "trace.arrow", checkpoints=here / "run", settings=settings, facts={})

    images = load_images(dataset, device=CPU)
    shape, classes, seed = images.image_shape, images.num_classes, derive_seed(5, "initialisation")
    network = build_model(MLP["entry"], MLP["kwargs"], input_shape=shape, num_classes=classes, seed=seed)
    order = BatchOrder(100, batch_size=32, seed=5, drop_last=False)
    memories = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for step, row in enumerate(read_table(here / "trace.arrow", "trace").to_pylist()):
        rows, lr = order.indices(step), 0.01 * 0.5 ** (step // 5)
        loss = nn.functional.cross_entropy(network(images.train.inputs[rows]), images.train.targets[rows])
        assert (row["lr"], row["batch_loss"]) == pytest.approx((lr, loss.item()), rel=1e-4)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, memory, gradient in zip(network.parameters(), memories, gradients, strict=True):
                parameter -= lr * torch.sign(0.8 * memory + 0.2 * gradient)
                memory.mul_(0.99).add_(gradient, alpha=0.01)
    end = load_checkpoint(here / "run", 12, device=CPU)
    expected = nn.utils.parameters_to_vector(network.parameters()).detach()
    # A gradient near 0 may have another sign by rounding: there one step is another one.
    assert float((end.parameters - expected).abs().gt(1e-4).double().mean()) < 0.01
    assert float((end.parameters - load_checkpoint(here / "run", 0, device=CPU).parameters).abs().max()) > 0.04
    # Its state is in the checkpoints: the second segment replays to the bit.
    probe_segment(dataset, here / "run", output=here / "line", settings=line_settings(settings), segment=1, facts={})
    assert provenance(read_table(here / "line", "line"))["replay_drift"] == 0.0


def test_a_rule_that_returns_no_move_is_told_so(here: Path) -> None:
    block = training_slice(resolve_config(config(optimizer={"name": "mine.py:Bare"})), RUN)
    settings = build(TrainingSettings, json.loads(json.dumps(block)))
    with pytest.raises(SgdlineError, match=r"Update rule BareRule must return a Move from its method move, got Tensor"):
        train_run(
            prepare_digits(here, train=100), trace=here / "t.arrow", checkpoints=here / "r", settings=settings, facts={}
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"name": "mine.py:Signs", "now": 1}}, "optimizer.now must be a number from 0 to below 1"),
        ({"optimizer": {"name": "mine.py:Signs", "now": 0.995}}, "optimizer.now must be at most later (0.99)"),
        ({"optimizer": {"name": "mine.py:Signs", "bow": 0.5}}, "optimizer.bow is not a known key. Did you mean 'now'?"),
        ({"optimizer": {"name": "mine.py:Sings"}}, "optimizer.name must name a declaration of an update rule"),
        ({"optimizer": {"name": "mine.py:Halving"}}, "optimizer.name must name a frozen dataclass that derives from"),
        ({"schedule": {"name": "mine.py:Nothing"}}, "schedule.name must define rates, got no such method. "),
        ({"schedule": {"name": "mine.py:Halving", "every": 12}}, "schedule.every must be below steps (12), got 12."),
        ({"schedule": {"name": "yours.py:Halving"}}, "schedule.name must name a file that exists"),
        (
            {"schedule": {"name": "mine.py:Zero", "scale": 3}},
            "schedule.after must have a default that keeps its own rule, got 0, which is not a whole number of at",
        ),
        (
            {"schedule": {"name": "mine.py"}},
            "schedule.name must be one of constant, cosine, cyclical, equivalent, inverted_cosine, piecewise, step or "
            "trapezoid, got 'mine.py'. A thing of your own is named by its file and its class: mine.py:Name.",
        ),
        (
            {"probes": {"mine.py": {}}},
            "probes['mine.py'] is not a known key. A thing of your own is named by its file and its class: mine.py:N",
        ),
        (
            {"optimizer": {"name": "mine.py:Uncertain"}},
            "optimizer.name must answer stationary_theory(self) without an error, got ValueError: no theory",
        ),
        (
            {"optimizer": {"name": "mine.py:Strict"}, "analysis": {"extra": {"analyses.py:Mean": {}}}},
            "optimizer.beta is missing. It must be a number.",
        ),
        (
            {"lr_unit": "a.py"},
            "lr_unit must be one of absolute or sharpness, got 'a.py'.",
        ),
        ({"probes": {"line": {"a.py": 1}}}, "probes.line['a.py'] is not a known key. Known keys here: "),
        (
            {"analysis": {"extra": {"a.py": {}}}},
            "analysis.extra['a.py'] must be an entry, folder/file.py:Name, got 'a.py'. A thing of your own is named by",
        ),
        (
            {"analysis": {"extra": {"analyses.py:Failing": {}}}, "probes": {"line": {}}},
            "analysis.extra['analyses.py:Failing'] must take its options without an error, got ValueError: no such",
        ),
        (
            {"analysis": {"extra": {"analyses.py:Lists": {}}}, "probes": {"line": {}}},
            "analysis.extra['analyses.py:Lists'] must return a tuple of kinds of tables, or None, from tables(self,",
        ),
        (
            {"analysis": {"extra": {"analyses.py:Text": {}}}, "probes": {"line": {}}},
            "analysis.extra['analyses.py:Text'] must declare reads as a tuple of kinds of tables, got 'trace'. Correct",
        ),
        (
            {"optimizer": {"name": "mine.py:Words"}},
            "optimizer must check its options without an error, got TypeError: faults must yield Fault(path, text)",
        ),
        (
            {"schedule": {"name": "mine.py:Failing"}},
            "schedule must check its options without an error, got ",
        ),
        (
            {"schedule": {"name": "mine.py:Failing", "fails": True}},
            "schedule.name must take its options without an",
        ),
        (
            {"probes": {"line": {}, "mline": {}}},
            "probes.mline must have an optimizer that declares linear_in_gradient, got Signs. ",
        ),
        (
            {"probes": {"averages": {}, "spectrum": {}}, "figures": ["curious/ext_predicted_gains"]},
            "figures[0] must be of a run whose optimizer has a theory of its stationary state, got curious/ext_",
        ),
        (
            {"label_noise": {"probability": 0.1}},
            "label_noise.probability must be 0 when the optimizer is Signs, got 0.1. It does not declare takes_noise",
        ),
    ],
)
def test_what_does_not_fit_is_one_fault(changes: dict[str, Any], words: str) -> None:
    [fault] = faults_of(**changes)
    assert fault.startswith(words)


def test_there_is_no_theory_of_a_rule_that_declares_none() -> None:
    probes = {"averages": {}, "spectrum": {}}
    own = resolve_config(config(probes=probes, lr_unit="sharpness"))  # its lr is no length
    assert rule_of(own, RUN).stationary_theory() is None
    assert "predicted_gains" not in analyses(own, RUN.experiment)
    assert "predicted_gains" in analyses(resolve_config(config(probes=probes, optimizer={})), RUN.experiment)
