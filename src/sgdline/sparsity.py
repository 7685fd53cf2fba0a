"""How sparse the features of a network are: units that do the same, ranks, and patterns of active units.

Activations have samples as rows and units as columns. Numpy only, float64; numbers that are not finite make a measure
NaN (a rank None), and nothing is raised for them.

Source: papers.md 4.1, S-M4, S-M6 and S-M7.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A unit is constant if it moves by less than rounding does; a sum's own rounding is a few units in the last place.
_CONSTANT = 64.0 * np.finfo(np.float64).eps

Matrix = NDArray[np.float64]


def sparsity_coefficient(
    activations: ArrayLike, *, threshold: float, normalize_rows: bool = False, remove_duplicates: bool = True
) -> float:
    """Return the share of entries that are active in units of their own; lower is sparser.

    Units that are 0 on all samples go first. Of the rest, units are looked at in the order of their index: one whose
    correlation with any unit that is still there exceeds the threshold in absolute value goes, so that the last one of
    a group of duplicates stays. What is counted are the active entries of the units that stay.

    Args:
        activations: Outputs of a layer. Shape (n, m): n samples, m units.
        threshold: Absolute Pearson correlation above which two units are duplicates, 0 to 1.
        normalize_rows: First divide each row by its 2-norm; a row of zeros stays.
        remove_duplicates: Whether duplicates go; without, this is `active_share`.

    Returns:
        Active entries of the units that stay over n*m, the ORIGINAL number of entries: 0 to 1. NaN where an activation
        is not finite.

    Raises:
        ValueError: If activations are no matrix with entries, or the threshold is out of range.

    Source: papers.md 4.1, S-M6; the fixed order and the vectorised scan, 7.2, P6. Oracle in the tests: one deletion of
        a row and a column of the correlation matrix after the other.

    Cost: one product of m*m*n multiplications.
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be from 0 to 1, got {threshold}.")
    features = _activations(activations)
    if not np.isfinite(features).all():
        return math.nan
    if remove_duplicates:
        # Entries that are active stay so when a row is divided by a positive number.
        return float((features[:, _distinct(features, threshold, normalize_rows)] > 0).sum() / features.size)
    return active_share(features)


def _distinct(features: Matrix, threshold: float, normalize_rows: bool) -> NDArray[np.intp]:
    """Return the indices of the units that stay, ascending."""
    if normalize_rows:
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        features = features / np.where(norms > 0.0, norms, 1.0)
    kept = np.flatnonzero(features.any(axis=0))
    duplicate = _absolute_correlations(features[:, kept]) > threshold
    twins = duplicate.sum(axis=1)  # of each unit, among the units that are still there
    stays = np.ones(len(kept), dtype=np.bool_)
    for unit in range(len(kept)):
        if twins[unit] > 0:
            stays[unit] = False
            twins -= duplicate[unit]
    return kept[stays]


def _absolute_correlations(features: Matrix) -> Matrix:
    """Return |R| with a diagonal of 0.

    ASSUME: the correlation of a constant unit, 0/0, counts as 0, so such a unit stays (papers.md P6).
    """
    norms = np.linalg.norm(features, axis=0)
    centred = features - features.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    constant = lengths <= _CONSTANT * norms
    centred /= np.where(constant, 1.0, lengths)
    correlations: Matrix = np.abs(centred.T @ centred)
    correlations[constant, :] = 0.0
    correlations[:, constant] = 0.0
    np.fill_diagonal(correlations, 0.0)
    return correlations


def numerical_rank(singular_values_or_matrix: ArrayLike, *, tolerance: float) -> int | None:
    """Return the number of singular values above `tolerance` times the largest.

    Args:
        singular_values_or_matrix: Singular values in any order, shape (k,), or a matrix, shape (n, m).
        tolerance: Relative to the largest singular value, at least 0.

    Returns:
        #{sigma_j / sigma_1 > tolerance}; 0 for a matrix of zeros, None where an entry is not finite.

    Raises:
        ValueError: If the tolerance is negative, or the operand neither a vector nor a matrix.

    Source: papers.md 4.1, S-M4.
    """
    if not tolerance >= 0.0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}.")
    values = _singular_values(singular_values_or_matrix)
    if values is None:
        return None
    # Divided, not multiplied: tolerance * sigma_1 may underflow. Without a positive value there is no rank.
    largest = values.max(initial=0.0)
    return int((values / largest > tolerance).sum()) if largest > 0.0 else 0


def effective_rank(singular_values_or_matrix: ArrayLike) -> float:
    """Return the entropy -sum p ln p of the singular values, p = sigma / sum sigma, in nats.

    The entropy itself, not its exponential; 0 for rank one and for a matrix of zeros, at most ln k.

    Args:
        singular_values_or_matrix: Singular values, shape (k,), or a matrix, shape (n, m).

    Returns:
        The entropy; NaN where an entry is not finite.

    Raises:
        ValueError: If the operand is neither a vector nor a matrix.

    Source: papers.md 4.1, S-M7.
    """
    values = _singular_values(singular_values_or_matrix)
    if values is None:
        return math.nan
    largest = values.max(initial=0.0)
    if not largest > 0.0:
        return 0.0
    scaled = values / largest  # a sum of large values would overflow
    shares = scaled / scaled.sum()
    shares = shares[shares > 0.0]
    return max(0.0, float(-(shares * np.log(shares)).sum()))


def nuclear_norm(singular_values_or_matrix: ArrayLike) -> float:
    """Return the sum of the singular values.

    Args:
        singular_values_or_matrix: Singular values, shape (k,), or a matrix, shape (n, m); for the measure of the toys
            Phi diag(w2), the features of the last layer times its weights.

    Returns:
        The nuclear norm; NaN where an entry is not finite.

    Raises:
        ValueError: If the operand is neither a vector nor a matrix.

    Source: papers.md 4.1, S-M7.
    """
    values = _singular_values(singular_values_or_matrix)
    return math.nan if values is None else float(values.sum())


def pattern_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Return the share of (sample, unit) pairs that are active in one of two states of a network and not in the other.

    Args:
        first: Pre-activations or outputs of a ReLU, whose signs agree. Any shape.
        second: The same units on the same samples, of the same shape.

    Returns:
        Mean of |1[first > 0] - 1[second > 0]|, 0 to 1; NaN where an entry is not finite.

    Raises:
        ValueError: If the shapes differ, or there are no entries.

    Source: papers.md 4.1, S-M7.
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.shape != other.shape or not one.size:
        raise ValueError(f"first and second must have entries and one shape, got {one.shape} and {other.shape}.")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return math.nan
    return float(((one > 0) != (other > 0)).mean())


def active_share(activations: ArrayLike) -> float:
    """Return the share of entries above 0.

    ASSUME: above 0, as the code for the deep networks counts; the toys count entries other than 0, the same behind a
    ReLU.

    Args:
        activations: Outputs of a layer. Shape (n, m): n samples, m units.

    Returns:
        The share, 0 to 1; NaN where an activation is not finite.

    Raises:
        ValueError: If activations are no matrix with entries.

    Source: papers.md 4.1, S-M6 and S-M7.
    """
    features = _activations(activations)
    return float((features > 0).mean()) if np.isfinite(features).all() else math.nan


def _activations(activations: ArrayLike) -> Matrix:
    features = np.asarray(activations, dtype=np.float64)
    if features.ndim != 2 or not features.size:
        raise ValueError(
            f"activations must have the shape (samples, units) and entries, got {features.shape}. Flatten the units."
        )
    return features


def _singular_values(values_or_matrix: ArrayLike) -> Matrix | None:
    """Return the singular values of a matrix, or a vector as it is; None where an entry is not finite."""
    operand = np.asarray(values_or_matrix, dtype=np.float64)
    if operand.ndim not in (1, 2):
        raise ValueError(f"singular values must be a vector, or come from a matrix, got shape {operand.shape}.")
    if not np.isfinite(operand).all():
        return None
    if operand.ndim == 1:
        return np.abs(operand)
    if 0 in operand.shape:
        return np.zeros(0)
    try:
        return np.asarray(np.linalg.svd(operand, compute_uv=False), dtype=np.float64)
    except np.linalg.LinAlgError:  # it did not converge
        return None
