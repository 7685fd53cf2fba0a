"""Tables: round trip, metadata, what a kill leaves, and the errors a reader gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sgdline.errors import SgdlineError
from sgdline.tables import RULES, SCHEMAS, TableWriter, concatenate, provenance, read_table, write_table


def trace_row(step: int) -> dict[str, Any]:
    names = ("epoch", "lr", "batch_loss", "gradient_norm", "direction_norm", "distance_from_start", "parameter_norm")
    return {"step": step, "gradient_cosine": None, "status": "ok"} | {name: step / 7 for name in names}


def write_rows(path: Path, steps: range, *, facts: dict[str, Any], finish: bool = True) -> None:
    with TableWriter(path, "trace", provenance=facts) as writer:
        for step in steps:
            writer.append([trace_row(step)])
        if finish:
            writer.finish({"diverged_at": None})


def test_every_kind_names_its_rule() -> None:
    assert set(RULES) == set(SCHEMAS)


def test_rows_and_metadata_come_back(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "trace.arrow"
    write_rows(path, range(5), facts={"seed": 3, "slice": {"lr": 0.1}})
    table = read_table(path, "trace")
    assert table["step"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["gradient_cosine"].null_count == 5
    assert provenance(table) == {"kind": "trace", "seed": 3, "slice": {"lr": 0.1}, "diverged_at": None}
    assert read_table(path, "trace", columns=["lr"]).column_names == ["lr"]
    assert [entry.name for entry in path.parent.iterdir()] == ["trace.arrow"]


def test_an_interrupted_writer_is_taken_up_and_leaves_the_same_bytes(tmp_path: Path) -> None:
    write_rows(tmp_path / "whole.arrow", range(6), facts={"seed": 1})
    path = tmp_path / "cut.arrow"
    write_rows(path, range(4), facts={"seed": 1}, finish=False)
    assert not path.exists()
    with TableWriter(path, "trace", provenance={"seed": 1}) as writer:
        assert writer.recovered["step"].to_pylist() == [0, 1, 2, 3]
        writer.append([trace_row(4), trace_row(5)])
        writer.finish({"diverged_at": None})
    assert path.read_bytes() == (tmp_path / "whole.arrow").read_bytes()


def test_a_torn_stream_keeps_its_whole_batches_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    write_rows(path, range(3), facts={}, finish=False)
    part = tmp_path / "trace.arrow.part"
    content = part.read_bytes()
    seen = set()
    for length in range(0, len(content), 97):
        part.write_bytes(content[:length])
        with TableWriter(path, "trace", provenance={}) as writer:
            steps = writer.recovered["step"].to_pylist()
        assert steps == list(range(len(steps)))
        seen.add(len(steps))
    assert {0, 1, 2} <= seen


def test_a_stream_of_other_facts_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    write_rows(path, range(3), facts={"slice": {"lr": 0.1}}, finish=False)
    with TableWriter(path, "trace", provenance={"slice": {"lr": 0.2}}) as writer:
        assert writer.recovered.num_rows == 0


def test_a_missing_value_in_a_required_column_is_refused(tmp_path: Path) -> None:
    row = trace_row(0) | {"lr": None}
    with TableWriter(tmp_path / "t.arrow", "trace", provenance={}) as writer, pytest.raises(ValueError, match="'lr'"):
        writer.append([row])
    with pytest.raises(ValueError, match="'epoch'"):
        write_table(tmp_path / "t.arrow", "trace", {"step": [1]}, provenance={})


def test_nullable_columns_may_be_left_out(tmp_path: Path) -> None:
    columns = {key: [value] for key, value in trace_row(1).items() if key != "gradient_cosine"}
    write_table(tmp_path / "t.arrow", "trace", columns, provenance={})
    assert read_table(tmp_path / "t.arrow", "trace")["gradient_cosine"].to_pylist() == [None]


def test_segments_are_joined_in_order_with_one_metadata(tmp_path: Path) -> None:
    paths = [tmp_path / f"segment{index}.arrow" for index in range(3)]
    for index, path in enumerate(paths):
        write_rows(path, range(2 * index, 2 * index + 2), facts={"seed": 1, "replay_drift": index / 10})
    concatenate(paths, "trace", tmp_path / "joined.arrow", facts={"replay_drift": 0.2})
    table = read_table(tmp_path / "joined.arrow", "trace")
    assert table["step"].to_pylist() == list(range(6))
    assert provenance(table)["replay_drift"] == 0.2


def test_errors_name_file_and_rule(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    with pytest.raises(SgdlineError, match=r"trace\.arrow must exist.*rule train_run"):
        read_table(path, "trace")
    write_rows(path, range(3), facts={})
    with pytest.raises(SgdlineError, match=r"must be of kind 'line', got 'trace'.*rule probe_segment"):
        read_table(path, "line")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SgdlineError, match=r"trace\.arrow must be a whole Arrow file"):
        read_table(path, "trace")
    path.write_text("not a table")
    with pytest.raises(SgdlineError, match="whole Arrow file"):
        read_table(path, "trace")


def test_a_table_of_another_version_names_the_column(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    write_rows(path, range(3), facts={})
    table = read_table(path, "trace")
    for changed, words in (
        (table.drop_columns(["lr"]), "must have the column 'lr'"),
        (table.set_column(0, "step", table["step"].cast(pa.int32())), "Column 'step'.*must be int64, got int32"),
    ):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, changed.schema) as writer:
            writer.write_table(changed)
        with pytest.raises(SgdlineError, match=words):
            read_table(path, "trace")


def test_a_long_table_comes_back_whole_whatever_the_appends_were(tmp_path: Path) -> None:
    rows = [trace_row(step) for step in range(2500)]
    for name, stride in (("few.arrow", 2500), ("many.arrow", 7)):
        with TableWriter(tmp_path / name, "trace", provenance={}) as writer:
            for first in range(0, len(rows), stride):
                writer.append(rows[first : first + stride])
            writer.finish()
    assert read_table(tmp_path / "many.arrow", "trace")["step"].to_pylist() == list(range(2500))
    assert (tmp_path / "many.arrow").read_bytes() == (tmp_path / "few.arrow").read_bytes()
