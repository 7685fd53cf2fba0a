"""The paper's figures: which kind each is, with which options, and what to look for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgdline.papers._captions import found, named, plain
from sgdline.papers.base import PaperFigure, marks
from sgdline.papers.linesearch.published import (
    CONSECUTIVE,
    DISTANCE,
    FIRST,
    GAIN_PAL,
    GAIN_SGD,
    IMPROVEMENT,
    LATER,
    MAE,
    MOBILENET,
    PUBLISHED,
    RATIO,
    RESNET18,
    SHARE,
    SLOPE,
    USUAL,
    name_of,
    setting_of,
)

_PAPER = "Mutschler and Zell (2021, arXiv 2103.17132)"
_SUPPLEMENT = f"figure {{number}} of the supplement of {_PAPER}"
_UNPUBLISHED = (
    f"The computation is in the released code of {_PAPER}, but neither in the paper nor in its supplement [code]: "
    "there is no published outcome."
)
_BOTH_MOMENTA = "which shows momentum 0 and 0.9; here each run is a sheet of its own"

# Captions of the supplement, which repeats the figures of ResNet-20 for two other networks.
_DISTANCES = f"""The network is {{network}}, after {_SUPPLEMENT}, {_BOTH_MOMENTA}.{{dropout}}
Without momentum the paper found distances up to {{first}} among the first {{lines}} lines, later below {{later}} and
concentrated around {{usual}} [text], with consecutive distances falling from {{falling}} [plot]. With momentum 0.9 the
first {{lines_09}} differ by up to {{first_09}}, later ones by less than {{later_09}}, and consecutive distances fall
from {{falling_09}} [plot].
Look at how soon the left panel turns dark, and by how many decades the consecutive distance falls; marks at its edge
are the paper's.{{scale}}"""
_FITS = f"""The network is {{network}}, after {_SUPPLEMENT}, {_BOTH_MOMENTA}.
Without momentum the paper's error of degree 1 falls from {{first}}, that of degree 2 from {{second}}; with momentum 0.9
degree 1 falls from {{first_09}} and degree 2 from {{second_09}} [plot].{{curvature}}
Look for the gap of about one decade between degrees 1 and 2 in the logarithmic panel{{look}}; marks at its edge are the
paper's."""
_STRATEGIES = f"""The network is {{network}} {{momentum}}, after {_SUPPLEMENT}.{{lines}}
{{after}} the paper's accumulated improvements are, in nats: {{gains}}; the accumulated distances: {{distances}} [plot].
Sums over other numbers of lines do not compare; the paper's shares of the optimum's gain are in brackets in (c).
The ratio {{ratio}}.
Look at {{look}}."""
_MOMENTUM = """ Lines run along m_t, the ratio divides by its norm, and 'SGD' with another learning rate is a plain SGD
step on that line, while the run's own step is lr*norm(m_t)."""
_BATCHES = f"""The network is {{network}}, after {_SUPPLEMENT}. The paper took the steepest samples for small batches
(analysis.compat: true does the same); otherwise they are drawn at random here.
The paper's accumulated improvements with lr 0.1 are, in nats and by batch size: {{sgd}}; with PAL {{pal}}; the
optimum's is {{optimum}} [plot].{{slopes}}
Look at which batch size gains most at the run's learning rate, and at whether the ratios in the last panel are on their
dashed lines.{{look}}"""


def _falling(quantity: str, network: str, momentum: float) -> str:
    """Return the words for a quantity that is known at the start and at the end of a run."""
    start, end = found(PUBLISHED, quantity, setting=setting_of(network, momentum)).values()
    return f"{start} to {end}" if " to " not in end else f"{start} to between {end.replace(' to ', ' and ')}"


def _distances(number: int, network: str, **words: str) -> PaperFigure:
    where = f"supplement, figure {number}"
    for momentum, suffix in ((0.0, ""), (0.9, "_09")):
        setting = setting_of(network, momentum)
        words[f"falling{suffix}"] = _falling(CONSECUTIVE, network, momentum)
        for name, quantity in (("first", FIRST), ("later", LATER)):
            words[name + suffix] = plain(found(PUBLISHED, quantity, setting=setting))
    usual = plain(found(PUBLISHED, USUAL, where=where))
    caption = _DISTANCES.format(number=number, network=name_of(network), usual=usual, **words)
    return PaperFigure(
        "distance_matrix", caption, {"marks": marks(PUBLISHED, CONSECUTIVE, where=where, panel="consecutive")}
    )


def _fits(number: int, network: str, **words: str) -> PaperFigure:
    shown: list[dict[str, Any]] = []
    for degree, name in ((1, "first"), (2, "second")):
        quantity = MAE.format(degree=degree)
        words[name] = _falling(quantity, network, 0.0)
        words[f"{name}_09"] = _falling(quantity, network, 0.9)
        of_degree = marks(PUBLISHED, quantity, where=f"supplement, figure {number}", panel="log_error")
        shown += [{**mark, "text": f"degree {degree}, {mark['text']}"} for mark in of_degree]
    caption = _FITS.format(number=number, network=name_of(network), **words)
    return PaperFigure("polynomial_error", caption, {"marks": shown})


def _strategies(number: int, network: str, momentum: float, rate: float, **words: str) -> PaperFigure:
    where = f"supplement, figure {number}"
    names = {**_STRATEGY_NAMES, "sgd_adapted": f"SGD with {rate:g}"}
    gains, distances = (
        named(dict(sorted(found(PUBLISHED, quantity, where=where).items(), key=lambda pair: -float(pair[1]))), names)
        for quantity in (IMPROVEMENT, DISTANCE)
    )
    caption = _STRATEGIES.format(
        number=number,
        network=name_of(network),
        momentum=f"with momentum {momentum:g}" if momentum else "without momentum",
        lines=_MOMENTUM if momentum else "",
        gains=gains,
        distances=distances,
        **words,
    )
    shown = [
        mark
        for quantity, panel in ((SHARE, "share"), (RATIO, "ratio"))
        for mark in marks(PUBLISHED, quantity, where=where, panel=panel)
    ]
    return PaperFigure("strategies", caption, {"marks": shown})


def _batches(number: int, network: str, *, slopes: str, look: str) -> PaperFigure:
    where = f"supplement, figure {number}"
    sgd, pal = (
        named(found(PUBLISHED, quantity, where=where), form="{value} for {series}") for quantity in (GAIN_SGD, GAIN_PAL)
    )
    optimum = found(PUBLISHED, IMPROVEMENT, where=f"supplement, figure {number - 4}")["optimum"]
    caption = _BATCHES.format(
        number=number, network=name_of(network), sgd=sgd, pal=pal, optimum=optimum, slopes=slopes, look=look
    )
    shown = [
        {**mark, "text": _AS_SHARES.get(mark["text"], mark["text"])}
        for mark in marks(PUBLISHED, SLOPE, where=where, panel="ratio")
    ]
    return PaperFigure("emulated_batches", caption, {"marks": shown})


_STRATEGY_NAMES = {
    "optimum": "optimum",
    "fbpal": "FBPAL",
    "pal": "PAL",
    "direction_batch_minimum": "direction-batch minimum",
    "sgd_original": "SGD with 0.1",
}
# Batch sizes of the paper in those of its run, 128: ours are others.
_AS_SHARES = {
    "32": "|B|/4", "64": "|B|/2", "128": "|B|", "256": "2|B|", "512": "4|B|", "1024": "8|B|", "2048": "16|B|",
}  # fmt: skip
_RESNET18_GAINS = found(PUBLISHED, IMPROVEMENT, where="supplement, figure 5")
_RATIO = plain(found(PUBLISHED, RATIO, where="figure 6"))

FIGURES: Mapping[str, PaperFigure] = {
    "ext_curvature_batch": PaperFigure(
        "curvature_by_batch",
        f"""{_UNPUBLISHED} Look at how much more curved the direction batch is along its own direction than the full
        batch, and at whether the ratios fall like those of the slopes in linesearch/fig7_batch_size.""",
    ),
    "ext_optimizers": PaperFigure(
        "optimizers",
        f"""PAL steps to the vertex of a parabola of its own batch's loss; FBPAL&SGD measures such a parabola of the
        full-batch loss now and then and reuses its learning rate. This figure is new: {_PAPER} judge these strategies
        only after the fact, on the lines of one SGD run, where the accumulated improvement ranks FBPAL close to the
        optimum, SGD with half the learning rate close to it, PAL below, and the run's own learning rate last [plot]. A
        run that lives with its own steps need not follow: a step that is best on its line is not the best for what
        comes after.
        Look for whether the order of the training losses is that of the accumulated improvements of figure 6, whether
        PAL's steps scatter more than those of the others, and where the learning rate of FBPAL&SGD settles, compared
        with the fixed ones.""",
    ),
    "ext_own_direction": PaperFigure(
        "own_direction",
        f"""This figure extends {_PAPER}, who show the panel on the right only.
        Look for exponents near -1/2 on the left and between -1.1 and -0.8 on the right, the range of claim C4. The law
        on the left takes a sample's gradient as independent of its batch, which it is not with BatchNorm in train mode:
        small batches then have larger gradients than the law says, and the exponents get steeper as the run goes on
        [small].""",
    ),
    "ext_settings": PaperFigure(
        "line_search_settings",
        f"""This figure is new: {_PAPER} show the ratio for one run of each network, and found it nearly constant at
        about {_RATIO}, half of the learning rate that they trained with [plot].
        Look for whether that half is a law: the ratio's median would then grow in proportion to the run's learning
        rate, along a line below the dotted diagonal; and for how much of the optimum's gain the larger learning rate
        keeps.""",
    ),
    "ext_variance": PaperFigure(
        "sample_variance",
        f"""{_UNPUBLISHED} Look at how the spread among the samples falls with the loss, and at whether the direction
        batch is typical.""",
    ),
    "fig2_lines": PaperFigure(
        "lines",
        f"""After figure 2 of {_PAPER}.
        The paper (ResNet-20, 4,000 CIFAR-10 images, lr 0.1) found a smooth, convex, near-parabolic full-batch loss
        [plot]: minima at s of about +0.13 (line 10), +0.12 (line 4,000) and +0.02 (line 8,000). The direction batch
        falls steeper at s = 0 and always has its minimum farther out and lower [plot].
        Look for the bowl shape of the red curve, for the green minimum to the right of the red one, and for how far the
        diamond is beyond the circle.""",
    ),
    "fig3_distance_matrix": PaperFigure(
        "distance_matrix",
        f"""After figure 3 of {_PAPER}.
        The paper found large differences among the first 20 to 25 lines and small ones after them; for ResNet-18 they
        reach {plain(found(PUBLISHED, FIRST, setting=setting_of(RESNET18, 0.0)))} at first and concentrate around
        {plain(found(PUBLISHED, USUAL, where="supplement, figure 1"))} later [text], and the consecutive distance falls
        from {_falling(CONSECUTIVE, RESNET18, 0.0)} [plot]. Its numbers for ResNet-20 are not at hand [doubt].
        Look for bright rows and columns in the first matrix only, and for a consecutive distance that falls by orders
        of magnitude.""",
    ),
    "fig4_poly_mae": PaperFigure(
        "polynomial_error",
        f"""After figure 4 of {_PAPER}.
        The paper found that degree 2 fits about one order of magnitude better than degree 1, with errors at the 1e-3
        level or below; for ResNet-18 without momentum, degree 1 falls from
        {_falling(MAE.format(degree=1), RESNET18, 0.0)} and degree 2 from
        {_falling(MAE.format(degree=2), RESNET18, 0.0)} [plot].
        The slope stays roughly constant while the curvature falls [text].
        The released plot subtracts each coefficient's minimum over the run [code].
        Look for the gap between degrees 1 and 2 in the logarithmic panel (its median ratio is written above the panel;
        the claim holds below 0.2) and for a falling curvature.""",
    ),
    "fig5_lines_parabolas": PaperFigure(
        "parabolas",
        f"""After figure 5 of {_PAPER}.
        The paper found that lr 0.1, with which it trained, overshoots the full-batch minimum, that 0.05 ends close to
        it, and that PAL on the batch is in between [plot].
        Look at which triangle is nearest to the red circle: where it is the same one in all panels, a single learning
        rate would have been a nearly exact line search on the full-batch loss. On small tasks the run's rate may also
        undershoot [small].""",
    ),
    "fig6_strategy_metrics": PaperFigure(
        "strategies",
        f"""After figure 6 of {_PAPER}, which shows step, distance and improvement line by line and summed up, and the
        ratio. The released code's FBPAL&SGD reuses the step length [code].
        The paper (ResNet-20, lr 0.1) found this order from the best: optimum, FBPAL and SGD 0.05 about alike, PAL,
        direction batch, SGD 0.1 [plot]; for ResNet-18 {plain(_RESNET18_GAINS)} nats after 10,000 lines
        [plot]. The ratio was nearly constant at about {_RATIO}, half of the learning rate it trained with: a fixed
        learning rate makes plain SGD an almost exact line search on the full-batch loss,
        and the batch's own minimum is a worse choice.
        Look for one of the SGD curves close below the optimum in (a), for the direction batch far below, and for a flat
        ratio with a narrow band in (f) (the claim asks for quartiles within a factor of 2 of the median). On small
        tasks PAL may come last [small].""",
        {"marks": marks(PUBLISHED, RATIO, where="figure 6", panel="ratio")},
    ),
    "fig7_batch_size": PaperFigure(
        "emulated_batches",
        f"""After figure 7 of {_PAPER}.
        The paper (ResNet-20, lr 0.1, batch size 128) found that larger batches have slopes of about 1/B, so that the
        same learning rate acts like a smaller one; 256 does best, 32 and 64 make the loss worse in sum, and PAL depends
        little on the batch size [plot]. It takes the steepest samples for small batches [code], whose ratios are 4 and
        2 as soon as the others are flat. Random parts have on average the slope of the whole batch.
        Look at which batch size gains most at the run's learning rate, and at how close the ratios come to their dashed
        lines: they end at the full batch's slope.""",
    ),
    "fig8_same_position_directions": PaperFigure(
        "same_position",
        f"""After figure 8 of {_PAPER}.
        The paper found that lines of different noisy directions at one position have nearly the same shape, with small
        distances and small errors of the fits; its numbers are not at hand [doubt].
        Look for distances far below the rise of the loss along the lines, for fits of degree 2 that are much better
        than those of degree 1, and for minima that are close together compared with the red curve.""",
    ),
    "supp1_resnet18_distance": _distances(
        1,
        RESNET18,
        dropout="",
        lines="20",
        lines_09="50 lines",
        scale=" A run of a few hundred updates of a small network, as the default configuration makes it, ends where "
        "the paper's has hardly begun.",
    ),
    "supp2_mobilenet_distance": _distances(
        2,
        MOBILENET,
        dropout=" Dropout masks are fixed along each line.",
        lines="25",
        lines_09="lines",
        scale="",
    ),
    "supp3_resnet18_poly": _fits(
        3,
        RESNET18,
        curvature=" The slope stays constant while the curvature falls [text].",
        look=", and for a falling curvature",
    ),
    "supp4_mobilenet_poly": _fits(4, MOBILENET, curvature="", look=""),
    "supp5_resnet18_metrics": _strategies(
        5,
        RESNET18,
        0.0,
        0.05,
        after="After 10,000 lines",
        ratio="is {to line 3,000} until about line 3,000 and then rises to {later} [plot]: of six networks the only "
        "one whose mean ratio changes a lot [text]".format(**found(PUBLISHED, RATIO, where="supplement, figure 5")),
        look="the order of the strategies in (a), and at whether the ratio in (f) stays constant",
    ),
    "supp6_mobilenet_metrics": _strategies(
        6,
        MOBILENET,
        0.0,
        0.05,
        after="After all lines",
        ratio="goes from {start} to about {end} [plot]".format(**found(PUBLISHED, RATIO, where="supplement, figure 6")),
        look="the order of the strategies in (a), and at whether the ratio in (f) stays constant",
    ),
    "supp7_resnet18_mom_metrics": _strategies(
        7,
        RESNET18,
        0.9,
        0.05,
        after="After all lines",
        ratio=f"is about {plain(found(PUBLISHED, RATIO, where='supplement, figure 7'))} with growing spread [plot]: "
        "momentum makes SGD a poorer line search, since the norm of m_t is not tied to the loss on the present line "
        "[text]",
        look="the spread of the ratio in (f) against that of the run without momentum, and at whether the direction "
        "batch's own minimum makes the loss worse in (a)",
    ),
    "supp8_mobilenet_mom_metrics": _strategies(
        8,
        MOBILENET,
        0.9,
        0.07,
        after="After all lines",
        ratio=f"is about {plain(found(PUBLISHED, RATIO, where='supplement, figure 8'))} and constant [plot]",
        look="the spread of the ratio in (f) against that of the run without momentum, and at the order in (a)",
    ),
    "supp9_resnet18_batch": _batches(
        9,
        RESNET18,
        slopes=" The slope of batch size 32 peaks at about 17 near line 1,300. The slopes relative to that of 128 tend "
        f"to {named(found(PUBLISHED, SLOPE), form='{value} ({series})')} (expected: 0.032) [plot]; "
        "marks at the edge of the last panel.",
        look=" For small batches the paper's ratios of exactly 4 and 2 follow from choosing the steepest samples; "
        "random subsets need not give them.",
    ),
    "supp10_mobilenet_batch": _batches(10, MOBILENET, slopes="", look=""),
}
