"""The log of lines: pandas, files, pictures, and the figures that a file of lines is enough for."""

from __future__ import annotations

import builtins
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_figures import assert_nothing_overlaps, render_instead_of_saving
from sklearn.datasets import load_digits
from torch import nn

from sgdline.cli import main
from sgdline.errors import SgdlineError
from sgdline.lines import LineLog, LineMeter, MeasuredLine
from sgdline.probes.line.table import LINE
from sgdline.tables import read_provenance, read_table


def train(steps: int, *, batch: bool = True, lr: float = 0.5, **options: object) -> LineMeter:
    """Train an MLP on digits and measure its lines."""
    torch.manual_seed(0)
    digits = load_digits()
    inputs, targets = torch.tensor(digits.data[:256] / 16, dtype=torch.float32), torch.tensor(digits.target[:256])
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loss = nn.CrossEntropyLoss(reduction="none")
    meter = LineMeter(model, loss, inputs, targets, chunk_size=64, **options)  # type: ignore[arg-type]
    for step in range(steps):
        rows = torch.arange(32 * step, 32 * step + 32) % 256
        optimizer.zero_grad()
        loss(model(inputs[rows]), targets[rows]).mean().backward()
        meter.measure_step(optimizer, batch=(inputs[rows], targets[rows]) if batch else None)
    return meter


@pytest.fixture(scope="module")
def log() -> LineLog:
    return train(12).log


def same(one: MeasuredLine, other: MeasuredLine) -> None:
    for name in ("positions", "losses", "panel_edges"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("error", "status", "step_length", "step_loss", "evaluations", "window", "rounding"):
        np.testing.assert_equal(getattr(one, name), getattr(other, name))
    assert (one.step, one.step_learning_rate) == (other.step, other.step_learning_rate)
    assert (one.batch is None) == (other.batch is None)
    if one.batch is not None and other.batch is not None:
        same(one.batch, other.batch)


def test_a_file_gives_the_lines_back_and_has_the_same_bytes_again(log: LineLog, tmp_path: Path) -> None:
    lost = replace(
        log[0], positions=np.zeros(1), losses=np.full(1, np.nan), panel_edges=np.empty(0), step_length=math.inf,
        step_loss=None, status="non_finite", batch=None, step=12, step_learning_rate=None, error=None, evaluations=0,
    )  # fmt: skip
    written = LineLog(log.facts)
    for line in (*log, replace(log[3], batch=None, step=13), lost):
        written.append(line)
    written.write(tmp_path / "run.arrow")
    found = LineLog.read(tmp_path / "run.arrow")
    assert len(found) == len(log) + 2
    for one, other in zip(written, found, strict=True):
        same(one, other)
    assert found[3].scalars() == log[3].scalars()
    facts = read_provenance(tmp_path / "run.arrow", LINE)
    assert (facts["model"], facts["loss"], facts["samples"], facts["chunk_size"]) == (
        "Sequential", "CrossEntropyLoss", 256, 64,
    )  # fmt: skip
    assert facts["optimizers"] == ["SGD"]
    assert facts["plan"]["precision"] == "float32"
    found.write(tmp_path / "again.arrow")
    assert (tmp_path / "again.arrow").read_bytes() == (tmp_path / "run.arrow").read_bytes()


def test_epochs_are_those_of_the_updates(log: LineLog, tmp_path: Path) -> None:
    log.write(tmp_path / "run.arrow", updates_per_epoch=8)
    np.testing.assert_array_equal(read_table(tmp_path / "run.arrow", LINE)["epoch"].to_numpy(), np.arange(12) / 8)
    with pytest.raises(SgdlineError, match="updates_per_epoch must be a finite number above 0, got 0"):
        log.write(tmp_path / "run.arrow", updates_per_epoch=0)


def test_the_columns_are_the_numbers_of_the_lines(log: LineLog) -> None:
    table = log.to_pandas()
    assert table["step"].tolist() == list(range(12))
    for row, line in enumerate(log):
        known = {name: value for name, value, _, _ in line.values()}
        errors = {f"{name}_error": error for name, _, error, _ in line.values() if error is not None}
        costs = {"evaluations": line.evaluations, "seconds": line.seconds}
        filled = table.loc[row].drop(["step", "status"]).dropna()
        assert filled.to_dict() == {**known, **errors, **costs}


def test_skipped_steps_are_not_in_the_log() -> None:
    meter = train(7, batch=False, every=3)
    assert [line.step for line in meter.log] == [0, 3, 6]


def test_what_cannot_be_written_is_one_sentence(log: LineLog, tmp_path: Path) -> None:
    with pytest.raises(SgdlineError, match="must hold a line to be written, got none"):
        LineLog().write(tmp_path / "run.arrow")
    loose = LineLog()
    loose.append(replace(log[0], step=None))
    with pytest.raises(SgdlineError, match="must have the number of its step"):
        loose.write(tmp_path / "run.arrow")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SgdlineError, match="must be written to a file that can be made"):
        log.write(tmp_path / "folder")


@pytest.mark.parametrize("package", ["pandas", "matplotlib"])
def test_a_missing_package_is_one_sentence(log: LineLog, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return found(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SgdlineError, match=f"needs the package {package}, which is not installed"):
        log.to_pandas() if package == "pandas" else log.plot()


@pytest.mark.slow
def test_pictures_of_lines_and_logs_have_no_overlaps(log: LineLog) -> None:
    for line in (log[5], replace(log[5], batch=None, step=None, step_length=None, step_loss=None)):
        assert_nothing_overlaps(line.plot().figure)  # type: ignore[arg-type]
    one = LineLog()
    one.append(log[5])
    for some in (log, one):
        assert_nothing_overlaps(some.plot())
    curves = {curve.get_label(): curve for panel in log.plot().axes for curve in panel.lines}
    np.testing.assert_allclose(curves["2 / learning rate"].get_ydata(), 4.0)


def test_what_cannot_be_drawn_is_one_sentence(log: LineLog) -> None:
    nothing = replace(log[0], losses=np.full_like(log[0].losses, np.nan), status="non_finite", batch=None)
    with pytest.raises(SgdlineError, match="got the status non_finite: no loss on it is finite"):
        nothing.plot()
    lost = LineLog()
    lost.append(nothing)
    for empty in (LineLog(), lost):
        with pytest.raises(SgdlineError, match="must hold a step that was measured to be drawn"):
            empty.plot()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [True, False])
def test_figures_are_drawn_from_a_file_alone(
    batch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = render_instead_of_saving(monkeypatch)
    train(12, batch=batch).log.write(tmp_path / "run.arrow", updates_per_epoch=8 if batch else None)
    assert main(["figures", str(tmp_path / "run.arrow"), "--out", str(tmp_path / "drawn")]) == 0
    of_lines = {"distance_matrix", "lines", "parabolas", "polynomial_error", "strategies"}
    assert {png.stem for _, png in saved} == (of_lines | {"barriers", "trajectory"} if batch else of_lines)
    told = capsys.readouterr().out
    assert "it needs the loss of every sample, which these lines do not keep: curvature_by_batch" in told
    assert ("it needs epochs" in told) is not batch
    claims = (tmp_path / "drawn" / "claims.md").read_text()
    lines = LineLog.read(tmp_path / "run.arrow")
    ratio = np.median(_residuals(lines, 2) / _residuals(lines, 1))
    [of_parabolas] = [row for row in claims.splitlines() if "| C1 |" in row]
    assert float(of_parabolas.split("|")[4]) == pytest.approx(ratio, rel=0.02)
    assert of_parabolas.endswith("| < 0.2 | holds | 12 | - |")
    assert "C1 holds" in told
    assert "C6 undetermined" in told
    assert "66 lines needed, 12 measured" in claims


def _residuals(log: LineLog, degree: int) -> np.ndarray:
    """Return the mean absolute residuals of polynomials, 0.4 of the usual interval to both sides (papers.md M12)."""
    window = float(np.median([line.window for line in log]))
    grid, found = np.linspace(-window, window, 67), []
    for line in log:
        losses = line.at(grid)
        found.append(np.abs(losses - np.polyval(np.polyfit(grid, losses, degree), grid)).mean())
    return np.array(found)


def test_figures_of_no_table_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", str(tmp_path / "none.arrow")]) == 1
    assert "must exist, found nothing" in capsys.readouterr().err
