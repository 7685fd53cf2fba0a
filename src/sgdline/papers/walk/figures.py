"""The paper's figures: which kind each is, with which options, and what to look for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgdline.papers._captions import found, plain
from sgdline.papers.base import PaperFigure, marks
from sgdline.papers.walk.published import BARRIERS, HEIGHT, INTERVALS, PUBLISHED, SPREAD

_PAPER = "Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770)"
_PLACES = ("first", "second", "third", "fourth")
_VGG11, _RESNET56, _MLP, _TINY = (
    "VGG-11 on CIFAR-10",
    "ResNet-56 on CIFAR-10",
    "the MLP on MNIST",
    "VGG-11 on Tiny-ImageNet",
)

# How the paper trained, by the data set.
_FULL_GRADIENT = {
    "CIFAR-10": """The paper took the gradient of all 45,000 images at lr 0.1 [text]; its script adds up the gradients
        of nine parts without dividing by nine, so that its step is 0.9 times the mean gradient [code].""",
    "other": "The paper took the gradient of the whole training set [text].",
}
_BATCHES = {
    "CIFAR-10": "The paper trained at lr 0.1 with batches of 100 [text, code];",
    "MNIST": "The paper trained plain SGD on 45,000 images [code];",
}

_GD = """The walk of gradient descent on the whole training set from update 0 on, {network}, after figure {number} of
        {paper}.
        {trained} It found {found} after some iterations every interval looks like a parabola with its minimum inside;
        the cosine turns negative and comes near -1, the floor falls smoothly, and the distance stays small [text].
        Look for walls that rise on both sides of every grey line, for a floor without ups and downs, and for how soon
        the cosine turns negative. lr times the largest eigenvalue of the Hessian is in a note if the run measured it.
        Below 2 the gradient need not bounce: then a cosine that stays positive does not contradict the paper, and on
        small networks with BatchNorm the bouncing is a matter of the first updates [small]."""

_SGD = """The walk of SGD at the start of an epoch, {network}, after figure {number} of {paper}, which shows epoch
        {epoch}; this sheet shows the {place} of the epochs that the run measured, and its title names it.
        {findings}
        {look}"""
_AS_FIGURE_2 = """{trained} its plotting script shows the first 50 updates [code]. It found {same}intervals like
        parabolas with their minima inside, a cosine clearly less negative than with the full gradient, a larger
        distance after as many updates, and a rough floor that goes up and down [text]."""
_LOOK = {  # by the place of the epoch among those that were measured
    1: """Look for the roughness of the orange line, and for cosines around 0 rather than near -1; full-batch gradient
        descent on the same network is in the gd figures.""",
    2: """Look for whether the walls are lower than in the first epoch while the shape of the intervals stays; the mean
        height H is in the notes.""",
    3: """Look for whether walls and floor now lie close together, and for first barriers: with the noise of redrawn
        samples taken away there may be fewer of them than in the paper.""",
    4: """Look for barriers, which the paper found late in training only [text], and for how low they are against the
        loss; table1_barriers counts them over whole epochs.""",
}

_VARIANT = """The walk of SGD in the first epoch measured with another batch size or learning rate, {network}, after
        figure {number} of {paper}; the values of that figure are not in the text at hand [doubt], so the footer's
        count.
        The paper found its variants in agreement with figure 2: intervals like parabolas with their minima inside, and
        a rough floor [text].
        Compare with the run of figure {base}: the walls should be higher at a larger learning rate, and a larger batch
        should make the cosine more negative and the distance smaller [text]. The mean height and the mean cosine are in
        the notes."""

_ROLES = """What the batch size and what the learning rate do in runs of {network}, after figure {number} of {paper}.
        The paper's batch sizes and learning rates are not in its text [doubt]. It found that larger batches make the
        cosine more negative and keep the parameters closer to initialisation, while the learning rate changes the
        cosine little [text]: the batch size sets how much noise there is to leave the valley's direction, the learning
        rate how high above its floor the run bounces.
        Look for the order of the cosines and distances over the batch sizes, and for curves of the cosine that lie
        together over the learning rates.
        What a cosine can show depends on lr times the largest eigenvalue: below 1 full-batch gradient descent does not
        bounce at all and the cosine of large batches is near +1. A rerun there does not contradict the paper, whose
        values are at the edge, near 2 [small]."""

_NOISE = """Gradient descent (GD) on {network}, GD with isotropic noise on every gradient, and SGD, after figure
        {number} of {paper}.
        The paper found that even small isotropic noise makes loss and accuracy worse than those of GD and carries the
        parameters much farther, also than SGD does; that the cosine of GD is near -1; and that a network trained with
        such noise stays stuck with a lower learning rate or GD but recovers with SGD [text]. The variance of the noise
        is a factor times v_max, the largest variance of a gradient coordinate at the start; the paper's two factors are
        not in the text at hand, perhaps 0.01 and 0.001 [doubt], and its released code takes the same product for the
        standard deviation, with a factor of 0.02 [code]. The paper ranks the parameter norms at the end: SGD smallest,
        then GD, the noise far above [text].
        Look for the curves with noise above GD in the panel of the loss and far above everything in that of the
        distance, and for whether only the continuation with SGD leaves the plateau. A cosine near -1 needs lr times the
        largest eigenvalue near 2."""

_SPECTRAL = """How sharp the loss is along a run of {network}, after figure {number} of {paper}.
        The paper found that the norm falls during training and rises towards the end, with a slight drop of the
        validation accuracy [text]. It takes 15 power iterations over freshly augmented data, whose result can be off by
        a few per cent [code]; the bottom panel is not in the paper.
        Look for a fall and a late rise of the norm, and for whether the accuracy gives way where it rises. A network
        with BatchNorm that finds its task easy need not show the rise: its product falls far below 2 within the first
        epochs [small]."""

_SCHEDULES = """Learning curves of three schedules on {network}, after figure {number} of {paper}: cyclical
        (triangular), trapezoid (up, flat, down to 0) and step-wise annealing.
        The paper tuned each schedule by a grid search, at batch size 100, and found that schedules which raise the
        learning rate during training are slightly better than or equal to step-wise annealing, and that several cycles
        are not needed [text]. Its learning rates are not in the text [doubt].
        Look for whether trapezoid and cyclical schedules end at or above the step-wise one, and compare the differences
        with the standard deviations. If the chosen rate is the largest or smallest of the grid, the grid is too narrow
        to compare by."""


def _of_template(kind: str, template: str, number: int, network: str, **facts: Any) -> PaperFigure:
    return PaperFigure(kind, template.format(number=number, network=network, paper=_PAPER, **facts))


def _gd(number: int, network: str) -> PaperFigure:
    found = "that" if number == 1 else "the same as for VGG-11 on CIFAR-10 in its figure 1:"
    trained = _FULL_GRADIENT["CIFAR-10" if "CIFAR-10" in network else "other"]
    return _of_template("trajectory", _GD, number, network, found=found, trained=trained)


def _sgd(number: int, network: str, *, epoch: int, place: int) -> PaperFigure:
    if network == _TINY:
        findings = """The paper trained on a subset of 200 classes [code]; its plotting script shows the first 50
        updates [code]. It found valleys of an odd look, and still no barrier between consecutive iterates [text]."""
        look = """Look for black triangles in (a), of which there should be few or none, and for intervals that do not
        look like parabolas."""
    else:
        same = "" if number == 2 else "the same as in its figure 2 (VGG-11, epoch 1): "
        findings = _AS_FIGURE_2.format(trained=_BATCHES["MNIST" if "MNIST" in network else "CIFAR-10"], same=same)
        look = _LOOK[place]
    facts = {"epoch": epoch, "place": _PLACES[place - 1], "findings": findings, "look": look}
    caption = _SGD.format(number=number, network=network, paper=_PAPER, **facts)
    return PaperFigure("trajectory", caption, options={} if place == 1 else {"place": place})


def _variant(number: int, network: str, *, base: int) -> PaperFigure:
    return _of_template("trajectory", _VARIANT, number, network, base=base)


def _settings(where: str) -> list[str]:
    return list(dict.fromkeys(one.setting for one in PUBLISHED if one.where == where and not one.derived))


def _barriers() -> str:
    numbers = {name: plain(found(PUBLISHED, BARRIERS, setting=name)) for name in _settings("table 1")}
    return "; ".join(f"{name.partition(',')[0]} {own}" for name, own in numbers.items())


def _heights(where: str) -> str:
    """Return the heights of a table with what it prints after +-, a setting after the other."""
    rows = []
    for setting in _settings(where):
        heights, spreads = (found(PUBLISHED, quantity, setting=setting) for quantity in (HEIGHT, SPREAD))
        network, _, lr = setting.split(", ")
        rows.append(f"{network} {lr}: {', '.join(f'{heights[epoch]}+-{spreads[epoch]}' for epoch in heights)}")
    return "; ".join(rows)


FIGURES: Mapping[str, PaperFigure] = {
    "ext_hessian_covariance": PaperFigure(
        "hessian_covariance",
        f"""An extension of {_PAPER}.
        The paper has the derivation [derived] and no experiment [text]. It is to say why the noise of SGD is large
        along the steep directions. If the labels were drawn with the network's own probabilities, the sum over
        Hess(p_i)/p_i would be 0 in expectation, and H equal to C where ḡ is 0. A network that fits its labels is surer
        than that: as the p_i go to 1, C shrinks like (1 - p_i)² and H only like 1 - p_i, so that what may agree near a
        minimum is the eigenvectors, not the eigenvalues [derived].
        Look for an identity that is kept to 1e-8 at every update, and for an alignment far above the thin lines that
        comes near 1 as loss and gradient fall, while the eigenvalues of C fall away from those of H. Where two leading
        eigenvalues of one matrix are close, its top eigenvector may turn within their plane: the cosine then drops and
        the overlap stays. In small, on 512 digits, 2,160 updates led to a loss of 5e-3, a cosine of 0.98, an overlap of
        0.95 and a largest eigenvalue of C 38 times below that of H; at a loss of 1.2 the cosine was 0.34 [small].""",
    ),
    "fig10_gd_resnet56": _gd(10, _RESNET56),
    "fig11_sgd_resnet56_e1": _sgd(11, _RESNET56, epoch=1, place=1),
    "fig12_sgd_resnet56_e2": _sgd(12, _RESNET56, epoch=2, place=2),
    "fig13_sgd_resnet56_e25": _sgd(13, _RESNET56, epoch=25, place=3),
    "fig14_sgd_resnet56_e100": _sgd(14, _RESNET56, epoch=100, place=4),
    "fig15_sgd_vgg11_e2": _sgd(15, _VGG11, epoch=2, place=2),
    "fig16_sgd_vgg11_e25": _sgd(16, _VGG11, epoch=25, place=3),
    "fig17_sgd_vgg11_e100": _sgd(17, _VGG11, epoch=100, place=4),
    "fig18_gd_mlp": _gd(18, _MLP),
    "fig19_sgd_mlp_e1": _sgd(19, _MLP, epoch=1, place=1),
    "fig1_gd_vgg11": _gd(1, _VGG11),
    "fig20_sgd_mlp_e2": _sgd(20, _MLP, epoch=2, place=2),
    "fig21_gd_tiny": _gd(21, _TINY),
    "fig22_sgd_tiny_e1": _sgd(22, _TINY, epoch=1, place=1),
    **{f"fig{number}_vgg11_variant": _variant(number, _VGG11, base=2) for number in (23, 24, 25, 26)},
    **{f"fig{number}_resnet56_variant": _variant(number, _RESNET56, base=11) for number in (27, 28, 29, 30)},
    "fig2_sgd_vgg11_e1": _sgd(2, _VGG11, epoch=1, place=1),
    "fig31_roles_resnet56": _of_template("roles", _ROLES, 31, "ResNet-56"),
    "fig32_roles_mlp": _of_template("roles", _ROLES, 32, "a multilayer perceptron"),
    "fig33_roles_tiny": _of_template("roles", _ROLES, 33, _TINY),
    "fig34_noise_resnet56": _of_template("noise", _NOISE, 34, "ResNet-56"),
    "fig35_noise_mlp": _of_template("noise", _NOISE, 35, "a multilayer perceptron"),
    "fig36_quadratic": PaperFigure(
        "quadratic_descent",
        f"""After figure 36 of {_PAPER}.
        The paper found the three regimes along the eigenvector of the largest eigenvalue [text]; they are exact.
        Eigenvalues and rates are our choice, as the text at hand does not give them.
        Look for the rate 1/λ, which is at the floor after one step; for the cosine, which stays near -1 only while the
        bouncing outlives the way along the flat valley, and turns to +1 where it does not; for the edge 2/λ, whose
        bounce neither grows nor fades; and for the height of the first interval, which rises with the learning rate
        although all rates share one start.""",
    ),
    "fig3_spectral_vgg11": _of_template("spectral_norm", _SPECTRAL, 3, "VGG-11"),
    "fig4_roles_vgg11": _of_template("roles", _ROLES, 4, "VGG-11"),
    "fig5_noise_vgg11": _of_template("noise", _NOISE, 5, "VGG-11"),
    "fig6_spectral_resnet56": _of_template("spectral_norm", _SPECTRAL, 6, "ResNet-56"),
    "fig7_schedules_resnet56": _of_template("schedules", _SCHEDULES, 7, "ResNet-56"),
    "fig8_schedules_vgg11": _of_template("schedules", _SCHEDULES, 8, "VGG-11"),
    "fig9_barriers_vgg11": PaperFigure(
        "barriers",
        f"""After figure 9 of {_PAPER}.
        The paper (VGG-11, CIFAR-10) found none in most epochs; late ones have heights far below the loss [text]. Its
        losses were measured on samples drawn and augmented anew for every alpha [code], and that noise can feign
        barriers or hide them; here the samples are the same at every alpha, so that an excess of 1e-7 of the loss
        counts.
        Look for bars that stay below the blue dashes, and for points that lie decades below the line. A run without any
        barrier agrees with the paper.""",
    ),
    "table1_barriers": PaperFigure(
        "barrier_table",
        f"""After table 1 of {_PAPER}.
        Published, of {INTERVALS} intervals of one run each in epochs 1, 10, 25, 100: {_barriers()} (MLP: no epoch 100)
        [text]. The published losses carry the noise of redrawn and newly augmented samples
        [code], which can feign barriers or hide them; here all alphas are measured on the same samples.
        Look for zeros in the first epochs, and for whether the share of intervals with a barrier stays below 5 %
        later.""",
        options={"marks": marks(PUBLISHED, BARRIERS, where="table 1", panel="barriers")},
    ),
    "table2_heights": PaperFigure(
        "height_table",
        f"""After table 2 of {_PAPER}. The formula of H is our reading of a text that lacks it [doubt].
        Published H in epochs 1, 10, 25, 100 [text]: {_heights("table 2")}.
        The published +- are so small beside the means that they look like variances
        [doubt].
        Half the learning rate divides the height of epoch 1 by 6.1 (VGG-11) and 4.5 (ResNet-56) [derived], exponents of
        2.6 and 2.2: on a fixed parabola a bounce of length lr*||g|| has a height quadratic in lr.
        Look for higher walls at the larger learning rate in every epoch, and for heights that fall from epoch to epoch.
        Where a small network soon fits all of its images, the run with the larger learning rate can end with the lower
        walls, because it is further on [small].""",
        options={"marks": marks(PUBLISHED, HEIGHT, where="table 2", panel="heights")},
    ),
    "table3_heights_tiny": PaperFigure(
        "height_table",
        f"""For VGG-11 on Tiny-ImageNet, after table 3 of {_PAPER}. The formula of H is our reading of a text that lacks
        it [doubt].
        Published H in epochs 1, 10, 25, 100 [text]: {_heights("table 3")}.
        The published +- are so
        small beside the means that they look like variances [doubt].
        Five times the learning rate gives heights 7.2, 1.3, 1.6 and 8.9 times as large [derived]. Look for higher walls
        at the larger learning rate, and for heights that grow after the first epoch and vanish at the end.""",
        options={"marks": marks(PUBLISHED, HEIGHT, where="table 3", panel="heights")},
    ),
}
