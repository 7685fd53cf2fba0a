"""The paper's figures: which kind each is, with which options, and what to look for."""

from __future__ import annotations

from collections.abc import Mapping

from sgdline.papers.base import PaperFigure

_PAPER = "Mutschler and Zell (2021, arXiv 2103.17132)"
_SUPPLEMENT = f"figure {{number}} of the supplement of {_PAPER}"
_UNPUBLISHED = (
    f"The computation is in the released code of {_PAPER}, but neither in the paper nor in its supplement [code]: "
    "there is no published outcome."
)
_BOTH_MOMENTA = "which shows momentum 0 and 0.9; here each run is a sheet of its own"

# Captions of the supplement, which repeats the figures of ResNet-20 for two other networks.
_DISTANCES = f"""The network is {{network}}, after {_SUPPLEMENT}, {_BOTH_MOMENTA}.{{dropout}}
Without momentum the paper found distances up to {{first}} among the first {{lines}} lines, later {{later}} [text], with
consecutive distances falling from 0.1 to {{consecutive}}{{without}}. With momentum 0.9 the first {{momentum}} [plot].
Look at how soon the left panel turns dark, and by how many decades the consecutive distance falls.{{scale}}"""
_FITS = f"""The network is {{network}}, after {_SUPPLEMENT}, {_BOTH_MOMENTA}.
Without momentum the paper's error of degree 1 falls from {{first}} to {{last}}, that of degree 2 from {{second}}; with
momentum 0.9 degree 1 falls from {{momentum}} [plot].{{curvature}}
Look for the gap of about one decade between degrees 1 and 2 in the logarithmic panel{{look}}."""
_STRATEGIES = f"""The network is {{network}} {{momentum}} momentum{{value}}, after {_SUPPLEMENT}.{{lines}}
{{after}} the paper's accumulated improvements are, in nats: {{gains}}; the accumulated distances: {{distances}}.
The ratio {{ratio}}.
Look at {{look}}."""
_MOMENTUM = """ Lines run along m_t, the ratio divides by its norm, and 'SGD' with another learning rate is a plain SGD
step on that line, while the run's own step is lr*norm(m_t)."""
_BATCHES = f"""The network is {{network}}, after {_SUPPLEMENT}. The paper took the steepest samples for small batches
(analysis.compat: true does the same); otherwise they are drawn at random here.
The paper's accumulated improvements with lr 0.1 are, in nats: {{sgd}}; with PAL {{pal}}.{{slopes}}
Look at which batch size gains most at the run's learning rate, and at whether the ratios in the last panel are on their
dashed lines.{{look}}"""

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
        about 0.05, half of the learning rate that they trained with [plot].
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
        reach 1.2 at first and concentrate around 0.005 later [text], and the consecutive distance falls from 1e-1 to
        about 2e-3 [plot]. Its numbers for ResNet-20 are not at hand [doubt].
        Look for bright rows and columns in the first matrix only, and for a consecutive distance that falls by orders
        of magnitude.""",
    ),
    "fig4_poly_mae": PaperFigure(
        "polynomial_error",
        f"""After figure 4 of {_PAPER}.
        The paper found that degree 2 fits about one order of magnitude better than degree 1, with errors at the 1e-3
        level or below; for ResNet-18 without momentum, degree 1 falls from 0.07 to about 0.002 and degree 2 from 0.0055
        to 2e-4..1e-3 [plot]. The slope stays roughly constant while the curvature falls [text]. The released plot
        subtracts each coefficient's minimum over the run [code].
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
        direction batch, SGD 0.1 [plot]; for ResNet-18 205, 197, 194, 170, 109, 36 nats after 10,000 lines [plot]. The
        ratio was nearly constant at about 0.05, half of the learning rate it trained with: a fixed learning rate makes
        plain SGD an almost exact line search on the full-batch loss, and the batch's own minimum is a worse choice.
        Look for one of the SGD curves close below the optimum in (a), for the direction batch far below, and for a flat
        ratio with a narrow band in (f) (the claim asks for quartiles within a factor of 2 of the median). On small
        tasks PAL may fall behind [small].""",
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
    "supp1_resnet18_distance": PaperFigure(
        "distance_matrix",
        _DISTANCES.format(
            number=1, network="ResNet-18", dropout="", first="1.2", lines="20",
            later="below 0.4 and concentrated around 0.005", consecutive="about 2e-3", without=" [plot]",
            momentum="50 lines differ by up to 2.7, later ones by less than 0.06, and consecutive distances fall from "
            "1e-2 "
            "to about 7e-4",
            scale=" A run of a few hundred updates of a small network, as the default configuration makes it, ends "
            "where "
            "the paper's has hardly begun.",
        ),
    ),
    "supp2_mobilenet_distance": PaperFigure(
        "distance_matrix",
        _DISTANCES.format(
            number=2, network="MobileNetV2", dropout=" Dropout masks are fixed along each line.", first="0.55",
            lines="25",
            later="below 0.6 and concentrated around 0.01", consecutive="2e-3", without="",
            momentum="lines differ by up to 1.7, later ones by less than 0.09, and consecutive distances fall from "
            "about "
            "5e-3 to 1e-3",
            scale="",
        ),
    ),
    "supp3_resnet18_poly": PaperFigure(
        "polynomial_error",
        _FITS.format(
            number=3, network="ResNet-18", first="0.07", last="about 0.002", second="0.0055 to between 2e-4 and 1e-3",
            momentum="0.03 to 5e-4 and degree 2 from 0.001 to 5e-5",
            curvature=" The slope stays constant while the curvature falls [text].",
            look=", and for a falling curvature",
        ),
    ),
    "supp4_mobilenet_poly": PaperFigure(
        "polynomial_error",
        _FITS.format(
            number=4, network="MobileNetV2", first="0.055", last="0.002", second="0.0027 to 2e-4",
            momentum="0.012 to 3e-4 and degree 2 from 7e-4 to 1e-5", curvature="", look="",
        ),
    ),
    "supp5_resnet18_metrics": PaperFigure(
        "strategies",
        _STRATEGIES.format(
            number=5, network="ResNet-18", momentum="without", value="", lines="", after="After 10,000 lines",
            gains="optimum 205, FBPAL 197, SGD with 0.05 194, PAL 170, direction-batch minimum 109, SGD with 0.1 36",
            distances="SGD with 0.1 1130, direction batch 1050, PAL 640, SGD with 0.05 505, FBPAL 400",
            ratio="is 0.05 until about line 3,000 and then rises to 0.2 to 0.6 [plot]: of six networks the only one "
            "whose "
            "mean ratio changes a lot [text]",
            look="the order of the strategies in (a), and at whether the ratio in (f) stays constant",
        ),
    ),
    "supp6_mobilenet_metrics": PaperFigure(
        "strategies",
        _STRATEGIES.format(
            number=6, network="MobileNetV2", momentum="without", value="", lines="", after="After all lines",
            gains="optimum 193, FBPAL 185, SGD with 0.05 185, PAL 160, direction-batch minimum 91, SGD with 0.1 41",
            distances="SGD with 0.1 870, direction batch 800, PAL 440, FBPAL 275, SGD with 0.05 255",
            ratio="goes from 0.05 to about 0.1 [plot]",
            look="the order of the strategies in (a), and at whether the ratio in (f) stays constant",
        ),
    ),
    "supp7_resnet18_mom_metrics": PaperFigure(
        "strategies",
        _STRATEGIES.format(
            number=7, network="ResNet-18", momentum="with", value=" 0.9", lines=_MOMENTUM, after="After all lines",
            gains="optimum 48, FBPAL 38, SGD with 0.05 30, SGD with 0.1 16, PAL 16, direction-batch minimum -47",
            distances="direction batch 3150, PAL 1520, SGD with 0.1 1430, SGD with 0.05 1400, FBPAL 720",
            ratio="is about 0.07 with growing spread [plot]: momentum makes SGD a poorer line search, since the norm "
            "of m_t "
            "is not tied to the loss on the present line [text]",
            look="the spread of the ratio in (f) against that of the run without momentum, and at whether the "
            "direction "
            "batch's own minimum makes the loss worse in (a)",
        ),
    ),
    "supp8_mobilenet_mom_metrics": PaperFigure(
        "strategies",
        _STRATEGIES.format(
            number=8, network="MobileNetV2", momentum="with", value=" 0.9", lines=_MOMENTUM, after="After all lines",
            gains="optimum 47, FBPAL 37, SGD with 0.07 21, SGD with 0.1 17, PAL 12, direction-batch minimum -9",
            distances="direction batch 1580, PAL 860, FBPAL 820, SGD with 0.1 700, SGD with 0.07 610",
            ratio="is about 0.07 and constant [plot]",
            look="the spread of the ratio in (f) against that of the run without momentum, and at the order in (a)",
        ),
    ),
    "supp9_resnet18_batch": PaperFigure(
        "emulated_batches",
        _BATCHES.format(
            number=9, network="ResNet-18",
            sgd="-445 for batch size 32, -222 for 64, 36 for 128, 140 to 190 for 256 to 2048, where the optimum is 205",
            pal="148, 152 and 170 for 32, 64 and 128, rising towards 195 for larger ones",
            slopes=" The slope of batch size 32 peaks at about 17 near line 1,300. The slopes relative to that of 128 "
            "tend "
            "to 4, 2, 1, 0.5, 0.27, 0.14 and 0.075, and to 0.045 to 0.05 for the full batch (expected: 0.032) [plot].",
            look=" For small batches the paper's ratios of exactly 4 and 2 follow from choosing the steepest samples; "
            "random subsets need not give them.",
        ),
    ),
    "supp10_mobilenet_batch": PaperFigure(
        "emulated_batches",
        _BATCHES.format(
            number=10, network="MobileNetV2",
            sgd="-150 for batch size 32, -70 for 64, 41 for 128, about 180 for 256, 170 for 512, 142 for 1024 and 119 "
            "for "
            "2048",
            pal="160 to 185, where the optimum is 193 [plot]", slopes="", look="",
        ),
    ),
}  # fmt: skip
