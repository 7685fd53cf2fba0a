"""Outputs of a network's modules, chosen by the pattern of their names; works with any network."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from sgdline.errors import SgdlineError

# Name of a module and its output for one pass.
Receiver = Callable[[str, Tensor], None]


def layers_of(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the names of the modules that patterns match, in the order of the network.

    A pattern is compared part by part, as paths are: `*` is any part of one name but no dot, so that `*` alone stands
    for the modules of the top level, `stages.*` for those within `stages`, `stages.3` for one.

    Args:
        model: The network.
        patterns: With the wildcards of file names: `*`, `?`, `[...]`.

    Raises:
        SgdlineError: If a pattern matches no module; the message names the nearest one.
    """
    names = [name for name, _ in model.named_modules() if name]
    found: set[str] = set()
    for pattern in patterns:
        own = {name for name in names if _matches(name, pattern)}
        if not own:
            nearest = difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)
            hint = f"The nearest name is {nearest[0]!r}." if nearest else "The network has no modules."
            raise SgdlineError(f"probes.feat.layers must match modules of the network, got {pattern!r}. {hint}")
        found |= own
    return [name for name in names if name in found]


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


@contextmanager
def listening(model: nn.Module, layers: Iterable[str], receive: Receiver) -> Iterator[None]:
    """Hand over the outputs of modules at every forward pass; the network is as before at the end.

    Args:
        model: The network.
        layers: Names of modules.
        receive: Called with a module's name and its output, in the order of the pass; must not change the output.
    """
    modules: Mapping[str, nn.Module] = dict(model.named_modules())

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not isinstance(output, Tensor):
                raise SgdlineError(
                    f"A layer of probes.feat.layers must put out one tensor, got {type(output).__name__} "
                    f"from {name!r}. Name a module within it."
                )
            receive(name, output)

        return hook

    hooks = [modules[name].register_forward_hook(hook_of(name)) for name in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
