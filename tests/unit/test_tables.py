"""Tables: round trip, metadata, what a kill leaves, and the errors a reader gets."""

from __future__ import annotations

import ast
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdline import tables
from sgdline.errors import SgdlineError
from sgdline.tables import (
    Kind,
    TableWriter,
    concatenate,
    kind_names,
    kind_of,
    provenance,
    read_provenance,
    read_table,
    write_table,
)

ROOT = Path(tables.__file__).parents[3]


def trace_row(step: int) -> dict[str, Any]:
    names = ("epoch", "lr", "batch_loss", "gradient_norm", "direction_norm", "distance_from_start", "parameter_norm")
    return {"step": step, "gradient_cosine": None, "status": "ok"} | {name: step / 7 for name in names}


def line_row(step: int, positions: int, *, samples: int | None = None, validation: bool = False) -> dict[str, Any]:
    """A row of the kind `line` with numpy arrays for lists; `samples` entries per position."""
    s = np.linspace(-0.5, 0.5, positions)
    loss = 1 + step + s**2
    names = ("epoch", "lr", "direction_norm", "step_length", "direction_batch_slope", "step_train_loss")
    row: dict[str, Any] = {name: step / 7 for name in names}
    return row | {
        "step": step,
        "panel_edges": np.empty(0),
        "positions": s,
        "train_loss": loss,
        "direction_batch_loss": loss,
        "validation_loss": loss / 3 if validation else None,
        "chunk_loss": np.repeat(loss, 2) / 3,
        "sample_loss": None if samples is None else np.repeat(loss, samples) / 3,
        "step_direction_batch_loss": 0.1,
        "interpolation_error": None if step % 3 else 1e-4,
        "evaluations": positions + 1,
        "rings": 1,
        "status": "ok" if step % 4 else "edge",
    }


def batch_rows(path: Path) -> list[int]:
    with pa.ipc.open_file(path) as reader:
        return [reader.get_batch(index).num_rows for index in range(reader.num_record_batches)]


def write_rows(path: Path, steps: range, *, facts: dict[str, Any], finish: bool = True) -> None:
    with TableWriter(path, "trace", provenance=facts) as writer:
        for step in steps:
            writer.append([trace_row(step)])
        if finish:
            writer.finish({"diverged_at": None})


def test_every_kind_names_a_rule_of_the_workflow() -> None:
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    for name in kind_names():
        kind = kind_of(name)
        assert kind.name == name
        assert f"\nrule {kind.rule}:\n" in f"\n{rules}"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError, match=r"line_fits.*got 'lines'"):
        kind_of("lines")


@pytest.mark.slow
def test_the_package_imports_the_kinds_that_it_uses() -> None:
    """A kind that is named by a string escapes the digests of code: its users would not be made again."""
    users = {"read_table", "write_table", "TableWriter", "iterate_table", "read_provenance", "concatenate", "kind_of"}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in users:
                kinds = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                assert not set(kinds) & set(kind_names()), f"{path}:{node.lineno}"


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
        write_table(path, Kind("trace", "train_run", changed.schema), changed, provenance={})
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


def write_lines(path: Path, rows: list[dict[str, Any]], appends: list[int], kills: list[bool]) -> Path:
    """Append as many rows at a time as `appends` says, over and over; after each of them die if `kills` says so."""
    done, turn = 0, 0
    while True:
        with TableWriter(path, "line", provenance={"seed": 1}) as writer:
            assert writer.recovered["step"].to_pylist() == [row["step"] for row in rows[:done]]
            while done < len(rows):
                writer.append(rows[done : done + appends[turn % len(appends)]])
                done, turn = min(done + appends[turn % len(appends)], len(rows)), turn + 1
                if turn <= len(kills) and kills[turn - 1]:
                    break
            else:
                writer.finish()
                return path


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 5), st.booleans()), max_size=14),
    appends=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    kills=st.lists(st.booleans(), max_size=6),
    cuts=st.sets(st.integers(0, 14)),
)
@pytest.mark.slow
def test_bytes_follow_from_the_rows_alone(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[tuple[int, int | None, bool]],
    appends: list[int],
    kills: list[bool],
    cuts: set[int],
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [line_row(step, p, samples=n, validation=given) for step, (p, n, given) in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables.store, "_ROWS_PER_BATCH", 5)
        patch.setattr(tables.store, "_LIST_BYTES_PER_BATCH", 400)
        whole = write_lines(folder / "whole.arrow", rows, [len(rows) or 1], [])
        write_lines(folder / "other.arrow", rows, appends, kills)
        bounds = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
        segments = [
            write_lines(folder / f"segment{index}.arrow", rows[first:last], appends, kills)
            for index, (first, last) in enumerate(itertools.pairwise(bounds))
        ]
        concatenate(segments, "line", folder / "joined.arrow", facts={})
        write_table(folder / "table.arrow", "line", read_table(whole, "line"), provenance={"seed": 1})
        columns = {name: [row.get(name) for row in rows] for name in kind_of("line").schema.names}
        write_table(folder / "columns.arrow", "line", columns, provenance={"seed": 1})
    content = whole.read_bytes()
    for name in ("other", "joined", "table", "columns"):
        assert (folder / f"{name}.arrow").read_bytes() == content, name
    found = read_table(whole, "line")
    assert found["step"].to_pylist() == list(range(len(rows)))
    for name in ("positions", "validation_loss", "sample_loss"):
        expected = [None if row[name] is None else row[name].astype(np.float32).tolist() for row in rows]
        assert found[name].cast(pa.list_(pa.float32())).to_pylist() == expected
    lengths = [sum(array.nbytes for array in line_arrays(row)) for row in rows]
    for first, count in zip(itertools.accumulate([0, *batch_rows(whole)]), batch_rows(whole), strict=False):
        assert count <= 5
        assert count == 1 or sum(lengths[first : first + count]) <= 400
        if count < 5 and first + count < len(rows):
            assert sum(lengths[first : first + count + 1]) > 400


def line_arrays(row: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    narrow = ("chunk_loss", "sample_loss")
    return [
        value.astype(np.float32) if name in narrow else value
        for name, value in row.items()
        if isinstance(value, np.ndarray)
    ]


def test_large_rows_get_small_batches_whatever_the_appends_and_segments_were(tmp_path: Path) -> None:
    rows = [line_row(step, 169, samples=9000) for step in range(7)]  # 6 MB each: two fit under 16 MiB
    whole = write_lines(tmp_path / "whole.arrow", rows, [7], [])
    single = write_lines(tmp_path / "single.arrow", rows, [1], [False, True])
    segments = [
        write_lines(tmp_path / f"segment{first}.arrow", rows[first:last], [2], []) for first, last in ((0, 3), (3, 7))
    ]
    concatenate(segments, "line", tmp_path / "joined.arrow", facts={})
    assert batch_rows(whole) == [2, 2, 2, 1]
    assert single.read_bytes() == whole.read_bytes()
    assert (tmp_path / "joined.arrow").read_bytes() == whole.read_bytes()


def test_arrays_give_the_bytes_of_lists(tmp_path: Path) -> None:
    arrays = [
        line_row(0, 5, samples=3),
        line_row(1, 0, samples=0),
        line_row(2, 4, validation=True) | {"train_loss": np.array([np.nan, np.inf, -0.0, 1e-320])},
        line_row(3, 3) | {"positions": np.array([-1, 0, 1]), "train_loss": np.array([1.5, 2.5, 3.5], dtype=np.float32)},
        line_row(4, 6) | {"positions": np.linspace(0, 1, 12)[::2]},
    ]
    lists = [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}
        for row in arrays
    ]
    mixed = [lists[0], arrays[1], lists[2], arrays[3], lists[4]]
    paths = [
        write_lines(tmp_path / f"{index}.arrow", rows, appends, [])
        for index, (rows, appends) in enumerate(itertools.product((arrays, lists, mixed), ([5], [1])))
    ]
    assert len({path.read_bytes() for path in paths}) == 1
    assert np.isnan(read_table(paths[0], "line")["train_loss"][2].as_py()[0]), "NaN must not become null"


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "t.arrow", "line", provenance={}) as writer:
        for column, value, words in (
            ("train_loss", None, "column 'train_loss' must not hold nulls, got 1"),
            ("train_loss", np.zeros((2, 2)), "1-dimensional"),
            ("positions", np.array(["a"]), "Cannot cast"),
        ):
            with pytest.raises((ValueError, TypeError), match=words):
                writer.append([line_row(0, 2) | {column: value}])
        writer.append([line_row(0, 2)])
        writer.finish()
    assert read_table(tmp_path / "t.arrow", "line").num_rows == 1


def test_recovered_rows_come_without_their_lists(tmp_path: Path) -> None:
    path = tmp_path / "line.arrow"
    with TableWriter(path, "line", provenance={}) as writer:
        writer.append([line_row(0, 5, samples=3), line_row(1, 5, samples=3)])
    with TableWriter(path, "line", provenance={}) as writer:
        recovered = writer.recovered
        writer.append([line_row(2, 5, samples=3)])
        writer.finish()
    assert recovered["step"].to_pylist() == [0, 1]
    assert recovered["status"].to_pylist() == ["edge", "ok"]
    assert not any(pa.types.is_nested(field.type) for field in recovered.schema)
    assert recovered.column_names == [
        field.name for field in kind_of("line").schema if not pa.types.is_list(field.type)
    ]
    assert read_table(path, "line")["sample_loss"].is_valid().to_pylist() == [True] * 3


def test_joining_checks_its_tables_and_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    good, target = tmp_path / "good.arrow", tmp_path / "joined.arrow"
    write_rows(good, range(3), facts={})
    target.write_text("as it was")
    bad = tmp_path / "bad.arrow"
    with pytest.raises(SgdlineError, match=r"bad\.arrow must exist"):
        concatenate([good, bad], "trace", target, facts={})
    content = bytearray(good.read_bytes())
    bad.write_bytes(content[: len(content) // 2])
    with pytest.raises(SgdlineError, match=r"bad\.arrow must be a whole Arrow file"):
        concatenate([good, bad], "trace", target, facts={})
    place = content.index(b"\x28\xb5\x2f\xfd")  # a compressed buffer starts with this: only reading the rows finds it
    content[place : place + 4] = bytes(4)
    bad.write_bytes(content)
    with pytest.raises(SgdlineError, match=r"bad\.arrow must be a whole Arrow file"):
        concatenate([good, bad], "trace", target, facts={})
    write_lines(bad, [line_row(0, 3)], [1], [])
    with pytest.raises(SgdlineError, match=r"bad\.arrow must be of kind 'trace', got 'line'"):
        concatenate([good, bad], "trace", target, facts={})
    assert target.read_text() == "as it was"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bad.arrow", "good.arrow", "joined.arrow"]


def test_metadata_and_row_count_can_be_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "line.arrow"
    write_lines(path, [line_row(step, 4) for step in range(3)], [1], [])
    assert read_provenance(path, "line") == {"kind": "line", "seed": 1}
    nothing = read_table(path, "line", columns=[])
    assert (nothing.column_names, nothing.num_rows) == ([], 3)
    with pytest.raises(SgdlineError, match=r"must be of kind 'trace', got 'line'"):
        read_provenance(path, "trace")
    with pytest.raises(SgdlineError, match=r"none\.arrow must exist"):
        read_provenance(tmp_path / "none.arrow", "line")


def test_columns_of_unequal_length_are_refused(tmp_path: Path) -> None:
    columns = {name: [value] for name, value in trace_row(0).items()} | {"lr": [0.1, 0.2]}
    with pytest.raises(ValueError, match="one length"):
        write_table(tmp_path / "t.arrow", "trace", columns, provenance={})
    assert list(tmp_path.iterdir()) == []


# 150 lines at 169 positions with 4000 samples: 406 MB of sample losses. They repeat, so that the files stay small.
MEMORY_SCRIPT = """
import json, re, sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from sgdline.tables import TableWriter, concatenate, kind_names, kind_of, read_table, write_table
from test_tables import line_row

folder, lines = Path(sys.argv[1]), 150


def peak():
    # Not ru_maxrss: on Linux a child starts with its parent's.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3


samples = np.tile(np.random.default_rng(0).random(4000, dtype=np.float32), 169)
rows = [line_row(step, 169) | {"sample_loss": samples} for step in range(lines)]
with TableWriter(folder / "warm.arrow", "line", provenance={}) as writer:
    writer.append(rows[:1])
    writer.finish()
start, growth = peak(), {}


def note(name):
    growth[name] = peak() - start


with TableWriter(folder / "a.arrow", "line", provenance={}) as writer:
    for row in rows:
        writer.append([row])
note("append")
with TableWriter(folder / "a.arrow", "line", provenance={}) as writer:
    assert writer.recovered.num_rows == lines
    note("recover")
    writer.finish()
note("finish")
concatenate([folder / "warm.arrow", folder / "a.arrow"], "line", folder / "joined.arrow", facts={})
note("concatenate")
read_table(folder / "joined.arrow", "line", columns=["train_loss"])
read_table(folder / "joined.arrow", "line", columns=[])
note("read")
write_table(folder / "c.arrow", "line", {name: [row[name] for row in rows] for name in rows[0]}, provenance={})
note("columns")
one = read_table(folder / "warm.arrow", "line")
write_table(folder / "d.arrow", "line", pa.concat_tables([one] * lines), provenance={})
note("table")
everything = read_table(folder / "joined.arrow", "line")
note("everything")
print(json.dumps(growth))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of its memory from /proc")
@pytest.mark.slow
def test_sample_losses_larger_than_the_memory_stream_to_disk(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    growth = json.loads(ran.stdout)
    assert growth.pop("everything") > 400, "the measurement must see a table that is loaded whole"
    assert max(growth.values()) < 200, f"megabytes beyond the start: {growth}"
