"""What sparse says of large step sizes: S1 to S4 on diagonal linear networks, on ReLU networks and on trained networks.

S1  The longer the phase of large steps, the lower the test loss; S2: the sparser the features.
S3  Features become sparser while steps are large, and the training loss does not fall meanwhile: over the second half
    of a phase its level (S-M3) moves down by less than a factor of 2.
S4  After the decay the features stay, from 5 % of the run after it (of a trained network: from the first measurement
    after it) to the end.

Features are the rank (S-M4) and the support (S-M5) of diagonal networks, the rank and the sparsity coefficient (S-M6,
mean over the hidden layers) of ReLU networks, and that coefficient of trained networks. Of the toys a chain is compared
with chains of the same seed, of trained networks a run with runs of the same seed. S3 and S4 of ReLU networks are about
phases of at least a twentieth of the run. A claim that needs a chain or a run that diverged is undetermined.

ASSUME: thresholds are ours; the paper shows curves.

Source: papers.md 4.4, claims S1 to S4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from sgdline.claims.base import Claim, Compared, EachSeed, Value
from sgdline.claims.judging.measured import MeasuredRun, MeasuredToy
from sgdline.papers.sparse._networks import network_phases, same_network
from sgdline.papers.sparse._phases import (
    OfPhases,
    Phases,
    difference,
    ends_lower,
    falls_meanwhile,
    falls_with_length,
    loss_stays,
    stays_after,
)
from sgdline.papers.sparse._toys import diagonal_phases, relu_phases
from sgdline.toys.teacher_student.options import TeacherStudentOptions


def _network_of(toy: MeasuredToy) -> str:
    return cast(TeacherStudentOptions, toy.options).network if toy.kind == "teacher_student" else toy.kind


_DIAGONAL = EachSeed(toys=("diagonal_networks",), seeds=diagonal_phases)
_RELU = EachSeed(toys=("relu_regression", "teacher_student"), seeds=relu_phases, model=_network_of)
_NETWORKS = Compared(reads=("evaluation", "feat"), groups=same_network, over=("lr",))


def _of_networks(value: OfPhases) -> Callable[[Sequence[MeasuredRun]], Value | None]:
    return lambda runs: value(network_phases(runs))


DIAGONAL_CLAIMS: tuple[Claim[Phases], ...] = (
    Claim(
        name="S1",
        number="Smallest ratio of the final test loss to that with the next longer large-step phase",
        meaning="the longer the large-step phase, the lower the test loss",
        relation=">",
        threshold=1.0,
        about=_DIAGONAL,
        value=falls_with_length("test_loss"),
    ),
    Claim(
        name="S1-ends",
        number="Final test loss with a small constant step over that with the longest large-step phase",
        meaning="a long large-step phase ends at a lower test loss than a small constant step",
        relation=">",
        threshold=1.0,
        about=_DIAGONAL,
        value=ends_lower("test_loss"),
    ),
    Claim(
        name="S2-rank",
        number="Smallest ratio of the final rank of the features to that with the next longer large-step phase",
        meaning="the longer the large-step phase, the lower the rank of the features",
        relation=">",
        threshold=1.0,
        about=_DIAGONAL,
        value=falls_with_length("rank"),
    ),
    Claim(
        name="S2-support",
        number="Smallest ratio of the final support to that with the next longer large-step phase",
        meaning="the longer the large-step phase, the smaller the support",
        relation=">",
        threshold=1.0,
        about=_DIAGONAL,
        value=falls_with_length("support"),
    ),
    Claim(
        name="S3-rank",
        number="Largest ratio of the rank of the features at the decay to its highest value before",
        meaning="the rank of the features falls while steps are large",
        relation="<=",
        threshold=0.9,
        about=_DIAGONAL,
        value=falls_meanwhile("rank"),
    ),
    Claim(
        name="S3-support",
        number="Largest ratio of the support at the decay to its highest value before",
        meaning="the support shrinks while steps are large",
        relation="<=",
        threshold=0.9,
        about=_DIAGONAL,
        value=falls_meanwhile("support"),
    ),
    Claim(
        name="S3-loss",
        number="Smallest drift of log10(training loss) over the second half of a large-step phase",
        meaning="the training loss does not fall while steps are large",
        relation=">",
        threshold=-0.3,
        about=_DIAGONAL,
        value=loss_stays,
    ),
    Claim(
        name="S4-rank",
        number="Largest relative change of the rank of the features after the decay",
        meaning="the rank of the features stays after the decay",
        relation="<=",
        threshold=0.1,
        about=_DIAGONAL,
        value=stays_after("rank"),
    ),
    Claim(
        name="S4-support",
        number="Largest relative change of the support after the decay",
        meaning="the support stays after the decay",
        relation="<=",
        threshold=0.1,
        about=_DIAGONAL,
        value=stays_after("support"),
    ),
)

RELU_CLAIMS: tuple[Claim[Phases], ...] = (
    *(replace(claim, about=_RELU) for claim in DIAGONAL_CLAIMS if "support" not in claim.name),
    Claim(
        name="S2-sparsity",
        number="Smallest ratio of the final feature sparsity coefficient to that with the next longer large-step phase",
        meaning="the longer the large-step phase, the sparser the features",
        relation=">",
        threshold=1.0,
        about=_RELU,
        value=falls_with_length("sparsity"),
    ),
    Claim(
        name="S3-sparsity",
        number="Largest ratio of the feature sparsity coefficient at the decay to its highest value before",
        meaning="features become sparser while steps are large",
        relation="<=",
        threshold=0.9,
        about=_RELU,
        value=falls_meanwhile("sparsity"),
    ),
    Claim(
        name="S4-sparsity",
        number="Largest relative change of the feature sparsity coefficient after the decay",
        meaning="the sparsity of the features stays after the decay",
        relation="<=",
        threshold=0.1,
        about=_RELU,
        value=stays_after("sparsity"),
    ),
)

NETWORK_CLAIMS: tuple[Claim[Sequence[MeasuredRun]], ...] = (
    Claim(
        name="S1-network",
        number="Smallest decrease of the final test error to that with the next longer phase of large steps",
        meaning="the longer the phase of large steps, the lower the network's test error",
        relation=">",
        threshold=0.0,
        about=_NETWORKS,
        value=_of_networks(falls_with_length("error", difference)),
    ),
    Claim(
        name="S1-ends-network",
        number="Final test error with a small constant step less that with the longest phase of large steps",
        meaning="a long phase of large steps ends at a lower test error than a small constant step",
        relation=">",
        threshold=0.0,
        about=_NETWORKS,
        value=_of_networks(ends_lower("error", difference)),
    ),
    Claim(
        name="S2-network",
        number="Smallest decrease of the final sparsity coefficient to that with the next longer phase of large steps",
        meaning="the longer the phase of large steps, the sparser the network's features",
        relation=">",
        threshold=0.0,
        about=_NETWORKS,
        value=_of_networks(falls_with_length("sparsity", difference)),
    ),
    Claim(
        name="S2-ends-network",
        number="Final sparsity coefficient with a small constant step less that with the longest phase of large steps",
        meaning="a long phase of large steps ends at sparser features than a small constant step",
        relation=">",
        threshold=0.0,
        about=_NETWORKS,
        value=_of_networks(ends_lower("sparsity", difference)),
    ),
    Claim(
        name="S3-network",
        number="Largest ratio of the sparsity coefficient at the end of a phase of large steps to that at the start",
        meaning="the network's features become sparser while steps are large",
        relation="<=",
        threshold=0.9,
        about=_NETWORKS,
        value=_of_networks(falls_meanwhile("sparsity")),
    ),
    Claim(
        name="S3-loss-network",
        number="Smallest drift of log10(training loss) over the second half of a phase of large steps",
        meaning="the network's training loss does not fall while steps are large",
        relation=">",
        threshold=-0.3,
        about=_NETWORKS,
        value=_of_networks(loss_stays),
    ),
    Claim(
        name="S4-network",
        number="Largest relative change of the sparsity coefficient after the decay",
        meaning="the network's features stay as sparse after the decay",
        relation="<=",
        threshold=0.1,
        about=_NETWORKS,
        value=_of_networks(stays_after("sparsity")),
    ),
)

CLAIMS = (*DIAGONAL_CLAIMS, *RELU_CLAIMS, *NETWORK_CLAIMS)
