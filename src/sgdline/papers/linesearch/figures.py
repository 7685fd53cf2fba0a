"""The paper's figures: which kind each is, with which options, and what to look for."""

from __future__ import annotations

from collections.abc import Mapping

from sgdline.papers.base import PaperFigure

FIGURES: Mapping[str, PaperFigure] = {
    "ext_curvature_batch": PaperFigure(
        "curvature_by_batch",
        """Curvature along the line at s = 0 for batches of several sizes, put together from the losses of single
        samples, and its ratio to that of the run's own batch size. Smaller batches are random parts of the
        direction batch, larger ones add random other samples; the line stays that of the direction batch.
        Curves are smoothed over lines and averaged over the draws. The computation is in the released code of
        Mutschler and Zell (2021, arXiv 2103.17132), but neither in the paper nor in its supplement [code]:
        there is no published outcome. Look at how much more curved the direction batch is along its own
        direction than the full batch: where the curvature falls with the batch size like the slope does
        (linesearch/fig7_batch_size), the position of the batch's minimum does not depend on the batch size.""",
    ),
    "ext_optimizers": PaperFigure(
        "optimizers",
        """Optimizers as training runs of their own, one column per model: the loss over the whole training set
        (logarithmic) and the accuracy over the test set, both with BatchNorm's running statistics; the length
        of each update, lr times the norm of the update vector; and the learning rate that led to it. One colour
        per optimizer and learning rate (for PAL and FBPAL&SGD, the measuring step μ), thin for each seed, thick
        for their median. PAL steps to the vertex of a parabola of its own batch's loss; FBPAL&SGD measures such
        a parabola of the full-batch loss now and then and reuses its learning rate. This figure is new:
        Mutschler and Zell (2021, arXiv 2103.17132) judge these strategies only after the fact, on the lines of
        one SGD run, where the accumulated improvement ranks FBPAL close to the optimum, SGD with half the
        learning rate close to it, PAL below, and the run's own learning rate last [plot]. A run that lives with
        its own steps need not follow: a step that is best on its line is not the best for what comes after.
        Look for whether the order of the training losses is that of the accumulated improvements of figure 6,
        whether PAL's steps scatter more than those of the others, and where the learning rate that FBPAL&SGD
        settles at lies beside the fixed ones. BatchNorm's running statistics start near their initial values
        and lag behind long steps; crosses mark runs that diverged.""",
    ),
    "ext_own_direction": PaperFigure(
        "own_direction",
        """Two laws of the batch size B side by side, an extension of Mutschler and Zell (2021, arXiv 2103.17132),
        who show the one on the right only.
        Left: the norm of the gradient g_B that a fresh batch of B samples has at a position of the run, as root
        mean square over several draws. With N samples whose gradients have the covariance C and the mean g, the
        mean square is norm(g)^2 + tr(C)/B * (N - B)/(N - 1): its root falls like 1/sqrt(B) while noise
        dominates and levels off at norm(g) [derived]. The curves are this law; its one free number, tr(C), is
        the median of the values that the single batch sizes give.
        Right: the slope abs(D_B) at s = 0 along the line of the run's own batch when further samples join that
        batch at random.
        The direction stays fixed and the joining samples hardly descend along it, so the slope falls like 1/B
        until theirs counts as well [derived]; the red line is the slope of the full batch.
        Look for exponents near -1/2 on the left and between -1.1 and -0.8 on the right, the range of claim C4.
        The law on the left takes a sample's gradient as independent of its batch, which it is not with
        BatchNorm in train mode: small batches then have larger gradients than the law says, and the exponents
        get steeper as the run goes on [small].""",
    ),
    "ext_variance": PaperFigure(
        "sample_variance",
        """Variance of the losses of single samples at s = 0, that is at the parameters of each update, on a
        logarithmic axis: over the whole measuring set and over batches of several sizes, which are put together
        from the direction batch and random other samples. Each is the population variance of its set, smoothed
        over lines; for random sets the mean over the draws. The computation is in the released code of
        Mutschler and Zell (2021, arXiv 2103.17132), but neither in the paper nor in its supplement [code]:
        there is no published outcome. Look at how the spread among the samples falls with the loss, and at
        whether the direction batch is typical: a random set has on average the variance of the measuring set,
        less one part in its size.""",
    ),
    "fig2_lines": PaperFigure(
        "lines",
        """Loss along the update direction at single updates, after figure 2 of Mutschler and Zell (2021, arXiv
        2103.17132).
        Red is the full-batch loss f(s), green the loss of the batch that gave the direction, black the median
        and the quartiles of the measuring chunks, grey the range from the lowest to the highest chunk; the
        circle marks the full-batch minimum s_opt, the diamond the step that SGD took.
        The paper (ResNet-20, 4,000 CIFAR-10 images, lr 0.1) found a smooth, convex, near-parabolic full-batch
        loss [plot]: minima at s of about +0.13 (line 10), +0.12 (line 4,000) and +0.02 (line 8,000).
        The direction batch falls steeper at s = 0 and always has its minimum farther out and lower [plot].
        Look here for the bowl shape of the red curve, for the green minimum to the right of the red one, and
        for how far the diamond lies beyond the circle; a note below a panel's title names marks that lie
        outside it.""",
    ),
    "fig3_distance_matrix": PaperFigure(
        "distance_matrix",
        """How much the shapes of measured lines differ, after figure 3 of Mutschler and Zell (2021, arXiv
        2103.17132).
        Each line is shifted so that its minimum is 0; the distance of two lines is the mean absolute difference
        near s = 0, in nats. The panels show the first lines among themselves, a subset of the later lines, and
        each line's distance to the next one on a logarithmic axis.
        The paper found large differences among the first 20 to 25 lines and small ones after them; for
        ResNet-18 they reach 1.2 at first and concentrate around 0.005 later [text], and the consecutive
        distance falls from 1e-1 to about 2e-3 [plot]. Its numbers for ResNet-20 are not at hand [doubt].
        Look for bright rows and columns in the first matrix only - mind that the two colour scales differ - and
        for a consecutive distance that falls by orders of magnitude. Pale rows are lines whose loss is not
        finite.""",
    ),
    "fig4_poly_mae": PaperFigure(
        "polynomial_error",
        """Least-squares polynomials fitted to the full-batch loss on each line, after figure 4 of Mutschler and
        Zell (2021, arXiv 2103.17132). The upper panels show the mean absolute error of each degree, with a
        linear axis as in the paper and with a logarithmic one; the lower panels show offset, slope and
        curvature of the degree-2 fit.
        The paper found that degree 2 fits about one order of magnitude better than degree 1, with errors at the
        1e-3 level or below; for ResNet-18 without momentum, degree 1 falls from 0.07 to about 0.002 and degree
        2 from 0.0055 to 2e-4..1e-3 [plot]. The slope stays roughly constant while the curvature falls [text].
        The released plot subtracts each coefficient's minimum over the run [code]; here the coefficients are
        raw (unless analysis.compat asks for the released plot), and smoothed values are drawn at the centre of
        their window.
        Look for the gap between degrees 1 and 2 in the logarithmic panel (its median ratio stands above the
        panel; the claim holds below 0.2) and for a falling curvature.""",
    ),
    "fig5_lines_parabolas": PaperFigure(
        "parabolas",
        """Single lines with the parabolas that SGD and PAL minimise on them, after figure 5 of Mutschler and Zell
        (2021, arXiv 2103.17132). SGD with learning rate lr steps to the minimum of b(0) + D_b*s + s^2/(2*lr),
        with the direction batch's exact slope D_b: it assumes the curvature 1/lr on every line. PAL measures
        it, with one more loss of the batch at analysis.pal_measuring_step.
        Blue is the parabola of the run's learning rate, orange and what follows those of analysis.sgd_lr (auto:
        the median of s_opt/abs(D_b) over the middle half of the lines), magenta that of PAL. A dashed line
        shows the step of every strategy: a marker on its parabola, or on the loss that it minimises.
        The paper found that lr 0.1, with which it trained, overshoots the full-batch minimum, that 0.05 lands
        close to it, and that PAL on the batch lies in between [plot].
        Look at which triangle lies nearest to the red circle: where it is the same one in all panels, a single
        learning rate would have been a nearly exact line search on the full-batch loss. On small tasks the
        run's rate may also undershoot [small].""",
    ),
    "fig6_strategy_metrics": PaperFigure(
        "strategies",
        """What line-search strategies would have done on each measured line, after figure 6 of Mutschler and Zell
        (2021, arXiv 2103.17132): their steps, the signed distance s_opt - s to the full-batch minimum, the
        improvement f(0) - f(s) of the full-batch loss, the sums of both over the run, and the ratio
        s_opt/norm(m_t), the learning rate with which the update would have ended exactly in the minimum.
        Strategies: the full-batch minimum itself; the minimum of the direction batch; PAL, a parabola through
        two losses and the slope of the direction batch, and FBPAL, the same on the full-batch loss; FBPAL&SGD,
        which finds an FBPAL step now and then and reuses its learning rate s/abs(D_b), a mean of the last ones
        after the start of the run (the released code reuses the step length [code], and so does this figure
        with analysis.compat); SGD as it was run, and SGD with the learning rates of analysis.sgd_lr. The legend
        and the note above the fifth panel list them by their accumulated improvement.
        The paper (ResNet-20, lr 0.1) found this order from the best: optimum, FBPAL and SGD 0.05 about alike,
        PAL, direction batch, SGD 0.1 [plot]; for ResNet-18 205, 197, 194, 170, 109, 36 nats after 10,000 lines
        [plot]. The ratio was nearly constant at about 0.05, half of the learning rate it trained with: a fixed
        learning rate makes plain SGD an almost exact line search on the full-batch loss, and the batch's own
        minimum is a worse choice.
        Look for one of the SGD curves close below the optimum, for the direction batch far below, and for a
        flat ratio with a narrow band (the claim asks for quartiles within a factor of 2 of the median). On
        small tasks PAL may fall behind [small].
        A step that ends where its line was not measured has no improvement; the third panel counts these. Each
        curve sums over the lines that its strategy has, the listed sums over those that all of them have. The
        ratio's axis leaves out extreme values; the note above it counts them.""",
    ),
    "fig7_batch_size": PaperFigure(
        "emulated_batches",
        """Steps and slopes that other batch sizes would have had on every measured line, after figure 7 of
        Mutschler and Zell (2021, arXiv 2103.17132). Batches are put together from the losses of single samples
        along the line of the update that was made: smaller ones are random parts of the direction batch, larger
        ones add random other samples. Shown are the accumulated improvements of the full-batch loss with SGD at
        the run's learning rate and with PAL (mean and quartiles over the draws; red: steps to the full-batch
        minimum), the slope at s = 0 and its ratio to that of the run's own batch size. The paper (ResNet-20, lr
        0.1, batch size 128) found that larger batches have slopes of about 1/B, so that the same learning rate
        acts like a smaller one; 256 does best, 32 and 64 make the loss worse in sum, and PAL depends little on
        the batch size [plot]. It takes the steepest samples for small batches [code], whose ratios are 4 and 2
        as soon as the others are flat; analysis.compat: true does the same. Random parts have on average the
        slope of the whole batch. Look at which batch size gains most at the run's learning rate, and at how
        close the ratios come to their dashed lines: what keeps them above is the slope of the other samples, so
        that they end at the full batch's. A note counts the lines left out of a sum because a step ends beyond
        the measured range.""",
    ),
    "fig8_same_position_directions": PaperFigure(
        "same_position",
        """Lines in many noisy directions from the same parameters, after figure 8 of Mutschler and Zell (2021,
        arXiv 2103.17132).
        At every n-th update each batch of the epoch gives the direction that the update rule would have made of
        it, and the full-batch loss is measured along all of them; the run then goes on with its own batch.
        Above: for up to six positions, evenly spread over the run, the distance of every two lines. It is the
        mean absolute difference near s = 0 of curves shifted so that their minima are 0, in nats; all positions
        share one logarithmic colour scale, and the diagonal is left out. Below, with no position and no
        direction left out: these distances, the errors of polynomial fits, and how far each line's minimum lies
        from the median of its position, each on a logarithmic axis.
        The paper found that lines of different noisy directions at one position have nearly the same shape,
        with small distances and small errors of the fits; its numbers are not at hand [doubt].
        Look for distances far below the rise of the loss along the lines, for fits of degree 2 that are much
        better than those of degree 1, and for minima that lie close together against their distance from s = 0,
        the red curve.""",
    ),
    "supp10_mobilenet_batch": PaperFigure(
        "emulated_batches",
        """Steps and slopes that other batch sizes would have had on every line of MobileNetV2, after figure 10 of
        the supplement of Mutschler and Zell (2021, arXiv 2103.17132). The panels are those of
        linesearch/fig7_batch_size. The paper took the steepest samples for small batches (analysis.compat: true
        does the same); otherwise they are drawn at random here.
        The paper's accumulated improvements with lr 0.1 are -150 nats for batch size 32, -70 for 64, 41 for
        128, about 180 for 256, 170 for 512, 142 for 1024 and 119 for 2048; with PAL 160 to 185, where the
        optimum is 193 [plot].
        Look at which batch size gains most at the run's learning rate, and at whether the ratios in the last
        panel lie on their dashed lines.""",
    ),
    "supp1_resnet18_distance": PaperFigure(
        "distance_matrix",
        """Distances between the shapes of lines of ResNet-18, after figure 1 of the supplement of Mutschler and
        Zell (2021, arXiv 2103.17132), which shows momentum 0 and 0.9; here each run is a sheet of its own. The
        panels are those of linesearch/fig3_distance_matrix.
        Without momentum the paper found distances up to 1.2 among the first 20 lines, later below 0.4 and
        concentrated around 0.005 [text], with consecutive distances falling from 0.1 to about 2e-3 [plot]. With
        momentum 0.9 the first 50 lines differ by up to 2.7, later ones by less than 0.06, and consecutive
        distances fall from 1e-2 to about 7e-4 [plot].
        Look at how soon the left panel turns dark, and by how many decades the right one falls. A run of a few
        hundred updates of a small network, as the default configuration makes it, ends where the paper's has
        hardly begun.""",
    ),
    "supp2_mobilenet_distance": PaperFigure(
        "distance_matrix",
        """Distances between the shapes of lines of MobileNetV2, after figure 2 of the supplement of Mutschler and
        Zell (2021, arXiv 2103.17132), which shows momentum 0 and 0.9; here each run is a sheet of its own. The
        panels are those of linesearch/fig3_distance_matrix. Dropout masks are fixed along each line.
        Without momentum the paper found distances up to 0.55 among the first 25 lines, later below 0.6 and
        concentrated around 0.01 [text], with consecutive distances falling from 0.1 to 2e-3. With momentum 0.9
        the first lines differ by up to 1.7, later ones by less than 0.09, and consecutive distances fall from
        about 5e-3 to 1e-3 [plot].
        Look at how soon the left panel turns dark, and by how many decades the right one falls.""",
    ),
    "supp3_resnet18_poly": PaperFigure(
        "polynomial_error",
        """Least-squares polynomials fitted to the full-batch loss on the lines of ResNet-18, after figure 3 of the
        supplement of Mutschler and Zell (2021, arXiv 2103.17132), which shows momentum 0 and 0.9; here each run
        is a sheet of its own. The panels are those of linesearch/fig4_poly_mae.
        Without momentum the paper's error of degree 1 falls from 0.07 to about 0.002, that of degree 2 from
        0.0055 to between 2e-4 and 1e-3; with momentum 0.9 degree 1 falls from 0.03 to 5e-4 and degree 2 from
        0.001 to 5e-5 [plot]. The slope stays constant while the curvature falls [text].
        Look for the gap of about one decade between degrees 1 and 2 in the logarithmic panel, and for a falling
        curvature.""",
    ),
    "supp4_mobilenet_poly": PaperFigure(
        "polynomial_error",
        """Least-squares polynomials fitted to the full-batch loss on the lines of MobileNetV2, after figure 4 of
        the supplement of Mutschler and Zell (2021, arXiv 2103.17132), which shows momentum 0 and 0.9; here each
        run is a sheet of its own. The panels are those of linesearch/fig4_poly_mae.
        Without momentum the paper's error of degree 1 falls from 0.055 to 0.002, that of degree 2 from 0.0027
        to 2e-4; with momentum 0.9 degree 1 falls from 0.012 to 3e-4 and degree 2 from 7e-4 to 1e-5 [plot].
        Look for the gap of about one decade between degrees 1 and 2 in the logarithmic panel.""",
    ),
    "supp5_resnet18_metrics": PaperFigure(
        "strategies",
        """What different step lengths would have gained on every line of ResNet-18 without momentum, after figure
        5 of the supplement of Mutschler and Zell (2021, arXiv 2103.17132). The panels and strategies are those
        of linesearch/fig6_strategy_metrics.
        After 10,000 lines the paper's accumulated improvements are: optimum 205 nats, FBPAL 197, SGD with 0.05
        194, PAL 170, direction-batch minimum 109, SGD with 0.1 36; the accumulated distances to the optimum:
        SGD with 0.1 1130, direction batch 1050, PAL 640, SGD with 0.05 505, FBPAL 400. The ratio is 0.05 until
        about line 3,000 and then rises to 0.2 to 0.6 [plot]: of six networks the only one whose mean ratio
        changes a lot [text].
        Look at the order of the strategies in panel 5, and at whether the ratio in panel 6 stays constant.""",
    ),
    "supp6_mobilenet_metrics": PaperFigure(
        "strategies",
        """What different step lengths would have gained on every line of MobileNetV2 without momentum, after
        figure 6 of the supplement of Mutschler and Zell (2021, arXiv 2103.17132). The panels and strategies are
        those of linesearch/fig6_strategy_metrics.
        The paper's accumulated improvements are: optimum 193 nats, FBPAL 185, SGD with 0.05 185, PAL 160,
        direction-batch minimum 91, SGD with 0.1 41; the accumulated distances: SGD with 0.1 870, direction
        batch 800, PAL 440, FBPAL 275, SGD with 0.05 255. The ratio goes from 0.05 to about 0.1 [plot].
        Look at the order of the strategies in panel 5, and at whether the ratio in panel 6 stays constant.""",
    ),
    "supp7_resnet18_mom_metrics": PaperFigure(
        "strategies",
        """What different step lengths would have gained on every line of ResNet-18 with momentum 0.9, after figure
        7 of the supplement of Mutschler and Zell (2021, arXiv 2103.17132). The panels and strategies are those
        of linesearch/fig6_strategy_metrics; lines run along m_t, the ratio divides by its norm, and 'SGD' with
        another learning rate is a plain SGD step on that line, 'SGD original' the executed one, lr*norm(m_t).
        The paper's accumulated improvements are: optimum 48 nats, FBPAL 38, SGD with 0.05 30, SGD with 0.1 16,
        PAL 16, direction-batch minimum -47; the accumulated distances: direction batch 3150, PAL 1520, SGD with
        0.1 1430, SGD with 0.05 1400, FBPAL 720. The ratio is about 0.07 with growing spread [plot]: momentum
        makes SGD a poorer line search, since the norm of m_t is not tied to the loss on the present line
        [text].
        Look at the spread of the ratio in panel 6 against that of the run without momentum, and at whether the
        direction batch's own minimum makes the loss worse in panel 5.""",
    ),
    "supp8_mobilenet_mom_metrics": PaperFigure(
        "strategies",
        """What different step lengths would have gained on every line of MobileNetV2 with momentum 0.9, after
        figure 8 of the supplement of Mutschler and Zell (2021, arXiv 2103.17132). The panels and strategies are
        those of linesearch/fig6_strategy_metrics; lines run along m_t, the ratio divides by its norm, and 'SGD'
        with another learning rate is a plain SGD step on that line, 'SGD original' the executed one,
        lr*norm(m_t).
        The paper's accumulated improvements are: optimum 47 nats, FBPAL 37, SGD with 0.07 21, SGD with 0.1 17,
        PAL 12, direction-batch minimum -9; the accumulated distances: direction batch 1580, PAL 860, FBPAL 820,
        SGD with 0.1 700, SGD with 0.07 610. The ratio is about 0.07 and constant [plot].
        Look at the spread of the ratio in panel 6 against that of the run without momentum, and at the order in
        panel 5.""",
    ),
    "supp9_resnet18_batch": PaperFigure(
        "emulated_batches",
        """Steps and slopes that other batch sizes would have had on every line of ResNet-18, after figure 9 of the
        supplement of Mutschler and Zell (2021, arXiv 2103.17132). The panels are those of
        linesearch/fig7_batch_size. The paper took the steepest samples for small batches (analysis.compat: true
        does the same); otherwise they are drawn at random here.
        The paper's accumulated improvements with lr 0.1 are -445 nats for batch size 32, -222 for 64, 36 for
        128, 140 to 190 for 256 to 2048, where the optimum is 205; with PAL 148, 152 and 170 for 32, 64 and 128,
        rising towards 195 for larger ones. The slope of batch size 32 peaks at about 17 near line 1,300. The
        slopes relative to that of 128 tend to 4, 2, 1, 0.5, 0.27, 0.14 and 0.075, and to 0.045 to 0.05 for the
        full batch (expected: 0.032) [plot].
        Look at which batch size gains most at the run's learning rate, and at whether the ratios in the last
        panel lie on their dashed lines. For small batches the paper's ratios of exactly 4 and 2 follow from
        choosing the steepest samples; random subsets need not give them.""",
    ),
}
