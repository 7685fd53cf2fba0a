"""A network as a function from parameter vectors to per-sample losses, computed the way a plan says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sgdline.engine.batchnorm import Layout, has_batch_norm, normalise_per_chunk
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import ParameterVector, buffers_of, restore_buffers, trainable_parameters
from sgdline.runtime import restore_tf32, set_tf32
from sgdline.seeds import kept_generators, seed_masks

# Outputs and targets of a forward pass -> one loss per sample, nats. Shape (n,) or (n, ...), then averaged per sample.
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Pass:
    """Samples that go through the network together."""

    inputs: Tensor  # (n, ...)
    targets: Tensor  # (n, ...)
    sizes: tuple[int, ...]  # samples per chunk
    mask_seed: int  # seed of the first chunk's random masks


@dataclass(frozen=True)
class MeasuringSet:
    """Samples cut into chunks and made ready for forward passes by `Network.prepare`."""

    passes: tuple[_Pass, ...]
    sizes: tuple[int, ...]  # samples per chunk
    lasting: bool  # measured on many lines: worth a recorded graph
    graphs: dict[int, tuple[Any, Tensor]] = field(default_factory=dict, compare=False, repr=False)

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
        self._loss = loss
        self._train_mode = train_mode
        for name, parameter in trainable_parameters(model).items():
            if not parameter.is_floating_point():
                raise SgdlineError(
                    f"Parameter {name!r} must be of a real floating-point dtype, got {parameter.dtype}. "
                    "Use a real-valued model."
                )
        self._worker = model if plan.in_place else _copied(model)
        self._layout = Layout()
        if not plan.in_place:
            self._layout = normalise_per_chunk(self._worker)
            self._layout.centred = plan.statistics == "view"
            if plan.channels_last:
                for parameter in self._worker.parameters():
                    if parameter.dim() == 4:
                        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
            if plan.precision == "float64":
                self._worker.double()
        self._own = None if plan.in_place else ParameterVector(self._worker, with_gradient=False)
        self._parameters = trainable_parameters(self._worker)
        self._device = next(iter(self._parameters.values())).device
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._whole_pass: tuple[int, ...] | None = None
        self._graph_pool: Any = None
        # Buffers that a forward pass changes, None before the first one, and their values on the present line.
        self._changing: tuple[str, ...] | None = None
        self._line_buffers: dict[str, Tensor] = {}
        if self._own is not None:
            for parameter in self._parameters.values():
                parameter.requires_grad_(False)

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shapes of the trainable parameters by name."""
        return {name: parameter.shape for name, parameter in self._parameters.items()}

    @property
    def size(self) -> int:
        """Number of trainable scalars p."""
        return sum(parameter.numel() for parameter in self._parameters.values())

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return tensors of the parameters' shapes as one float64 vector in this network's memory order.

        Args:
            tensors: One tensor per trainable parameter.

        Returns:
            Shape (p,), float64.

        Raises:
            SgdlineError: If a name or shape is not that of the network's parameters.
        """
        if tensors.keys() != self._parameters.keys():
            odd = sorted(tensors.keys() ^ self._parameters.keys())[0]
            raise SgdlineError(
                f"A direction must have one tensor for each trainable parameter, got a difference at {odd!r}. "
                "Build it from model.named_parameters() with requires_grad."
            )
        flat = torch.empty(self.size, dtype=torch.float64, device=self._device)
        for name, view in self._split(flat).items():
            if tensors[name].shape != view.shape:
                raise SgdlineError(
                    f"The direction of parameter {name!r} must have the shape {tuple(view.shape)}, "
                    f"got {tuple(tensors[name].shape)}. Build it like the parameter."
                )
            view.copy_(tensors[name].detach())
        return flat

    def origin(self) -> Tensor:
        """Return the network's present parameters as one vector. Shape (p,), float64."""
        return self.flatten(trainable_parameters(self._source))

    def _split(self, flat: Tensor) -> dict[str, Tensor]:
        if self._own is not None:
            return self._own.split(flat)
        views, first = {}, 0
        for name, parameter in self._parameters.items():
            views[name] = flat[first : first + parameter.numel()].view(parameter.shape)
            first += parameter.numel()
        return views

    def prepare(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        chunk_size: int,
        mask_seeds: Sequence[int],
        lasting: bool = True,
        chunks_per_pass: int | None = None,
    ) -> MeasuringSet:
        """Cut samples, in their own order, into chunks and chunks into forward passes; the last may be smaller.

        Args:
            inputs: Samples, on the network's device. Shape (n, ...).
            targets: Shape (n, ...).
            chunk_size: Samples that share BatchNorm's statistics.
            mask_seeds: Seed of the random masks of each chunk.
            lasting: Whether the set is measured on many lines.
            chunks_per_pass: Another number than the plan's.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample.
        """
        if self.plan.precision == "float64":
            inputs = inputs.double() if inputs.is_floating_point() else inputs
            targets = targets.double() if targets.is_floating_point() else targets
        sizes = tuple(len(part) for part in torch.split(targets, chunk_size))
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
            passes.append(_Pass(inputs[part], targets[part], sizes[first : first + together], mask_seeds[first]))
        if lasting and self._whole_pass is None:
            self._whole_pass = passes[0].sizes
        return MeasuringSet(tuple(passes), sizes, lasting)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Take over the network's present state; put back everything that measuring touches, bit for bit."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if self._train_mode or self.plan.reseed:
                stack.enter_context(kept_generators(self._device))
            stack.enter_context(_threads(self.plan.threads))
            if self._on_gpu:
                stack.enter_context(_tf32(self.plan.precision == "tf32"))
            # Also against an autocast around the call. Its cache would hold on to the weights of another position.
            half = self.plan.precision == "bfloat16"
            stack.enter_context(
                torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=half, cache_enabled=False)
            )
            if self.plan.in_place:
                stack.enter_context(restored(self._source))
            self._set_modes()
            if not self.plan.in_place:
                self._take_over()
            own = dict(self._worker.named_buffers()) if self._changing else {}
            self._line_buffers = {name: own[name].clone() for name in self._changing or ()}
            yield

    def _set_modes(self) -> None:
        """Set train or eval mode; layers that a network in train mode keeps in eval mode (frozen BatchNorm) stay so."""
        if self._train_mode and self._source.training:
            for own, source in zip(self._worker.modules(), self._source.modules(), strict=True):
                own.training = source.training
        else:
            self._worker.train(self._train_mode)

    def _take_over(self) -> None:
        """Copy buffers and frozen parameters of the network; trainable ones come with each position."""
        frozen = dict(self._source.named_parameters())
        for name, parameter in self._worker.named_parameters():
            if name not in self._parameters:
                parameter.copy_(frozen[name])
        sources = dict(self._source.named_buffers())
        own = dict(self._worker.named_buffers())
        if own.keys() != sources.keys():  # made in a forward pass
            restore_buffers(self._worker, {name: buffer.to(self._device) for name, buffer in sources.items()})
            return
        for name, buffer in own.items():
            buffer.copy_(sources[name])

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
        if self.plan.positions_per_pass == 1 or len(vectors) == 1:
            return torch.stack([self._at(vector, measured) for vector in vectors])
        return self._at_several(vectors, measured)

    def _at(self, vector: Tensor, measured: MeasuringSet) -> Tensor:
        if self._own is not None:
            self._own.value.copy_(vector)  # the only rounding
        else:
            for name, view in self._split(vector).items():
                self._parameters[name].data.copy_(view)
        found = []
        for index, part in enumerate(measured.passes):
            # The first pass goes without: it finds out whether the network changes buffers of its own.
            if self.plan.cuda_graphs and measured.lasting and self._on_gpu and self._changing == ():
                found.append(self._replayed(index, part, measured))
            else:
                found.append(self._forward(part))
        return torch.cat(found)

    def _forward(self, part: _Pass) -> Tensor:
        self._layout.sizes = part.sizes
        if self.plan.reseed:
            seed_masks(part.mask_seed, self._device)
        network: Callable[[Tensor], Tensor] = self._worker
        # One shape is compiled, that of a whole pass; a smaller rest would cost a compilation of its own.
        if self.plan.compiled and part.sizes == self._whole_pass:
            if self._compiled is None:
                self._compiled = _compiled(self._worker)
            network = self._compiled
        with self._same_buffers():
            outputs = network(part.inputs)
        return self._per_sample(outputs, part.targets)

    @contextmanager
    def _same_buffers(self) -> Iterator[None]:
        """Let every forward pass find the same buffers: what one changes (power iterations, averages) is put back."""
        if self._changing is None:
            before = buffers_of(self._worker)
            yield
            now = dict(self._worker.named_buffers())
            self._line_buffers = {
                name: value for name, value in before.items() if name in now and not torch.equal(now[name], value)
            }
            self._changing = tuple(self._line_buffers)
        else:
            yield
        for name, value in self._line_buffers.items():
            self._worker.get_buffer(name).copy_(value)

    def _per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.plan.precision == "bfloat16" and outputs.is_floating_point():
            outputs = outputs.float()
        losses = self._loss(outputs, targets)
        if losses.dim() == 0 or len(losses) != len(targets):
            raise SgdlineError(
                f"loss must return one value per sample ({len(targets)}), got the shape {tuple(losses.shape)}. "
                'Use reduction="none".'
            )
        return losses.flatten(1).mean(1) if losses.dim() > 1 else losses

    def _replayed(self, index: int, part: _Pass, measured: MeasuringSet) -> Tensor:
        """Replay the CUDA graph of a pass, recording it at the first time: inputs and parameters never move."""
        if index not in measured.graphs:
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(stream):
                for _ in range(2):
                    self._forward(part)
            torch.cuda.current_stream(self._device).wait_stream(stream)
            if self._graph_pool is None:
                self._graph_pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._graph_pool):
                losses = self._forward(part)
            measured.graphs[index] = (graph, losses)
        graph, losses = measured.graphs[index]
        graph.replay()
        return losses.clone()  # the graphs of all passes share their memory

    def _at_several(self, vectors: Tensor, measured: MeasuringSet) -> Tensor:
        assert self._own is not None
        dtype = self._own.value.dtype
        stacked = self._stacked(vectors.to(dtype))
        constants: dict[str, Tensor] = dict(self._worker.named_buffers())
        constants |= {name: p for name, p in self._worker.named_parameters() if name not in stacked}

        def at_one(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
            outputs: Tensor = torch.func.functional_call(self._worker, {**parameters, **constants}, (inputs,))
            return outputs

        found = []
        for part in measured.passes:
            self._layout.sizes = part.sizes
            outputs = torch.func.vmap(at_one, in_dims=(0, None))(stacked, part.inputs)
            found.append(torch.stack([self._per_sample(output, part.targets) for output in outputs]))
        return torch.cat(found, dim=1)

    def _stacked(self, vectors: Tensor) -> dict[str, Tensor]:
        """Cut vectors (K, p) into views (K, *shape), each parameter in its own memory order."""
        views = self._split(vectors[0])
        stride = vectors.stride(0)
        return {
            name: vectors.as_strided((len(vectors), *view.shape), (stride, *view.stride()), view.storage_offset())
            for name, view in views.items()
        }


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever a user's module raises
        raise SgdlineError(
            f"The network must be copyable for a plan that is not in_place, got: {str(error).splitlines()[0]} "
            "Pin plan: {in_place: true}."
        ) from error


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Put trainable parameters, buffers and modes back at the end."""
    values = {name: p.detach().clone() for name, p in trainable_parameters(model).items()}
    buffers = buffers_of(model)
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in values:
                    parameter.data.copy_(values[name])
        restore_buffers(model, buffers)
        for module, training in modes:
            module.training = training


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


def _compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    if torch.are_deterministic_algorithms_enabled():
        import torch._inductor.config as inductor

        if hasattr(inductor, "deterministic"):  # torch 2.9 and later: no choice of kernels by timing
            inductor.deterministic = True
    compiled: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
    return compiled


def draws_random_numbers(model: nn.Module, inputs: Tensor, *, train_mode: bool) -> bool:
    """Return whether a forward pass of the network draws from torch's global generators; leaves all as it was.

    Args:
        model: The network.
        inputs: At least two samples. Shape (n, ...).
        train_mode: The mode to try.
    """
    on_gpu = inputs.device.type == "cuda"
    with kept_generators(inputs.device), torch.no_grad(), restored(model):
        model.train(train_mode)
        before = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(inputs.device)] if on_gpu else [])
        model(inputs)
        after = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(inputs.device)] if on_gpu else [])
    return any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
