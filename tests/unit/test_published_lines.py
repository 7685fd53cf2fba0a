"""Lines of the published sampler: reading its pickles, refusing everything else, and what they become."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import io
import json
import math
import os
import pickle
import pickletools
import re
import struct
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_runs import a_run, by_name, claim_of, judged, judged_files
from published_pickles import (
    BATCH,
    LR,
    SyntheticLine,
    released_positions,
    synthetic_lines,
    write_pickle,
    write_run,
    write_sgd_run,
)

from sgdline.analysis.distances import measure_distances
from sgdline.analysis.fits import fit_lines
from sgdline.analysis.metrics import measure_lines
from sgdline.analysis.rates import constant_rate
from sgdline.analysis.strategies import measure_strategies
from sgdline.cli import main
from sgdline.config import resolve_config
from sgdline.data import restricted_pickles
from sgdline.data.published_lines import PublishedLine, find_pickles, folder_digest, import_lines, read_pickle
from sgdline.errors import SgdlineError
from sgdline.figures.grammar import series, style
from sgdline.tables import provenance, read_table

PROTOCOLS = [2, 3, 4, 5]
LINE = synthetic_lines(1)[0]
POSITIONS = released_positions(LR * LINE.direction_norm)


def imported(folder: Path, **options: Any) -> tuple[Any, Any]:
    """Return the tables of lines and trace that a folder becomes."""
    line, trace = folder.parent / "line.arrow", folder.parent / "trace.arrow"
    import_lines(folder, line=line, trace=trace, **{"interval": 0.5, "provenance": {}, **options})
    return read_table(line, "line"), read_table(trace, "trace")


def imported_row(folder: Path, fields: Any, **options: Any) -> dict[str, Any]:
    """Return the row that a single line becomes, its lists as arrays."""
    write_pickle(folder, 3, fields)
    [row] = imported(folder, **options)[0].to_pylist()
    return {name: np.array(value) if isinstance(value, list) else value for name, value in row.items()}


def fields_at(positions: Any, /, *, line: SyntheticLine = LINE, **changed: Any) -> list[Any]:
    fields = line.fields(np.asarray(positions, dtype=np.float64))
    names = ("train", "validation", "positions", "batch", "step_length", "direction_norm", "flag", "number")
    for name, value in changed.items():
        fields[names.index(name)] = value
    return fields


# --- what the sampler writes ------------------------------------------------------------------------------------------


def assert_same(found: PublishedLine, fields: list[Any]) -> None:
    arrays = (found.train_loss, found.validation_loss, found.positions, found.direction_batch_loss)
    for own, expected in zip(arrays, fields[:4], strict=True):
        assert own.dtype == np.float64
        np.testing.assert_array_equal(own, expected)
    assert (found.step_length, found.direction_norm) == (float(fields[4]), float(fields[5]))


class TestReading:
    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize("container", [tuple, list])
    def test_arrays_and_a_torch_norm(self, tmp_path: Path, protocol: int, container: Callable[..., Any]) -> None:
        fields = fields_at(POSITIONS, direction_norm=torch.tensor(1.25))
        found = read_pickle(write_pickle(tmp_path, 17, container(fields), protocol=protocol))
        assert found.step == 17
        assert_same(found, fields)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize(
        "number",
        [
            0.5, 2, np.float64(0.5), np.float32(0.3), np.float16(0.3), np.int64(2), np.array(0.5), np.array([0.5]),
            torch.tensor(0.3), torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float16),
            torch.tensor(2), torch.tensor(2, dtype=torch.int32), torch.tensor([0.3]), torch.arange(3.0)[1],
            torch.tensor(0.3, requires_grad=True),
        ],
    )  # fmt: skip
    def test_every_kind_of_number(self, tmp_path: Path, protocol: int, number: Any) -> None:
        fields = fields_at(POSITIONS, step_length=number, direction_norm=number, number=number, flag=np.False_)
        found = read_pickle(write_pickle(tmp_path, 0, fields, protocol=protocol))
        assert found.step_length == found.direction_norm == float(getattr(number, "item", lambda: number)())

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize(
        "change",
        [
            np.asfortranarray,
            lambda losses: np.ascontiguousarray(losses[:, ::-1])[:, ::-1],  # not contiguous
            lambda losses: losses.astype(np.float32),
            lambda losses: losses.astype(">f8"),
            lambda losses: np.rint(losses).astype(np.int64),
        ],
    )
    def test_every_layout_of_numbers(self, tmp_path: Path, protocol: int, change: Callable[..., Any]) -> None:
        fields = fields_at(POSITIONS)
        for place in (0, 1, 3):
            fields[place] = change(fields[place])
        assert_same(read_pickle(write_pickle(tmp_path, 0, fields, protocol=protocol)), fields)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize("shape", [(0, len(POSITIONS)), (0,), (0, 0)])
    def test_no_validation_set(self, tmp_path: Path, protocol: int, shape: tuple[int, ...]) -> None:
        path = write_pickle(tmp_path, 0, fields_at(POSITIONS, validation=np.empty(shape)), protocol=protocol)
        assert read_pickle(path).validation_loss.shape == (0, len(POSITIONS))

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_names_of_numpy_1(self, tmp_path: Path, protocol: int) -> None:
        fields = fields_at([-0.1, 0.0, 0.1], direction_norm=np.float64(1.5))
        path = write_pickle(tmp_path, 0, fields, protocol=protocol)
        content = path.read_bytes()
        for name in (b"numpy._core.multiarray", b"numpy._core.numeric"):
            old = name.replace(b"_core", b"core")
            content = content.replace(bytes([len(name)]) + name, bytes([len(old)]) + old).replace(name, old)
        if protocol >= 4:  # one frame: behind its length, nine bytes
            content = content[:3] + struct.pack("<Q", len(content) - 11) + content[11:]
        assert b"numpy.core" in content
        assert b"numpy._core" not in content
        path.write_bytes(content)
        assert_same(read_pickle(path), fields)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_a_torch_scalar_of_a_gpu(self, tmp_path: Path, protocol: int) -> None:
        stored = torch_storage("FloatStorage", struct.pack("<f", 0.75), location="cuda:0")
        number = Reduced(torch._utils._rebuild_tensor_v2, Loaded(stored), 0, (), (), False, Ordered())
        path = write_pickle(tmp_path, 0, fields_at(POSITIONS, direction_norm=number), protocol=protocol)
        assert read_pickle(path).direction_norm == 0.75

    def test_torch_is_not_needed(self, tmp_path: Path) -> None:
        path = write_pickle(tmp_path, 0, fields_at(POSITIONS, direction_norm=torch.tensor(0.25)))
        program = (
            "import sys; sys.modules['torch'] = None\n"
            "from sgdline.data.published_lines import read_pickle\n"
            "print(read_pickle(sys.argv[1]).direction_norm)"
        )
        result = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
        assert result.stdout == "0.25\n", result.stderr


class Reduced:
    """Pickled as a call."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._parts = (call, arguments)

    def __reduce__(self) -> Any:
        return self._parts


def Loaded(content: bytes) -> Reduced:  # noqa: N802
    return Reduced(torch.storage._load_from_bytes, content)


def Ordered() -> Any:  # noqa: N802
    from collections import OrderedDict

    return OrderedDict()


def torch_storage(kind: str, values: bytes, *, location: str = "cpu", count: int = 1, first: bytes = b"") -> bytes:
    """Return a storage as torch.save writes it in its older form: constants, a persistent id, keys, count, values."""

    def text(words: str) -> bytes:
        return b"X" + struct.pack("<I", len(words)) + words.encode()

    storage = b"\x80\x02(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("94") + text(location)
    storage += b"J" + struct.pack("<i", count) + b"NtQ."
    constants = (
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    )
    keys = pickle.dumps(["94"], 2)
    return first + constants + storage + keys + struct.pack("<q", count) + values


def test_the_handmade_storage_is_torch_s_own() -> None:
    content = torch_storage("FloatStorage", struct.pack("<f", 0.75))
    with pytest.warns(UserWarning, match="TypedStorage"):
        assert torch.load(io.BytesIO(content), weights_only=False).tolist() == [0.75]


# --- what else a pickle can hold --------------------------------------------------------------------------------------


def stack_global(module: str, name: str, *arguments: str) -> bytes:
    """Return a pickle of protocol 4 that calls a name, dotted or not, with texts."""

    def text(words: str) -> bytes:
        return b"\x8c" + bytes([len(words)]) + words.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93(" + b"".join(text(word) for word in arguments) + b"tR."


def harmful(canary: Path) -> dict[str, bytes]:
    """Return pickles that would make the canary if anything in them were run."""
    shell, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    system, evaluated = Reduced(os.system, shell), Reduced(eval, code)
    storage = torch_storage("FloatStorage", struct.pack("<f", 1.0))
    objects = np.array([system, 1.0], dtype=object)
    tensor = Reduced(torch._utils._rebuild_tensor_v2, Loaded(pickle.dumps(system)), 0, (), (), False, Ordered())
    inside = torch_storage("FloatStorage", struct.pack("<f", 1.0), first=pickle.dumps(system, 2))
    named = storage.replace(b"ctorch\nFloatStorage\n", b"cposix\nsystem\n")
    found = {f"system_{protocol}": pickle.dumps(fields_at(POSITIONS, number=system), protocol) for protocol in range(6)}
    for name, entry in {
        "eval": evaluated,
        "exec": Reduced(exec, code),
        "popen": Reduced(subprocess.check_call, ["touch", str(canary)]),
        "getattr": Reduced(getattr, Reduced(__import__, "os"), "system"),
        "map": Reduced(list, Reduced(map, os.system, [shell])),
        "path": canary,
        "counter": Counter("a"),
        "object_array": objects,
        "object_fields": np.zeros(2, dtype=[("a", object), ("b", "f8")]),
        "storage_of_a_pickle": Loaded(pickle.dumps(system)),
        "tensor_of_a_pickle": tensor,
        "pickle_before_the_storage": Loaded(inside),
        "another_name_in_the_storage": Loaded(named),
        "torch_load": Reduced(torch.load, str(canary)),
        "memory_map": Reduced(np.memmap, str(canary), "f8", "w+", 0, (2,)),
        "text_array": np.array(["a"]),
        "encoded": Reduced(__import__("_codecs").encode, "a", "rot13"),
    }.items():
        for protocol in PROTOCOLS:
            found[f"{name}_{protocol}"] = pickle.dumps(fields_at(POSITIONS, train=entry), protocol)
    text = f"X{struct.pack('<I', len(shell)).decode('latin1')}{shell}".encode("latin1")
    found |= {
        "dotted_system": stack_global("numpy", "core.multiarray.os.system", shell),
        "dotted_modules": stack_global("numpy.core", "multiarray.sys.modules"),
        "dotted_globals": stack_global("numpy._core.multiarray", "_reconstruct.__globals__"),
        "dotted_allowed": stack_global("numpy", "ndarray.__class__", "a"),
        "runstring": stack_global("numpy.testing._private.utils", "runstring", code, ""),
        "dunder": stack_global("sgdline.data.published_lines", "find_pickles", "/"),
        "inst": f"(S{shell!r}\nios\nsystem\n.".encode(),
        "obj": b"\x80\x02(cposix\nsystem\n" + text + b"o.",
        "newobj": b"\x80\x02cnumpy\nndarray\nK\x05\x85\x81.",
        "newobj_ex": b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93)}\x92.",
        "called_class": b"\x80\x02cnumpy\nndarray\nK\x05\x85R.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Pline\n.",
        "binary_persistent": b"\x80\x02NQ.",
        "state_of_a_name": b"\x80\x02cnumpy\nndarray\nNN\x86b.",
        "dictionary_state": b"\x80\x02cnumpy\nndarray\n}b.",
        "hash_of_a_dictionary": b"\x80\x02})" + b"2\x86" * 60 + b"Ns.",
    }
    return found


NAMES = list(harmful(Path("canary")))


class TestRefusing:
    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_is_run(self, tmp_path: Path, name: str) -> None:
        canary = tmp_path / "canary"
        path = tmp_path / "line_data_5.pickle"
        path.write_bytes(harmful(canary)[name])
        with pytest.raises(SgdlineError) as caught:
            read_pickle(path)
        assert not canary.exists()
        words = str(caught.value)
        assert str(path) in words
        assert "\n" not in words
        assert len(words) < 400 + len(str(path))

    def test_the_interpreter_sees_no_call(self, tmp_path: Path) -> None:
        paths = []
        for index, content in enumerate(harmful(tmp_path / "canary").values()):
            paths.append(tmp_path / f"line_data_{index}.pickle")
            paths[-1].write_bytes(content)
        program = (
            "import sys\n"
            "from sgdline.data.published_lines import read_pickle\n"
            "from sgdline.errors import SgdlineError\n"
            "seen, refused = set(), 0\n"
            "sys.addaudithook(lambda event, arguments: seen.add(event))\n"
            "for path in sys.argv[1:]:\n"
            "    try:\n"
            "        read_pickle(path)\n"
            "    except SgdlineError:\n"
            "        refused += 1\n"
            "print(refused, *sorted(seen))"
        )
        command = [sys.executable, "-c", program, *map(str, paths)]
        result = subprocess.run(command, capture_output=True, text=True)
        refused, *events = result.stdout.split()
        assert int(refused) == len(paths), result.stderr
        # Nothing is imported, looked up, compiled or started.
        assert events == ["open"]

    @pytest.mark.parametrize(
        "name", ["system_0", "system_2", "system_5", "eval_4", "object_array_5", "inst", "popen_4"]
    )
    def test_the_canary_sings_in_an_open_unpickler(self, tmp_path: Path, name: str) -> None:
        pickle.loads(harmful(tmp_path / "canary")[name])
        assert (tmp_path / "canary").exists()

    def test_the_canary_sings_in_torch_s_own_loader(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="magic number"):  # found out too late
            pickle.loads(harmful(tmp_path / "canary")["tensor_of_a_pickle_4"])
        assert (tmp_path / "canary").exists()

    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("system_2", "posix.system"),
            ("eval_4", "builtins.eval"),
            ("dotted_system", "'numpy.core.multiarray.os.system'"),
            ("inst", "the pickle instruction"),
            ("persistent", "the pickle instruction PERSID"),
            ("memory_map_4", "numpy.memmap"),
            ("text_array_4", "the array type 'U1'"),
            ("another_name_in_the_storage_4", "posix system"),
        ],
    )
    def test_the_sentence_says_what_was_found(self, tmp_path: Path, name: str, found: str) -> None:
        path = tmp_path / "line_data_5.pickle"
        path.write_bytes(harmful(tmp_path / "canary")[name])
        with pytest.raises(SgdlineError, match="must hold numpy arrays and numbers only") as caught:
            read_pickle(path)
        assert found in str(caught.value)
        assert "Nothing of it was run" in str(caught.value)

    @pytest.mark.parametrize(
        "content",
        [
            b"\x80\x02Nr\xff\xff\xff\x7f.",  # place 2^31 of the memory
            b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",  # a frame of 2^62 bytes
            b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a.",  # bytes
            b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.",  # a bytearray
            b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",  # a text
            b"\x80\x02cnumpy\nndarray\n\x8a\x06\0\0\0\0\0\x01\x85R.",  # ndarray(2^40)
            pickle.dumps(Reduced(np._core.numeric._frombuffer, b"a" * 8, np.dtype("f8"), (2**40,), "C"), 4),
            pickle.dumps(Reduced(np._core.numeric._frombuffer, b"", np.dtype("f8"), (2**40, 0), "C"), 4),
            pickle.dumps(Loaded(torch_storage("FloatStorage", b"", count=2**31 - 1)), 4),
            pickle.dumps(Loaded(bytes(2**20)), 4),
            # One text of 100,000 letters, encoded a thousand times.
            b"\x80\x02c_codecs\nencode\nq\0X" + struct.pack("<I", 10**5) + b"a" * 10**5 + b"q\1X\6\0\0\0latin1q\2]("
            + b"h\0h\1h\2\x86R" * 1000 + b"e.",
            # One storage of 4,000 bytes, taken out of the memory 20,000 times.
            b"\x80\x02ctorch.storage\n_load_from_bytes\nq\0B"
            + struct.pack("<I", len(torch_storage("DoubleStorage", bytes(3600), count=450)))
            + torch_storage("DoubleStorage", bytes(3600), count=450) + b"q\1(" + b"h\0h\1\x85R" * 20000 + b"t.",
        ],
    )  # fmt: skip
    def test_a_small_file_takes_little_memory(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "line_data_5.pickle"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(SgdlineError):
                read_pickle(path)
            assert tracemalloc.get_traced_memory()[1] < 10e6
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_a_file_cut_off_anywhere(self, tmp_path: Path, protocol: int) -> None:
        path = write_pickle(
            tmp_path, 0, fields_at([-0.1, 0.0, 0.1], direction_norm=torch.tensor(1.0)), protocol=protocol
        )
        content = path.read_bytes()
        for length in range(len(content)):
            path.write_bytes(content[:length])
            with pytest.raises(SgdlineError, match="cannot be read"):
                read_pickle(path)

    @pytest.mark.parametrize(
        "content", [b"", b"loss,position\n1,2\n", b"\x89PNG\r\n", bytes(100), b"PK\3\4" + bytes(50)]
    )
    def test_a_file_of_another_kind(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "line_data_5.pickle"
        path.write_bytes(content)
        with pytest.raises(SgdlineError, match=r"line_data_5\.pickle must"):
            read_pickle(path)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            (fields_at(POSITIONS)[:7], "8 entries, got 7 entries"),
            ([*fields_at(POSITIONS), 1], "got 9 entries"),
            (3.0, "got a float"),
            (None, "got a NoneType"),
            ("line", "got 'line'"),
            (np.zeros(8), "8 entries, got an array"),
            (
                fields_at(POSITIONS, train=LINE.losses(POSITIONS).tolist()),
                "numpy array for the losses of the measuring",
            ),
            (fields_at(POSITIONS, train=np.zeros((10, 3))), r"got the shape \(10, 3\)"),
            (fields_at(POSITIONS, train=np.zeros((0, len(POSITIONS)))), r"got the shape \(0, 169\)"),
            (fields_at(POSITIONS, train=np.zeros(len(POSITIONS))), "got 1 dimension"),
            (fields_at(POSITIONS, train=np.zeros((10, len(POSITIONS)), dtype=bool)), "of bool"),
            (fields_at(POSITIONS, batch=np.zeros((4, 2))), "losses of the direction batch"),
            (fields_at(POSITIONS, validation=np.zeros((4, 2))), "losses of the validation set"),
            (fields_at(POSITIONS, positions=POSITIONS[None]), "1-dimensional array of numbers for the positions"),
            (fields_at(POSITIONS, positions=np.where(POSITIONS > 0.4, np.nan, POSITIONS)), "finite positions"),
            (fields_at(POSITIONS, positions=np.where(POSITIONS > 0.4, np.inf, POSITIONS)), "finite positions"),
            (fields_at(POSITIONS, positions=np.empty(0)), "finite positions"),
            (fields_at(POSITIONS, step_length=None), "one number for the step length, got a NoneType"),
            (fields_at(POSITIONS, step_length="0.1"), "one number for the step length, got '0.1'"),
            (fields_at(POSITIONS, step_length=10**400), "one number for the step length"),
            (fields_at(POSITIONS, direction_norm=np.zeros(2)), "one number for the norm of the direction"),
            (fields_at(POSITIONS, flag="no"), "one number for the flag"),
            (fields_at(POSITIONS, number=(1,)), "one number for the number of the batch"),
        ],
    )
    def test_a_wrong_form(self, tmp_path: Path, fields: Any, words: str) -> None:
        with pytest.raises(SgdlineError, match=words) as caught:
            read_pickle(write_pickle(tmp_path, 8, fields))
        assert "line_data_8.pickle" in str(caught.value)

    def test_a_tensor_of_many_values(self, tmp_path: Path) -> None:
        for tensor in (torch.ones(2), torch.ones(0), torch.ones(3000, dtype=torch.float64)[0]):
            with pytest.raises(SgdlineError, match="a torch tensor of many values, or none"):
                read_pickle(write_pickle(tmp_path, 8, fields_at(POSITIONS, direction_norm=tensor)))
        kept = Reduced(torch._utils._rebuild_tensor_v2, Loaded(torch_storage("FloatStorage", bytes(4))), 1, (), ())
        with pytest.raises(SgdlineError, match="outside its storage"):
            read_pickle(write_pickle(tmp_path, 8, fields_at(POSITIONS, direction_norm=kept)))

    def test_another_type_of_tensor(self, tmp_path: Path) -> None:
        fields = fields_at(POSITIONS, direction_norm=torch.tensor(1.0, dtype=torch.bfloat16))
        with pytest.raises(SgdlineError, match="the torch storage 'torch BFloat16Storage'"):
            read_pickle(write_pickle(tmp_path, 8, fields))

    @settings(max_examples=400, deadline=None)
    @given(
        protocol=st.sampled_from(PROTOCOLS),
        changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from("scd")), max_size=5),
    )
    @pytest.mark.slow
    def test_any_damage_is_one_sentence(
        self, tmp_path_factory: pytest.TempPathFactory, protocol: int, changes: list[tuple[int, int, str]]
    ) -> None:
        fields = fields_at([-0.1, 0.0, 0.1], direction_norm=torch.tensor(1.0), step_length=np.float64(0.1))
        content = bytearray(pickle.dumps(fields, protocol=protocol))
        for place, value, kind in changes:
            place %= len(content)
            if kind == "s":
                content[place] = value
            elif kind == "c":
                content.insert(place, value)
            else:
                del content[place]
        path = tmp_path_factory.mktemp("damaged") / "line_data_0.pickle"
        path.write_bytes(content)
        with contextlib.suppress(SgdlineError):
            found = read_pickle(path)
            assert found.train_loss.shape[1] == found.direction_batch_loss.shape[1] == found.positions.size

    def test_no_builtin_is_on_the_list(self) -> None:
        for (module, name), stand_in in restricted_pickles._NAMES.items():
            assert type(stand_in) is restricted_pickles._Name
            assert not hasattr(builtins, name) or (module, name) == ("__builtin__", "bytes")
            assert "." not in name

    def test_the_instructions_are_those_that_picklers_write(self) -> None:
        known = {instruction.name for instruction in pickletools.opcodes}
        assert known >= restricted_pickles._INSTRUCTIONS | restricted_pickles._MAPPINGS
        forbidden = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"}
        forbidden |= {"DUP", "ADDITEMS", "FROZENSET"}
        assert not (restricted_pickles._INSTRUCTIONS | restricted_pickles._MAPPINGS) & forbidden
        assert not restricted_pickles._INSTRUCTIONS & {"SETITEM", "SETITEMS", "EMPTY_DICT"}


# --- the folder -------------------------------------------------------------------------------------------------------


class TestFolder:
    def test_steps_come_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        lines = ["line_data_10.pickle", "line_data_9.pickle", "line_data_100.pickle"]
        others = ["line_10.png", "line_data_7.pickle.part", "xline_data_8.pickle", "line_data_x.pickle"]
        for name in [*lines, *others, "line_data_-1.pickle"]:
            (tmp_path / name).write_bytes(b"")
        (tmp_path / "line_data_11.pickle").mkdir()
        assert [step for step, _ in find_pickles(tmp_path)] == [9, 10, 100]

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(
            SgdlineError, match=r"must be a readable folder, got .*nowhere \(No such file or directory\)"
        ):
            find_pickles(tmp_path / "nowhere")
        (tmp_path / "file").write_text("")
        with pytest.raises(SgdlineError, match="Not a directory"):
            find_pickles(tmp_path / "file")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SgdlineError, match=r"must hold files line_data_<step>\.pickle, got none\. Unpack"):
            find_pickles(tmp_path)

    def test_two_files_for_one_update(self, tmp_path: Path) -> None:
        for name in ("line_data_7.pickle", "line_data_07.pickle"):
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(SgdlineError, match=r"got line_data_07\.pickle and line_data_7\.pickle"):
            find_pickles(tmp_path)

    def test_the_digest_follows_the_files(self, tmp_path: Path) -> None:
        assert folder_digest(tmp_path / "nowhere") == folder_digest(tmp_path) == "unreadable"
        path = tmp_path / "line_data_7.pickle"
        path.write_bytes(b"1")
        digests = [folder_digest(tmp_path)]
        (tmp_path / "notes.txt").write_text("not a line")
        assert folder_digest(tmp_path) == digests[0]
        path.write_bytes(b"22")
        digests.append(folder_digest(tmp_path))
        os.utime(path, ns=(10**18, 10**18))
        digests.append(folder_digest(tmp_path))
        (tmp_path / "line_data_8.pickle").write_bytes(b"1")
        digests.append(folder_digest(tmp_path))
        assert len(set(digests)) == 4

    def test_a_file_of_another_name(self, tmp_path: Path) -> None:
        with pytest.raises(SgdlineError, match="Rename it"):
            read_pickle(tmp_path / "line.pickle")
        with pytest.raises(SgdlineError, match="No such file or directory"):
            read_pickle(tmp_path / "line_data_1.pickle")


# --- what a line becomes ----------------------------------------------------------------------------------------------


class TestConversion:
    def test_the_grid_without_the_step(self, tmp_path: Path) -> None:
        fields = fields_at(POSITIONS)
        row = imported_row(tmp_path / "run", fields, sample_losses=True)
        grid = np.sort(np.concatenate([-0.5 + 0.006 * np.arange(84), 0.006 * np.arange(84)]))
        np.testing.assert_allclose(row["positions"], grid, rtol=0, atol=1e-15)
        assert row["positions"].size == POSITIONS.size - 1 == 168
        np.testing.assert_allclose(row["train_loss"], LINE.full(grid), rtol=1e-12)
        np.testing.assert_allclose(row["direction_batch_loss"], LINE.batch(grid), rtol=1e-12)
        np.testing.assert_allclose(row["validation_loss"], LINE.losses(grid)[-4:].mean(axis=0), rtol=1e-12)
        step = np.array([LR * LINE.direction_norm])
        assert row["step_train_loss"] == pytest.approx(LINE.full(step)[0], rel=1e-12)
        assert row["step_direction_batch_loss"] == pytest.approx(LINE.batch(step)[0], rel=1e-12)
        assert row["panel_edges"].size == 0
        assert (row["step"], row["status"], row["rings"], row["evaluations"]) == (3, "ok", 1, 169)
        assert row["lr"] == pytest.approx(LR, rel=1e-15)
        assert row["epoch"] == pytest.approx(3 / (10 / 4))
        absent = ("direction_batch_rows", "interpolation_error", "direction_batch_interpolation_error")
        assert [row[name] for name in absent] == [None] * 3

    def test_losses_of_samples_and_chunks_lie_node_by_node(self, tmp_path: Path) -> None:
        row = imported_row(tmp_path / "run", fields_at(POSITIONS), sample_losses=True)
        losses = LINE.losses(row["positions"])
        chunks, samples, batch = [], [], []
        for node in range(row["positions"].size):
            for rows in (range(4), range(4, 8), range(8, 10)):  # the last chunk is smaller
                chunks.append(sum(losses[i, node] for i in rows) / len(rows))
            samples += [losses[i, node] for i in range(10)]
            batch += [losses[i, node] for i in range(10, 14)]
        np.testing.assert_allclose(row["chunk_loss"], chunks, rtol=1e-6)
        np.testing.assert_array_equal(row["sample_loss"].astype(np.float32), np.array(samples, dtype=np.float32))
        np.testing.assert_array_equal(row["direction_batch_sample_loss"].astype(np.float32), np.float32(batch))

    def test_sample_losses_are_kept_on_request_only(self, tmp_path: Path) -> None:
        row = imported_row(tmp_path / "run", fields_at(POSITIONS))
        assert row["sample_loss"] is None
        assert row["direction_batch_sample_loss"] is None

    def test_the_slope_is_second_order_on_the_uneven_grid(self, tmp_path: Path) -> None:
        line = SyntheticLine(*(np.full(18, value) for value in (2.0, -0.7, 6.0, 0.0)), train=10, direction_norm=1.2)
        row = imported_row(tmp_path / "run", fields_at(POSITIONS, line=line))
        assert np.diff(row["positions"])[83] == pytest.approx(0.002)  # papers.md L9
        assert row["direction_batch_slope"] == pytest.approx(-0.7, abs=1e-12)

    def test_a_line_without_validation_set(self, tmp_path: Path) -> None:
        row = imported_row(tmp_path / "run", fields_at(POSITIONS, validation=np.empty((0, len(POSITIONS)))))
        assert row["validation_loss"] is None
        assert row["status"] == "ok"

    def test_the_step_on_a_grid_point(self, tmp_path: Path) -> None:
        positions = released_positions(0.12)
        assert np.sum(np.abs(positions - 0.12) < 1e-12) == 2
        line = synthetic_lines(1)[0]
        row = imported_row(tmp_path / "run", fields_at(positions, line=line, step_length=0.12))
        assert row["positions"].size == 168
        assert np.diff(row["positions"]).min() > 0.0019
        assert row["step_train_loss"] == pytest.approx(line.full(np.array([0.12]))[0])

    @pytest.mark.parametrize("rounded", [np.float32(0.11), torch.tensor(0.11)])
    def test_a_step_length_in_single_precision(self, tmp_path: Path, rounded: Any) -> None:
        row = imported_row(tmp_path / "run", fields_at(released_positions(0.11), step_length=rounded))
        assert row["positions"].size == 168
        assert row["step_length"] == float(rounded)

    def test_a_step_beyond_the_interval(self, tmp_path: Path) -> None:
        row = imported_row(tmp_path / "run", fields_at(released_positions(0.7), step_length=0.7, direction_norm=7.0))
        assert row["positions"][-1] == pytest.approx(0.498)
        assert row["step_train_loss"] == pytest.approx(LINE.full(np.array([0.7]))[0])
        assert (row["status"], row["rings"]) == ("ok", 1)

    def test_a_step_that_was_not_measured(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        positions = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
        row = imported_row(tmp_path / "run", fields_at(positions, step_length=0.13))
        full = LINE.full(positions)
        assert row["step_train_loss"] == pytest.approx(0.7 * full[3] + 0.3 * full[4])
        assert "1 lines have no losses at the step itself" in caplog.text
        assert provenance(read_table(tmp_path / "line.arrow", "line"))["interpolated_steps"] == 1
        row = imported_row(tmp_path / "run", fields_at(positions, step_length=0.3))
        assert np.isnan(row["step_train_loss"])
        assert np.isnan(row["step_direction_batch_loss"])

    @pytest.mark.parametrize("zeros", [[0.0], [0.0, 0.0], [0.0, -1e-17]])
    def test_a_direction_that_is_zero(self, tmp_path: Path, zeros: list[float]) -> None:
        positions = np.array([-0.2, -0.1, *zeros, 0.1, 0.2])
        fields = fields_at(positions, step_length=0.0, direction_norm=torch.tensor(0.0))
        row = imported_row(tmp_path / "run", fields, lr=0.1)
        assert row["positions"].tolist() == [-0.2, -0.1, 0.0, 0.1, 0.2]
        assert (row["status"], row["lr"], row["step_length"]) == ("zero_direction", 0.1, 0.0)
        assert row["step_train_loss"] == pytest.approx(LINE.full(np.zeros(1))[0])
        assert np.isnan(imported_row(tmp_path / "run", fields)["lr"])

    def test_positions_in_any_order_with_repetitions(self, tmp_path: Path) -> None:
        ring = [-0.2, -0.1, 0.0, 0.1, 0.11, -0.4, -0.3, -0.2, 0.2, 0.3, 0.1 + 1e-14, -0.1]
        row = imported_row(tmp_path / "run", fields_at(ring, step_length=0.11), interval=0.2)
        np.testing.assert_allclose(row["positions"], [-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3], atol=1e-13)
        np.testing.assert_allclose(row["train_loss"], LINE.full(row["positions"]))
        assert (row["rings"], row["evaluations"]) == (2, 12)
        assert provenance(read_table(tmp_path / "line.arrow", "line"))["enlarged_lines"] == 1

    def test_rounding_around_zero(self, tmp_path: Path) -> None:
        positions = np.concatenate([np.arange(-0.27, 0, 0.045), np.arange(0, 0.27, 0.045)])
        assert -1e-15 < positions[6] < 0.0 == positions[7]  # what np.arange leaves below 0
        row = imported_row(tmp_path / "run", fields_at(positions, step_length=0.11), interval=0.27)
        np.testing.assert_allclose(row["positions"], np.arange(-6, 7) * 0.045, atol=1e-12)
        assert np.sum(row["positions"] == 0.0) == 1
        assert np.isfinite(row["direction_batch_slope"])

    @pytest.mark.parametrize("positions", [[-0.2, -0.1, 0.1, 0.2], [0.1, 0.2]])
    def test_positions_without_zero(self, tmp_path: Path, positions: list[float]) -> None:
        with pytest.raises(SgdlineError, match="must have 0 among its positions"):
            imported_row(tmp_path / "run", fields_at(positions, step_length=0.1))

    def test_a_single_position(self, tmp_path: Path) -> None:
        row = imported_row(tmp_path / "run", fields_at([0.0], step_length=0.1))
        assert row["positions"].tolist() == [0.0]
        assert np.isnan(row["direction_batch_slope"])
        assert (row["status"], row["rings"]) == ("edge", 1)

    @pytest.mark.parametrize("set_name", ["train", "validation", "batch"])
    @pytest.mark.parametrize("end", [0, -1])
    def test_a_minimum_on_the_edge_is_found_again(self, tmp_path: Path, set_name: str, end: int) -> None:
        fields = fields_at(np.arange(-4, 5) / 10)
        place = ["train", "validation", "positions", "batch"].index(set_name)
        assert imported_row(tmp_path / "run", fields)["status"] == "ok"
        fields[place][:, end] = -1.0
        assert imported_row(tmp_path / "run", fields)["status"] == "edge"

    def test_the_edge_is_that_of_the_mean_not_of_a_sample(self, tmp_path: Path) -> None:
        fields = fields_at(np.arange(-4, 5) / 10)
        fields[3][:, -1] = [-1.0, 5.0, 5.0, 5.0]  # papers.md L7: one sample's loss is lowest on the edge
        assert np.argmin(fields[3]) == 8
        assert imported_row(tmp_path / "run", fields)["status"] == "ok"

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e308])
    def test_a_full_batch_loss_that_is_not_finite(self, tmp_path: Path, value: float) -> None:
        fields = fields_at(POSITIONS)
        fields[0][:, -1] = value  # the mean of numbers near the largest is infinite
        row = imported_row(tmp_path / "run", fields, sample_losses=True)
        assert row["status"] == "non_finite"
        assert not np.isfinite(row["train_loss"][-1])
        assert np.isfinite(row["train_loss"][:-1]).all()

    def test_a_direction_batch_that_is_not_finite(self, tmp_path: Path) -> None:
        fields = fields_at(POSITIONS)
        fields[3][:] = np.nan
        write_pickle(tmp_path / "run", 0, fields)
        line, trace = imported(tmp_path / "run")
        assert line["status"].to_pylist() == ["ok"]
        assert np.isnan(line["direction_batch_slope"][0].as_py())
        assert trace["status"].to_pylist() == ["non_finite"]


class TestTables:
    def test_lines_trace_and_what_they_say_about_themselves(self, tmp_path: Path) -> None:
        lines = synthetic_lines(3)
        folder = write_run(tmp_path / "run", lines)
        for step in range(3):
            (folder / f"line_data_{step}.pickle").rename(folder / f"line_data_{9 + step}.pickle")
        (folder / "line_data_9.png").write_bytes(b"")  # papers.md L15
        labels = {"dataset": "cifar", "model": "resnet20", "seed": 1}
        line, trace = imported(folder, batch_size=BATCH, lr=LR, provenance=labels)
        assert line["step"].to_pylist() == trace["step"].to_pylist() == [9, 10, 11]
        facts = provenance(line)
        assert facts.items() >= {
            **labels, "kind": "line", "imported": True, "files": 3, "batch_norm": "train", "positions": "grid",
            "samples": 10, "validation_samples": 4, "chunk_sizes": [4, 4, 2],
            "direction_batch_slope": "finite difference", "enlarged_lines": 0, "interpolated_steps": 0,
            "imported_lr": 0.1,
        }.items()  # fmt: skip
        assert {"L6", "L7"} <= set(facts["faults_of_the_sampler"])
        assert provenance(trace).items() >= {**labels, "kind": "trace", "imported": True}.items()
        norms = [item.direction_norm for item in lines]
        np.testing.assert_allclose(trace["direction_norm"], norms)
        np.testing.assert_allclose(trace["lr"], LR)
        np.testing.assert_allclose(trace["epoch"], line["epoch"])
        np.testing.assert_allclose(trace["batch_loss"], [item.batch(np.zeros(1))[0] for item in lines])
        assert trace["status"].to_pylist() == ["ok"] * 3
        for name in ("gradient_norm", "gradient_cosine", "distance_from_start", "parameter_norm"):
            assert trace[name].null_count == 3

    def test_equal_files_give_equal_bytes(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", synthetic_lines(3))
        contents = []
        for _ in range(2):
            imported(folder, sample_losses=True)
            contents.append([(tmp_path / name).read_bytes() for name in ("line.arrow", "trace.arrow")])
            for path in folder.iterdir():
                os.utime(path)
        assert contents[0] == contents[1]

    def test_a_bad_file_leaves_nothing_behind(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", synthetic_lines(3))
        write_pickle(folder, 2, fields_at(POSITIONS, number=Reduced(os.system, f"touch {tmp_path / 'canary'}")))
        with pytest.raises(SgdlineError, match=r"line_data_2\.pickle"):
            imported(folder)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]

    def test_what_a_killed_import_left_is_not_taken_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = write_run(tmp_path / "run", synthetic_lines(3))
        with monkeypatch.context() as patch:
            patch.setattr("sgdline.tables.TableWriter.discard", lambda self: self.close())
            content = (folder / "line_data_2.pickle").read_bytes()
            (folder / "line_data_2.pickle").write_bytes(b"")
            with pytest.raises(SgdlineError):
                imported(folder)
            assert (tmp_path / "line.arrow.part").exists()
        (folder / "line_data_2.pickle").write_bytes(content)
        assert imported(folder)[0].num_rows == 3

    @pytest.mark.parametrize(
        ("samples", "words"),
        [({"train": 9}, "10 samples in the measuring set"), ({"validation": 3}, "4 samples in the validation set")],
    )
    def test_lines_of_another_run(self, tmp_path: Path, samples: dict[str, int], words: str) -> None:
        folder = write_run(tmp_path / "run", synthetic_lines(2))
        [other] = synthetic_lines(1, **samples)
        write_pickle(folder, 5, other.fields(POSITIONS))
        with pytest.raises(SgdlineError, match=rf"line_data_5.*{words}, as line_data_0\.pickle has"):
            imported(folder)

    def test_the_batch_size_is_checked(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", synthetic_lines(1))
        with pytest.raises(SgdlineError, match=r"batch_size must be .* \(4 samples in .*\), got 128"):
            imported(folder, batch_size=128)

    def test_another_learning_rate_is_a_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = write_run(tmp_path / "run", synthetic_lines(1))
        imported(folder, lr=LR)
        assert not caplog.messages
        imported(folder, lr=0.05)
        assert "have the learning rate 0.1, not 0.05" in caplog.text

    def test_memory_does_not_grow_with_the_lines(self, tmp_path: Path) -> None:
        [line] = synthetic_lines(1, train=400)
        peaks = []
        for count in (4, 16):
            folder = tmp_path / f"run{count}" / "lines"
            for step in range(count):
                write_pickle(folder, step, line.fields(POSITIONS))
            target = folder.parent
            import_lines(folder, line=target / "a.arrow", trace=target / "b.arrow", interval=0.5, provenance={})
            tracemalloc.start()
            import_lines(folder, line=target / "a.arrow", trace=target / "b.arrow", interval=0.5, provenance={})
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        size = line.losses(POSITIONS).nbytes
        assert peaks[1] - peaks[0] < size  # twelve lines more, not one of them kept


# --- through the analysis ---------------------------------------------------------------------------------------------


def on_grid(line: SyntheticLine, points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return f as a piecewise linear curve through the released grid, read at the points."""
    nodes = np.sort(np.concatenate([-0.5 + 0.006 * np.arange(84), 0.006 * np.arange(84)]))
    return np.interp(points, nodes, line.full(nodes))


class TestAnalysis:
    WINDOW, RESOLUTION = 0.2, 0.006

    @pytest.fixture
    def run(self, tmp_path: Path) -> tuple[Path, list[SyntheticLine]]:
        lines = synthetic_lines(12)
        imported(write_run(tmp_path / "run", lines))
        return tmp_path, lines

    def test_fits(self, run: tuple[Path, list[SyntheticLine]]) -> None:
        folder, lines = run
        options = {"window": self.WINDOW, "resolution": self.RESOLUTION}
        fit_lines(folder / "line.arrow", folder / "fits.arrow", degrees=[1, 2, 3], provenance={}, **options)
        fits = read_table(folder / "fits.arrow", "line_fits").to_pylist()
        # The sampler's own positions, at which the line is known: its left half lies between those of the common grid.
        points = np.sort(np.concatenate([-0.5 + 0.006 * np.arange(50, 84), 0.006 * np.arange(34)]))
        assert [(fit["step"], fit["degree"]) for fit in fits] == [
            (step, degree) for step in range(12) for degree in (1, 2, 3)
        ]
        for fit in fits:
            losses = lines[fit["step"]].full(points)
            if fit["degree"] == 3:  # exactly of degree 3: no floor of interpolation
                assert fit["mae"] < 1e-14
                continue
            expected = np.polyfit(points, losses, fit["degree"])
            np.testing.assert_allclose(fit["coefficients"], expected[::-1], rtol=1e-8, atol=1e-10)
            assert fit["mae"] == pytest.approx(np.abs(losses - np.polyval(expected, points)).mean(), rel=1e-6)
            assert fit["status"] == "ok"

    def test_too_few_positions_of_its_own_for_a_degree(self, tmp_path: Path) -> None:
        imported_row(tmp_path / "run", fields_at(np.arange(-5, 6) * 0.1))
        options = {"window": self.WINDOW, "resolution": self.RESOLUTION, "provenance": {}}
        fit_lines(tmp_path / "line.arrow", tmp_path / "fits.arrow", degrees=[4], **options)
        assert read_table(tmp_path / "fits.arrow", "line_fits")["mae"][0].as_py() < 1e-12
        with pytest.raises(SgdlineError, match=r"degrees must be below .* in the window \(5\), got 5\. Enlarge"):
            fit_lines(tmp_path / "line.arrow", tmp_path / "fits.arrow", degrees=[5, 1], **options)

    def test_metrics(self, run: tuple[Path, list[SyntheticLine]]) -> None:
        folder, lines = run
        options = {"window": self.WINDOW, "resolution": self.RESOLUTION}
        measure_lines(folder / "line.arrow", folder / "metrics.arrow", provenance={}, **options)
        nodes = np.sort(np.concatenate([-0.5 + 0.006 * np.arange(84), 0.006 * np.arange(84)]))
        points = np.arange(-33, 34) * 0.006
        shapes = [on_grid(line, points) - line.full(nodes).min() for line in lines]
        for row, line in zip(read_table(folder / "metrics.arrow", "line_metrics").to_pylist(), lines, strict=True):
            full, batch = line.full(nodes), line.batch(nodes)
            assert row["minimum_position"] == pytest.approx(nodes[np.argmin(full)], abs=1e-12)
            assert row["minimum_loss"] == pytest.approx(full.min(), rel=1e-12)
            assert row["direction_batch_minimum_position"] == pytest.approx(nodes[np.argmin(batch)], abs=1e-12)
            assert row["direction_batch_slope_curve"] == pytest.approx(row["direction_batch_slope"], rel=1e-9)
            assert row["direction_batch_slope"] == pytest.approx(line.slope[10:14].mean(), abs=1e-4)
            assert row["line_search_ratio"] == pytest.approx(row["minimum_position_vertex"] / line.direction_norm)
            assert row["status"] == "ok"
            if row["step"] < 11:
                expected = np.abs(shapes[row["step"]] - shapes[row["step"] + 1]).mean()
                assert row["consecutive_distance"] == pytest.approx(expected, rel=1e-9)

    def test_distances(self, run: tuple[Path, list[SyntheticLine]]) -> None:
        folder, lines = run
        options = {"window": self.WINDOW, "resolution": self.RESOLUTION, "distance_first": 5, "distance_every": 2}
        measure_distances(folder / "line.arrow", folder / "distances.arrow", provenance={}, **options)
        nodes = np.sort(np.concatenate([-0.5 + 0.006 * np.arange(84), 0.006 * np.arange(84)]))
        points = np.arange(-33, 34) * 0.006
        shapes = [on_grid(line, points) - line.full(nodes).min() for line in lines]
        rows = read_table(folder / "distances.arrow", "line_distances").to_pylist()
        assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5, 7, 9, 11]
        for row in rows:
            for other, distance in zip(row["other_steps"], row["distances"], strict=True):
                expected = np.abs(shapes[row["step"]] - shapes[other]).mean()
                assert distance == pytest.approx(expected, rel=1e-9, abs=1e-15)


def claims_of(folder: Path, **strategies: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the metadata of the strategies of imported lines and the values of the run's claims."""
    tables = {name: folder / f"{name}.arrow" for name in ("line_fits", "line_metrics", "line_strategies")}
    window = {"window": 0.2, "resolution": 0.006, "provenance": {}}
    fit_lines(folder / "line.arrow", tables["line_fits"], degrees=[1, 2], **window)
    measure_lines(folder / "line.arrow", tables["line_metrics"], **window)
    measure_strategies(
        folder / "line.arrow", tables["line_metrics"], tables["line_strategies"], interval=0.5, resolution=0.006,
        pal_measuring_step=0.1, fbpal_every=100, fbpal_average=15, compat=False, provenance={}, **strategies,
    )  # fmt: skip
    read = {name: read_table(path, name) for name, path in tables.items()}
    claims = by_name(judged("linesearch", [a_run({"trace": folder / "trace.arrow", **read})])).values()
    return provenance(read["line_strategies"]), {
        claim.claim: math.nan if claim.value is None else claim.value for claim in claims
    }


class TestLearningRate:
    """Of runs with one learning rate, which the files hold as the quotient of two rounded lengths."""

    LINES = synthetic_lines(40)

    def run(self, folder: Path, *, single: bool, **options: Any) -> tuple[pa.Table, pa.Table]:
        return imported(write_sgd_run(folder / "run", self.LINES, lr=0.04, single=single), **options)

    def test_claims_are_those_of_exact_norms(self, tmp_path: Path) -> None:
        values = []
        for single in (False, True):
            folder = tmp_path / str(single)
            line, _ = self.run(folder, single=single)
            assert not single or len(set(line["lr"].to_pylist())) > 10
            facts, claims = claims_of(folder, sgd_lr=[0.01])
            assert facts["sgd_lr"]["sgd_original"] == pytest.approx(0.04, rel=1e-7)
            assert facts["imported_lr"] == 0.04
            values.append(claims)
        assert values[0] == pytest.approx(values[1], rel=1e-6, nan_ok=True)
        # The run's own rate is the best fixed one: that of the config alone leaves the claim below it.
        strategies = read_table(tmp_path / "True" / "line_strategies.arrow", "line_strategies")
        rates = {"sgdline": json.dumps({**provenance(strategies), "sgd_lr": {"sgd_0.01": 0.01}})}
        without = claim_of("linesearch", "C3", a_run({"line_strategies": strategies.replace_schema_metadata(rates)}))
        assert without.value is not None
        assert values[1]["C3"] > without.value + 0.1

    def test_a_line_of_another_slope_does_not_make_the_run_another_one(self, tmp_path: Path) -> None:
        odd = self.LINES[5]
        slope = np.where(np.arange(odd.slope.size) < odd.train, odd.slope, 0.7 * odd.slope)
        folder = write_sgd_run(tmp_path / "run", self.LINES, lr=0.04, single=True)
        fields = pickle.loads((folder / "line_data_5.pickle").read_bytes())
        fields = [
            *fields[:3],
            dataclasses.replace(odd, slope=slope).batch(fields[2]) * np.ones((BATCH, 1)),
            *fields[4:],
        ]
        write_pickle(folder, 5, fields)
        line, _ = imported(folder)
        assert line["step_length"][5].as_py() / 0.04 > 1.3 * abs(line["direction_batch_slope"][5].as_py())
        assert claims_of(tmp_path, sgd_lr=[0.01])[0]["sgd_lr"]["sgd_original"] == pytest.approx(0.04, rel=1e-6)

    @pytest.mark.parametrize("label", [None, 0.3])
    def test_a_line_without_a_direction_says_nothing_of_the_rate(self, tmp_path: Path, label: float | None) -> None:
        folder = write_sgd_run(tmp_path / "run", self.LINES[:6], lr=0.04, single=True)
        fields = fields_at(released_positions(0.0), step_length=0.0, direction_norm=torch.tensor(0.0))
        for step in (0, 9):
            write_pickle(folder, step, fields)
        line, trace = imported(folder, lr=label)
        assert provenance(line)["imported_lr"] == provenance(trace)["imported_lr"] == 0.04
        assert constant_rate(line) == constant_rate(trace) == pytest.approx(0.04, rel=1e-6)

    def test_a_schedule_is_one(self, tmp_path: Path) -> None:
        folder = write_sgd_run(tmp_path / "run", self.LINES[:6], lr=0.04, single=True)
        write_sgd_run(tmp_path / "late", self.LINES[:7], lr=0.004, single=True)
        (tmp_path / "late" / "line_data_6.pickle").rename(folder / "line_data_6.pickle")
        line, trace = imported(folder)
        assert provenance(line)["imported_lr"] is provenance(trace)["imported_lr"] is None
        facts, _ = claims_of(tmp_path, sgd_lr=[0.01])
        assert facts["sgd_lr"]["sgd_original"] is None
        assert style.own_lr_text({"lr": 0.04}, facts) == "scheduled"

    def test_figures_and_claims_name_the_files_rate(self, tmp_path: Path) -> None:
        self.run(tmp_path, single=True, lr=0.1)
        claims_of(tmp_path, sgd_lr=[0.01])
        strategies = read_table(tmp_path / "line_strategies.arrow", "line_strategies")
        settings = {"lr": 0.1, "optimizer": {"name": "sgd"}}
        scheduled = constant_rate(read_table(tmp_path / "line_metrics.arrow", "line_metrics")) is None
        looks = series.strategy_looks(strategies, settings=settings, scheduled=scheduled)
        assert looks["sgd_original"].label == "SGD original, lr 0.04"
        kinds = ("trace", "line", "line_fits", "line_metrics", "line_strategies")
        files = {kind: tmp_path / f"{kind}.arrow" for kind in kinds}
        claims, _, _ = judged_files("linesearch", tmp_path / "out", [({"lr": 0.1}, files)])
        assert set(claims["lr"]) == {0.04}


# --- the command ------------------------------------------------------------------------------------------------------


class TestCommand:
    def test_it_writes_both_tables(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", synthetic_lines(3))
        options = ["--interval", "0.25", "--sample-losses", "--batch-size", "4", "--lr", "0.1", "--model", "resnet20"]
        assert main(["import-lines", str(folder), str(tmp_path / "out" / "tables"), *options]) == 0
        line = read_table(tmp_path / "out" / "tables" / "line.arrow", "line")
        assert line.num_rows == read_table(tmp_path / "out" / "tables" / "trace.arrow", "trace").num_rows == 3
        assert line["rings"].to_pylist() == [2, 2, 2]
        assert line["sample_loss"].null_count == 0
        assert provenance(line).items() >= {"model": "resnet20", "batch_size": 4, "lr": 0.1}.items()
        assert "dataset" not in provenance(line)

    def test_a_fault_is_one_sentence(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["import-lines", str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 1
        assert capsys.readouterr().err.startswith("Error: The folder of lines to import must be a readable folder")
        (tmp_path / "file").write_text("")
        assert main(["import-lines", str(tmp_path), str(tmp_path / "file")]) == 1
        assert "must be a folder that can be written to" in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [[], ["import-line"], ["import-lines", "a", "b", "--lr", "x"]])
    def test_wrong_words(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(arguments)
        assert "usage: sgdline" in capsys.readouterr().err

    def test_it_can_be_started_as_a_module(self) -> None:
        result = subprocess.run([sys.executable, "-m", "sgdline", "--version"], capture_output=True, text=True)
        assert result.stdout.startswith("sgdline ")
        assert result.returncode == 0


def test_the_overlay_of_the_manual_is_valid() -> None:
    root = Path(__file__).parents[2]
    [overlay] = re.findall(r"```yaml\n(.*?)```", (root / "docs" / "importing.md").read_text(), flags=re.DOTALL)
    config = resolve_config(yaml.safe_load(overlay))
    assert config["experiments"]["published_resnet20"]["import_lines"] == "downloads/resnet20_momentum_0"
