"""The choice of each schedule's peak learning rate: on the validation set alone, with ties and lost runs."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from walk_runs import as_table

from sgdline.analysis.peak_rates import GridRun, choose_peak_rates, last_value, mean_and_std


def evaluation(accuracy: float | None, *, loss: float | None = 0.5, test: float | None = 0.5) -> pa.Table:
    """Two evaluations; the first one is far better everywhere, and must not count."""
    first = {"step": 0, "epoch": 0.0, "train_loss": 1.0, "train_accuracy": 1.0}
    first |= {"validation_loss": 0.0, "validation_accuracy": 1.0, "test_loss": 0.0, "test_accuracy": 1.0}
    last = {"step": 10, "epoch": 1.0, "train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": loss}
    last |= {"validation_accuracy": accuracy, "test_loss": 0.5, "test_accuracy": test}
    return as_table("evaluation", [last, first])  # the order of rows says nothing


def grid(*runs: tuple[str, float, float | None], **options: Any) -> list[GridRun]:
    return [GridRun(schedule, lr, evaluation(accuracy, **options), lost=False) for schedule, lr, accuracy in runs]


def test_the_mean_over_seeds_at_the_last_evaluation_decides() -> None:
    runs = grid(
        ("step", 0.1, 0.80), ("step", 0.1, 0.70),  # mean 0.75
        ("step", 0.3, 0.90), ("step", 0.3, 0.50),  # the best single run, mean 0.70
        ("cyclical", 0.1, 0.60), ("cyclical", 1.0, 0.65),
    )  # fmt: skip
    choices = choose_peak_rates(runs)
    assert list(choices) == ["step", "cyclical"]
    assert {name: choice.lr for name, choice in choices.items()} == {"step": 0.1, "cyclical": 1.0}
    step = choices["step"]
    assert [(one.lr, one.runs, one.lost) for one in step.candidates] == [(0.1, 2, 0), (0.3, 2, 0)]
    assert step.chosen is not None
    assert step.chosen.accuracy == pytest.approx(0.75)
    assert step.chosen.accuracy_std == pytest.approx(statistics.stdev([0.8, 0.7]))
    assert math.isnan(choices["cyclical"].candidates[0].accuracy_std)


def test_ties_go_to_the_smaller_validation_loss_and_then_to_the_smaller_rate() -> None:
    # Equal sums that differ in rounding: 0.1 + 0.2 is not 0.3.
    runs = [
        GridRun("step", 0.3, evaluation(0.15, loss=0.4), lost=False),
        GridRun("step", 0.3, evaluation(0.15, loss=0.6), lost=False),
        GridRun("step", 0.1, evaluation(0.1, loss=0.7), lost=False),
        GridRun("step", 0.1, evaluation(0.2, loss=0.6), lost=False),
    ]
    assert choose_peak_rates(runs)["step"].lr == 0.3
    assert choose_peak_rates(reversed(runs))["step"].lr == 0.3
    equal = [GridRun(run.schedule, run.lr, evaluation(0.5), lost=False) for run in runs]
    assert choose_peak_rates(reversed(equal))["step"].lr == 0.1
    # A loss that is not finite loses the tie, and the choice is still made.
    unknown = [
        GridRun("step", 0.1, evaluation(0.5, loss=None), lost=False),
        GridRun("step", 0.3, evaluation(0.5, loss=9.0), lost=False),
    ]
    assert choose_peak_rates(unknown)["step"].lr == 0.3


def test_a_rate_with_a_lost_run_is_not_chosen() -> None:
    runs = [
        *grid(("step", 0.1, 0.5), ("step", 0.3, 0.9)),
        GridRun("step", 0.3, evaluation(0.99), lost=True),
        GridRun("trapezoid", 1.0, evaluation(0.9), lost=True),
        GridRun("trapezoid", 2.0, as_table("evaluation", []), lost=True),
    ]
    choices = choose_peak_rates(runs)
    assert choices["step"].lr == 0.1
    assert [one.lost for one in choices["step"].candidates] == [0, 1]
    assert choices["trapezoid"].lr is None
    assert choices["trapezoid"].chosen is None


def test_without_a_validation_accuracy_nothing_is_chosen() -> None:
    assert choose_peak_rates(grid(("step", 0.1, None)))["step"].lr is None
    half = grid(("step", 0.1, 0.9), ("step", 0.1, None), ("step", 0.3, 0.2))
    assert choose_peak_rates(half)["step"].lr == 0.3
    assert choose_peak_rates([]) == {}


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.3, 1.0]), st.integers(0, 5)), min_size=1, max_size=8), st.data())
@pytest.mark.slow
def test_the_test_set_and_the_order_of_runs_have_no_say(rows: list[tuple[float, int]], data: st.DataObject) -> None:
    runs = grid(*(("step", lr, correct / 5) for lr, correct in rows))
    chosen = choose_peak_rates(runs)["step"]
    means = {lr: np.mean([k / 5 for rate, k in rows if rate == lr]) for lr, _ in rows}
    assert means[chosen.lr] == pytest.approx(max(means.values()))
    other = [
        GridRun("step", lr, evaluation(k / 5, test=data.draw(st.none() | st.floats(0, 1))), lost=False)
        for lr, k in rows
    ]
    assert choose_peak_rates(data.draw(st.permutations(other)))["step"] == chosen


def test_a_table_without_the_columns_of_the_test_set_is_enough() -> None:
    runs = [
        GridRun(run.schedule, run.lr, run.evaluation.drop_columns(["test_loss", "test_accuracy"]), lost=False)
        for run in grid(("step", 0.1, 0.5), ("step", 0.3, 0.9))
    ]
    assert choose_peak_rates(runs)["step"].lr == 0.3


def test_last_value_mean_and_std() -> None:
    assert last_value(evaluation(0.25), "validation_accuracy") == 0.25
    assert math.isnan(last_value(as_table("evaluation", []), "test_accuracy"))
    assert mean_and_std([1.0, 2.0, 4.0]) == (pytest.approx(7 / 3), pytest.approx(statistics.stdev([1, 2, 4])))
    assert all(map(math.isnan, mean_and_std([])))
    mean, std = mean_and_std([3.0])
    assert mean == 3.0
    assert math.isnan(std)
