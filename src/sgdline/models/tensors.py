"""Tensors of any layout (dense, sparse, opaque ones): compared, copied in place, copied with what holds them.

torch.equal and copy.deepcopy know dense tensors only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_BY_ROW = (torch.sparse_csr, torch.sparse_bsr)
_BY_COLUMN = (torch.sparse_csc, torch.sparse_bsc)


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the dense tensors that a tensor is made of; those of a sparse one share its memory."""
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in _BY_ROW:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in _BY_COLUMN:
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,) if tensor.layout == torch.strided else (tensor.to_dense(),)


def same_values(new: Tensor, old: Tensor) -> bool:
    """Return whether two tensors have the same layout, shape, dtype and values; NaN is the same as NaN."""
    if new.layout != old.layout or new.shape != old.shape or new.dtype != old.dtype:
        return False
    if new.layout == torch.sparse_coo and new.is_coalesced() != old.is_coalesced():
        return False
    return all(
        a.shape == b.shape and (torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all()))
        for a, b in zip(_parts(new), _parts(old), strict=True)
    )


def copy_values(target: Tensor, values: Tensor) -> bool:
    """Copy values into a tensor in place, whatever autograd thinks of it; return False where its form is another."""
    target, values = target.data, values.detach()
    if target.layout != values.layout or target.shape != values.shape:
        return False
    if not is_sparse(target):
        target.copy_(values)
        return True
    pairs = list(zip(_parts(target), _parts(values), strict=True))
    if any(ours.shape != theirs.shape for ours, theirs in pairs):
        return False  # other places hold values
    for ours, theirs in pairs:
        ours.copy_(theirs)
    if target.layout == torch.sparse_coo:
        target._coalesced_(values.is_coalesced())
    return True


def is_sparse(tensor: Tensor) -> bool:
    """Return whether a tensor has one of the sparse layouts."""
    return tensor.layout in (torch.sparse_coo, *_BY_ROW, *_BY_COLUMN)


def deep_copied(value: Any, tensors: Iterable[Tensor]) -> Any:
    """Return a deep copy of a value whose tensors may be computed ones (copied by their values) or sparse.

    Args:
        value: What is to be copied.
        tensors: The tensors in it.
    """
    known: dict[int, Any] = {}
    for tensor in tensors:
        if tensor.layout == torch.strided and tensor.is_leaf:
            continue  # copy.deepcopy keeps what views share
        own = tensor.detach().clone()
        known[id(tensor)] = nn.Parameter(own, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else own
    return copy.deepcopy(value, known)
