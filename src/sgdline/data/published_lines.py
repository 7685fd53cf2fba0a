"""Lines measured by the published sampler: its pickles, read without trusting them, turned into our tables.

A folder holds one file `line_data_<step>.pickle` per update t, each a tuple or list of eight: losses of the measuring
set (N, P), of the validation set (M, P), positions (P,), losses of the direction batch (B, P), step length, norm of
the direction, the sampler's flag for a minimum at the edge, number of the batch.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgdline import __version__
from sgdline.analysis.rates import constant_rate
from sgdline.data.restricted_pickles import RefusedError, StoredArray, load_restricted, shown
from sgdline.errors import SgdlineError
from sgdline.probes.line.table import LINE
from sgdline.runtime import progress
from sgdline.tables import Facts, Row, TableWriter, write_table
from sgdline.tables.kinds.trace import TRACE

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

_FILE_NAME = re.compile(r"line_data_([0-9]{1,18})\.pickle")
_MEND = "Fetch it again, or take it out of the folder"

# Two positions this close, relative to the measured range, are one: np.arange(-0.27, 0, 0.045) ends at -1e-16.
_SAME_POSITION = 1e-9
# The step length may have been through float32 on its way into the file.
_SAME_STEP = 1e-6
# What of papers.md 7.1 is in the losses themselves and no conversion can take out.
_FAULTS_INSIDE = ("L4", "L6", "L7", "L12", "L24")


# --- the folder -------------------------------------------------------------------------------------------------------


def find_pickles(folder: str | Path) -> list[tuple[int, Path]]:
    """Return the pickles of a folder with their updates, in the order of these; other files do not count.

    Raises:
        SgdlineError: If the folder is missing or holds no pickle, or two for one update.
    """
    # papers.md L15: the released analysis stumbles over any other file in the folder.
    steps: dict[int, Path] = {}
    for path in _listed(Path(folder)):
        step = _step_of(path.name)
        if step in steps:
            raise SgdlineError(
                f"Folder {folder} must hold one file per update, got {steps[step].name} and {path.name}. Remove one."
            )
        steps[step] = path
    return sorted(steps.items())


def folder_digest(folder: str | Path) -> str:
    """Return a digest of the names, sizes and times of change of a folder's pickles, for a rule's params.

    A folder that cannot be read gives a digest all the same: the job that imports it says what is wrong.
    """
    try:
        paths = _listed(Path(folder))
    except SgdlineError:
        return "unreadable"
    digest = hashlib.sha256()
    for path in paths:
        facts = path.stat()
        digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _step_of(name: str) -> int:
    match = _FILE_NAME.fullmatch(name)
    return int(match[1]) if match else -1


def _listed(folder: Path) -> list[Path]:
    hint = "Unpack the published lines of one run into it, or name the folder that holds them"
    try:
        paths = sorted(path for path in folder.iterdir() if _step_of(path.name) >= 0 and path.is_file())
    except OSError as error:
        raise SgdlineError(
            f"The folder of lines to import must be a readable folder, got {folder} ({error.strerror}). {hint}."
        ) from error
    if not paths:
        raise SgdlineError(f"Folder {folder} must hold files line_data_<step>.pickle, got none. {hint}.")
    return paths


# --- reading a pickle -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedLine:
    """One file of the published sampler, as it is."""

    path: Path
    step: int  # from the name of the file
    train_loss: Array  # (N, P) nats
    validation_loss: Array  # (M, P), M may be 0
    positions: Array  # (P,) Euclidean lengths in any order, the step inserted among them
    direction_batch_loss: Array  # (B, P)
    step_length: float  # s_sgd
    direction_norm: float


def read_pickle(path: str | Path) -> PublishedLine:
    """Read one file of the published sampler.

    Raises:
        SgdlineError: If the file cannot be read or asks for anything but numpy arrays, numpy and torch scalars and
            plain numbers (nothing of it is run), or its arrays do not fit together.

    Cost: memory of a few times the file's size, whatever the file says.
    """
    path = Path(path)
    step = _step_of(path.name)
    if step < 0:
        raise SgdlineError(f"The name of a published line must be line_data_<step>.pickle, got {path}. Rename it.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SgdlineError(f"File {path} must be readable, got: {error.strerror}. {_MEND}.") from error
    try:
        entries = load_restricted(content)
    except RefusedError as error:
        raise SgdlineError(
            f"File {path} must hold numpy arrays and numbers only, got {error}. Nothing of it was run. Take "
            "it out of the folder: a file that asks for more may mean harm."
        ) from error
    # A damaged or foreign file can make the unpickler raise nearly anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise SgdlineError(
            f"File {path} must be a whole pickle of protocol 2 to 5, got one that cannot be read ({reason}). {_MEND}."
        ) from error
    return _checked(path, step, entries)


def _checked(path: Path, step: int, entries: object) -> PublishedLine:
    """Return the entries of a file as a line if they have the published form."""
    if not isinstance(entries, tuple | list) or len(entries) != 8:
        found = f"{len(entries)} entries" if isinstance(entries, tuple | list) else shown(entries)
        raise _shape_error(path, "hold a tuple or list of 8 entries", found)
    positions = _floats(path, "positions", entries[2], dimensions=1)
    if positions.size == 0 or not np.isfinite(positions).all():
        raise _shape_error(path, "have finite positions", f"{positions.size} of which some are not")
    train = _losses(path, "losses of the measuring set", entries[0], positions)
    batch = _losses(path, "losses of the direction batch", entries[3], positions)
    validation = np.empty((0, positions.size))
    if not (isinstance(entries[1], StoredArray) and entries[1].get().size == 0):
        validation = _losses(path, "losses of the validation set", entries[1], positions)
    step_length = _number(path, "step length", entries[4])
    direction_norm = _number(path, "norm of the direction", entries[5])
    # Neither is used: the flag can never be set (papers.md L8), and the number of the batch says nothing about a line.
    for name, entry in (("flag for a minimum at the edge", entries[6]), ("number of the batch", entries[7])):
        if entry is not None:
            _number(path, name, entry)
    return PublishedLine(path, step, train, validation, positions, batch, step_length, direction_norm)


def _shape_error(path: Path, rule: str, found: str) -> SgdlineError:
    return SgdlineError(f"File {path} must {rule}, got {found}. {_MEND}.")


def _floats(path: Path, name: str, entry: object, *, dimensions: int) -> Array:
    if not isinstance(entry, StoredArray):
        raise _shape_error(path, f"have a numpy array for the {name}", shown(entry))
    values = entry.get()
    if values.dtype.kind not in "fiu" or values.ndim != dimensions:
        rule = f"have a {dimensions}-dimensional array of numbers for the {name}"
        raise _shape_error(path, rule, f"{values.ndim} dimension(s) of {values.dtype}")
    return values.astype(np.float64, copy=False)


def _losses(path: Path, name: str, entry: object, positions: Array) -> Array:
    losses = _floats(path, name, entry, dimensions=2)
    if losses.shape[0] == 0 or losses.shape[1] != positions.size:
        rule = f"have the {name} as (samples, positions) with {positions.size} positions"
        raise _shape_error(path, rule, f"the shape {losses.shape}")
    return losses


def _number(path: Path, name: str, entry: object) -> float:
    values = np.asarray(entry.get() if isinstance(entry, StoredArray) else entry)
    if isinstance(entry, StoredArray | int | float) and values.size == 1 and values.dtype.kind in "fiub":
        return float(values.reshape(())[()])
    raise _shape_error(path, f"have one number for the {name}", shown(entry))


# --- from lines to tables ---------------------------------------------------------------------------------------------


def import_lines(
    folder: str | Path,
    *,
    line: str | Path,
    trace: str | Path,
    interval: float,
    sample_losses: bool = False,
    batch_size: int | None = None,
    lr: float | None = None,
    provenance: Facts,
) -> None:
    """Turn a folder of the published sampler's pickles into a table of lines and a trace.

    The full-batch loss is the mean over the measuring set alone (papers.md L11). The column that was measured at the
    step itself leaves the grid (L9) and becomes the loss at the step; where no column is, that loss is interpolated.
    A minimum at the edge is looked for again, as the sampler's flag cannot be set (L8). No exact slope of the
    direction batch is stored: it is the finite difference of its curve. The measuring set's rows are taken for one
    epoch of whole batches.

    The trace has one row per line; what the files do not tell is null there. The metadata of both tables hold the
    run's learning rate as `imported_lr`, to six digits; null if the lines have several.

    Args:
        folder: Holds one file `line_data_<step>.pickle` per line; other files do not count.
        line: Table of kind `line` to write.
        trace: Table of kind `trace` to write.
        interval: Half-width of the sampler's first ring, Euclidean length; tells how many rings a line has.
        sample_losses: Keep the loss of every sample.
        batch_size: Samples that the direction batch must have; any number if None.
        lr: Learning rate of lines without a direction, where step length / norm does not exist; NaN if None. The log
            warns if that of the other lines, of the first one with a schedule, is another one.
        provenance: Facts for the metadata of both tables.

    Raises:
        SgdlineError: If the folder or a file is unfit; neither table is then written.

    Source: linesearch 2.2; papers.md L6 to L9, L11, L15.

    Cost: memory for one file at a time.
    """
    files = find_pickles(folder)
    first = read_pickle(files[0][1])
    measured, batch = first.train_loss.shape[0], first.direction_batch_loss.shape[0]
    if batch_size is not None and batch != batch_size:
        raise SgdlineError(
            f"batch_size must be that of the imported lines ({batch} samples in {first.path}), got {batch_size}. "
            "Correct it."
        )
    sizes = _chunk_sizes(measured, batch)
    facts = {**provenance, "version": __version__, "imported": True, "files": len(files)}
    line_facts = {
        "batch_norm": "train",
        "positions": "grid",
        "samples": measured,
        "validation_samples": first.validation_loss.shape[0],
        "chunk_sizes": sizes,
        "direction_batch_slope": "finite difference",
        "faults_of_the_sampler": list(_FAULTS_INSIDE),
    }
    target = Path(line)
    # A killed import starts anew: nothing says that the files are still the same.
    target.with_name(f"{target.name}.part").unlink(missing_ok=True)
    updates: list[dict[str, Any]] = []
    enlarged = interpolated = 0
    with TableWriter(target, LINE, provenance={**facts, **line_facts}) as writer:
        try:
            for _, path in progress(files, total=len(files), label="published lines"):
                published = first if path == first.path else read_pickle(path)
                _check_sizes(published, first)
                row, at_step = _line_row(published, sizes, interval=interval, sample_losses=sample_losses, lr=lr)
                writer.append([row])
                updates.append(_trace_row(row))
                enlarged += row["rings"] > 1
                interpolated += not at_step
        except BaseException:
            writer.discard()
            raise
        if interpolated:
            logger.warning("%d lines have no losses at the step itself; they are interpolated.", interpolated)
        columns = {name: [update[name] for update in updates] for name in updates[0]}
        rate = constant_rate(pa.table({name: columns[name] for name in ("lr", "direction_norm")}))
        _compare_rates(folder, columns["lr"][0] if rate is None else rate, lr)
        own_rate = {"imported_lr": None if rate is None else float(f"{rate:.6g}")}
        writer.finish({"enlarged_lines": enlarged, "interpolated_steps": interpolated, **own_rate})
    write_table(trace, TRACE, columns, provenance={**facts, **own_rate})


def _compare_rates(folder: str | Path, measured: float, named: float | None) -> None:
    """Warn of a label that is not the lines' learning rate."""
    if named is not None and math.isfinite(measured) and not math.isclose(named, measured, rel_tol=1e-3):
        logger.warning(
            "The lines in %s have the learning rate %g, not %g. Figures and claims use their own.",
            folder, measured, named,
        )  # fmt: skip


def _chunk_sizes(samples: int, chunk_size: int) -> list[int]:
    whole, rest = divmod(samples, chunk_size)
    return [chunk_size] * whole + [rest] * (rest > 0)


def _check_sizes(line: PublishedLine, first: PublishedLine) -> None:
    """Lines of one run are measured on sets of the same sizes."""
    parts = {"measuring set": "train_loss", "validation set": "validation_loss", "batch": "direction_batch_loss"}
    for part, name in parts.items():
        own, expected = len(getattr(line, name)), len(getattr(first, name))
        if own != expected:
            rule = f"have {expected} samples in the {part}, as {first.path.name} has"
            raise _shape_error(line.path, rule, str(own))


def _learning_rate(line: PublishedLine, otherwise: float | None) -> float:
    if line.direction_norm != 0.0:
        return line.step_length / line.direction_norm
    return math.nan if otherwise is None else otherwise


def _line_row(
    line: PublishedLine, chunk_sizes: list[int], *, interval: float, sample_losses: bool, lr: float | None
) -> tuple[dict[str, Any], bool]:
    """Return a row of the table `line`, and whether the losses at the step itself were measured."""
    positions, columns, step_column = _grid(line)
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged run: what becomes of it is the result
        train, batch = line.train_loss.mean(axis=0), line.direction_batch_loss.mean(axis=0)
        validation = line.validation_loss.mean(axis=0) if len(line.validation_loss) else None
        starts = np.cumsum([0, *chunk_sizes[:-1]])
        sums = np.add.reduceat(line.train_loss, starts, axis=0)  # (C, P)
        chunks = _node_major(sums / np.array(chunk_sizes)[:, None], columns)
        samples = _node_major(line.train_loss, columns) if sample_losses else None
        batch_samples = _node_major(line.direction_batch_loss, columns) if sample_losses else None
    curves = [curve[columns] for curve in (train, batch, *([] if validation is None else [validation]))]
    if step_column is None:
        at_step = [np.interp(line.step_length, positions, curve, left=np.nan, right=np.nan) for curve in curves[:2]]
    else:
        at_step = [train[step_column], batch[step_column]]
    reach = max(-positions[0], positions[-1]) / interval
    batches_per_epoch = line.train_loss.shape[0] / line.direction_batch_loss.shape[0]
    row = {
        "step": line.step,
        # ASSUME: the measuring set is the training set without the incomplete last batch.
        "epoch": line.step / batches_per_epoch,
        "lr": _learning_rate(line, lr),
        "direction_norm": line.direction_norm,
        "step_length": line.step_length,
        "direction_batch_slope": _slope_at_zero(positions, curves[1]),
        "panel_edges": np.empty(0),
        "positions": positions,
        "train_loss": curves[0],
        "direction_batch_loss": curves[1],
        "validation_loss": None if validation is None else curves[2],
        "chunk_loss": chunks,
        "sample_loss": samples,
        "direction_batch_sample_loss": batch_samples,
        "step_train_loss": float(at_step[0]),
        "step_direction_batch_loss": float(at_step[1]),
        "evaluations": line.positions.size,
        "rings": max(1, math.ceil(reach - 1e-9)),
        "status": _status(line, curves),
    }
    return row, step_column is not None


def _grid(line: PublishedLine) -> tuple[Array, NDArray[np.intp], int | None]:
    """Return the positions without the step, ascending, their columns, and the column at the step if there is one.

    Source: papers.md L9.
    """
    positions, step_length = line.positions.copy(), line.step_length
    same = _SAME_POSITION * float(np.ptp(positions))
    positions[np.abs(positions) <= same] = 0.0
    step_length = 0.0 if abs(step_length) <= same else step_length
    usable = np.ones(positions.size, dtype=np.bool_)
    step_column: int | None = None
    distances = np.abs(positions - step_length)
    at_step = np.flatnonzero(distances <= _SAME_STEP * abs(step_length))
    if at_step.size:
        step_column = int(at_step[np.argmin(distances[at_step])])
        usable[at_step] = False
        # A step that meets a grid point was inserted beside it: one of the two stays. So does 0 in any case.
        usable[at_step[at_step != step_column][:1]] = True
        usable[step_column] |= at_step.size == 1 and step_length == 0.0
    columns = np.flatnonzero(usable)
    columns = columns[np.argsort(positions[columns], kind="stable")]
    distinct = np.diff(positions[columns], prepend=-np.inf) > same
    columns = columns[distinct]
    if not (positions[columns] == 0.0).any():
        raise _shape_error(line.path, "have 0 among its positions", f"{positions.min():g} to {positions.max():g}")
    return positions[columns], columns, step_column


def _node_major(losses: Array, columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return losses (n, P) as float32, all samples of a position together. Shape (P*n,)."""
    return losses.T[columns].astype(np.float32).reshape(-1)


def _slope_at_zero(positions: Array, curve: Array) -> float:
    """Return the second-order finite difference at 0 for unequal spacing (M3); NaN without a neighbour on each side."""
    zero = int(np.searchsorted(positions, 0.0))
    if not 0 < zero < positions.size - 1:
        return math.nan
    stencil = slice(zero - 1, zero + 2)
    if not np.isfinite(curve[stencil]).all():
        return math.nan
    return float(np.gradient(curve[stencil], positions[stencil])[1])


def _status(line: PublishedLine, curves: list[Array]) -> str:
    if line.direction_norm == 0.0:
        return "zero_direction"
    if not np.isfinite(curves[0]).all():
        return "non_finite"
    lowest = [int(np.argmin(curve)) for curve in np.where(np.isnan(curves), np.inf, curves) if np.isfinite(curve).any()]
    return "edge" if 0 in lowest or curves[0].size - 1 in lowest else "ok"


def _trace_row(row: Row) -> dict[str, Any]:
    batch_loss = float(row["direction_batch_loss"][int(np.searchsorted(row["positions"], 0.0))])
    finite = math.isfinite(batch_loss) and math.isfinite(row["direction_norm"])
    kept = {name: row[name] for name in ("step", "epoch", "lr", "direction_norm")}
    return {**kept, "batch_loss": batch_loss, "status": "ok" if finite else "non_finite"}
