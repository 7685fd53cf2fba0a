"""Published numbers of sparse: printed by the released notebooks or read off plots, as papers.md 4.2 to 4.4 has them.

Those of claims S1 and S2 are computed from them, by the claims' definitions. The large-step rows of the toys are
chaotic (papers.md P13): a rerun finds their order, not their digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sgdline.claims.judging.summary import Published

_PHASES = ("no large steps", "10 %", "30 %", "50 %")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A measure at the end, by the length of the phase of large steps."""

    measure: str
    values: Sequence[float]
    evidence: Literal["text", "plot", "code"] = "code"
    claims: Sequence[str] = ()  # its order, then its ends


@dataclass(frozen=True, kw_only=True)
class _Family:
    setting: str
    where: str
    model: str | None  # of what is judged; None: any network
    rows: Sequence[_Row]
    phases: Sequence[str] = _PHASES
    differences: bool = False  # claims are about differences, not about ratios


# Of the diagonal networks papers.md gives ranks with large steps as "about" these.
_FAMILIES = (
    _Family(
        setting="diagonal networks, n = 80, d = 200",
        where="fig_diag_sgd",
        model="diagonal_networks",
        rows=(
            _Row(measure="training loss", values=(1.42e-6, 6.26e-5, 5.98e-5, 6.70e-5)),
            _Row(measure="test loss", values=(3.53e-3, 6.59e-4, 2.85e-4, 1.54e-4), claims=("S1", "S1-ends")),
            _Row(measure="support", values=(200, 156, 89, 71), claims=("S2-support",)),
            _Row(measure="rank", values=(200, 109, 68, 58), claims=("S2-rank",)),
            _Row(measure="norm of (u, v)", values=(2.571, 2.540, 2.537, 2.538)),
        ),
    ),
    _Family(
        setting="1-100-1, 12 points",
        where="fig_1d_regression",
        model="relu_regression",
        phases=("2 %", "50 %"),
        rows=(
            _Row(measure="training loss", values=(2.09e-4, 1.69e-4)),
            _Row(measure="nuclear norm", values=(540, 22.2)),
            _Row(measure="share of non-zero activations", values=(0.487, 0.267)),
            _Row(measure="pattern distance", values=(0.041, 0.254)),
            _Row(measure="rank", values=(85, 19), evidence="plot", claims=("S2-rank",)),
            _Row(measure="sparsity coefficient", values=(0.22, 0.06), evidence="plot", claims=("S2-sparsity",)),
        ),
    ),
    _Family(
        setting="2-20-1, teacher 2-3-1",
        where="fig_two_layer",
        model="two_layer",
        rows=(
            _Row(measure="training loss", values=(1.354e-5, 1.019e-5, 1.120e-5, 1.113e-5)),
            _Row(measure="test loss", values=(6.10e-4, 1.62e-4, 1.38e-4, 5.41e-5), claims=("S1", "S1-ends")),
            _Row(measure="norm of the parameters", values=(3.309, 2.630, 2.598, 2.588)),
            _Row(measure="pattern distance", values=(0.073, 0.377, 0.370, 0.357)),
            _Row(measure="rank", values=(26, 16, 12, 7), evidence="plot", claims=("S2-rank",)),
            _Row(
                measure="sparsity coefficient",
                values=(0.26, 0.11, 0.087, 0.063),
                evidence="plot",
                claims=("S2-sparsity",),
            ),
        ),
    ),
    _Family(
        setting="5-10-10-1, teacher 5-2-2-1",
        where="fig_three_layer",
        model="three_layer",
        rows=(
            _Row(measure="test loss", values=(0.0614, 0.0322, 0.0248, 0.0206), claims=("S1", "S1-ends")),
            _Row(measure="training loss", values=(1.4e-3, 1.1e-3, 1.0e-3, 1.1e-3)),
            _Row(measure="sparsity coefficient, layer 1", values=(0.570, 0.476, 0.378, 0.340)),
            _Row(measure="sparsity coefficient, layer 2", values=(0.466, 0.312, 0.252, 0.182)),
            _Row(measure="rank", values=(150, 150, 125, 102), evidence="plot", claims=("S2-rank",)),
        ),
    ),
    _Family(
        setting="ResNet-18, CIFAR-10, weight decay",
        where="fig1_resnet18_dynamics",
        model=None,
        differences=True,
        rows=(
            _Row(
                measure="test error",
                values=(0.35, 0.138, 0.13, 0.12),
                evidence="plot",
                claims=("S1-network", "S1-ends-network"),
            ),
        ),
    ),
    _Family(
        setting="ResNet-18, CIFAR-10, momentum, weight decay, augmentation",
        where="fig_deep_sota_cifar10",
        model=None,
        differences=True,
        rows=(
            _Row(measure="training loss", values=(0.0313, 0.0211, 9.8e-4, 4.2e-4)),
            _Row(
                measure="test error", values=(0.1429, 0.1013, 0.0658, 0.0561), claims=("S1-network", "S1-ends-network")
            ),
            _Row(measure="sparsity coefficient, block 1", values=(0.699, 0.688, 0.723, 0.719)),
            _Row(measure="sparsity coefficient, block 2", values=(0.704, 0.682, 0.587, 0.547)),
            _Row(measure="sparsity coefficient, block 3", values=(0.775, 0.748, 0.657, 0.543)),
            _Row(measure="sparsity coefficient, block 4", values=(0.655, 0.577, 0.472, 0.459)),
            _Row(measure="sparsity coefficient, block 5", values=(0.987, 0.959, 0.770, 0.630)),
        ),
    ),
)
# Coefficients of several layers: claims are about the mean over them.
_MEANS: Mapping[str, Sequence[str]] = {
    "fig_three_layer": ("S2-sparsity",),
    "fig_deep_sota_cifar10": ("S2-network", "S2-ends-network"),
}


def _numbers() -> Iterator[Published]:
    for family in _FAMILIES:
        for row in family.rows:
            for phase, value in zip(family.phases, row.values, strict=True):
                yield Published(
                    quantity=f"{row.measure} at the end",
                    value=value,
                    setting=family.setting,
                    series=phase,
                    evidence=row.evidence,
                    where=family.where,
                )
            yield from _of_claims(family, row)
        if family.where in _MEANS:
            layers = [row.values for row in family.rows if row.measure.startswith("sparsity coefficient")]
            means = [sum(values) / len(values) for values in zip(*layers, strict=True)]
            mean = _Row(measure="sparsity coefficient, mean", values=means, claims=_MEANS[family.where])
            yield from _of_claims(family, mean)


def _of_claims(family: _Family, row: _Row) -> Iterator[Published]:
    """Yield the numbers of the claims about one measure: its order, and its ends."""
    pairs = list(zip(row.values[:-1], row.values[1:], strict=True))
    ends = (row.values[0], row.values[-1])
    for claim, compared in zip(row.claims, (pairs, [ends]), strict=False):
        yield Published(
            quantity=f"{row.measure} at the end, {'order by length of the phase' if compared == pairs else 'ends'}",
            value=min(first - second if family.differences else first / second for first, second in compared),
            setting=family.setting,
            evidence=row.evidence,
            where=family.where,
            claim=claim,
            derived=True,
            model=family.model,
        )


PUBLISHED = tuple(_numbers())
