"""The paper's figures: which kind each is, with which options, and what to look for."""

from __future__ import annotations

from collections.abc import Mapping

from sgdline.papers.base import PaperFigure

FIGURES: Mapping[str, PaperFigure] = {
    "ext_predicted_gains": PaperFigure(
        "predicted_gains",
        """What averages of a run's iterates gain in training loss, beside what the quadratic model of Sandler,
        Zhmoginov, Vladymyrov and Miller (2023, arXiv 2301.02312) says from the network's own spectrum: an
        extension. Along each of the leading eigenvectors of the full-batch Hessian, of eigenvalue λ, the
        gradients of mini-batches have a variance, and their minima the variance sigma² = Var/λ². The iterates then
        spread by V = sigma²a/(2 - a), a = lr·λ, an average by less, and the gain is ½ Σ λ (V - Var of the average).
        There are two predictions: stationary formulas for batches drawn with replacement, and the same model
        from the run's start with each sample once an epoch, which matters where a·N/B is not far above 1 (see
        the footer). Nothing is fitted.
        Top left: mean gain of each EMA, SWA (mean of the last iterates) and two-point average in the second
        half of the run, with the range over the evaluations. Top right: each evaluation, predicted against
        measured. Bottom left: along the run. Bottom right: what each direction contributes to the iterate's
        loss above its minimum, all of which an average can gain at best; the notes say how much of the gradient
        noise the measured directions hold.
        Look for EMA and SWA over tens of updates that gain most of that sum, and for two points that gain about
        half of it.
        Averages over a long time gain less than predicted, or lose: their mean lags behind where the loss still
        falls, which the stationary model leaves out. Single evaluations scatter, as the iterate itself does.
        The losses are those of the averages' evaluation, BatchNorm re-estimated and in eval mode; the Hessian's
        BatchNorm mode is in the footer.
        In small, on digits with a narrow network, second half of 1,600 updates at lr 0.1: EMA 0.9 gained 0.040
        nats (predicted 0.038 and 0.036), the mean of 50 iterates 0.040 (0.041 and 0.039), two points 10 apart
        0.026 (0.021), EMA 0.999 lost 0.37 [small]. A network with BatchNorm that fits its images, whose noise
        therefore fades, gained less than predicted: 1e-4 nats with EMA 0.9 where the model says 3e-4 to 4e-4
        [small].""",
    ),
    "ext_sampling": PaperFigure(
        "epoch_sampling",
        """Batches drawn with replacement, as the formulas of the quadratic model assume, and without, as training
        does: N/B fixed batches, each once an epoch in a new order. Panels by average: stationary variance over
        a = lr h, curves predicted, marks simulated; the last panel shows what sampling without replacement
        leaves of the predicted variance, over a N/B, the number of times that a direction settles within an
        epoch.
        Look left of a N/B = 1: an epoch's batches balance each other, and in directions too flat to settle
        within an epoch the variance falls far below the formulas; averages have little left to gain there. Far
        to the right iterates and two far points vary as predicted. EMA and SWA do not quite: as long as their
        window is no small part of an epoch, its batches are still a sample without replacement.""",
    ),
    "fig_alignment": PaperFigure(
        "gradient_alignment",
        """How mini-batch gradients align along a run, after Sandler, Zhmoginov, Vladymyrov and Miller (2023, arXiv
        2301.02312); the figure's name is ours. A few batches are kept fixed for the whole run: samples,
        augmentation and random masks. Top left: the cosine of a batch's gradients at two iterates, some updates
        apart. Top right: the mean cosine with the other batches at the same iterate, and the cosine with the
        gradient of the full batch. Bottom left: norms. Bottom right: the cosine of the same batch against the
        number of updates in between, over the second half of the run; the dashed line is the level of two
        different batches. BatchNorm is in train mode, as in a training step.
        The paper links mini-batch and full-batch gradients by a simple model in which each batch has a minimum
        of its own [text]; no numbers of it are at hand. In that model a batch's gradient is H(θ - c_B): as long
        as the iterates stay near each other compared with the distance of the batches' minima c_B, the same
        batch keeps its direction, and two batches have little in common.
        Look for a cosine of the same batch that stays far above that of two batches over many updates, and for
        where it gives way: along directions with lr times eigenvalue near 1 and more, iterates and hence
        gradients turn within an update. Large networks are measured with sketches of their gradients; the
        footer then says their standard error.
        In small, on digits with a narrow network at lr 0.1: 0.87, 0.73 and 0.72 for 1, 10 and 100 updates
        against 0.18 for two batches; at lr 0.3, the edge of stability, 0.50, 0.43 and 0.43 against 0.33
        [small].""",
    ),
    "fig_ema_vs_lr": PaperFigure(
        "averages_and_rates",
        """Exponential averages (EMA) of the iterates of SGD at a constant learning rate, beside runs at reduced
        constant rates and a run whose schedule is made so that its last iterate is the average, after Sandler,
        Zhmoginov, Vladymyrov and Miller (2023, arXiv 2301.02312). All runs go on from one checkpoint with the
        same batches. Top: training loss and accuracy over the updates. Bottom: the same at the end, over the
        constant rate. An average stands at its equivalent learning rate: where the curve through the measured
        rates, linear in log lr' and taken for each seed apart, has the average's training loss; outside of the
        measured rates there is none. BatchNorm's statistics are re-estimated on the training set before every
        evaluation, for the raw iterate as well. Dotted upright: the rate of equal stationary variance in the
        quadratic model with one eigenvalue h, a = lr h. The paper says that averaging iterates is equivalent to
        certain learning rate schedules [text]; which decays and rates it compared is not at hand [doubt]. In
        the model an EMA of decay b does to the noise what 1/a_eq = 1/a + 1/(1 - b) does, and the schedule gives
        exactly the average where all curvatures are one [derived]. Look for averages below the raw iterate and
        near the runs at reduced rates, in loss and accuracy, and for the schedule's diamond at its average. An
        average may beat every constant rate: it moves on at the full rate where the loss is flat while it damps
        the noise [small]. With a decay near 1 it still remembers the start.""",
        options={"average": "ema", "title": "EMA of iterates at a constant learning rate, and reduced rates"},
    ),
    "fig_fixed_batch_trajectory": PaperFigure(
        "fixed_batches",
        """The loss of a few fixed mini-batches along a run, after Sandler, Zhmoginov, Vladymyrov and Miller (2023,
        arXiv 2301.02312); the figure is ours, as the paper's own is not in the text at hand [doubt]. (a) The
        loss of each fixed batch at the run's iterates (thin), their mean, and the loss over the whole training
        set. (b) The same batches on the straight segments between consecutive measured iterates, points at the
        iterates. (c) The convexity gap of each segment and batch: how far the loss on it rises above the
        straight line between its end values, as a share of its range; 0 for a convex curve. The sag is how far
        it hangs below that line.
        The paper found that on a fixed mini-batch the loss behaves like a convex function along the trajectory
        of SGD [text].
        Look for smooth curves that fall together, for gaps of zero or close to it, and for a sag below zero,
        which tells a curve that bends upwards from a straight one. The batches need not fall at every update:
        each update follows the gradient of another batch.""",
    ),
    "fig_model_trajectory": PaperFigure(
        "model_trajectory",
        """SGD on the quadratic model with a spectrum of eigenvalues: everything that a run shows there has a
        closed form, drawn as curves, and marks are means over simulated chains. Above: the full-batch loss
        above its minimum; the squared length of iterate and averages in units of the stationary standard
        deviations; the squared distance of two runs. Below: the variance along every eigenvector, and how many
        standard errors simulation and prediction are apart.
        Look for the time scales: each direction settles within 1/a updates, so the loss looks stationary long
        before flat directions are. Iterates come to lie on a shell whose squared radius is the number of
        directions, two far points on one of half of it, the EMA further inside: averages move to the inside of
        an ellipsoid. Runs that see the same batches meet; runs with batches of their own stay apart by twice
        the sum of the variances.""",
    ),
    "fig_onestep_sweep": PaperFigure(
        "one_step_sweep",
        """The loss after one gradient step on one mini-batch, as a function of the step size, after Sandler,
        Zhmoginov, Vladymyrov and Miller (2023, arXiv 2301.02312); figure and layout are ours, as the paper's
        own are not in the text at hand [doubt].
        One panel per position: the first, the middle and the last one that was measured, the last being the
        trained network. At each, every one of a few fixed batches B gives its gradient, and the step theta -
        eta g_B is taken for many eta from the same theta. Green: the loss of that batch itself; red: the mean
        loss of other training batches that share no image with it; blue: the validation set. Thin: each batch;
        thick: their median. The dotted line is the run's learning rate, the black line the loss of the trained
        network over the whole training set. BatchNorm takes the statistics of each batch.
        The paper found that a single step on a batch brings that batch's loss to a very low value, well below
        the mean loss of a fully trained model, at a step size far above the learning rate, while held-out
        batches gain little and soon lose [text]. In the quadratic model of papers.md 3.2 the own batch is
        lowest at 1/h and held-out batches at half the learning rate, once the run has become stationary
        [derived].
        Look for the green minimum to the right of the dotted line, below the black line late in the run, and
        for red and blue curves with a shallow minimum near or left of the dotted line that rise where the green
        one still falls. At the initialisation all three fall together: any batch points downhill there.""",
    ),
    "fig_quadratic_fit": PaperFigure(
        "quadratic_fit",
        """How well a parabola describes the loss of one mini-batch along its own gradient, after Sandler,
        Zhmoginov, Vladymyrov and Miller (2023, arXiv 2301.02312); the figure is ours, as the paper's own is not
        in the text at hand [doubt].
        Above: the loss of each fixed batch on its line theta - eta g_B, from eta = 0 to twice the step size at
        which it is lowest on the logarithmic grid, scaled so that the loss before the step is 1 and that lowest
        one 0. Points: measured, median over the batches; dashed: the polynomials of degree 2 fitted to each,
        median. Below, at all measured positions: R squared of the fits, and the share of second differences
        along the curve that are not negative.
        The paper found that the loss of a fixed batch looks convex and, for ResNets, is well modelled by a
        quadratic [text].
        Look for R squared near 1 and a convexity rate of 1. Where R squared is lower, the curve is a valley
        with walls of unequal steepness: compare the points with the dashed line on both sides of 1.""",
    ),
    "fig_stationarity": PaperFigure(
        "stationarity",
        """How a run at a constant learning rate moves away from where it was at update t₀, after Sandler,
        Zhmoginov, Vladymyrov and Miller (2023, arXiv 2301.02312); the figure's name is ours. Top left: the
        squared distance from t₀, and the mean squared displacement along leading eigenvectors of the full-batch
        Hessian at t₀, the stiffest one darkest. Top right: autocorrelation of the projections on them, beside
        (1 - lr·λ)^lag of the quadratic model. Bottom left: squared distance of two twins from the run. Both
        leave it at t₀ with batches of their own; one sees the run's batches again from half-way on. Bottom
        right: variance of the projections against lr·λ, with the model's value where the spectrum was measured.
        The paper says that weights quickly reach a quasi-stationary distribution, and analyses several time
        scales and the distance of two trajectories [text]; no numbers of it are at hand. In the model a
        direction forgets over 1/(lr·λ) updates, then stays at a variance of sigma²a/(2 - a), a = lr·λ; two runs
        with other batches end at twice that sum, and runs with the same batches come together by (1 - a)² per
        update [derived].
        Look for stiff directions that saturate within a few updates while the whole distance keeps growing: ∝ t
        if flat directions diffuse, ∝ t² if they drift. Where the rejoined twin stops coming nearer along the
        stiff directions, they are driven by the flat ones, in which the two runs still differ: the network is
        not quadratic. Variances between the two symbols of the model, or near them, speak for it; larger ones
        tell of directions that still drift, or of eigenvectors that have turned since t₀.
        In small, on digits with a narrow network at lr 0.1: the five stiffest directions, lr·λ from 0.5 to
        0.97, saturate within 5 updates at 0.9 to 1.2 times the model's variance while the whole distance grows
        nearly like t²; the rejoined twin comes 100 times nearer along them within 10 updates, and only 8 times
        nearer as a whole in 450 [small].""",
    ),
    "fig_swa_vs_lr": PaperFigure(
        "averages_and_rates",
        """Means of the last iterates (SWA) of SGD at a constant learning rate, beside runs at reduced constant
        rates and a run whose schedule is made so that its last iterate is the average, after Sandler,
        Zhmoginov, Vladymyrov and Miller (2023, arXiv 2301.02312). All runs go on from one checkpoint with the
        same batches. Top: training loss and accuracy over the updates; a mean exists once the run is long
        enough. Bottom: the same at the end, over the constant rate. An average stands at its equivalent
        learning rate: where the curve through the measured rates, linear in log lr' and taken for each seed
        apart, has the average's training loss; outside of the measured rates there is none. BatchNorm's
        statistics are re-estimated on the training set before every evaluation, for the raw iterate as well.
        Dotted upright: the rate of equal stationary variance in the quadratic model with one eigenvalue h, a =
        lr h. The paper says that averaging iterates is equivalent to certain learning rate schedules [text];
        which numbers of iterates and rates it compared is not at hand [doubt]. In the model the schedule for
        the last k iterates keeps the full rate until the window begins and then falls like 1/n, at a = 1
        exactly [derived]. Look for averages below the raw iterate, and for the schedule's diamond at its
        average. While the schedule still has the full rate its run is the averaged run itself, with the same
        batches.""",
        options={"average": "swa", "title": "SWA of iterates at a constant learning rate, and reduced rates"},
    ),
    "fig_two_point": PaperFigure(
        "two_point",
        """The mean of two iterates of SGD at a constant learning rate, k updates apart, after Sandler, Zhmoginov,
        Vladymyrov and Miller (2023, arXiv 2301.02312). Top: training loss and accuracy of (theta_t +
        theta_{t-k})/2 at the run's end over the distance k; lines across: the raw iterate, and the iterate of a
        run from the same checkpoint at about half the learning rate, where one was made. Bottom: the same over
        the updates at fixed distances. BatchNorm's statistics are re-estimated on the training set before every
        evaluation, for the raw iterate as well. The paper says that averaging just two points many steps apart
        improves the accuracy a lot over the baseline, on ImageNet and other data with ResNets [text]; a later
        paper quotes it as acting almost like half the learning rate [text, second hand]. Its distances and
        accuracies are not at hand [doubt]. In the quadratic model the variance is multiplied by (1 + (1 -
        a)^k)/2: nothing is gained for k far below 1/a, half for k far above, which is the variance at half the
        rate where a is small [derived]. Look for a gain that grows with k and saturates, near the run at half
        the rate. At a learning rate so large that iterates overshoot the minimum, neighbours lie on opposite
        sides and a distance of 1 gains as well. A distance that reaches back to where the loss was still
        falling loses again [small].""",
    ),
    "table_accuracy": PaperFigure(
        "accuracy_table",
        """Accuracy behind the last update of SGD at a constant learning rate (baseline), of averages of its
        iterates, of runs from the same checkpoint at reduced constant rates, and of runs with the schedules
        that are made so that their last iterate is an average, after Sandler, Zhmoginov, Vladymyrov and Miller
        (2023, arXiv 2301.02312). Mean and standard deviation over the seeds; below it the gain over the
        baseline of the same seeds. Runs that diverged have no accuracy.
        BatchNorm's statistics are re-estimated on the training set before every evaluation, for the raw iterate
        as well. The paper says that averages, of two points already, improve the accuracy a lot over the
        baseline, and that averages and learning rate schedules are equivalent [text]; its numbers are not at
        hand [doubt]. Look for all averages above the baseline, and for averages, reduced rates and schedules
        close to each other. Compare the differences with the standard deviations: of some hundreds of test
        images one is 0.2 points or more.""",
    ),
    "theory_momentum": PaperFigure(
        "momentum_variance",
        """Stationary variance with heavy-ball momentum on the quadratic model, one column per momentum. Above,
        over a = lr h: the iterates and their averages, curves predicted from the correlations of an
        autoregression of order two, marks simulated; in grey the iterates of SGD without momentum at a/(1 - β).
        Below: the variance of two points over their distance, in units of the iterates' own. Right: how far
        simulation and prediction are apart.
        Look for where the grey curve leaves the iterates: momentum is a larger learning rate as long as a/(1 -
        β) is small, and remains stable far beyond a/(1 - β) = 2. Two points oscillate with their distance at
        strong momentum, as iterates half a period apart lie on opposite sides of the minimum: some short
        distances then gain more than long ones, which all end at a half.""",
    ),
    "theory_schedule": PaperFigure(
        "equivalent_schedule",
        """Every average of iterates of SGD at a constant step is the last iterate of SGD with a schedule of steps
        and the same batches; exactly so on quadratic batch losses, for one eigenvalue at a time. Above, time
        running to the right: the steps of that schedule, lines from the weights of a finite run, marks from the
        closed forms after a long history. Below: one run at the smallest step, beside the run with the
        schedule, whose last iterate must lie on the dashed line, the average.
        Look at the three shapes. EMA: down to the smaller one of a and 1 - decay early on, and then further
        down to a (1 - decay). SWA: constant until the window begins, then falling like one over the number of
        iterates so far, to a over their number. Two points: constant, then a sudden stop right after the first
        point, and a smooth rise to a/2. Above a = 1 iterates cross the minimum and weights of single batches
        can be negative: steps then leave the range [0, 2]; they are counted and, where negative, not drawn.""",
    ),
    "theory_variance": PaperFigure(
        "averaged_variance",
        """Stationary variance of SGD's iterates and of their averages on quadratic batch losses with one Hessian
        (the model of arXiv 2301.02312 as we derive it; no published numbers are at hand). Along an eigenvector
        of eigenvalue h everything depends on a = lr h. Left: the variance in units of the batch minimisers'
        own, curves predicted, marks simulated.
        Middle: the constant learning rate whose iterates vary as little as the average does. Right: how far
        simulation and prediction are apart, with the standard errors over the chains. Below: the numbers.
        Look at two far points, which halve the variance and so act like half the learning rate where a is
        small, and like more than half where it is not (two thirds of it at a = 1); at EMA and SWA, which forget
        a: along steep directions the length of the window decides; and at the SWA whose iterates lie several
        updates apart, which gains where iterates are still alike and loses at a above 1, where neighbours on
        opposite sides would cancel.""",
    ),
}
