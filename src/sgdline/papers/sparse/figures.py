"""The paper's figures: which kind each is, with which options, and what to look for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgdline.papers._captions import found, plain
from sgdline.papers.base import PaperFigure, marks
from sgdline.papers.sparse.published import PUBLISHED

_DEEP = """After Andriushchenko, Varre, Pillaud-Vivien and Flammarion (2023, arXiv 2210.05337), {network}. {found} Look
for an order of error and sparsity by the length of the phase, for a fall of the coefficient within the phase while the
loss stays, and for none after it. Compare differences with the spread of the seeds."""


# Panel -> what its numbers are called, and the factor from their unit.
_QUANTITIES = {
    "train_loss": ("training loss", 1.0),
    "test_loss": ("test loss", 1.0),
    "rank": ("rank", 1.0),
    "support": ("support", 1.0),
    "sparsity_1": ("sparsity coefficient, layer 1", 100.0),
    "sparsity_2": ("sparsity coefficient, layer 2", 100.0),
}


_SHARES = ("sparsity coefficient", "share of", "test error")  # in per cent


def _ends(figure: str, *panels: str) -> list[dict[str, Any]]:
    """Return marks of the published numbers at the end of the runs of a toy."""
    shown: list[dict[str, Any]] = []
    for panel in panels:
        quantity, factor = _QUANTITIES[panel]
        # A network of one hidden layer does not number it.
        for name in dict.fromkeys((quantity, quantity.removesuffix(", layer 1"))):
            shown += marks(
                PUBLISHED, f"{name} at the end", where=figure, panel=panel, factor=factor, settings_named=False
            )
    return shown


def _published(figure: str) -> str:
    """Return a sentence with the published numbers at the end of the runs, those read off a plot apart."""
    numbers = [one for one in PUBLISHED if one.where == figure and not one.derived]
    parts = []
    for evidence, tag in (("code", "code output"), ("plot", "plot")):
        names = dict.fromkeys(one.quantity for one in numbers if one.evidence == evidence)
        rows = []
        for name in names:
            share = name.startswith(_SHARES)
            values = plain(found(PUBLISHED, name, where=figure, factor=100.0 if share else 1.0))
            rows.append(f"{name.removesuffix(' at the end')} {values}{' %' if share else ''}")
        parts += [f"{'; '.join(rows)} [{tag}]"] if rows else []
    phases = ", ".join(dict.fromkeys(one.series for one in numbers))
    return f"Published ends, {phases}: {'; '.join(parts)}."


def _deep(network: str, found: str, *, title: str) -> PaperFigure:
    """Return a figure of networks with phases of large steps.

    Args:
        network: Model, data and what it is trained with.
        found: What the paper shows of it, whole sentences.
        title: Of the figure.
    """
    return PaperFigure("large_step_phases", _DEEP.format(network=network, found=found), options={"title": title})


FIGURES: Mapping[str, PaperFigure] = {
    "ext_diag_extras": PaperFigure(
        "diagonal_extras",
        """What the losses of a diagonal linear network's iterates hide; the released code has these measurements,
        the paper has no figure and no numbers of them (arXiv 2210.05337).
        Look at the left and the middle of the second row: under a high, noisy loss the valley has a far better
        test loss already.
        Averages of u and v do not show it: they are no points of the valley. SGD of batch 1 is at its edge of
        stability long before step times eigenvalue reaches 2, where gradient descent would be. Projections
        start at rounding, as the start is a point from which gradient descent fits the data. The settings with
        lr 0.282 are chaotic.""",
    ),
    "ext_label_noise": PaperFigure(
        "large_step_phases",
        """Random labels in the training batches beside small and large steps; the training loss is that on the true
        labels. At every update each member of a batch gets a random label with the probability in the legend. The
        paper's code has this option (arXiv 2210.05337) [code]; it gives no numbers. Label noise is a source of gradient
        noise that does not vanish as the loss falls, and may replace the large step: look for whether a small step with
        label noise ends at sparser features than one without.""",
        options={"title": "Label noise beside small and large steps"},
    ),
    "ext_large_steps": PaperFigure(
        "large_steps",
        """Three measures that three papers have apart: height above the valley floor between consecutive iterates
        (walk, W-M6), spectral norm of the Hessian with the curvature 2/lr (walk, W-M7), and the sparsity coefficient
        (sparse, S-M6); if measured, the rank of the Jacobian (sparse, S-M4). No paper shows them together. Look for
        whether the iterates ride higher above the floor while steps are large, whether the valley flattens towards
        2/lr, and whether features become sparser at the same time; and for how far heights fall after the phase, where
        steps are a tenth and then a hundredth.""",
    ),
    "ext_swa": PaperFigure(
        "averaged_phases",
        """The paper's code averages with the coefficient 0.999 and calls it SWA (arXiv 2210.05337) [code]; no numbers
        are published. The averages lie lower in the valley that large steps bounce above: look for a gap between a
        setting and its average while steps are large, which closes after the decay. An average lags: until the run is
        several times 1/(1 - coefficient) updates long, its start weighs on it and it lies above the iterates.""",
    ),
    "fig1_resnet18_dynamics": PaperFigure(
        "large_step_phases",
        f"""After figure 1 of Andriushchenko, Varre, Pillaud-Vivien and Flammarion (2023, arXiv 2210.05337). The paper's
        ResNet-18 on CIFAR-10 had a constant 0.007, or 1.5 decayed at 10, 30 and 50 % of the run; all reach a training
        loss of about 1e-3 [text]. {_published("fig1_resnet18_dynamics")} Look for a loss
        that stays at one level while steps are large and drops at once after the phase, and for whether a longer phase
        ends at a lower test error. A loss that keeps falling within the phase says that these steps are not large
        enough to stabilise it.""",
        options={"title": "Training loss and test error: small steps, and phases of large ones", "features": False},
    ),
    "fig_1d_overregularized": PaperFigure(
        "relu_regression",
        """The same regression as in fig_1d_regression with step sizes that grow further, to 126 times the first
        one at the division at 50 % (warm-up factor 500 f instead of 400 f). Published ends [code output], 2 %
        and 50 %: training loss 1.60e-4 and 0.2686, nuclear norm 540 and 12.7, activations that are not 0 48.7 %
        and 22.2 %, pattern distance 0.041 and 0.304; read off the plot, sparsity 22 % and 2.8 %. The paper
        reads the second loss as features that are too sparse to fit the points. The published chains (thin)
        have these digits (1.600e-4 and 0.2685, 22.0 % and 2.75 %). Other seeds, and starts that differ from the
        published one by 1e-6, show how much of it is chance: most of them fit the points all the same, with
        about as few features.""",
        options={"title": "Regression on a line with step sizes that are too large"},
    ),
    "fig_1d_regression": PaperFigure(
        "relu_regression",
        f"""A ReLU network 1-100-1 fits twelve points by SGD of batch 1 whose step size grows until it is divided,
        at 2 % or at 50 % of the run (arXiv 2210.05337).
        The paper finds that the long large-step phase ends at a piecewise linear interpolant with few kinks.
        {_published("fig_1d_regression")} The thin chain of
        the short phase has these digits (2.086e-4, 540, 48.7 %, 0.041, 22.0 %; the rank depends on the points
        drawn); those of the long phase are chaotic: starts that differ by 1e-6 end at losses from below 1e-3 to
        0.3, at ranks from 19 to 28 and at sparsities from 4 to 11 %.
        Look for rank and sparsity, which fall while the loss of the long phase does not, and hardly move after
        the division; and for how close together the functions of all seeds are between the points after the
        long phase.""",
        options={"marks": _ends("fig_1d_regression", "train_loss", "rank", "sparsity_1")},
    ),
    "fig_1d_snapshots": PaperFigure(
        "relu_snapshots",
        """The ReLU network 1-100-1 and twelve points, at six evaluations with a short and a long large-step phase
        (arXiv 2210.05337; drawn there for the over-regularised settings). Look for the kinks, which the long phase
        loses one after the other: before the division its function is the simpler one and misses points; after it, it
        either passes through them or, over-regularised, cannot any more. Without the long phase the kinks of the start
        remain.""",
    ),
    "fig_deep_densenet": _deep(
        "DenseNet-100-12",
        "The published version of the paper finds the same trend on CIFAR-10, CIFAR-100 and Tiny ImageNet [text]; "
        "numbers and steps are not at hand [doubt].",
        title="Phases of large steps of DenseNets",
    ),
    "fig_deep_noreg_cifar10": _deep(
        "ResNet-18 on CIFAR-10 without momentum, weight decay and augmentation",
        "Test error and sparsity fall with the length of the phase; exact values are not in the paper's repository, "
        "and its axis of the test error runs from 13.5 to 42 % [plot].",
        title="Phases of large steps without regularisation",
    ),
    "fig_deep_noreg_cifar100": _deep(
        "ResNet-18 on CIFAR-100 without momentum, weight decay and augmentation",
        "The paper finds the trend of CIFAR-10; numbers are not in its repository.",
        title="Phases of large steps without regularisation, many classes",
    ),
    "fig_deep_sota_cifar10": _deep(
        "ResNet-18 on CIFAR-10 with momentum 0.9, weight decay 5e-4 and augmentation",
        f"{_published('fig_deep_sota_cifar10')} Block 1 has no trend. "
        "There the steps after a phase of 10 and 30 % were smaller than a tenth (papers.md P1).",
        title="Phases of large steps with momentum, weight decay and augmentation",
    ),
    "fig_deep_sota_cifar100": _deep(
        "ResNet-18 on CIFAR-100 with momentum 0.9, weight decay 5e-4 and augmentation",
        "The paper finds the trend of CIFAR-10, with an axis of the test error from 23.5 to 51.5 % [plot]; numbers "
        "are not in its repository.",
        title="Phases of large steps with momentum, weight decay and augmentation, many classes",
    ),
    "fig_diag_2d_animation": PaperFigure(
        "diagonal_frames",
        """The paper shows these frames as an animation (arXiv 2210.05337): SGD bounces above the valley and at the same
        time moves along it, towards the sparse solution; after the decay (at 75 % of the run) it drops into the valley.
        There are no published numbers. The footer counts the chains that diverge.""",
    ),
    "fig_diag_2d_test": PaperFigure(
        "diagonal_plane",
        """The test loss (arXiv 2210.05337). Look at the valley: along it the training loss is flat, and the test loss
        is not. Published test losses at the end [code output]: flow 1.49e-2, GD 0.126, SGD 3.98e-8. SGD ends at the
        sparse optimum, gradient flow does not, and gradient descent with a large step ends further away than flow:
        without noise a large step does not help.""",
        options={"loss": "test_loss"},
    ),
    "fig_diag_2d_train": PaperFigure(
        "diagonal_plane",
        """The training loss (arXiv 2210.05337). The released picture takes absolute values of SGD's u and v only. The
        paper finds that SGD bounces above the valley and ends at the sparse optimum, and that gradient flow does not.
        Published ends [code output], train / test: flow 4.90e-6 / 1.49e-2; GD 1.64e-10 / 0.126; SGD 3.87e-8 / 3.98e-8.
        These runs are not chaotic, and the footer has the same digits. With its signs SGD ends at a mirror image of the
        sparse solution, outside of the picture; some of the other index seeds diverge (crosses).""",
    ),
    "fig_diag_gd": PaperFigure(
        "diagonal_networks",
        """Full-batch gradient descent with a small constant and with large decayed steps, beside SGD with a large
        decayed step (arXiv 2210.05337). The paper finds that gradient descent stabilises too, but does not come to the
        sparse solution: noise is needed. Published ends [code output], test loss / support: GD lr 2 0.168 / 100; GD lr
        3.53 0.449 / 86 (decay at 10 %), 0.438 / 80 (30 %), 0.497 / 78 (50 %); SGD lr 0.272 0.0385 / 33, its training
        loss 8.9e-4; training losses of gradient descent about 1e-31 to 1e-34, initial training loss 0.649. GD with lr 2
        has the published digits. GD with lr 3.53 is chaotic in its test loss: see the quartiles over starts that differ
        by 1e-12. SGD with lr 0.272 is beyond what most chains survive: the count of diverged ones belongs to the
        result, and a smaller step survives but sheds less of the support.""",
        options={"title": "Diagonal linear networks: gradient descent and SGD with large steps"},
    ),
    "fig_diag_sgd": PaperFigure(
        "diagonal_networks",
        f"""SGD of batch 1 on a sparse regression, with a small constant step and with a large one that is divided once,
        at 10, 30 or 50 % of the run (arXiv 2210.05337).
        The paper finds that the training loss stays at one level while steps are large and drops at once after
        the decay, that rank and support fall meanwhile, and that a longer large-step phase ends at a better
        test loss. {_published("fig_diag_sgd")}
        The last three ranks are approximate.
        The first chain of lr 0.25 (index seed 1, thin) is the published one and has its digits. The three rows
        with lr 0.282 are chaotic: another order of multiplication or a start that differs by 1e-12 gives other
        digits or divergence. Compare orders and ranges there: rank and support are ordered as published in
        every seed that survives, and all of them end far below the small step's test loss, while the test
        losses of the three need not be ordered among themselves. The rank's tolerance 1e-15 and the threshold
        1e-50 are at or below the noise of float64; dotted curves show both at 1e-6 of the largest.""",
        options={
            "title": "Diagonal linear networks: SGD with small and large steps",
            "marks": _ends("fig_diag_sgd", "train_loss", "test_loss", "rank", "support"),
        },
    ),
    "fig_three_layer": PaperFigure(
        "teacher_student",
        f"""A student 5-10-10-1 learns a teacher 5-2-2-1 from 50 samples by SGD of batch 1, with a small constant
        step and with one that warms up until it is divided, at 10, 30 or 50 % of the run (arXiv 2210.05337).
        The largest steps are 0.103, 0.150 and 0.181: the published labels, 0.06, 0.10 and 0.14, leave out the
        square root of the warm-up. The rank is that on 181 test inputs.
        {_published("fig_three_layer")} The published chains (thin) have
        all of these digits.
        Other seeds (thick, bands) agree that large steps make features sparser and the rank lower, also in the
        training loss that stays up meanwhile. Test losses are not ordered by the length of the phase there, as
        the longest one is too much for some seeds: a hidden layer that is 0 on all samples, which the footer
        counts, never recovers.""",
        options={"marks": _ends("fig_three_layer", "train_loss", "test_loss", "rank", "sparsity_1", "sparsity_2")},
        toy_settings={"network": "three_layer"},
    ),
    "fig_two_layer": PaperFigure(
        "teacher_student",
        f"""A student 2-20-1 without biases learns a teacher of three neurons from 15 samples by SGD of batch 1,
        with a small constant step and with a large one that is divided at 10, 30 or 50 % of the run (arXiv
        2210.05337). The rank is that on 60 test inputs.
        The paper finds the training loss at one level while steps are large, rank and sparsity falling
        meanwhile, and the longer phases ahead in test loss. {_published("fig_two_layer")}
        The published chains (thin) have the digits of the first two rows, rank and sparsity included. The last
        two are chaotic, and so is the second one's last digit: starts that differ by 1e-6 end at test losses
        that differ several times. The published seed is one of the few that survive lr 0.455 at all: most
        others diverge within the first hundred updates, which the legend counts. Rank and sparsity are ordered
        as published, constant step against large ones; the test losses of the three phases are not.""",
        options={"marks": _ends("fig_two_layer", "train_loss", "test_loss", "rank", "sparsity_1")},
        toy_settings={"network": "two_layer"},
    ),
    "fig_two_layer_neurons": PaperFigure(
        "student_neurons",
        """The student of fig_two_layer. The paper shows neurons that hardly move with the small step and collapse onto
        the teacher's directions with large ones. Look for the neurons within ten degrees of a direction, which the
        notes count, and for pairs of neurons on one ray: these are the duplicates that the sparsity coefficient
        removes. A neuron may leave the teacher's directions as long as its output weight, or another neuron, makes up
        for it.""",
    ),
}
