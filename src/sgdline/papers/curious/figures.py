"""The paper's figures: which kind each is, with which options, and what to look for."""

from __future__ import annotations

from collections.abc import Mapping

from sgdline.papers.base import PaperFigure

_PAPER = "Sandler, Zhmoginov, Vladymyrov and Miller (2023, arXiv 2301.02312)"
_NOT_AT_HAND = "the paper's own is not in the text at hand [doubt]"


def _average(average: str, name: str, words: str, *, compared: str, model: str, look: str) -> PaperFigure:
    """Return the figure of one kind of average beside reduced rates.

    Args:
        average: Option of the kind.
        name: What the title calls it.
        words: What it is.
        compared: What the paper compared that is not at hand.
        model: What the quadratic model says of it.
        look: What to look for.
    """
    return PaperFigure(
        "averages_and_rates",
        f"""{words} ({name}), after {_PAPER}.
        The paper says that averaging iterates is equivalent to certain learning rate schedules [text]; which
        {compared} and rates it compared is not at hand [doubt]. In the model {model} [derived].
        Look for averages below the raw iterate{look}""",
        options={
            "average": average,
            "title": f"{name} of iterates at a constant learning rate, and reduced rates",
        },
    )


FIGURES: Mapping[str, PaperFigure] = {
    "ext_predicted_gains": PaperFigure(
        "predicted_gains",
        f"""An extension of the quadratic model of {_PAPER}.
        Look for EMA and SWA over tens of updates that gain most of the sum in (d), and for two points that gain
        about half of it.
        Averages over a long time gain less than predicted, or lose: their mean lags behind where the loss still
        falls, which the stationary model leaves out. Single evaluations scatter, as the iterate itself does. The
        losses are those of the averages' evaluation, BatchNorm re-estimated and in eval mode; the Hessian's
        BatchNorm mode is in the footer.
        In small, on digits with a narrow network, second half of 1,600 updates at lr 0.1: EMA 0.9 gained 0.040 nats
        (predicted 0.038 and 0.036), the mean of 50 iterates 0.040 (0.041 and 0.039), two points 10 apart 0.026
        (0.021), EMA 0.999 lost 0.37 [small]. A network with BatchNorm that fits its images, whose noise therefore
        fades, gained less than predicted: 1e-4 nats with EMA 0.9 where the model says 3e-4 to 4e-4 [small].""",
    ),
    "ext_sampling": PaperFigure(
        "epoch_sampling",
        """Look left of a N/B = 1: an epoch's batches balance each other, and in directions too flat to settle within an
        epoch the variance falls far below the formulas; averages have little left to gain there. Far to the right
        iterates and two far points vary as predicted. EMA and SWA do not quite: as long as their window is no small
        part of an epoch, its batches are still a sample without replacement.""",
    ),
    "fig_alignment": PaperFigure(
        "gradient_alignment",
        f"""After {_PAPER}; the figure's name is ours. BatchNorm is in train mode, as in a training step.
        The paper links mini-batch and full-batch gradients by a simple model in which each batch has a minimum of
        its own [text]; no numbers of it are at hand. In that model a batch's gradient is H(θ - c_B): as long as the
        iterates stay near each other compared with the distance of the batches' minima c_B, the same batch keeps its
        direction, and two batches have little in common.
        Look for a cosine of the same batch that stays far above that of two batches over many updates, and for where
        it gives way: along directions with lr times eigenvalue near 1 and more, iterates and hence gradients turn
        within an update.
        In small, on digits with a narrow network at lr 0.1: 0.87, 0.73 and 0.72 for 1, 10 and 100 updates against
        0.18 for two batches; at lr 0.3, the edge of stability, 0.50, 0.43 and 0.43 against 0.33 [small].""",
    ),
    "fig_ema_vs_lr": _average(
        "ema",
        "EMA",
        "Exponential averages",
        compared="decays",
        model="""an EMA of decay b does to the noise what 1/a_eq = 1/a + 1/(1 - b) does, and the schedule gives
        exactly the average where all curvatures are one""",
        look=""" and near the runs at reduced rates, in loss and accuracy, and for the schedule's diamond at its
        average. An average may beat every constant rate: it moves on at the full rate where the loss is flat while it
        damps the noise [small]. With a decay near 1 it still remembers the start.""",
    ),
    "fig_fixed_batch_trajectory": PaperFigure(
        "fixed_batches",
        f"""After {_PAPER}; the figure is ours, as {_NOT_AT_HAND}.
        The paper found that on a fixed mini-batch the loss behaves like a convex function along the trajectory of
        SGD [text].
        Look for smooth curves that fall together, for gaps of zero or close to it, and for a sag below zero, which
        tells a curve that bends upwards from a straight one. The batches need not fall at every update: each update
        follows the gradient of another batch.""",
    ),
    "fig_model_trajectory": PaperFigure(
        "model_trajectory",
        """Look for the time scales: each direction settles within 1/a updates, so the loss looks stationary long before
        flat directions are. Iterates come to lie on a shell whose squared radius is the number of directions, two
        far points on one of half of it, the EMA further inside: averages move to the inside of an ellipsoid. Runs
        that see the same batches meet; runs with batches of their own stay apart by twice the sum of the variances.""",
    ),
    "fig_onestep_sweep": PaperFigure(
        "one_step_sweep",
        f"""After {_PAPER}; figure and layout are ours, as the paper's own are not in the text at hand [doubt].
        BatchNorm takes the statistics of each batch.
        The paper found that a single step on a batch brings that batch's loss to a very low value, well below the
        mean loss of a fully trained model, at a step size far above the learning rate, while held-out batches gain
        little and soon lose [text]. In the quadratic model of papers.md 3.2 the own batch is lowest at 1/h and
        held-out batches at half the learning rate, once the run has become stationary [derived].
        Look for the green minimum to the right of the dotted line, below the black line late in the run, and for red
        and blue curves with a shallow minimum near or left of the dotted line that rise where the green one still
        falls. At the initialisation all three fall together: any batch points downhill there.""",
    ),
    "fig_quadratic_fit": PaperFigure(
        "quadratic_fit",
        f"""After {_PAPER}; the figure is ours, as {_NOT_AT_HAND}.
        The paper found that the loss of a fixed batch looks convex and, for ResNets, is well modelled by a quadratic
        [text].
        Look for R squared near 1 and a convexity rate of 1. Where R squared is lower, the curve is a valley with
        walls of unequal steepness: compare the points with the dashed line on both sides of 1.""",
    ),
    "fig_stationarity": PaperFigure(
        "stationarity",
        f"""After {_PAPER}; the figure's name is ours. The paper says that weights quickly reach a quasi-stationary
        distribution, and analyses several time scales and the distance of two trajectories [text]; no numbers of it
        are at hand. In the model a direction forgets over 1/(lr·λ) updates, then stays at a variance of sigma²a/(2 -
        a), a = lr·λ; two runs with other batches end at twice that sum, and runs with the same batches come together
        by (1 - a)² per update [derived].
        Look for stiff directions that saturate within a few updates while the whole distance keeps growing: ∝ t if
        flat directions diffuse, ∝ t² if they drift. Where the rejoined twin stops coming nearer along the stiff
        directions, they are driven by the flat ones, in which the two runs still differ: the network is not
        quadratic. Variances between the two symbols of the model, or near them, speak for it; larger ones tell of
        directions that still drift, or of eigenvectors that have turned since t₀.
        In small, on digits with a narrow network at lr 0.1: the five stiffest directions, lr·λ from 0.5 to 0.97,
        saturate within 5 updates at 0.9 to 1.2 times the model's variance while the whole distance grows nearly like
        t²; the rejoined twin comes 100 times nearer along them within 10 updates, and only 8 times nearer as a whole
        in 450 [small].""",
    ),
    "fig_swa_vs_lr": _average(
        "swa",
        "SWA",
        "Means of the last iterates",
        compared="numbers of iterates",
        model="""the schedule for the last k iterates keeps the full rate until the window begins and then falls like
        1/n, at a = 1 exactly""",
        look=""", and for the schedule's diamond at its average. While the schedule still has the full rate its run is
        the averaged run itself, with the same batches.""",
    ),
    "fig_two_point": PaperFigure(
        "two_point",
        f"""After {_PAPER}. The paper says that averaging just two points many steps apart improves the accuracy a lot
        over the baseline, on ImageNet and other data with ResNets [text]; a later paper quotes it as acting almost
        like half the learning rate [text, second hand]. Its distances and accuracies are not at hand [doubt]. In the
        quadratic model the variance is multiplied by (1 + (1 - a)^k)/2: nothing is gained for k far below 1/a, half
        for k far above, which is the variance at half the rate where a is small [derived].
        Look for a gain that grows with k and saturates, near the run at half the rate. At a learning rate so large
        that iterates overshoot the minimum, neighbours lie on opposite sides and a distance of 1 gains as well. A
        distance that reaches back to where the loss was still falling loses again [small].""",
    ),
    "table_accuracy": PaperFigure(
        "accuracy_table",
        f"""After {_PAPER}. The paper says that averages, of two points already, improve the accuracy a lot over the
        baseline, and that averages and learning rate schedules are equivalent [text]; its numbers are not at hand
        [doubt].
        Look for all averages above the baseline, and for averages, reduced rates and schedules close to each other.
        Compare the differences with the standard deviations: of some hundreds of test images one is 0.2 points or
        more.""",
    ),
    "theory_momentum": PaperFigure(
        "momentum_variance",
        """Look for where the grey curve leaves the iterates: momentum is a larger learning rate as long as a/(1 - β) is
        small, and remains stable far beyond a/(1 - β) = 2. Two points oscillate with their distance at strong
        momentum, as iterates half a period apart lie on opposite sides of the minimum: some short distances then
        gain more than long ones, which all end at a half.""",
    ),
    "theory_schedule": PaperFigure(
        "equivalent_schedule",
        """Look at the three shapes. EMA: down to the smaller one of a and 1 - decay early on, and then further down to
        a (1 - decay). SWA: constant until the window begins, then falling like one over the number of iterates so
        far, to a over their number. Two points: constant, then a sudden stop right after the first point, and a
        smooth rise to a/2. Above a = 1 iterates cross the minimum and weights of single batches can be negative:
        steps then leave the range [0, 2]; they are counted and, where negative, not drawn.""",
    ),
    "theory_variance": PaperFigure(
        "averaged_variance",
        """The model of arXiv 2301.02312 as we derive it; no published numbers are at hand.
        Look at two far points, which halve the variance and so act like half the learning rate where a is small, and
        like more than half where it is not (two thirds of it at a = 1); at EMA and SWA, which forget a: along steep
        directions the length of the window decides; and at the SWA whose iterates lie several updates apart, which
        gains where iterates are still alike and loses at a above 1, where neighbours on opposite sides would
        cancel.""",
    ),
}
