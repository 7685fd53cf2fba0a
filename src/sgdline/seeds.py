"""Seeds that are counted, not stored: every random draw of a run is a function of (seed, purpose, index).

No generator state is ever saved. The batch order of epoch e comes from ``(seed, "batch_order", e)``, the augmentation
of update t from ``(seed, "augmentation", t)``, so a replay can start at any update.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_WORD = 0xFFFFFFFF


def derive_seed(seed: int, purpose: str, index: int = 0) -> int:
    """Derive the seed of one purpose and one counter from the seed of a run.

    The same on every machine and in every process: it rests on SHA-256 and on numpy's `SeedSequence`, whose values
    numpy keeps fixed.

    Args:
        seed: Seed of the run (or of a split), 0 to 2**64 - 1.
        purpose: What is drawn: "init", "batch_order", "augmentation", "split"...
        index: Counter within the purpose, 0 to 2**64 - 1: an epoch, an update.

    Returns:
        An integer from 0 to 2**63 - 1.

    Raises:
        ValueError: If seed or index is negative or does not fit 64 bits.
    """
    for name, value in (("seed", seed), ("index", index)):
        if not 0 <= value < 2**64:
            raise ValueError(f"{name} must be from 0 to 2**64 - 1, got {value}.")
    digest = hashlib.sha256(purpose.encode()).digest()
    # Each part has a fixed number of 32-bit words: no two triples can run into the same list.
    words = [
        *(seed & _WORD, seed >> 32),
        *(int.from_bytes(digest[start : start + 4], "little") for start in range(0, 16, 4)),
        *(index & _WORD, index >> 32),
    ]
    low, high = (int(word) for word in np.random.SeedSequence(words).generate_state(2, np.uint32))
    return (high << 32 | low) >> 1


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """Return a fresh CPU generator for one purpose and one counter.

    Draws are always made on the CPU and moved, so that runs on a CPU and on a GPU see the same batches. torch's CPU
    generator uses the low 32 bits of its seed only: among 10,000 updates two share their draws in one run of a
    hundred, which changes nothing but those two draws.

    Args:
        seed: See `derive_seed`.
        purpose: See `derive_seed`.
        index: See `derive_seed`.

    Returns:
        A generator that nobody else holds.
    """
    import torch  # late: the rooms without torch use derive_seed

    return torch.Generator().manual_seed(derive_seed(seed, purpose, index))


def seed_masks(seed: int, device: torch.device) -> None:
    """Seed the generator from which layers on a device draw their random masks, and no other.

    `torch.manual_seed` seeds all devices; where torch knows CUDA but finds none, each call also notes down a traceback
    for later, at the cost of a small network's forward pass.

    Args:
        seed: See `derive_seed`.
        device: Where the network is.
    """
    import torch

    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def seed_libraries(seed: int) -> None:
    """Seed the global generators of numpy and Python, from which some networks draw."""
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def library_state() -> tuple[Any, ...]:
    """Return a state of the global generators of numpy and Python that can be compared."""
    state: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    return state["state"]["key"].tobytes(), state["state"]["pos"], random.getstate()


def draws_state(device: torch.device) -> tuple[Any, ...]:
    """Return a state that can be compared of all generators that a network on a device can draw from.

    Args:
        device: Where the network is.
    """
    import torch

    states = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    return (*(state.numpy().tobytes() for state in states), *library_state())


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Put back the generators that a network on a device can draw from: torch's, numpy's and Python's global ones.

    Args:
        device: Where the network is.
    """
    import torch

    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - a network may draw from it
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
