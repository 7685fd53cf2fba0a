"""Everything that a forward pass or a change of mode can change in a network: saved, put back, copied, followed.

Besides parameters, buffers and modes these are the plain attributes of its modules: tensors that are no buffers (a
running mean, a weight that a hook computes), numbers (a temperature, a counter), generators, containers of them, plain
Python objects and what they hold, and modules that hide in containers and objects.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sgdline.errors import SgdlineError, first_line
from sgdline.models.reachable import (
    GENERATORS,
    OF_TORCH,
    SIMPLE,
    Walk,
    attributes,
    is_plain_object,
    plain_attributes,
    set_variables,
    variables,
)
from sgdline.models.tensors import copy_values, deep_copied, same_values

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_CONTAINERS = (dict, list, tuple)


def _items(container: Any) -> list[tuple[Any, Any]]:
    return list(container.items() if isinstance(container, dict) else enumerate(container))


def _is_container(value: Any) -> bool:
    return isinstance(value, _CONTAINERS) and not isinstance(value, torch.Size)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield what a plain attribute is made of, with names: attribute.key.index."""
    for leaf_name, holder, key in _places({name: value}, name, name):
        yield leaf_name, holder[key]


def _places(holder: Any, key: Any, name: str, above: tuple[int, ...] = ()) -> Iterator[tuple[str, Any, Any]]:
    """Yield the leaves of an attribute: name, what holds it, and under which key.

    A container that holds itself is a leaf there.
    """
    value = holder[key]
    if _is_container(value) and id(value) not in above:
        for inner, _ in _items(value):
            yield from _places(value, inner, f"{name}.{inner}", (*above, id(value)))
    else:
        yield name, holder, key


def plain_leaves(model: nn.Module) -> dict[str, Any]:
    """Return what the plain attributes of a network are made of, by name.

    Tensors and generators appear once, and not at all if they are parameters or buffers as well.
    """
    registered = _registered(model)
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        for name, value in plain_attributes(module).items():
            for leaf_name, leaf in _leaves(value, f"{path}.{name}" if path else name):
                if isinstance(leaf, (Tensor, np.ndarray, *GENERATORS)):
                    if id(leaf) in registered:
                        continue
                    registered.add(id(leaf))
                found[leaf_name] = leaf
    return found


def plain_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors among the plain attributes of a network by name; the tensors themselves, not copies."""
    return {name: leaf for name, leaf in plain_leaves(model).items() if isinstance(leaf, Tensor)}


def _registered(model: nn.Module) -> set[int]:
    return {id(tensor) for tensor in (*model.parameters(), *model.buffers())}


# --- saved and put back -----------------------------------------------------------------------------------------------


class _Contents:
    """What a mapping, list, deque or set refers to."""

    def __init__(self, holder: Any, *, but: frozenset[str] = frozenset()) -> None:
        self._holder = holder
        self._but = but
        self.keep()

    def keep(self) -> None:
        self._saved = self._present()

    def _present(self) -> dict[Any, Any]:
        return {key: value for key, value in _items(self._holder) if key not in self._but}

    def changed(self) -> bool:
        present = self._present()
        return present.keys() != self._saved.keys() or any(_differ(present[key], self._saved[key]) for key in present)

    def restore(self) -> None:
        if isinstance(self._holder, list):
            self._holder[:] = self._saved.values()
            return
        if isinstance(self._holder, deque | set):
            if self.changed():
                self._holder.clear()
                (self._holder.update if isinstance(self._holder, set) else self._holder.extend)(self._saved.values())
            return
        for key in self._present().keys() - self._saved.keys():
            del self._holder[key]
        self._holder.update(self._saved)


class _Values:
    """The values of one tensor; restored in place, without a trace in the versions that autograd counts."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self.keep()

    def keep(self) -> None:
        self._saved = self._tensor.detach().clone()

    def changed(self) -> bool:
        return not same_values(self._tensor.detach(), self._saved)

    def restore(self) -> None:
        if self._tensor.dtype != self._saved.dtype or not copy_values(self._tensor, self._saved):
            self._tensor.data = self._saved.clone()


class _Array:
    """The values of a numpy array."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array
        self.keep()

    def keep(self) -> None:
        self._saved = self._array.copy()

    def changed(self) -> bool:
        return self._array.tobytes() != self._saved.tobytes()

    def restore(self) -> None:
        if self._array.flags.writeable:
            self._array[...] = self._saved


class _Draws:
    """The state of a generator that belongs to the network."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.keep()

    def keep(self) -> None:
        self._saved = generator_state(self._generator)

    def changed(self) -> bool:
        return not torch.equal(generator_state(self._generator), self._saved)

    def restore(self) -> None:
        set_generator_state(self._generator, self._saved)


class _Attributes:
    """What a plain object refers to, in its __dict__ or in slots; a frozen dataclass is put back as well."""

    def __init__(self, value: Any) -> None:
        self._object = value
        self.keep()

    def keep(self) -> None:
        self._saved = attributes(self._object)

    def changed(self) -> bool:
        present = attributes(self._object)
        return present.keys() != self._saved.keys() or any(_differ(present[key], self._saved[key]) for key in present)

    def restore(self) -> None:
        present = attributes(self._object)
        for key in present.keys() - self._saved.keys():
            object.__delattr__(self._object, key)
        for key, value in self._saved.items():
            if key not in present or present[key] is not value:
                object.__setattr__(self._object, key, value)


class _Variables:
    """What the free and global variables of a function refer to (a counter that it raises)."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function
        self.keep()

    def keep(self) -> None:
        self._saved = variables(self._function)

    def changed(self) -> bool:
        present = variables(self._function)
        return any(_differ(present.get(place), value) for place, value in self._saved.items())

    def restore(self) -> None:
        set_variables(self._function, self._saved)


class _Modes:
    """Train or eval mode of some modules."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self._modules = modules
        self.keep()

    def keep(self) -> None:
        self._saved = [(module, module.training) for module in self._modules]

    def changed(self) -> bool:
        return any(module.training != training for module, training in self._saved)

    def restore(self) -> None:
        set_modes(self._saved)


# Each has `keep` (what is there now), `changed` since then, and `restore`.
_Cell = _Contents | _Values | _Array | _Draws | _Attributes | _Variables | _Modes


def _differ(new: Any, old: Any) -> bool:
    return new is not old and not (isinstance(old, SIMPLE) and type(new) is type(old) and bool(new == old))


def generator_state(generator: Any) -> Tensor:
    """Return the state of a generator of torch, numpy or the standard library. Shape (n,), uint8."""
    if isinstance(generator, torch.Generator):
        return generator.get_state().cpu()
    if isinstance(generator, random.Random):
        state: Any = generator.getstate()
    elif isinstance(generator, np.random.Generator):
        state = generator.bit_generator.state
    else:
        state = generator.get_state(legacy=False)
    text = json.dumps(state, default=lambda value: value.tolist() if hasattr(value, "tolist") else int(value))
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def set_generator_state(generator: Any, state: Tensor) -> None:
    """Put back what `generator_state` returned."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
        return
    value = json.loads(state.numpy().tobytes())
    if isinstance(generator, random.Random):
        version, words, gauss = value
        generator.setstate((version, tuple(words), gauss))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = _with_array(value)
    else:
        generator.set_state(_with_array(value))


def _with_array(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a numpy generator with the array that its words were."""
    inner = {name: np.array(v, dtype=np.uint64) if isinstance(v, list) else v for name, v in state["state"].items()}
    if "key" in inner and state["bit_generator"] == "MT19937":
        inner["key"] = inner["key"].astype(np.uint32)
    return {**state, "state": inner}


class NetworkState:
    """All that measuring can change in a network, as it was when this was made; `restore` may be called many times."""

    def __init__(self, model: nn.Module, *, trainable: bool = True, frozen: bool = True) -> None:
        """Save the state.

        Args:
            model: The network.
            trainable: False: leave out the values of trainable parameters.
            frozen: False: leave out the values of all other parameters.

        Cost: a copy of what is saved. What plain objects hold is followed up to some thousand values (see `Walk`).
        """
        modules = list(model.modules())
        self._training = [(module, module.training) for module in modules]
        self._cells: list[_Cell] = []
        self._trainable, self._frozen = trainable, frozen
        walk = Walk(_registered(model) | {id(module) for module in modules})
        for module in modules:
            self._save_module(module)
            for value in plain_attributes(module).values():
                if not isinstance(value, SIMPLE):
                    for part in walk.through(value):
                        self._save(part)
        for tensor in (*model.parameters(), *model.buffers()):
            self._save(tensor)

    def _save_module(self, module: nn.Module) -> None:
        if not isinstance(module, torch.jit.ScriptModule):
            self._cells.append(_Contents(vars(module), but=OF_TORCH))
            for registry in (module._parameters, module._buffers, module._modules):
                self._cells.append(_Contents(registry))

    def _save(self, value: Any) -> None:
        if isinstance(value, nn.Parameter):
            if self._trainable if value.requires_grad else self._frozen:
                self._cells.append(_Values(value))
        elif isinstance(value, Tensor):
            self._cells.append(_Values(value))
        elif isinstance(value, np.ndarray):
            self._cells.append(_Array(value))
        elif isinstance(value, GENERATORS):
            self._cells.append(_Draws(value))
        elif isinstance(value, nn.Module):
            self._training.append((value, value.training))
            self._save_module(value)
        elif isinstance(value, FunctionType):
            self._cells.append(_Variables(value))
        elif isinstance(value, dict | list | deque | set):
            self._cells.append(_Contents(value))
        elif is_plain_object(value):
            self._cells.append(_Attributes(value))

    def changed(self) -> list[_Cell]:
        """Return the parts that are no longer as they were, each with a `restore`; modes do not count."""
        return [cell for cell in self._cells if cell.changed()]

    def restore(self) -> None:
        """Put everything back, bit for bit; modes through `train`, so that a network can do what it does on a change.

        A network may work on its weights when its mode changes (low-rank adapters merge them). It gets the chance to
        undo that first; then every value is put back, whatever it did.
        """
        set_modes(self._training)
        for cell in self._cells:
            cell.restore()


class Steady:
    """A function that always starts from the same state: what a call changes (an average, a counter) is put back.

    The state of a module, of an object, of what a method is bound to, of the variables of functions; parameters aside.
    The first call finds out what moves; later ones look after that only.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._moving: list[_Cell] | None = None

    @property
    def moves(self) -> bool:
        """Whether a call changes anything; known after the first one."""
        return bool(self._moving)

    def forget(self) -> None:
        """Find out anew what moves."""
        self._moving = None

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        if self._moving is None:
            state = NetworkState(nn.Module(), trainable=False, frozen=False)
            for part in Walk(functions=True).through(self.function):
                state._save(part)
            cells = [_Modes([module for module, _ in state._training]), *state._cells]
        else:
            cells = self._moving
            for cell in cells:
                cell.keep()
        try:
            found = self.function(*arguments)
            if self._moving is None:
                cells = self._moving = [cell for cell in cells if cell.changed()]
            return found
        finally:
            with torch.no_grad():
                for cell in cells:
                    cell.restore()


def set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Bring each module into its mode through its own `train`; a parent comes before its children."""
    for module, training in modes:
        if module.training != training:
            module.train(training)
    for module, training in modes:
        module.training = training  # for a network whose `train` keeps some layers in another mode


class Attributes:
    """The plain attributes of a network that a training changes, as tensors for a checkpoint.

    Tensors that are no buffers, arrays, states of generators, numbers. Lists that grow and foreign objects are left
    out: recorders do not matter, and a replay that depends on such things drifts and says so.
    """

    def __init__(self, model: nn.Module) -> None:
        """Note the attributes of a new network; numbers that stay as they are need no place in a checkpoint."""
        self._model = model
        self._start = NetworkState(model, trainable=False, frozen=False)
        self._numbers = {name: leaf for name, leaf in plain_leaves(model).items() if isinstance(leaf, int | float)}
        self._lengths = dict(self._present_lengths())

    def _present_lengths(self) -> Iterator[tuple[str, int]]:
        for path, module in self._model.named_modules():
            for name, value in plain_attributes(module).items():
                yield from _lengths(value, f"{path}.{name}" if path else name)

    def tensors(self) -> dict[str, Tensor]:
        """Return the present values by name: module.attribute.key, then a colon and the kind of what is no tensor."""
        grown = tuple(f"{name}." for name, length in self._present_lengths() if self._lengths.get(name) != length)
        found = {}
        for name, leaf in plain_leaves(self._model).items():
            if name.startswith(grown):
                continue
            if isinstance(leaf, Tensor) and leaf.is_leaf:  # what has a graph was computed by a forward pass
                found[name] = leaf.detach().clone()
            elif isinstance(leaf, GENERATORS):
                found[f"{name}:generator"] = generator_state(leaf)
            elif isinstance(leaf, np.ndarray) and _fits_torch(leaf.dtype):
                found[f"{name}:array"] = torch.from_numpy(np.ascontiguousarray(leaf).copy())
            elif _is_number(leaf) and (name not in self._numbers or _differ(leaf, self._numbers[name])):
                found[f"{name}:number"] = torch.tensor(leaf, dtype=_dtype_of_number(leaf))
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go to the values of a checkpoint: first to those of the new network, then to what differed from them."""
        self._start.restore()
        places: dict[str, tuple[Any, Any]] = {
            leaf_name: (holder, key)
            for path, module in self._model.named_modules()
            for name in plain_attributes(module)
            for leaf_name, holder, key in _places(vars(module), name, f"{path}.{name}" if path else name)
        }
        for entry, value in tensors.items():
            name, _, kind = entry.rpartition(":")
            if kind not in ("generator", "array", "number"):
                name, kind = entry, "tensor"
            place = places.get(name) or self._new_place(name)
            if place is None or isinstance(place[0], tuple):
                continue
            holder, key = place
            leaf = holder[key] if name in places else None
            if kind == "generator":
                if isinstance(leaf, GENERATORS):
                    set_generator_state(leaf, value.cpu())
            elif kind == "number":
                holder[key] = value.item()
            elif kind == "array":
                array = value.cpu().numpy()
                if isinstance(leaf, np.ndarray) and leaf.shape == array.shape and leaf.flags.writeable:
                    leaf[...] = array
                else:
                    holder[key] = array
            elif isinstance(leaf, Tensor) and leaf.shape == value.shape:
                copy_values(leaf, value)
            else:
                holder[key] = value.clone()

    def _new_place(self, name: str) -> tuple[Any, Any] | None:
        """Return where an attribute, or an entry of a dict, belongs that a forward pass has made since."""
        path, _, key = name.rpartition(".")
        modules = dict(self._model.named_modules())
        if path in modules:
            return vars(modules[path]), key
        path, _, attribute = path.rpartition(".")
        holder = vars(modules[path]).get(attribute) if path in modules else None
        return (holder, int(key) if key.isdigit() else key) if isinstance(holder, dict) else None


def _fits_torch(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiub" and dtype.itemsize <= 8 and dtype.isnative


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def _dtype_of_number(number: float) -> torch.dtype:
    if isinstance(number, bool):
        return torch.bool
    return torch.int64 if isinstance(number, int) else torch.float64


def _lengths(value: Any, name: str, above: tuple[int, ...] = ()) -> Iterator[tuple[str, int]]:
    """Yield the lists and tuples in an attribute with their lengths."""
    if not _is_container(value) or id(value) in above:
        return
    if not isinstance(value, dict):
        yield name, len(value)
    for key, child in _items(value):
        yield from _lengths(child, f"{name}.{key}", (*above, id(value)))


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Put back everything that happens to a network in a block, bit for bit: see `NetworkState`."""
    state = NetworkState(model)
    try:
        yield
    finally:
        with torch.no_grad():
            state.restore()


# --- copied and followed ----------------------------------------------------------------------------------------------


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a network with parameters, buffers, plain attributes and modes of its own.

    A tensor that was computed from parameters (a weight under a norm) is copied by its values.

    Raises:
        SgdlineError: If the network cannot be copied.
    """
    theirs = list(Walk().through(model))
    try:
        with torch.no_grad():  # the copy of a ScriptModule would be the end of a graph
            own: nn.Module = deep_copied(model, [part for part in theirs if isinstance(part, Tensor)])
        owned = [*model.buffers(), *(part for part in theirs if isinstance(part, nn.Module | nn.Parameter))]
        if {id(part) for part in owned} & {id(part) for part in Walk().through(own)}:
            raise ValueError("a copy that shares modules or tensors with it (a __deepcopy__ of its own)")
        for original, parameter in zip(model.parameters(), own.parameters(), strict=True):
            parameter.requires_grad_(original.requires_grad)
        return own
    except Exception as error:  # whatever a user's module raises
        raise SgdlineError(
            f"The network must be copyable for a plan that is not in_place, got: {first_line(error)}. "
            "Set in_place: true in the plan, in Python plan=Plan(in_place=True)."
        ) from error


class Follower:
    """Keeps a copy of a network in step with it, and knows when the network has become another one.

    It does not follow what plain objects and hidden modules hold: those of the copy stay as they were when it was made.
    Once a line the copy is held against the network (`Network.difference`), and made anew where that matters.
    """

    def __init__(self, source: nn.Module, own: nn.Module) -> None:
        """Pair a network with its copy.

        Args:
            source: The network.
            own: What `copied` returned, just now.
        """
        self._source = source
        self._own = own
        self._pairs = list(zip(source.modules(), own.modules(), strict=True))
        self._form = self._present_form()
        self._objects = self._present_objects()

    def _present_form(self) -> tuple[Any, ...]:
        """Return what cannot be copied over: which modules, parameters and hooks there are."""
        modules = list(self._source.modules())
        return (
            [(id(module), type(module)) for module in modules],
            [(name, p.shape, p.dtype) for name, p in self._source.named_parameters() if p.requires_grad],
            [
                id(hook)
                for module in modules
                for kind in _HOOKS
                for hook in (getattr(module, kind, None) or {}).values()
            ],
            [id(hook) for hooks in _global_hooks() for hook in hooks.values()],
        )

    def _present_objects(self) -> list[tuple[str, int]]:
        return [
            (name, id(value))
            for module in self._source.modules()
            for name, value in plain_attributes(module).items()
            if _is_foreign(value)
        ]

    def has_same_form(self) -> bool:
        """Return whether the network has the modules, parameters and hooks that were copied."""
        return self._present_form() == self._form

    def is_current(self) -> bool:
        """Return whether the network is still made of what was copied, foreign objects included."""
        return self.has_same_form() and self._present_objects() == self._objects

    def take_over(self) -> None:
        """Copy frozen parameters, buffers, plain attributes and modes.

        Trainable parameters are left alone: each position along a line sets them.
        """
        frozen = dict(self._own.named_parameters())
        for name, parameter in self._source.named_parameters():
            if not parameter.requires_grad and name in frozen and not copy_values(frozen[name], parameter):
                frozen[name].data = cast(parameter.detach().clone(), frozen[name].dtype)
        registered = _registered(self._source)
        dtype = next((p.dtype for p in self._own.parameters() if p.is_floating_point()), torch.float32)
        for source, own in self._pairs:
            own.training = source.training
            if isinstance(source, torch.jit.ScriptModule):
                for theirs, ours in zip(source.buffers(recurse=False), own.buffers(recurse=False), strict=True):
                    ours.copy_(theirs)
                continue
            _follow(own._buffers, source._buffers, set(), dtype)
            _follow(vars(own), plain_attributes(source), registered, dtype, names=plain_attributes(own).keys())


def _is_foreign(value: Any) -> bool:
    known = (Tensor, np.ndarray, *GENERATORS, *SIMPLE)
    return any(not isinstance(leaf, known) for _, leaf in _leaves(value, ""))


def _follow(
    own: Any, source: Mapping[str, Any], registered: set[int], dtype: torch.dtype, *, names: Any = None
) -> None:
    """Bring the entries of a mapping of the copy in step with those of the network."""
    for name in set(own if names is None else names) - source.keys() - {"chunk_layout"}:
        del own[name]
    for name, value in source.items():
        if _is_foreign(value) or id(value) in registered:
            continue  # `is_current` looks after the one; the other is a parameter, which the copy has of its own
        if name not in own or not _followed(own[name], value, registered):
            plain = _detached(value)
            inside = [leaf for _, leaf in _leaves(plain, "") if isinstance(leaf, Tensor)]
            own[name] = cast_values(deep_copied(plain, inside), dtype)


def _followed(own: Any, source: Any, registered: set[int]) -> bool:
    """Bring a value in step with its original, in place; return False where another object is needed."""
    if id(source) in registered:
        return True
    if isinstance(source, SIMPLE):
        return not _differ(own, source)
    if type(own) is not type(source):
        return False
    if isinstance(source, Tensor):
        return copy_values(own, source)
    if isinstance(source, np.ndarray):
        return bool(source.tobytes() == own.tobytes())
    if isinstance(source, GENERATORS):
        set_generator_state(own, generator_state(source))
        return True
    theirs, ours = _items(source), _items(own)
    return [key for key, _ in theirs] == [key for key, _ in ours] and all(
        _followed(mine, its, registered) for (_, its), (_, mine) in zip(theirs, ours, strict=True)
    )


def _detached(value: Any) -> Any:
    """Return a value whose tensors can be copied."""
    if isinstance(value, Tensor):
        return value.detach()
    if type(value) is dict:
        return {key: _detached(child) for key, child in value.items()}
    return type(value)(_detached(child) for child in value) if type(value) in (list, tuple) else value


# --- precision and hooks ----------------------------------------------------------------------------------------------


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in the precision of a real dtype.

    The one rule of casting: in a float64 copy everything real is float64 and everything complex complex128, be it a
    parameter, a buffer, a plain tensor, a sample or a tensor of the loss. Whole numbers stay as they are.
    """
    if tensor.is_floating_point():
        return tensor.to(dtype)
    if tensor.is_complex():
        return tensor.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return tensor


def cast_values(value: Any, dtype: torch.dtype) -> Any:
    """Return a plain value with its tensors cast; parameters are left alone."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return cast(value, dtype)
    if type(value) is dict:
        return {key: cast_values(child, dtype) for key, child in value.items()}
    return type(value)(cast_values(child, dtype) for child in value) if type(value) in (list, tuple) else value


def to_float64(module: nn.Module) -> None:
    """Cast a network or a loss that `copied` returned, in place: parameters, buffers, plain tensors, hidden modules.

    Tensors in plain objects stay as they are: an object may belong to the original as well.
    """
    module.double()
    hidden = [part for part in Walk().through(module) if isinstance(part, nn.Module)]
    known = {id(part) for part in module.modules()}
    for part in hidden:
        if id(part) not in known:
            part.double()
    for owner in hidden:
        for name, value in plain_attributes(owner).items():
            if not _is_foreign(value):
                vars(owner)[name] = cast_values(value, torch.float64)
        if not isinstance(owner, torch.jit.ScriptModule):
            for name, buffer in owner._buffers.items():
                owner._buffers[name] = cast_values(buffer, torch.float64)


def has_own_hooks(model: nn.Module) -> bool:
    """Return whether a network has hooks besides torch's own, which compute weights (norms, pruning)."""
    return any(True for _ in _own_hooks(model)) or any(_global_hooks())


def _global_hooks() -> list[MutableMapping[Any, Any]]:
    """Return torch's registries of hooks on every module."""
    return [getattr(nn.modules.module, f"_global{kind}", {}) for kind in _HOOKS]


def _own_hooks(model: nn.Module) -> Iterator[tuple[MutableMapping[Any, Any], Any]]:
    for module in model.modules():
        for kind in _HOOKS:
            hooks = getattr(module, kind, None) or {}
            yield from ((hooks, key) for key, hook in hooks.items() if not _of_torch(hook))


def _of_torch(hook: Any) -> bool:
    owner = hook if hasattr(hook, "__qualname__") else type(hook)
    return str(getattr(owner, "__module__", "")).startswith("torch.")


@contextmanager
def muted_hooks(model: nn.Module) -> Iterator[None]:
    """Take the user's hooks away for a block: recorders, counters and printers are not meant for measuring."""
    taken = [(hooks, dict(hooks)) for hooks, _ in _own_hooks(model)]
    with muted_global_hooks():
        mute_hooks(model)
        try:
            yield
        finally:
            for hooks, before in taken:
                hooks.clear()
                hooks.update(before)


@contextmanager
def muted_global_hooks() -> Iterator[None]:
    """Take the hooks on every module away for a block."""
    taken = [(hooks, dict(hooks)) for hooks in _global_hooks()]
    for hooks, _ in taken:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in taken:
            hooks.update(before)


def mute_hooks(model: nn.Module) -> None:
    """Take the user's hooks away for good, from a copy."""
    for hooks, key in list(_own_hooks(model)):
        del hooks[key]
