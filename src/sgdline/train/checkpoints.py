"""Checkpoints: everything that a replay needs to start at an update, as safetensors (no pickle).

The format has no checksum of its own; one of all tensors, with their names, types and shapes, stands in the metadata.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sgdline.errors import SgdlineError
from sgdline.runtime import machine_fault


@dataclass(frozen=True)
class Checkpoint:
    """State before update `step`. Random draws depend on the update number alone, so no generator is kept."""

    step: int
    parameters: Tensor  # (p,)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    attributes: dict[str, Tensor] = field(default_factory=dict)  # state of the network outside of its buffers
    rule: dict[str, Tensor] = field(default_factory=dict)
    previous_gradient: Tensor | None = None  # (p,), g_{t-1} for the cosine in the trace


def checkpoint_path(folder: str | Path, step: int) -> Path:
    """Return the file of the checkpoint before update `step`."""
    return Path(folder) / f"step{step:08d}.safetensors"


def has_checkpoint(folder: str | Path, step: int) -> bool:
    """Return whether the run reached update `step`; a diverged run has no later checkpoints."""
    return checkpoint_path(folder, step).exists()


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    tensors = {"parameters": checkpoint.parameters}
    if checkpoint.previous_gradient is not None:
        tensors["previous_gradient"] = checkpoint.previous_gradient
    groups = {"buffers": checkpoint.buffers, "attributes": checkpoint.attributes, "rule": checkpoint.rule}
    for prefix, group in groups.items():
        tensors.update({f"{prefix}.{name}": tensor for name, tensor in group.items()})
    path = checkpoint_path(folder, checkpoint.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".writing")
    host = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    # One metadata key only: safetensors does not keep the order of several.
    document = {"step": checkpoint.step, "crc32": _checksum(host)}
    try:
        save_file(host, unfinished, metadata={"sgdline": json.dumps(document)})
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)


def load_checkpoint(folder: str | Path, step: int, *, device: torch.device) -> Checkpoint:
    """Read the checkpoint before update `step`.

    Raises:
        SgdlineError: If the file is missing or damaged.
    """
    path = checkpoint_path(folder, step)
    again = "Delete the run's checkpoints folder and start snakemake, which trains the run again"
    if not path.exists():
        raise SgdlineError(f"Checkpoint {path} must exist, found nothing. {again}.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            document = json.loads((file.metadata() or {}).get("sgdline", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if "crc32" not in document:
            raise SgdlineError(
                f"Checkpoint {path} must carry a checksum, got none: an earlier version wrote it. {again}."
            )
        if document != {"step": step, "crc32": _checksum(tensors)}:
            raise ValueError("other content than was written")
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        if machine_fault(error):
            raise
        raise SgdlineError(f"Checkpoint {path} must be a whole safetensors file, got {error}. {again}.") from error
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    return Checkpoint(
        step=step,
        parameters=tensors["parameters"],
        buffers=_group(tensors, "buffers."),
        attributes=_group(tensors, "attributes."),
        rule=_group(tensors, "rule."),
        previous_gradient=tensors.get("previous_gradient"),
    )


def saved_steps(folder: str | Path) -> list[int]:
    """Return the updates before which there is a whole checkpoint file, ascending."""
    names = (path.name for path in Path(folder).glob("step*.safetensors"))
    return sorted(int(name.removeprefix("step").removesuffix(".safetensors")) for name in names)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of tensors in main memory, with their names, types and shapes."""
    crc = 0
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name},{tensor.dtype},{tuple(tensor.shape)};".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
