"""Pickles of arrays, numbers and texts, read without trusting them: the only reader of pickles in this package.

A pickle is a program that may ask for any function and call it. Here it cannot: instructions other than those that
write arrays, numbers and what holds them are refused before anything is read, and every name that it asks for is looked
up in a short list whose entries are pieces of this module, never functions of another package.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def load_restricted(content: bytes, *, mappings: bool = False) -> object:
    """Return what a pickle holds: numbers, texts, bytes, tuples, lists and `StoredArray`.

    Args:
        content: The pickle, of protocol 2 to 5; the texts of Python 2 come as bytes.
        mappings: Whether it may hold dictionaries. Only for files whose checksum is known: a key can be made so that
            its hash takes forever.

    Raises:
        RefusedError: If it asks for anything else; nothing of it was run.
        Exception: A damaged or foreign file can make the unpickler raise nearly anything.

    Cost: memory of a few times the size of `content`, whatever it says.
    """
    _check_instructions(content, _INSTRUCTIONS | (_MAPPINGS if mappings else frozenset()))
    return _Unpickler(content).load()


def text_of(entry: object) -> str | None:
    """Return a text of either Python; None for anything else."""
    if isinstance(entry, bytes):
        return entry.decode("latin1")
    return entry if isinstance(entry, str) else None


class RefusedError(Exception):
    """A pickle asks for something that is not on the list; the text says for what."""


# Instructions of arrays, numbers and the tuple or list around them. What makes sets and objects, or calls methods by
# other ways, is not among them.
_INSTRUCTIONS = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND",
    "APPENDS", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINPUT", "LONG_BINPUT",
    "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
})  # fmt: skip
# Dictionaries, and the texts of Python 2, of which there is one kind for texts and bytes.
_MAPPINGS = frozenset({"EMPTY_DICT", "SETITEM", "SETITEMS", "BINSTRING", "SHORT_BINSTRING"})
_MOST_CALLS = 200  # a line has some ten
_REMEMBERING = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}


def _check_instructions(content: bytes, allowed: frozenset[str]) -> None:
    """Refuse a pickle with other instructions, without following any of them."""
    remembered = calls = 0
    for instruction, argument, _ in pickletools.genops(content):
        if instruction.name not in allowed:
            raise RefusedError(f"the pickle instruction {instruction.name}")
        calls += instruction.name == "REDUCE"
        if calls > _MOST_CALLS:  # each may copy a few thousand bytes that stand in the file once
            raise RefusedError(f"more than {_MOST_CALLS} calls")
        if instruction.name in _REMEMBERING:
            # The unpickler makes room for as many entries as the place says: eight bytes could fill the memory. Places
            # are counted from 0, by Python 2 from 1.
            if isinstance(argument, int) and argument > remembered + 1:
                raise RefusedError(f"place {argument} in a memory of {remembered}")
            remembered += 1


class _Inert:
    """Something on the unpickler's stack that cannot be changed from there."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise RefusedError("a state for something that has none")


class _Name(_Inert):
    """What a pickle gets for a name on the list: something to call, and nothing else to do with."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)


class _Dtype(_Inert):
    """Stands for a numpy dtype of numbers."""

    __slots__ = ("_code", "_order")

    _CODES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})

    def __init__(self, name: object, *_: object) -> None:
        code = text_of(name)
        if code is None or code not in self._CODES:
            raise RefusedError(f"the array type {shown(name)}")
        self._code, self._order = code, "="

    def __setstate__(self, state: object) -> None:
        order = text_of(state[1]) if isinstance(state, tuple) else None
        if order not in ("<", ">", "=", "|"):
            raise RefusedError(f"the byte order {shown(order)}")
        self._order = order

    def get(self) -> np.dtype[Any]:
        return np.dtype(self._order + self._code)


class StoredArray(_Inert):
    """Stands for a numpy array, a numpy scalar or a torch scalar; a view of bytes that the pickle holds."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: NDArray[Any] | None = None

    @classmethod
    def of(cls, content: object, dtype: object, shape: object, order: object = "C") -> StoredArray:
        """Return an array of what a pickle says that it is made of."""
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray):
            raise RefusedError("an array of Python objects")
        if not isinstance(shape, tuple) or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise RefusedError("an array without a shape")
        if not isinstance(order, str) or order not in ("C", "F"):
            raise RefusedError(f"the array order {shown(order)}")
        array = cls()
        array._values = np.frombuffer(content, dtype.get()).reshape(shape, order=order)  # type: ignore[call-overload]
        return array

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        self._values = self.of(content, dtype, shape, "F" if is_fortran is True else "C").get()

    def get(self) -> NDArray[Any]:
        """Return the values; they share the memory of the pickle's bytes."""
        if self._values is None:
            raise RefusedError("an array without values")
        return self._values


class _Storage(_Inert):
    """Stands for the storage of a torch tensor."""

    __slots__ = ("values",)

    # A scalar's storage takes some 400 bytes.
    _LARGEST = 4096
    _KINDS: Mapping[str, str] = {
        "torch DoubleStorage": "<f8",
        "torch FloatStorage": "<f4",
        "torch HalfStorage": "<f2",
        "torch LongStorage": "<i8",
        "torch IntStorage": "<i4",
    }

    def __init__(self, content: object) -> None:
        """Read what torch.save writes for a storage in its older form: five pickles, a count, the values.

        None of the pickles is run. The first three are constants; the fourth names the kind of number.
        """
        if not isinstance(content, bytes) or len(content) > self._LARGEST:
            raise RefusedError("a torch tensor of many values, or none")
        stream = io.BytesIO(content)
        parts = [list(pickletools.genops(stream)) for _ in range(5)]
        names = [argument for part in parts for instruction, argument, _ in part if instruction.name == "GLOBAL"]
        if len(names) != 1 or names[0] not in self._KINDS:
            raise RefusedError(f"the torch storage {shown(names[0] if names else None)}")
        count = int.from_bytes(stream.read(8), "little")
        self.values = np.frombuffer(stream.read(), self._KINDS[str(names[0])])
        if count != self.values.size:
            raise ValueError(f"a torch storage of {count} values holds {self.values.size}")


def shown(found: object) -> str:
    """Return a few words for something of a pickle: its text could be of any length, or never end."""
    if isinstance(found, _Inert):
        return "an array or a part of one"
    return repr(found[:60]) if isinstance(found, str) else f"a {type(found).__name__}"


def _refuse_call(*_: object) -> None:
    raise RefusedError("a call of a type that is only to be named")


def _make_bytes(*arguments: object) -> bytes:
    if arguments:
        raise RefusedError("bytes made of something else")
    return b""


def _make_hooks(*arguments: object) -> None:
    if arguments:
        raise RefusedError("a dictionary with entries")


_NDARRAY = _Name(_refuse_call)


def _reconstruct(kind: object, *_: object) -> StoredArray:
    if kind is not _NDARRAY:
        raise RefusedError("an array of another class")
    return StoredArray()


def _scalar(dtype: object, content: object) -> StoredArray:
    return StoredArray.of(content, dtype, ())


def _rebuild_tensor(storage: object, offset: object, size: object, *_: object) -> StoredArray:
    if not isinstance(storage, _Storage) or not isinstance(offset, int) or not isinstance(size, tuple):
        raise RefusedError("a torch tensor of an unknown form")
    if any(count != 1 for count in size):
        raise RefusedError("a torch tensor of many values, or none")
    if not 0 <= offset < storage.values.size:
        raise ValueError("a torch tensor lies outside its storage")
    scalar = StoredArray()
    scalar._values = storage.values[offset : offset + 1].reshape(())
    return scalar


_NAMES: dict[tuple[str, str], _Name] = {
    **{
        (f"numpy.{core}.{module}", name): _Name(call)
        for core in ("core", "_core")  # numpy 1 and 2
        for module, name, call in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", StoredArray.of),
        )
    },
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Name(_Dtype),
    ("torch._utils", "_rebuild_tensor_v2"): _Name(_rebuild_tensor),
    ("torch.storage", "_load_from_bytes"): _Name(_Storage),  # torch's own reads any pickle
    ("collections", "OrderedDict"): _Name(_make_hooks),  # a tensor's hooks, always empty
    ("__builtin__", "bytes"): _Name(_make_bytes),  # b"" in protocol 2
}


class _Unpickler(pickle.Unpickler):
    """Follows a pickle whose instructions have been checked; names are those of the list."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._bytes_left = len(content)

    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) == ("_codecs", "encode"):
            return _Name(self._encode)
        # A dotted name is a text like any other here: no attribute is ever looked up.
        if (module, name) not in _NAMES:
            raise RefusedError(f"the name {shown(f'{module}.{name}')}")
        return _NAMES[module, name]

    def persistent_load(self, identifier: object) -> None:
        raise RefusedError("an object outside the file")

    def _encode(self, text: object, encoding: object) -> bytes:
        """Return the bytes that protocol 2 writes as a text; the same text over and over would fill the memory."""
        if not isinstance(text, str) or not isinstance(encoding, str) or encoding != "latin1":
            raise RefusedError("a text in another encoding than latin1")
        self._bytes_left -= len(text)
        if self._bytes_left < 0:
            raise RefusedError("more bytes than the file has")
        return text.encode("latin1")
