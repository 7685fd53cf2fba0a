"""Build a model from the entry string of the config, and check that it fits the data.

An entry is ``package.module:factory`` or ``folder/file.py:factory``. Files are looked up from the working directory;
a dotted module may be installed or lie in the working directory, installed ones come first.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sgdline.errors import SgdlineError
from sgdline.models.parameters import count_parameters
from sgdline.models.state import restored

_CHECK_SEED = 0  # of the two random samples of `check_model`
_LONGEST_CAUSE = 300  # characters of a foreign exception's text that an error message repeats


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
    with _working_directory_importable(entry), _seeded_generators(seed):
        factory = _resolve(entry)
        arguments = _arguments(entry, factory, kwargs, input_shape=input_shape, num_classes=num_classes)
        try:
            model = factory(**arguments)
        except SgdlineError:
            raise
        except Exception as error:
            raise SgdlineError(
                f"Model entry {entry!r} must build a network from the arguments {arguments}, got {_cause(error)}. "
                "Mend the kwargs of the model or the factory."
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
    except Exception as error:
        raise SgdlineError(
            f"Model {name!r} must take images of {shape}, got {_cause(error)}. "
            "Choose another model, or set channels or image_size of the data set."
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
            "Mend its initialisation."
        )


def _cause(error: BaseException) -> str:
    """Return a foreign exception as one line of bounded length, without a full stop at its end."""
    text = " ".join(str(error).split()).rstrip(".")
    if len(text) > _LONGEST_CAUSE:
        text = text[:_LONGEST_CAUSE].rstrip() + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return a question that offers the nearest known name, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


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


@contextmanager
def _working_directory_importable(entry: str) -> Iterator[None]:
    """Let imports find the working directory and, for a file entry, the file's folder, after all other places."""
    folders = [str(Path.cwd())]
    location = entry.rpartition(":")[0]
    if location.endswith(".py"):
        folders.append(str(Path(location).resolve().parent))
    added = [folder for folder in dict.fromkeys(folders) if folder not in sys.path]
    # At the end: a folder of the user's named like an installed package must not hide it.
    sys.path.extend(added)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


def _resolve(entry: str) -> Callable[..., Any]:
    location, separator, name = entry.rpartition(":")
    if not separator or not location or not name.isidentifier():
        raise SgdlineError(
            f"Model entry {entry!r} must be package.module:factory or folder/file.py:factory, got another form. "
            "Write the place, a colon and the name of the factory."
        )
    module = _load_file(entry, location) if location.endswith(".py") else _import_module(entry, location)
    try:
        factory = getattr(module, name)
    except AttributeError as error:
        callables = [known for known in dir(module) if not known.startswith("_") and callable(getattr(module, known))]
        raise SgdlineError(
            f"Model entry {entry!r} must name a factory of {location}, got no {name!r} there."
            f"{_nearest(name, callables) or ' Check the name behind the colon.'}"
        ) from error
    if not callable(factory):
        raise SgdlineError(
            f"Model entry {entry!r} must name a callable, got {type(factory).__name__}. "
            "Name a function or class that returns a network."
        )
    return factory  # type: ignore[no-any-return]


def _import_module(entry: str, location: str) -> ModuleType:
    try:
        return importlib.import_module(location)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if location == missing or location.startswith(missing + "."):
            mending = (
                "Install torchvision from the same source as torch (pip install torch torchvision)"
                if missing == "torchvision"
                else "Check the spelling, install the package, or start from the folder that holds it"
            )
            raise SgdlineError(
                f"Model entry {entry!r} must name a module that can be found, got no module {missing!r}. {mending}."
            ) from error
        raise _import_failed(entry, location, error) from error
    except Exception as error:
        raise _import_failed(entry, location, error) from error


def _import_failed(entry: str, location: str, error: Exception) -> SgdlineError:
    mending = f"Mend {location} until python can import it"
    if location.partition(".")[0] == "torchvision":
        # A pair of builds that does not match fails with "operator torchvision::nms does not exist".
        mending = "Install torch and torchvision as a matching pair from one source (pip install torch torchvision)"
    return SgdlineError(f"Model entry {entry!r} must be importable, got {_cause(error)}. {mending}.")


def _load_file(entry: str, location: str) -> ModuleType:
    path = Path(location).resolve()
    if not path.is_file():
        raise SgdlineError(
            f"Model entry {entry!r} must name a file that exists, got none at {path}. "
            "Give the path from the working directory."
        )
    # Registered under a name of its own, because dataclasses and pickle look the module up there.
    module_name = f"sgdline_model_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise SgdlineError(f"Model entry {entry!r} must name a Python file, got {path}. Name a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise _import_failed(entry, location, error) from error
    return module


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
            f"{_nearest(unknown[0], named) or ' Leave out what the factory does not take.'}"
        )
    return {**{name: value for name, value in offered.items() if name in named}, **kwargs}
