"""Damaged files: a flipped bit, a hole or a cut in a table, a stream or a checkpoint is never taken for content."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_runs import prepare_digits, training_settings

from sgdline.errors import SgdlineError
from sgdline.runtime import machine_fault
from sgdline.tables import TableWriter, iterate_table, provenance, read_provenance, read_table, store, write_table
from sgdline.train import checkpoints
from sgdline.train.checkpoints import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from sgdline.train.run import train_run

CPU = torch.device("cpu")
FLIPS = 200
FACTS = {"seed": 1, "slice": {"lr": 0.1, "name": "a run"}}


def damaged(content: bytes, kind: str) -> Iterator[bytes]:
    """Yield copies of a file with one random fault each."""
    draws = np.random.default_rng(8)
    for _ in range(FLIPS if kind == "flip" else 40):
        copy = bytearray(content)
        place = int(draws.integers(len(copy)))
        if kind == "flip":
            copy[place] ^= 1 << int(draws.integers(8))
        elif kind == "hole":  # a block that never reached the disk
            copy[place : place + 64] = bytes(len(copy[place : place + 64]))
        else:
            del copy[place:]
        if copy != content:
            yield bytes(copy)


def mixed_columns() -> dict[str, list[Any]]:
    """Columns with every type that tables hold: numbers, truth values, texts, lists, and nulls among each."""
    draws = np.random.default_rng(1)
    count = 1500  # two record batches
    return {
        "step": list(range(count)),
        "quantity": [f"name{row % 7}" for row in range(count)],
        "flag": [None if row % 5 == 0 else row % 2 == 0 for row in range(count)],
        "value": [None if row % 3 == 0 else float(draws.standard_normal()) for row in range(count)],
        "losses": [None if row % 4 == 0 else draws.standard_normal(row % 6) for row in range(count)],
    }


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a kind of table with columns of every type."""
    from sgdline.tables import Kind, kind

    schema = pa.schema(
        [
            pa.field("step", pa.int64(), nullable=False),
            pa.field("quantity", pa.string(), nullable=False),
            pa.field("flag", pa.bool_()),
            pa.field("value", pa.float64()),
            pa.field("losses", pa.list_(pa.float64())),
        ]
    )
    mixed = Kind("mixed", rule="probe_segment", schema=schema)
    monkeypatch.setattr("sgdline.tables.store.kind_of", lambda name: mixed if name == "mixed" else kind.kind_of(name))
    return "mixed"


def outcome(read: Callable[[], Any], expected: Any, path: Path) -> str:
    """Return what came of reading a damaged file; content that differs from what was written is a failure."""
    try:
        found = read()
    except SgdlineError as error:
        words = str(error)
    else:
        assert found == expected
        return "equal"
    assert str(path) in words
    assert "start snakemake" in words
    assert "\n" not in words
    return "refused"


@pytest.mark.parametrize("fault", ["flip", "hole", "cut"])
@pytest.mark.parametrize("rows", [1500, 0])
def test_a_damaged_table_is_refused_or_reads_as_it_was(mixed: str, tmp_path: Path, fault: str, rows: int) -> None:
    path = tmp_path / "mixed.arrow"
    columns = {name: values[:rows] for name, values in mixed_columns().items()}
    write_table(path, mixed, columns, provenance=FACTS)

    def whole() -> tuple[pa.Table, dict[str, Any]]:
        table = read_table(path, mixed)
        return table, provenance(table)

    def parts() -> pa.Table:
        found = iterate_table(path, mixed, columns=["value", "losses"])
        return pa.concat_tables([expected_parts.slice(0, 0), *found])

    expected = whole()
    assert expected[0].num_rows == rows
    expected_parts = expected[0].select(["value", "losses"])
    seen = []
    for content in damaged(path.read_bytes(), fault):
        path.write_bytes(content)
        seen.append(outcome(whole, expected, path))
        outcome(parts, expected_parts, path)
        outcome(lambda: read_table(path, mixed, columns=["flag"])["flag"], expected[0]["flag"], path)
        outcome(lambda: read_provenance(path, mixed), expected[1], path)
    # What nothing reads: padding, and the copy of the schema at the start of the file.
    assert seen.count("refused") >= len(seen) // (2 if rows else 4)
    if fault == "cut":
        assert set(seen) == {"refused"}


@pytest.mark.parametrize("fault", ["flip", "hole", "cut"])
@pytest.mark.slow
def test_a_damaged_stream_gives_its_rows_before_the_damage(mixed: str, tmp_path: Path, fault: str) -> None:
    path, part = tmp_path / "mixed.arrow", tmp_path / "mixed.arrow.part"
    columns = mixed_columns()
    rows = [{name: values[row] for name, values in columns.items()} for row in range(40)]
    with TableWriter(tmp_path / "whole.arrow", mixed, provenance=FACTS) as writer:
        writer.append(rows)
        writer.finish()
    with TableWriter(path, mixed, provenance=FACTS) as writer:
        for row in rows[:30]:
            writer.append([row])
    kept = set()
    for content in damaged(part.read_bytes(), fault):
        part.write_bytes(content)
        with TableWriter(path, mixed, provenance=FACTS) as writer:
            known = writer.recovered.num_rows
            assert writer.recovered["step"].to_pylist() == list(range(known))
            assert known < 30, "every byte of a stream counts"
            writer.append(rows[known:])
            writer.finish()
        kept.add(known)
        assert path.read_bytes() == (tmp_path / "whole.arrow").read_bytes()
    assert len(kept) > 10


def test_rows_that_are_damaged_while_the_job_runs_do_not_get_into_the_table(mixed: str, tmp_path: Path) -> None:
    path, part = tmp_path / "mixed.arrow", tmp_path / "mixed.arrow.part"
    with TableWriter(path, mixed, provenance=FACTS) as writer:
        writer.append([{name: values[0] for name, values in mixed_columns().items()}])
        content = bytearray(part.read_bytes())
        content[-20] ^= 4
        part.write_bytes(content)
        with pytest.raises(SgdlineError, match=r"mixed\.arrow\.part must be whole.*Start snakemake again"):
            writer.finish()
    assert not path.exists()
    with TableWriter(path, mixed, provenance=FACTS) as writer:
        assert writer.recovered.num_rows == 0


@pytest.mark.parametrize("fault", ["flip", "hole", "cut"])
def test_a_damaged_checkpoint_is_refused_or_reads_as_it_was(tmp_path: Path, fault: str) -> None:
    draws = torch.Generator().manual_seed(0)
    state = Checkpoint(
        step=4,
        parameters=torch.randn(60, generator=draws),
        buffers={"running_mean": torch.randn(5, generator=draws), "num_batches_tracked": torch.tensor(4)},
        rule={"momentum": torch.randn(60, generator=draws), "sharpness": torch.tensor([2.5], dtype=torch.float64)},
        previous_gradient=torch.zeros(60),
    )
    save_checkpoint(tmp_path, state)
    path = checkpoint_path(tmp_path, 4)

    def read() -> dict[str, tuple[torch.dtype, torch.Size, bytes]]:
        loaded = load_checkpoint(tmp_path, 4, device=CPU)
        tensors = {"parameters": loaded.parameters, "previous_gradient": loaded.previous_gradient}
        tensors |= {f"buffers.{name}": tensor for name, tensor in loaded.buffers.items()}
        tensors |= {f"rule.{name}": tensor for name, tensor in loaded.rule.items()}
        return {name: (t.dtype, t.shape, t.numpy().tobytes()) for name, t in tensors.items() if t is not None}

    expected = read()
    seen = []
    for content in damaged(path.read_bytes(), fault):
        path.write_bytes(content)
        seen.append(outcome(read, expected, path))
    assert seen.count("refused") >= len(seen) * 0.95
    save_checkpoint(tmp_path, state)
    shutil.copy(path, checkpoint_path(tmp_path, 5))
    with pytest.raises(
        SgdlineError, match=r"step00000005\.safetensors must be a whole .*other content than was written"
    ):
        load_checkpoint(tmp_path, 5, device=CPU)


def test_files_of_an_earlier_version_are_refused_in_one_sentence(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "stationary.arrow"
    write_table(path, "momentum_variance", momentum_variance(), provenance=FACTS)
    table = read_table(path, "momentum_variance")
    metadata = {b"sgdline": table.schema.metadata[b"sgdline"]}
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))
    with pytest.raises(SgdlineError, match=r"must carry checksums, got none: an earlier version .*simulate_toy again"):
        read_table(path, "momentum_variance")
    save_file(
        {"parameters": torch.zeros(3)}, tmp_path / "step00000002.safetensors", metadata={"sgdline": '{"step": 2}'}
    )
    with pytest.raises(
        SgdlineError, match=r"must carry a checksum, got none: an earlier version .*trains the run again"
    ):
        load_checkpoint(tmp_path, 2, device=CPU)


def momentum_variance() -> dict[str, list[Any]]:
    from sgdline.tables import kind_of

    samples: dict[str, Any] = {"string": "iterate", "double": 0.5, "int64": 3, "bool": True}
    return {field.name: [samples[str(field.type)]] for field in kind_of("momentum_variance").schema}


def test_rows_left_by_an_earlier_version_are_dropped(mixed: str, tmp_path: Path) -> None:
    schema = pa.schema([pa.field("step", pa.int64())])
    with pa.OSFile(str(tmp_path / "mixed.arrow.part"), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.record_batch([pa.array([1, 2])], schema=schema))
    with TableWriter(tmp_path / "mixed.arrow", mixed, provenance=FACTS) as writer:
        assert writer.recovered.num_rows == 0
        writer.finish()
    assert read_table(tmp_path / "mixed.arrow", mixed).num_rows == 0


HOLDER = """
import sys

from sgdline.tables import TableWriter

row = dict.fromkeys(("epoch", "lr", "batch_loss", "gradient_norm", "direction_norm", "distance_from_start"), 0.5)
row |= {"parameter_norm": 1.0, "status": "ok"}
with TableWriter(sys.argv[1], "trace", provenance={}) as writer:
    writer.append([row | {"step": 0}])
    print("holding", flush=True)
    sys.stdin.readline()
    writer.append([row | {"step": 1}])
    writer.finish()
"""


def holding(path: Path) -> subprocess.Popen[str]:
    """Start a process that writes a table and holds its stream, and wait until it does."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    return holder


@pytest.mark.slow
def test_a_job_that_outlived_its_snakemake_keeps_others_off_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    with holding(path) as holder:
        assert holder.stdin is not None
        with pytest.raises(
            SgdlineError, match=r"got another process at work: a job that outlived its Snakemake\. Wait"
        ):
            TableWriter(path, "trace", provenance={})
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.wait() == 0
    assert read_table(path, "trace")["step"].to_pylist() == [0, 1]
    with TableWriter(path, "trace", provenance={}) as writer:  # its lock ended with it
        assert writer.recovered.num_rows == 0
        writer.discard()
    with holding(path) as holder:
        holder.kill()
    with TableWriter(path, "trace", provenance={}) as writer:
        assert writer.recovered["step"].to_pylist() == [0]


@pytest.mark.parametrize("step", [0, 4, 8])
def test_a_training_goes_on_from_before_a_damaged_checkpoint(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from sgdline.train import run as training_run

    dataset = prepare_digits(tmp_path, train=100)

    def train(folder: Path) -> None:
        paths = {"trace": folder / "trace.arrow", "checkpoints": folder / "checkpoints"}
        train_run(dataset, **paths, settings=training_settings(), facts={})

    train(tmp_path / "whole")
    row = training_run._trace_row

    def failing_row(update: Any, *rest: Any) -> dict[str, Any]:
        if update.step == 10:
            raise KeyboardInterrupt
        return row(update, *rest)

    monkeypatch.setattr(training_run, "_trace_row", failing_row)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut")
    monkeypatch.undo()
    path = checkpoint_path(tmp_path / "cut" / "checkpoints.part", step)
    content = bytearray(path.read_bytes())
    content[-9] ^= 16
    path.write_bytes(content)
    train(tmp_path / "cut")
    assert f"{path.name} is damaged" in caplog.text
    for name in ("trace.arrow", *(f"checkpoints/step0000{number:04d}.safetensors" for number in (0, 4, 8, 12))):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_what_the_machine_is_to_blame_for_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "stationary.arrow"
    write_table(path, "momentum_variance", momentum_variance(), provenance=FACTS)
    save_checkpoint(tmp_path, Checkpoint(step=4, parameters=torch.zeros(3)))

    def failing(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(store, "read_seal", failing)
    monkeypatch.setattr(checkpoints, "safe_open", failing)
    for read in (lambda: read_table(path, "momentum_variance"), lambda: load_checkpoint(tmp_path, 4, device=CPU)):
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            read()
        assert machine_fault(caught.value)


def test_a_mistake_in_the_handling_of_a_fault_is_a_mistake() -> None:
    def handled_carelessly() -> None:
        try:
            raise PermissionError(errno.EACCES, "Permission denied", "table.arrow")
        except PermissionError:
            raise KeyError("rows")  # noqa: B904 - what is tested

    with pytest.raises(KeyError) as caught:
        handled_carelessly()
    assert machine_fault(caught.value) is None
    fault = caught.value.__context__
    assert fault is not None
    assert "table.arrow must be readable" in (machine_fault(fault) or "")
