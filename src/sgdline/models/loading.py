"""Build a model from the entry string of the config (see `sgdline.entries`), and check that it fits the data."""

from __future__ import annotations

import inspect
import logging
import os
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sgdline.entries import (
    did_you_mean,
    exit_words,
    named_by,
    parses_arguments,
    where_words,
    working_directory_importable,
)
from sgdline.errors import SgdlineError, cause_words
from sgdline.models.parameters import count_parameters
from sgdline.models.state import restored

logger = logging.getLogger("sgdline")

_CHECK_SEED = 0  # of the two random samples of `check_model`
# In the text of an exception: the images do not fit the network.
_ABOUT_SIZES = re.compile(r"shape|size|channel|dimension|broadcast|must match|values to unpack", re.IGNORECASE)


def build_model(
    entry: str,
    kwargs: Mapping[str, Any],
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
) -> nn.Module:
    """Call a model factory with seeded generators, leaving all global generators as they were.

    `input_shape`, `num_classes`, `in_channels` (C) and `image_size` (H, or (H, W) if they differ) are added to the
    factory's arguments if its signature names them and `kwargs` does not give them. The global generators of torch
    (the accelerator's too, if in use), numpy and `random` are seeded for the call and put back bit for bit.

    Args:
        entry: package.module:factory or folder/file.py:factory.
        kwargs: Keyword arguments from the config.
        input_shape: Channels, height and width of one image.
        num_classes: Number of classes of the data set.
        seed: Seed of the initialisation, at least 0.

    Returns:
        The network as the factory returned it.

    Raises:
        SgdlineError: If the entry cannot be resolved, the factory fails, or it returns no `torch.nn.Module`; one
            sentence that names the entry.
    """
    with _surroundings_kept(entry), working_directory_importable(entry), _seeded_generators(seed):
        factory = named_by(entry, subject=f"Model entry {entry!r}", thing="factory")
        if not callable(factory):
            raise SgdlineError(
                f"Model entry {entry!r} must name a callable, got {type(factory).__name__}. "
                "Name a function or class that returns a network."
            )
        arguments = _arguments(entry, factory, kwargs, input_shape=input_shape, num_classes=num_classes)
        try:
            model = factory(**arguments)
        except SgdlineError:
            raise
        except SystemExit as error:
            raise SgdlineError(
                f"Model entry {entry!r} must build a network, got {exit_words(error)}. "
                + (
                    "Take the values as arguments of the factory, from the kwargs of the model."
                    if parses_arguments(error)
                    else "Return a network, or raise an exception that says what is missing."
                )
            ) from error
        except Exception as error:
            raise SgdlineError(
                f"Model entry {entry!r} must build a network from the arguments {arguments}, got {cause_words(error)}"
                f"{where_words(error)}. Fix the kwargs of the model or the factory."
            ) from error
    if not isinstance(model, nn.Module):
        raise SgdlineError(
            f"Model entry {entry!r} must return a torch.nn.Module, got {type(model).__name__}. "
            "Name a factory that returns a network."
        )
    return model


def check_model(model: nn.Module, *, input_shape: tuple[int, int, int], num_classes: int, name: str) -> None:
    """Check with one forward pass that a model takes the images and returns one finite logit per class.

    Two random samples go through the model in train mode without a graph. Buffers, modes and global generators are
    put back bit for bit.

    Args:
        model: Network; unchanged afterwards.
        input_shape: Channels, height and width of one image.
        num_classes: Number of classes of the data set.
        name: Entry or name of the model, for the error.

    Raises:
        SgdlineError: If the model has no trainable parameters, fails on the samples, or returns anything but a
            finite floating-point tensor of shape (2, num_classes).
    """
    parameters = list(model.parameters())
    # A lazy layer has no shape yet; its weights would be drawn at the first forward pass, outside the model's seed.
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in parameters):
        raise SgdlineError(
            f"Model {name!r} must have the sizes of all its layers, got a lazy layer. Replace nn.Lazy* by sized layers."
        )
    if count_parameters(model) == 0:
        raise SgdlineError(
            f"Model {name!r} must have trainable parameters, got none. "
            "Return a network with parameters that require gradients."
        )
    like = next(parameter for parameter in parameters if parameter.requires_grad)
    generator = torch.Generator().manual_seed(_CHECK_SEED)
    samples = torch.randn((2, *input_shape), generator=generator).to(device=like.device)
    shape = "x".join(str(side) for side in input_shape)
    try:
        with _seeded_generators(_CHECK_SEED), torch.no_grad(), restored(model):
            logits = model.train()(samples)
    except SystemExit as error:
        raise SgdlineError(
            f"Model {name!r} must return logits, got {exit_words(error)}. Raise an exception instead."
        ) from error
    except Exception as error:
        rule, advice = _misfit_words(model, error, shape)
        raise SgdlineError(
            f"Model {name!r} must {rule}, got {cause_words(error)}{where_words(error)}. {advice}."
        ) from error
    if not isinstance(logits, Tensor):
        raise SgdlineError(
            f"Model {name!r} must return one tensor of logits, got {type(logits).__name__}. "
            "Wrap it in a module that returns the logits alone."
        )
    if logits.shape != (2, num_classes):
        raise SgdlineError(
            f"Model {name!r} must return logits of shape (batch, {num_classes}) for {num_classes} classes, "
            f"got {tuple(logits.shape)} for a batch of 2. Set its number of classes to {num_classes}."
        )
    if not logits.is_floating_point():
        raise SgdlineError(
            f"Model {name!r} must return floating-point logits, got {logits.dtype}. "
            "Return the logits before any argmax."
        )
    if not bool(torch.isfinite(logits).all()):
        raise SgdlineError(
            f"Model {name!r} must return finite logits for random images of {shape}, got NaN or infinity. "
            "Fix its initialisation."
        )


def _misfit_words(model: nn.Module, error: Exception, shape: str) -> tuple[str, str]:
    """Return the rule that a network breaks whose forward pass ended with an error, and what to do about it."""
    others = [
        (name, parameter.dtype)
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and parameter.dtype != torch.float32
    ]
    if others:
        name, dtype = others[0]
        found = str(dtype).removeprefix("torch.")
        rule = f"have parameters in float32, as images are, instead of {found} ({name})"
        return rule, "Build it in float32: without .double(), .half() or torch.set_default_dtype"
    if _ABOUT_SIZES.search(str(error)):
        return f"take images of {shape}", "Choose another model, or set channels or image_size of the data set"
    return f"make a forward pass over images of {shape}", "Fix its forward method"


@contextmanager
def _surroundings_kept(entry: str) -> Iterator[None]:
    """Put back the working directory, the command line and torch's global settings after foreign code.

    A file that was written as a program reads the command line; this process has another one.
    """
    folder, arguments, settings = Path.cwd(), sys.argv, _torch_settings()
    sys.argv = [entry.rpartition(":")[0]]
    try:
        yield
    finally:
        sys.argv = arguments
        if not Path().exists() or Path.cwd() != folder:
            os.chdir(folder)
            logger.info("Model entry %s changes the working directory; it is back at %s.", entry, folder)
        for name, (value, put_back) in settings.items():
            if _torch_settings()[name][0] != value:
                put_back(value)
                logger.info("Model entry %s changes torch's %s; it is back at %s.", entry, name, value)


def _torch_settings() -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Return the global settings that decide what is computed, each with the function that sets it."""

    def set_benchmark(value: bool) -> None:
        torch.backends.cudnn.benchmark = value

    def set_device(device: torch.device) -> None:
        # None removes what setting the CPU by name would leave: a hook in every call of torch.
        torch.set_default_device(None if device.type == "cpu" else device)

    return {
        "default dtype": (torch.get_default_dtype(), torch.set_default_dtype),
        "default device": (torch.get_default_device(), set_device),
        "recording of gradients": (torch.is_grad_enabled(), torch.set_grad_enabled),
        "number of threads": (torch.get_num_threads(), torch.set_num_threads),
        "deterministic mode": (torch.get_deterministic_debug_mode(), torch.set_deterministic_debug_mode),
        "choice of kernels by trial": (torch.backends.cudnn.benchmark, set_benchmark),
    }


@contextmanager
def _seeded_generators(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and `random` for a block; put them back bit for bit."""
    # Only CUDA that is already running is touched: torch.manual_seed would leave a seed behind for one that is not.
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    numpy_state = np.random.get_state()  # noqa: NPY002 - a foreign factory may draw from the global generator
    python_state = random.getstate()
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def _arguments(
    entry: str,
    factory: Callable[..., Any],
    kwargs: Mapping[str, Any],
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> dict[str, Any]:
    """Return kwargs plus those facts of the data that the factory's signature names."""
    channels, height, width = input_shape
    offered = {
        "input_shape": tuple(input_shape),
        "num_classes": num_classes,
        "in_channels": channels,
        "image_size": height if height == width else (height, width),
    }
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some callables written in C have none
        return dict(kwargs)
    by_keyword = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [name for name, parameter in signature.parameters.items() if parameter.kind in by_keyword]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    unknown = [] if takes_any else [name for name in kwargs if name not in named]
    if unknown:
        raise SgdlineError(
            f"Keyword arguments of model entry {entry!r} must be among {', '.join(named) or 'none'}, "
            f"got {', '.join(map(repr, unknown))}."
            f"{did_you_mean(unknown[0], named) or ' Leave out what the factory does not take.'}"
        )
    return {**{name: value for name, value in offered.items() if name in named}, **kwargs}
