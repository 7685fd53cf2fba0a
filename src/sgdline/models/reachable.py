"""What a value holds that can change: tensors, containers, plain Python objects, and modules that hide in them."""

from __future__ import annotations

import enum
import functools
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# What torch keeps in every module. Anything else in a module's __dict__ is a plain attribute.
OF_TORCH = frozenset(nn.Module().__dict__)
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# Values that are the same if they compare as equal, wherever they are.
SIMPLE = (bool, int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device, torch.Size)

# Objects refer to trainers, data sets and whole programs: what they hold is followed up to these bounds.
_DEEPEST = 8
_MOST = 4000  # values
_MOST_NUMBERS = 2**24  # in their tensors and arrays, 64 MiB in float32

# Of the standard library only what is made for holding values; of other things there the state is not the network's.
_NAMESPACES = ("argparse", "builtins", "collections", "types")
_HANDLES = ("_io", "asyncio", "concurrent", "io", "logging", "multiprocessing", "socket", "subprocess", "threading")
_NOT_PLAIN = (type, ModuleType, FunctionType, MethodType, enum.Enum, BaseException)


def is_plain_object(value: Any) -> bool:
    """Return whether a value is an instance of somebody's own class: a dataclass, a namespace, a helper with state."""
    if isinstance(value, (*_NOT_PLAIN, Tensor, nn.Module, np.ndarray, np.generic, dict, list, tuple, set, deque)):
        return False
    kind = type(value)
    root = kind.__module__.partition(".")[0]
    if root in ("torch", "numpy") or (root in sys.stdlib_module_names and root not in _NAMESPACES):
        return False
    if any(base.__module__.partition(".")[0] in _HANDLES for base in kind.__mro__):
        return False
    return isinstance(getattr(value, "__dict__", None), dict) or bool(_slots(kind))


def _slots(kind: type) -> list[str]:
    found: list[str] = []
    for base in kind.__mro__:
        names = vars(base).get("__slots__", ())
        found += [names] if isinstance(names, str) else names
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of a plain object, those in slots included."""
    found = dict(getattr(value, "__dict__", {}))
    for name in _slots(type(value)):
        if not name.startswith("__") and hasattr(value, name):
            found[name] = getattr(value, name)
    return found


class Walk:
    """Finds what can change in values, each thing once; remembers what it has met."""

    def __init__(self, met: Iterable[int] = (), *, functions: bool = False) -> None:
        """Begin.

        Args:
            met: Ids of what is left out.
            functions: Whether to look into the variables of functions and what methods are bound to.
        """
        self.met = set(met)
        self._functions = functions
        self._left, self._numbers_left = _MOST, _MOST_NUMBERS

    def through(self, value: Any, *, depth: int = 0) -> Iterator[Any]:
        """Yield tensors, arrays, generators, containers, modules, plain objects and functions, each before its parts.

        Args:
            value: Where to begin.
            depth: How many plain objects, and containers in them, lie above.
        """
        if isinstance(value, SIMPLE) or id(value) in self.met:
            return
        if depth:
            if depth > _DEEPEST or self._left <= 0:
                return
            self._left -= 1
            if isinstance(value, Tensor | np.ndarray):
                size = value.numel() if isinstance(value, Tensor) else value.size
                if size > self._numbers_left:
                    return
                self._numbers_left -= size
        self.met.add(id(value))
        below = depth + 1 if depth else 0
        if isinstance(value, (Tensor, np.ndarray, *GENERATORS)):
            yield value
        elif isinstance(value, nn.Module):
            yield value
            for child in value.children():
                yield from self.through(child, depth=depth)
            if not isinstance(value, torch.jit.ScriptModule):
                for entry in plain_attributes(value).values():
                    yield from self.through(entry, depth=below)
            for tensor in (*value.parameters(recurse=False), *value.buffers(recurse=False)):
                yield from self.through(tensor)
        elif isinstance(value, dict | list | tuple | deque | set):
            yield value
            for entry in list(value.values() if isinstance(value, dict) else value):
                yield from self.through(entry, depth=below)
        elif is_plain_object(value):
            yield value
            for entry in attributes(value).values():
                yield from self.through(entry, depth=depth + 1)
        elif self._functions:
            yield from self._through_callable(value, depth)

    def _through_callable(self, value: Any, depth: int) -> Iterator[Any]:
        if isinstance(value, functools.partial):
            entries = [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, MethodType):
            entries = [value.__self__, value.__func__]
        elif isinstance(value, FunctionType) and not _is_of_libraries(value):
            yield value
            entries = [*variables(value).values(), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            depth += 1  # a function may reach anything
        else:
            return
        for entry in entries:
            yield from self.through(entry, depth=depth)


def _is_of_libraries(function: FunctionType) -> bool:
    root = str(function.__module__).partition(".")[0]
    return root in ("torch", "numpy", "sgdline") or root in sys.stdlib_module_names - {"__main__"}


def variables(function: FunctionType) -> dict[Any, Any]:
    """Return the values of a function's free variables (by place) and of the global ones that it names (by name)."""
    found: dict[Any, Any] = {}
    for place, cell in enumerate(function.__closure__ or ()):
        try:
            found[place] = cell.cell_contents
        except ValueError:  # no value yet
            continue
    known = function.__globals__
    return found | {name: known[name] for name in function.__code__.co_names if name in known}


def set_variables(function: FunctionType, values: dict[Any, Any]) -> None:
    """Put back what `variables` returned."""
    for place, value in values.items():
        if isinstance(place, int):
            (function.__closure__ or ())[place].cell_contents = value
        elif function.__globals__.get(place) is not value:
            function.__globals__[place] = value


def plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of one module that are neither parameters, buffers, submodules nor torch's own."""
    if isinstance(module, torch.jit.ScriptModule):
        return {}  # its state lies in C++
    return {name: value for name, value in vars(module).items() if name not in OF_TORCH}
