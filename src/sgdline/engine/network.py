"""A network as a function from parameter vectors to per-sample losses, computed the way a plan says."""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from sgdline.engine.batchnorm import Layout, has_batch_norm, normalise_per_chunk, unsynchronised
from sgdline.engine.draws import DrawsIn
from sgdline.engine.plan import Plan
from sgdline.engine.samples import (
    Samples,
    are_plain,
    arguments_of,
    call,
    cast_samples,
    count_of,
    device_of,
    rows_of,
    usable,
)
from sgdline.errors import SgdlineError
from sgdline.models.parameters import ParameterLayout, ParameterVector, trainable_parameters, uncompiled
from sgdline.models.state import (
    Follower,
    NetworkState,
    Steady,
    cast_values,
    copied,
    mute_hooks,
    muted_global_hooks,
    muted_hooks,
    restored,
    to_float64,
)
from sgdline.runtime import beat, restore_tf32, set_tf32
from sgdline.seeds import draws_state, kept_generators, library_state, seed_libraries, seed_masks

# Precisions of a plan that are autocast to a dtype.
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# Of the measuring set, this share (and at least so many samples) is computed by the network itself once a line.
_CHECKED_SHARE = 32
_CHECKED_AT_LEAST = 8
# Entries of parameter vectors, 1 MiB of float64.
_ADDED_AT_ONCE = 2**17

# Outputs and targets of a forward pass -> one loss per sample, nats. Shape (n,) or (n, ...), then averaged per sample.
# Outputs are what the network returns: a tensor, or a tuple, list or dict of tensors.
Loss = Callable[[Any, Samples], Tensor]


class DrawsError(SgdlineError):
    """A network drew random numbers in passes of a plan that says it draws none: its losses are no line."""


class PlanFaultError(SgdlineError):
    """A plan computes something else than the network, or fails."""


@dataclass(frozen=True)
class _Pass:
    """Samples that go through the network together."""

    inputs: Samples  # of n samples
    targets: Samples
    sizes: tuple[int, ...]  # samples per chunk
    mask_seed: int  # seed of the first chunk's random masks


@dataclass(frozen=True)
class MeasuringSet:
    """Samples cut into chunks and made ready for forward passes by `Network.prepare`."""

    passes: tuple[_Pass, ...]
    sizes: tuple[int, ...]  # samples per chunk
    lasting: bool  # measured on many lines: worth a recorded graph
    # Recorded passes, by the copy that they belong to and their place.
    graphs: dict[tuple[int, int], tuple[Any, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def samples(self) -> int:
        """Number of samples N."""
        return sum(self.sizes)


class Network:
    """Per-sample losses of a network at any parameter vector.

    Works on a copy of the network, which stays as it is. Parameters are set from one float64 vector, rounded once.
    """

    def __init__(self, model: nn.Module, loss: Loss, *, train_mode: bool, plan: Plan) -> None:
        """Make the copy.

        Args:
            model: The network, anywhere.
            loss: Losses of each sample.
            train_mode: Whether to measure in train mode (batch statistics, random masks) or in eval mode.
            plan: How to make forward passes.

        Raises:
            SgdlineError: If the network cannot be copied and the plan is not in_place.
        """
        self.plan = plan
        self._source = model
        self._loss = Steady(loss)
        self._train_mode = train_mode
        for name, parameter in trainable_parameters(model).items():
            if not parameter.is_floating_point():
                raise SgdlineError(
                    f"Parameter {name!r} must be of a real floating-point dtype, got {parameter.dtype}. "
                    "Use a real-valued model."
                )
        self._copies = 0
        # What the copy is held against the network on: the first samples of the set that was prepared first.
        self._sample: tuple[Samples, Samples, int] | None = None
        self._make_worker()

    def _make_worker(self) -> None:
        """Copy the network, or take itself; again where it has become another one."""
        plan = self.plan
        self._copies += 1
        self._worker = self._source if plan.in_place else copied(self._source)
        self._follower = None if plan.in_place else Follower(self._source, self._worker)
        self._layout = Layout()
        if not plan.in_place:
            if not plan.hooks:
                mute_hooks(self._worker)
            self._layout = normalise_per_chunk(self._worker)
            self._layout.centred = plan.statistics == "view"
            if plan.channels_last:
                for parameter in self._worker.parameters():
                    if parameter.dim() == 4:
                        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
            if plan.precision == "float64":
                to_float64(self._worker)
        self._own = None if plan.in_place else ParameterVector(self._worker, with_gradient=False)
        self._places = self._own or ParameterLayout(self._worker)
        self._parameters = trainable_parameters(self._worker)
        self._device = next(iter(self._parameters.values())).device
        self._compiled: Callable[..., Any] | None = None
        self._whole_pass: tuple[int, ...] | None = None
        self._graph_pool: Any = None
        self._stream: Any = None
        # Whether a change of mode works on the weights (low-rank adapters merge them): found out at the first line.
        self._switches: bool | None = None
        # Whether a pass draws from the global generators of numpy or Python: found out at the first pass.
        self._draws_elsewhere: bool | None = None
        self._base: NetworkState | None = None  # what each position starts from, if it does
        # The state that each forward pass starts from, and the parts that a pass changes; None before the first pass.
        self._state: NetworkState | None = None
        self._moving: list[Any] | None = None
        if self._own is not None:
            for parameter in self._parameters.values():
                parameter.requires_grad_(False)

    @property
    def size(self) -> int:
        """Number of trainable scalars p."""
        return self._places.size

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return tensors of the parameters' shapes as one float64 vector in this network's memory order.

        Args:
            tensors: One tensor per trainable parameter.

        Returns:
            Shape (p,), float64.

        Raises:
            SgdlineError: If a name or shape is not that of the network's parameters.
        """
        return self._places.join(tensors)

    def origin(self) -> Tensor:
        """Return the network's present parameters as one vector. Shape (p,), float64."""
        return self.flatten(trainable_parameters(self._source))

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return a vector in `flatten`'s order as views of the parameters' shapes, by name."""
        return self._places.split(flat)

    def prepare(
        self,
        inputs: Samples,
        targets: Samples,
        *,
        chunk_size: int,
        mask_seeds: Sequence[int],
        lasting: bool = True,
        chunks_per_pass: int | None = None,
    ) -> MeasuringSet:
        """Cut samples, in their own order, into chunks and chunks into forward passes; the last may be smaller.

        Args:
            inputs: Samples, on the network's device: tensors of the shape (n, ...).
            targets: Of the same samples.
            chunk_size: Samples that share BatchNorm's statistics.
            mask_seeds: Seed of the random masks of each chunk.
            lasting: Whether the set is measured on many lines.
            chunks_per_pass: Another number than the plan's.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample.
        """
        samples = count_of(inputs)
        if lasting and self._sample is None and samples:
            few = slice(min(chunk_size, samples, max(_CHECKED_AT_LEAST, samples // _CHECKED_SHARE)))
            self._sample = rows_of(inputs, few), rows_of(targets, few), mask_seeds[0]
        inputs, targets = self._in_precision(inputs), self._in_precision(targets)
        sizes = tuple(min(chunk_size, samples - first) for first in range(0, samples, chunk_size))
        if self._train_mode and sizes and sizes[-1] == 1 and has_batch_norm(self._worker):
            raise SgdlineError(
                "The last chunk of a measuring set must hold at least two samples for BatchNorm in train mode, got 1. "
                "Change the number of samples (a data set's train or validation) or of those in a chunk (batch_size)."
            )
        together = self.plan.chunks_per_pass if chunks_per_pass is None else chunks_per_pass
        passes = []
        for first in range(0, len(sizes), together):
            begin, rows = first * chunk_size, sum(sizes[first : first + together])
            part = slice(begin, begin + rows)
            passes.append(
                _Pass(rows_of(inputs, part), rows_of(targets, part), sizes[first : first + together], mask_seeds[first])
            )
        if lasting and self._whole_pass is None:
            self._whole_pass = passes[0].sizes
        return MeasuringSet(tuple(passes), sizes, lasting)

    @property
    def switches(self) -> bool:
        """Whether a change to eval mode works on the weights; known within `opened`."""
        return bool(self._switches)

    def has_same_form(self) -> bool:
        """Return whether the network still has the modules, parameters and hooks that were copied."""
        return self._follower is None or self._follower.has_same_form()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Take over the network's present state; put back everything that measuring touches, bit for bit."""
        with self._surrounded(), ExitStack() as stack:
            if self._follower is None:
                stack.enter_context(_borrowed(self._source, hooks=self.plan.hooks))
            else:
                if not self._follower.is_current():
                    self._make_worker()
                self._follower.take_over()
                if not self.plan.hooks:
                    stack.enter_context(muted_global_hooks())
            self._per_sample_loss = self._loss_in_precision()
            self._set_modes()
            yield

    @contextmanager
    def _surrounded(self) -> Iterator[None]:
        """Set up torch for forward passes of the plan, whatever is set around the call; all of it comes back."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if self._on_gpu and self._device.index not in (None, torch.cuda.current_device()):
                stack.enter_context(torch.cuda.device(self._device))  # for streams and graphs that name no device
            stack.enter_context(kept_generators(self._device))
            stack.enter_context(_threads(self.plan.threads))
            stack.enter_context(uncompiled(self._source))
            stack.enter_context(_tf32(self.plan.precision == "tf32"))
            # Also against an autocast around the call. Its cache would hold on to the weights of another position.
            half = HALF.get(self.plan.precision)
            stack.enter_context(
                torch.autocast(self._device.type, dtype=half, enabled=half is not None, cache_enabled=False)
            )
            yield

    @contextmanager
    def undrawn(self) -> Iterator[None]:
        """Hold the plan to its word in a block within `opened`: with `reseed` false no pass draws random numbers.

        Raises:
            DrawsError: If one did.
        """
        if self.plan.reseed:
            yield
            return
        before = draws_state(self._device)
        yield
        if draws_state(self._device) != before:
            raise DrawsError(
                "A plan with reseed: false needs a network and a loss that draw no random numbers, got draws while "
                "measuring. Pin reseed: true in the plan; in Python use plan=Plan(), or leave plan out."
            )

    def _loss_in_precision(self) -> Steady:
        """Return the loss, its tensors in float64 if the plan says so."""
        self._loss.forget()  # it may have another state than at the last line
        return Steady(loss_in_float64(self._loss.function)) if self.plan.precision == "float64" else self._loss

    def _set_modes(self) -> None:
        """Set train or eval mode; layers that a network in train mode keeps in eval mode (frozen BatchNorm) stay so.

        What a network does to its weights on a change of mode (merging low-rank adapters) it does at every position.
        """
        if not self._worker.training:
            self._worker.train(True)
        self._base, self._state, self._moving = None, None, None
        if self._train_mode:
            return
        if self._switches is None:
            before = NetworkState(self._worker)
            self._worker.train(False)
            self._switches = bool(before.changed())
            before.restore()
        if self._switches:
            self._base = NetworkState(self._worker, trainable=False)
        else:
            self._worker.train(False)

    def _move(self, vector: Tensor, direction: Tensor | None = None, position: float = 0.0) -> None:
        """Set the parameters to a vector, or to vector + position * direction; the only rounding."""
        if self._base is not None:
            self._base.restore()
        if self._own is not None:
            _add(vector, direction, position, into=self._own.value)
        else:
            moved = vector if direction is None else torch.add(vector, direction, alpha=position)
            for name, view in self.split(moved).items():
                self._parameters[name].data.copy_(view)
        if self._base is not None:
            self._worker.train(False)
            self._state, self._moving = None, None

    @property
    def _on_gpu(self) -> bool:
        return self._device.type == "cuda"

    def losses(self, vectors: Tensor, measured: MeasuringSet) -> Tensor:
        """Return the loss of every sample at parameter vectors. Call it within `opened`.

        Args:
            vectors: Parameter vectors in the order of `flatten`. Shape (K, p), float64.
            measured: What to measure on.

        Returns:
            Losses in nats, in the order of the samples. Shape (K, N).

        Cost: K forward passes over the set, at once if the plan takes several positions per pass.
        """
        if self._singly(len(vectors)):
            return torch.stack([self._at(measured, vector) for vector in vectors])
        return self._at_several(vectors, measured)

    def losses_along(self, origin: Tensor, direction: Tensor, positions: Tensor, measured: MeasuringSet) -> Tensor:
        """Return the loss of every sample at origin + position * direction. Call it within `opened`.

        Args:
            origin: In the order of `flatten`. Shape (p,), float64.
            direction: Likewise. Shape (p,), float64.
            positions: Multiples of the direction. Shape (K,), float64.
            measured: What to measure on.

        Returns:
            Losses in nats, in the order of the samples. Shape (K, N).

        Cost: as of `losses`, without the memory of the vectors.
        """
        found = []
        for part in torch.split(positions, self.plan.positions_per_pass):
            if self._singly(len(part)):
                found += [self._at(measured, origin, direction, position)[None] for position in part.tolist()]
            else:
                found.append(self._at_several(origin + part[:, None] * direction, measured))
        return torch.cat(found)

    def _singly(self, count: int) -> bool:
        """Return whether so many positions are measured one by one."""
        # Weights that are merged on a change of mode are merged position by position.
        return self.plan.positions_per_pass == 1 or count == 1 or self._base is not None

    def _at(
        self, measured: MeasuringSet, vector: Tensor, direction: Tensor | None = None, position: float = 0.0
    ) -> Tensor:
        self._move(vector, direction, position)
        found = []
        for index, part in enumerate(measured.passes):
            # The first pass goes without: it finds out whether the network changes a state of its own.
            if self.plan.cuda_graphs and measured.lasting and self._on_gpu and self._moving == []:
                found.append(self._replayed(index, part, measured))
            else:
                found.append(self._forward(part))
            beat()
        return torch.cat(found)

    def _forward(self, part: _Pass) -> Tensor:
        self._layout.sizes = part.sizes
        if self.plan.reseed:
            seed_masks(part.mask_seed, self._device)
            if self._draws_elsewhere is not False:
                seed_libraries(part.mask_seed)
        seeded = library_state() if self._draws_elsewhere is None else None
        network: Callable[..., Any] = self._worker
        # One shape is compiled, that of a whole pass; a smaller rest would cost a compilation of its own.
        if self.plan.compiled and part.sizes == self._whole_pass:
            if self._compiled is None:
                self._compiled = _compiled(self._worker)
            network = self._compiled
        with self._same_state(), self._same_draws():
            outputs = call(network, part.inputs, like=self._worker)
        if seeded is not None:
            self._draws_elsewhere = library_state() != seeded
        losses = self._per_sample(outputs, part.targets)
        if self.plan.cuda_graphs and self._per_sample_loss.moves:
            self._moving = None  # a recorded pass would keep the state that the loss had at one line: record none
        return losses

    def _same_draws(self) -> AbstractContextManager[Any]:
        """Return a context in which random draws are those of the network's own precision, whatever the plan's.

        A CUDA kernel gives each thread 16 bytes, and a CPU draws float64 from other bits: one seed makes other masks or
        other noise in float32, float64 and half precision. A line is measured with the draws of the step.
        """
        if not self.plan.reseed or self.plan.precision not in ("float64", *HALF):
            return nullcontext()
        return DrawsIn(self._dtype_of_source())

    @contextmanager
    def _same_state(self) -> Iterator[None]:
        """Let every forward pass find the same state: what one changes (running averages, counters) is put back."""
        if self._state is None:
            self._state = NetworkState(self._worker, trainable=False, frozen=False)
        yield
        if self._moving is None:
            self._moving = self._state.changed()
        for cell in self._moving:
            cell.restore()

    def _per_sample(self, outputs: Any, targets: Samples) -> Tensor:
        if self.plan.precision in HALF:
            outputs = tree_map_only(Tensor, _widened, outputs)
        with self._same_draws():
            return per_sample(self._per_sample_loss, outputs, targets)

    def difference(self) -> str | None:
        """Hold the copy against the network itself at its present parameters; return in words how they differ.

        A copy can miss what the network is made of: state in objects that it cannot see into, weights that are cached
        somewhere, a function that holds on to the original's layers.

        Cost: two forward passes of a 32nd of the set that was prepared first, at least of eight samples, and a copy of
        the network's state.
        """
        if self._follower is None or self._sample is None:
            return None
        inputs, targets, mask_seed = self._sample
        with self.opened():
            expected = self._own_losses(inputs, targets, mask_seed)
            plan, whole = self.plan, self._whole_pass
            try:
                # Compiled code, graphs and half precision were held against this plain pass by the trial.
                self.plan = plan.but(
                    reseed=True, compiled=False, cuda_graphs=False, chunks_per_pass=1, positions_per_pass=1
                )
                self._move(self.origin())
                sample = _Pass(self._in_precision(inputs), self._in_precision(targets), (count_of(inputs),), mask_seed)
                with torch.autocast(self._device.type, enabled=False):
                    found = self._forward(sample)
            finally:
                self.plan, self._whole_pass = plan, whole
        return difference(found, expected, alike=self.plan.precision != "float64", dtype=self._dtype_of_source())

    def fault_of_plan(self, found: Tensor, inputs: Samples, targets: Samples, *, mask_seed: int) -> str | None:
        """Hold what the plan gave for a chunk against the network itself; return in words how they differ.

        A network that mixes samples (a mean over the batch that is no BatchNorm) is another one if chunks share a pass.

        Args:
            found: Losses of the chunk at the network's present parameters. Shape (n,).
            inputs: The chunk's.
            targets: The chunk's.
            mask_seed: Seed of its random masks.

        Cost: one forward pass of the chunk.
        """
        with self._surrounded():
            expected = self._own_losses(inputs, targets, mask_seed)
        alike = self.plan.precision == "float32"
        half = HALF.get(self.plan.precision)
        rounding = 0.0 if half is None else torch.finfo(half).eps / 2
        return difference(found, expected, alike=alike, dtype=self._dtype_of_source(), rounding=rounding)

    def _own_losses(self, inputs: Samples, targets: Samples, mask_seed: int) -> Tensor:
        """Return what the network itself gives for one chunk at its present parameters. Shape (n,)."""
        seed_masks(mask_seed, self._device)
        seed_libraries(mask_seed)
        with _borrowed(self._source, hooks=self.plan.hooks):
            if not self._source.training:
                self._source.train(True)
            if not self._train_mode:
                self._source.train(False)
            with torch.autocast(self._device.type, enabled=False):
                return per_sample(self._loss, call(self._source, inputs, like=self._source), targets)

    def _dtype_of_source(self) -> torch.dtype:
        return next(iter(trainable_parameters(self._source).values())).dtype

    def _in_precision(self, samples: Samples) -> Samples:
        return cast_samples(samples, torch.float64) if self.plan.precision == "float64" else samples

    def _replayed(self, index: int, part: _Pass, measured: MeasuringSet) -> Tensor:
        """Replay the CUDA graph of a pass, recording it at the first time: inputs and parameters never move."""
        key = self._copies, index
        if key not in measured.graphs:
            if self._stream is None:
                self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                for _ in range(2):
                    self._forward(part)
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
            if self._graph_pool is None:
                self._graph_pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._graph_pool, stream=self._stream):
                losses = self._forward(part)
            measured.graphs[key] = (graph, losses)
        graph, losses = measured.graphs[key]
        graph.replay()
        return losses.clone()  # the graphs of all passes share their memory

    def outputs(self, inputs: Samples, *, mask_seed: int) -> Any:
        """Return what the network returns for one chunk at its present parameters. Call it within `opened`."""
        self._move(self.origin())
        self._layout.sizes = None
        seed_masks(mask_seed, self._device)
        with self._same_state(), self._same_draws():
            return call(self._worker, self._in_precision(inputs), like=self._worker)

    def gradient(self, vector: Tensor, measured: MeasuringSet) -> Tensor:
        """Return the gradient of the mean loss at a parameter vector, on a copy. Call it within `opened`.

        Args:
            vector: Shape (p,), float64.
            measured: One chunk.

        Returns:
            Shape (p,), float64.
        """
        assert self._own is not None
        self._move(vector)
        parameters = list(self._parameters.values())
        try:
            for parameter in parameters:
                parameter.requires_grad_(True)
            with torch.enable_grad():
                mean = self._forward(measured.passes[0]).mean()
                found = torch.autograd.grad(mean, parameters, allow_unused=True, materialize_grads=True)
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)
        return self.flatten(dict(zip(self._parameters, found, strict=True)))

    def _at_several(self, vectors: Tensor, measured: MeasuringSet) -> Tensor:
        assert self._own is not None
        dtype = self._own.value.dtype
        stacked = self._stacked(vectors.to(dtype))
        constants: dict[str, Tensor] = dict(self._worker.named_buffers())
        constants |= {name: p for name, p in self._worker.named_parameters() if name not in stacked}

        def at_one(parameters: dict[str, Tensor], inputs: Samples) -> Any:
            arguments = arguments_of(self._worker, inputs)
            return usable(torch.func.functional_call(self._worker, {**parameters, **constants}, *arguments))

        found = []
        for part in measured.passes:
            self._layout.sizes = part.sizes
            with self._same_state(), warnings.catch_warnings():
                # Some operations are done one position after the other: the trial sees what that costs.
                warnings.filterwarnings("ignore", message="There is a performance drop")
                outputs = torch.func.vmap(at_one, in_dims=(0, None))(stacked, part.inputs)
            each = [tree_map_only(Tensor, operator.itemgetter(k), outputs) for k in range(len(vectors))]
            found.append(torch.stack([self._per_sample(one, part.targets) for one in each]))
            beat()
        return torch.cat(found, dim=1)

    def _stacked(self, vectors: Tensor) -> dict[str, Tensor]:
        """Cut vectors (K, p) into views (K, *shape), each parameter in its own memory order."""
        views = self.split(vectors[0])
        stride = vectors.stride(0)
        return {
            name: vectors.as_strided((len(vectors), *view.shape), (stride, *view.stride()), view.storage_offset())
            for name, view in views.items()
        }


def _add(vector: Tensor, direction: Tensor | None, position: float, *, into: Tensor) -> None:
    """Write vector + position * direction, summed in float64, into a tensor of any precision. Shapes (p,).

    On a CPU in parts that stay in its cache: new memory for a whole vector costs as much as a small forward pass.
    """
    if direction is None:
        into.copy_(vector)
    elif into.dtype == vector.dtype or into.device.type != "cpu" or len(into) <= _ADDED_AT_ONCE:
        torch.add(vector, direction, alpha=position, out=into)
    else:
        some = torch.empty_like(vector[:_ADDED_AT_ONCE])
        parts = (torch.split(whole, _ADDED_AT_ONCE) for whole in (vector, direction, into))
        for start, along, end in zip(*parts, strict=True):
            end.copy_(torch.add(start, along, alpha=position, out=some[: len(start)]))


@contextmanager
def _borrowed(model: nn.Module, *, hooks: bool) -> Iterator[None]:
    """Use the network itself for a while: its state comes back, and hooks of the user's fire only if asked for."""
    with restored(model), unsynchronised(model), nullcontext() if hooks else muted_hooks(model):
        yield


@contextmanager
def tried_out(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Make plain forward passes of the network itself for a while, without gradients; all of it comes back.

    Args:
        model: The network.
        device: Where it is.
    """
    with kept_generators(device), torch.no_grad(), uncompiled(model), _borrowed(model, hooks=False):
        yield


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def per_sample(loss: Loss, outputs: Any, targets: Samples) -> Tensor:
    """Return one loss per sample; several values of a sample are averaged. Shape (n,).

    Raises:
        SgdlineError: If the outputs are no tensors, or the loss returns anything but real values per sample.
    """
    if not are_plain(outputs):
        odd = next(leaf for leaf in tree_leaves(outputs) if not isinstance(leaf, Tensor))
        raise SgdlineError(
            f"The network must return a tensor, or a tuple, list or dict of tensors, got {type(odd).__name__}. "
            "Wrap it in a module that returns what the loss needs."
        )
    losses = loss(outputs, targets)
    if not isinstance(losses, Tensor):
        raise SgdlineError(
            f'loss must return a tensor with one value per sample, got {type(losses).__name__}. Use reduction="none".'
        )
    if losses.dim() == 0 or len(losses) != count_of(targets) or not losses.numel():
        count, advice = count_of(targets), 'Use reduction="none".'
        if losses.dim() == 1 and len(losses) and len(losses) % count == 0:
            advice = f"Reshape it to ({count}, {len(losses) // count}) if each sample has so many values."
        raise SgdlineError(
            f"loss must return one value per sample ({count}), got the shape {tuple(losses.shape)}. {advice}"
        )
    if not losses.is_floating_point():
        raise SgdlineError(f"loss must return real floating-point values, got {losses.dtype}. Convert them.")
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def loss_in_float64(loss: Loss) -> Loss:
    """Return a loss whose tensors are float64, the same one if it has none that can be reached.

    Tensors of a module, one whose method is the loss too, and arguments of a functools.partial are cast in a copy. A
    function's own are out of reach.
    """
    if isinstance(loss, MethodType) and isinstance(loss.__self__, nn.Module):
        return MethodType(loss.__func__, loss_in_float64(loss.__self__))
    if isinstance(loss, nn.Module):
        module = copied(loss)
        to_float64(module)
        return module
    if isinstance(loss, functools.partial):
        arguments: list[Any] = [
            loss_in_float64(value) if callable(value) else cast_values(value, torch.float64) for value in loss.args
        ]
        return functools.partial(
            loss_in_float64(loss.func), *arguments, **cast_values(dict(loss.keywords), torch.float64)
        )
    return loss


# What two ways of computing the same float32 losses may differ by, per max(1, loss): the mean of a chunk, one sample.
# A way that computes something else (samples mixed across chunks, another network's weights) is off by far more.
SAME_CHUNK = 5e-5
SAME_SAMPLE = 5e-3


def difference(
    found: Tensor, expected: Tensor, *, alike: bool, dtype: torch.dtype = torch.float32, rounding: float = 0.0
) -> str | None:
    """Return in words how losses of some samples differ from what they should be; None if they are the same.

    Args:
        found: Shape (n,).
        expected: Shape (n,).
        alike: Whether both were computed in one precision.
        dtype: The lower precision, if they were not.
        rounding: Of the losses, relative, if a plan rounds more than that.
    """
    found, expected = found.double(), expected.double()
    if not torch.equal(torch.isfinite(found), torch.isfinite(expected)):
        return "other losses are finite"
    found, expected = torch.nan_to_num(found), torch.nan_to_num(expected)
    chunk = float((found.mean() - expected.mean()).abs() / expected.mean().abs().clamp(min=1.0))
    sample = float(((found - expected).abs() / expected.abs().clamp(min=1.0)).max())
    rounding = max(rounding, 0.0 if alike else torch.finfo(dtype).eps)  # matters in half precision
    if chunk > max(SAME_CHUNK if alike else 20 * SAME_CHUNK, 2 * rounding) or sample > max(SAME_SAMPLE, 8 * rounding):
        return f"a mean loss of {float(found.mean()):.6g} for {float(expected.mean()):.6g}"
    return None


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = set_tf32(allowed)
    try:
        yield
    finally:
        restore_tf32(before)


def _compiled(network: nn.Module) -> Callable[..., Any]:
    if torch.are_deterministic_algorithms_enabled():
        import torch._inductor.config as inductor

        if hasattr(inductor, "deterministic"):  # torch 2.9 and later: no choice of kernels by timing
            inductor.deterministic = True
    compiled: Callable[..., Any] = torch.compile(network, dynamic=False)
    return compiled


def draws_random_numbers(model: nn.Module, inputs: Samples, *, train_mode: bool) -> bool:
    """Return whether a forward pass of the network draws from a global generator; leaves all as it was.

    Those of torch on the network's device, of numpy and of Python.

    Args:
        model: The network.
        inputs: At least two samples.
        train_mode: The mode to try.
    """
    device = device_of(inputs)
    on_gpu = device.type == "cuda"
    with tried_out(model, device):
        model.train(train_mode)
        elsewhere = library_state()
        before = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if on_gpu else [])
        call(model, inputs, like=model)
        after = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if on_gpu else [])
        moved = library_state() != elsewhere
    return moved or any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
