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
import logging
import os
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sgdline.errors import SgdlineError
from sgdline.models.parameters import count_parameters
from sgdline.models.state import restored

logger = logging.getLogger("sgdline")

_CHECK_SEED = 0  # of the two random samples of `check_model`
_LONGEST_CAUSE = 300  # characters of a foreign exception's text that an error message repeats
# In the text of an exception: the images do not fit the network.
_ABOUT_SIZES = re.compile(r"shape|size|channel|dimension|broadcast|must match|values to unpack", re.IGNORECASE)
_OWN_FOLDERS = tuple(str(Path(module).parent) + os.sep for module in (str(torch.__file__), str(Path(__file__).parent)))


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
    with _surroundings_kept(entry), _working_directory_importable(entry), _seeded_generators(seed):
        factory = _resolve(entry)
        arguments = _arguments(entry, factory, kwargs, input_shape=input_shape, num_classes=num_classes)
        try:
            model = factory(**arguments)
        except SgdlineError:
            raise
        except SystemExit as error:
            raise SgdlineError(
                f"Model entry {entry!r} must build a network, got {_exit_words(error)}. "
                + (
                    "Take the values as arguments of the factory, from the kwargs of the model."
                    if _parses_arguments(error)
                    else "Return a network, or raise an exception that says what is missing."
                )
            ) from error
        except Exception as error:
            raise SgdlineError(
                f"Model entry {entry!r} must build a network from the arguments {arguments}, got {_cause(error)}"
                f"{_where(error)}. Fix the kwargs of the model or the factory."
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
            f"Model {name!r} must return logits, got {_exit_words(error)}. Raise an exception instead."
        ) from error
    except Exception as error:
        rule, advice = _misfit_words(model, error, shape)
        raise SgdlineError(f"Model {name!r} must {rule}, got {_cause(error)}{_where(error)}. {advice}.") from error
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


def _exit_words(error: SystemExit) -> str:
    """Return what has ended the program, and where."""
    if _parses_arguments(error):
        return f"code that parses command-line arguments{_where(error)}"
    return f"sys.exit({error.code!r}){_where(error)}" if error.code is not None else f"sys.exit(){_where(error)}"


def _parses_arguments(error: BaseException) -> bool:
    parsers = ("argparse", "optparse", "getopt", "click", "absl", "fire", "typer")
    return any(
        frame.f_globals.get("__name__", "").split(".")[0] in parsers for frame, _ in _frames(error.__traceback__)
    )


def _frames(traceback: TracebackType | None) -> Iterator[tuple[Any, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _where(error: BaseException) -> str:
    """Return the last line of foreign code that an exception has gone through, in words; nothing if there is none."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno} of {_short(error.filename)})" if error.filename and error.lineno else ""
    inside_python = (os.sep + f"python{sys.version_info.major}.{sys.version_info.minor}" + os.sep, "<frozen")
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in _frames(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_OWN_FOLDERS)
    ]
    # Of a file of the user's, its own line says more than that of a library which it calls.
    own = [place for place in places if not any(part in place[0] for part in inside_python)]
    installed = [place for place in places if "site-packages" in place[0]]
    if not own and not installed:
        return ""
    file, line = (own or installed)[-1]
    return f" (line {line} of {_short(file)})"


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _cause(error: BaseException) -> str:
    """Return a foreign exception as one line of bounded length, without a full stop at its end."""
    if isinstance(error, SyntaxError):  # whose text ends with a shortened place
        return f"a syntax error: {error.msg}"
    text = " ".join(str(error).split()).rstrip(".")
    if len(text) > _LONGEST_CAUSE:
        text = text[:_LONGEST_CAUSE].rstrip() + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return a question that offers the nearest known name, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


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
            f"{_nearest(name, callables) or ' Check the name after the colon.'}"
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
            advice = (
                "Install torchvision from the same source as torch (pip install torch torchvision)"
                if missing == "torchvision"
                else "Check the spelling, install the package, or start from the folder that holds it"
            )
            raise SgdlineError(
                f"Model entry {entry!r} must name a module that can be found, got no module {missing!r}. {advice}."
            ) from error
        raise _import_failed(entry, location, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(entry, location, error) from error


def _import_failed(entry: str, location: str, error: Exception | SystemExit) -> SgdlineError:
    rule, got = f"Model entry {entry!r} must be importable", f"{_cause(error)}{_where(error)}"
    advice = f"Fix {location} until python can import it"
    if isinstance(error, SystemExit):
        got = _exit_words(error)
        what = "argument parsing" if _parses_arguments(error) else "what ends the program"
        advice = f"Move {what} under if __name__ == '__main__'"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        got = f"no module {error.name!r}{_where(error)}"
        advice = "Install it, or put it beside the file or into the folder where you start"
    elif location.partition(".")[0] == "torchvision":
        # A pair of builds that does not match fails with "operator torchvision::nms does not exist".
        advice = "Install torch and torchvision as a matching pair from one source (pip install torch torchvision)"
    return SgdlineError(f"{rule}, got {got}. {advice}.")


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
    except BaseException as error:
        del sys.modules[module_name]
        if isinstance(error, Exception | SystemExit):
            raise _import_failed(entry, location, error) from error
        raise
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
