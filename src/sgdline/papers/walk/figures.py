"""The paper's figures: which kind each is, with which options, and what to look for."""

from __future__ import annotations

from collections.abc import Mapping

from sgdline.papers.base import PaperFigure

FIGURES: Mapping[str, PaperFigure] = {
    "ext_hessian_covariance": PaperFigure(
        "hessian_covariance",
        """The exact Hessian H of a small network's training loss beside the covariance C of its samples'
        gradients, in float64: an extension of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). With
        p_i the probability that the network gives to the class of sample i, g_i the sample's gradient and ḡ
        their mean, the cross-entropy obeys H = C + ḡḡᵀ - (1/N) Σ_i Hess(p_i)/p_i [derived]. Top left: the
        largest absolute entry of the difference of both sides, which are computed independently. Top right: the
        leading eigenvalues of H and C. Bottom left: the absolute cosine of their top eigenvectors, and the
        overlap of their leading subspaces, the mean squared cosine of the principal angles; thin lines: the
        means for random directions. Bottom right: loss over the measuring set and norm of its gradient.
        The paper has the derivation and no experiment [text]. It is to say why the noise of SGD is large along
        the steep directions. If the labels were drawn with the network's own probabilities, the sum over
        Hess(p_i)/p_i would be 0 in expectation, and H equal to C where ḡ is 0. A network that fits its labels
        is surer than that: as the p_i go to 1, C shrinks like (1 - p_i)² and H only like 1 - p_i, so that what
        may agree near a minimum is the eigenvectors, not the eigenvalues [derived].
        Look for an identity that is kept to 1e-8 at every update, and for an alignment far above the thin lines
        that comes near 1 as loss and gradient fall, while the eigenvalues of C fall away from those of H. Where
        two leading eigenvalues of one matrix are close, its top eigenvector may turn within their plane: the
        cosine then drops and the overlap stays. In small, on 512 digits, 2,160 updates led to a loss of 5e-3, a
        cosine of 0.98, an overlap of 0.95 and a largest eigenvalue of C 38 times below that of H; at a loss of
        1.2 the cosine was 0.34 [small].""",
    ),
    "fig10_gd_resnet56": PaperFigure(
        "trajectory",
        """The walk of gradient descent on the whole training set from update 0 on, ResNet-56 on CIFAR-10, after
        figure 10 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper took the gradient of all 45,000 images at lr 0.1 [text]; its script adds up the gradients of
        nine parts without dividing by nine, so that its step is 0.9 times the mean gradient [code]. It found
        the same as for VGG-11 on CIFAR-10 in its figure 1: after some iterations every interval looks like a
        parabola with its minimum inside; the cosine turns negative and comes near -1, the floor falls smoothly,
        and the distance stays small [text].
        Look for walls that rise on both sides of every grey line, for a floor without ups and downs, and for
        how soon the cosine turns negative. A note gives lr times the largest eigenvalue of the Hessian if the
        run measured it. Below 2 the gradient need not bounce: then a cosine that stays positive does not
        contradict the paper, and on small networks with BatchNorm the bouncing is a matter of the first updates
        [small].""",
    ),
    "fig11_sgd_resnet56_e1": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, ResNet-56 on CIFAR-10, after figure 11 of Xing, Arpit,
        Tsirigotis and Bengio (2018, arXiv 1802.08770), which shows epoch 1; this sheet shows the first of the
        epochs that the run measured, and its title names it. (a) The training loss on the straight way from
        theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed
        orange line joins the minima that lie inside an interval (the valley floor), black triangles mark
        barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance from the
        initialisation.
        The paper trained at lr 0.1 with batches of 100 [text, code]; its plotting script shows the first 50
        updates [code]. It found the same as in its figure 2 (VGG-11, epoch 1): intervals like parabolas with
        their minima inside, a cosine clearly less negative than with the full gradient, a larger distance after
        as many updates, and a rough floor that goes up and down [text].
        Look for the roughness of the orange line, and for cosines around 0 rather than near -1; full-batch
        gradient descent on the same network stands in the gd figures. An inset shows the last intervals where
        the loss falls too far for their valleys to be seen.""",
    ),
    "fig12_sgd_resnet56_e2": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, ResNet-56 on CIFAR-10, after figure 12 of Xing, Arpit,
        Tsirigotis and Bengio (2018, arXiv 1802.08770), which shows epoch 2; this sheet shows the second of the
        epochs that the run measured, and its title names it. (a) The training loss on the straight way from
        theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed
        orange line joins the minima that lie inside an interval (the valley floor), black triangles mark
        barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance from the
        initialisation.
        The paper trained at lr 0.1 with batches of 100 [text, code]; its plotting script shows the first 50
        updates [code]. It found the same as in its figure 2 (VGG-11, epoch 1): intervals like parabolas with
        their minima inside, a cosine clearly less negative than with the full gradient, a larger distance after
        as many updates, and a rough floor that goes up and down [text].
        Look for whether the walls are lower than in the first epoch while the shape of the intervals stays; the
        mean height H stands in the notes.""",
        options={"place": 2},
    ),
    "fig13_sgd_resnet56_e25": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, ResNet-56 on CIFAR-10, after figure 13 of Xing, Arpit,
        Tsirigotis and Bengio (2018, arXiv 1802.08770), which shows epoch 25; this sheet shows the third of the
        epochs that the run measured, and its title names it. (a) The training loss on the straight way from
        theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed
        orange line joins the minima that lie inside an interval (the valley floor), black triangles mark
        barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance from the
        initialisation.
        The paper trained at lr 0.1 with batches of 100 [text, code]; its plotting script shows the first 50
        updates [code]. It found the same as in its figure 2 (VGG-11, epoch 1): intervals like parabolas with
        their minima inside, a cosine clearly less negative than with the full gradient, a larger distance after
        as many updates, and a rough floor that goes up and down [text].
        Look for whether walls and floor now lie close together, and for first barriers: with the noise of
        redrawn samples taken away there may be fewer of them than in the paper.""",
        options={"place": 3},
    ),
    "fig14_sgd_resnet56_e100": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, ResNet-56 on CIFAR-10, after figure 14 of Xing, Arpit,
        Tsirigotis and Bengio (2018, arXiv 1802.08770), which shows epoch 100; this sheet shows the fourth of
        the epochs that the run measured, and its title names it. (a) The training loss on the straight way from
        theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed
        orange line joins the minima that lie inside an interval (the valley floor), black triangles mark
        barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance from the
        initialisation.
        The paper trained at lr 0.1 with batches of 100 [text, code]; its plotting script shows the first 50
        updates [code]. It found the same as in its figure 2 (VGG-11, epoch 1): intervals like parabolas with
        their minima inside, a cosine clearly less negative than with the full gradient, a larger distance after
        as many updates, and a rough floor that goes up and down [text].
        Look for barriers, which the paper found late in training only [text], and for how low they are against
        the loss; table1_barriers counts them over whole epochs.""",
        options={"place": 4},
    ),
    "fig15_sgd_vgg11_e2": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, VGG-11 on CIFAR-10, after figure 15 of Xing, Arpit, Tsirigotis
        and Bengio (2018, arXiv 1802.08770), which shows epoch 2; this sheet shows the second of the epochs that
        the run measured, and its title names it. (a) The training loss on the straight way from theta_t to
        theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed orange line
        joins the minima that lie inside an interval (the valley floor), black triangles mark barriers. (b) The
        cosine of the gradients of two consecutive updates. (c) The distance from the initialisation.
        The paper trained at lr 0.1 with batches of 100 [text, code]; its plotting script shows the first 50
        updates [code]. It found the same as in its figure 2 (VGG-11, epoch 1): intervals like parabolas with
        their minima inside, a cosine clearly less negative than with the full gradient, a larger distance after
        as many updates, and a rough floor that goes up and down [text].
        Look for whether the walls are lower than in the first epoch while the shape of the intervals stays; the
        mean height H stands in the notes.""",
        options={"place": 2},
    ),
    "fig16_sgd_vgg11_e25": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, VGG-11 on CIFAR-10, after figure 16 of Xing, Arpit, Tsirigotis
        and Bengio (2018, arXiv 1802.08770), which shows epoch 25; this sheet shows the third of the epochs that
        the run measured, and its title names it. (a) The training loss on the straight way from theta_t to
        theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed orange line
        joins the minima that lie inside an interval (the valley floor), black triangles mark barriers. (b) The
        cosine of the gradients of two consecutive updates. (c) The distance from the initialisation.
        The paper trained at lr 0.1 with batches of 100 [text, code]; its plotting script shows the first 50
        updates [code]. It found the same as in its figure 2 (VGG-11, epoch 1): intervals like parabolas with
        their minima inside, a cosine clearly less negative than with the full gradient, a larger distance after
        as many updates, and a rough floor that goes up and down [text].
        Look for whether walls and floor now lie close together, and for first barriers: with the noise of
        redrawn samples taken away there may be fewer of them than in the paper.""",
        options={"place": 3},
    ),
    "fig17_sgd_vgg11_e100": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, VGG-11 on CIFAR-10, after figure 17 of Xing, Arpit, Tsirigotis
        and Bengio (2018, arXiv 1802.08770), which shows epoch 100; this sheet shows the fourth of the epochs
        that the run measured, and its title names it. (a) The training loss on the straight way from theta_t to
        theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed orange line
        joins the minima that lie inside an interval (the valley floor), black triangles mark barriers. (b) The
        cosine of the gradients of two consecutive updates. (c) The distance from the initialisation.
        The paper trained at lr 0.1 with batches of 100 [text, code]; its plotting script shows the first 50
        updates [code]. It found the same as in its figure 2 (VGG-11, epoch 1): intervals like parabolas with
        their minima inside, a cosine clearly less negative than with the full gradient, a larger distance after
        as many updates, and a rough floor that goes up and down [text].
        Look for barriers, which the paper found late in training only [text], and for how low they are against
        the loss; table1_barriers counts them over whole epochs.""",
        options={"place": 4},
    ),
    "fig18_gd_mlp": PaperFigure(
        "trajectory",
        """The walk of gradient descent on the whole training set from update 0 on, the MLP on MNIST, after figure
        18 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). (a) The training loss on the straight
        way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the
        dashed orange line joins the minima that lie inside an interval (the valley floor), black triangles mark
        barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance from the
        initialisation.
        The paper took the gradient of the whole training set [text]. It found the same as for VGG-11 on
        CIFAR-10 in its figure 1: after some iterations every interval looks like a parabola with its minimum
        inside; the cosine turns negative and comes near -1, the floor falls smoothly, and the distance stays
        small [text].
        Look for walls that rise on both sides of every grey line, for a floor without ups and downs, and for
        how soon the cosine turns negative. A note gives lr times the largest eigenvalue of the Hessian if the
        run measured it. Below 2 the gradient need not bounce: then a cosine that stays positive does not
        contradict the paper, and on small networks with BatchNorm the bouncing is a matter of the first updates
        [small].""",
    ),
    "fig19_sgd_mlp_e1": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, the MLP on MNIST, after figure 19 of Xing, Arpit, Tsirigotis
        and Bengio (2018, arXiv 1802.08770), which shows epoch 1; this sheet shows the first of the epochs that
        the run measured, and its title names it. (a) The training loss on the straight way from theta_t to
        theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed orange line
        joins the minima that lie inside an interval (the valley floor), black triangles mark barriers. (b) The
        cosine of the gradients of two consecutive updates. (c) The distance from the initialisation.
        The paper trained plain SGD on 45,000 images [code]; its plotting script shows the first 50 updates
        [code]. It found the same as in its figure 2 (VGG-11, epoch 1): intervals like parabolas with their
        minima inside, a cosine clearly less negative than with the full gradient, a larger distance after as
        many updates, and a rough floor that goes up and down [text].
        Look for the roughness of the orange line, and for cosines around 0 rather than near -1; full-batch
        gradient descent on the same network stands in the gd figures. An inset shows the last intervals where
        the loss falls too far for their valleys to be seen.""",
    ),
    "fig1_gd_vgg11": PaperFigure(
        "trajectory",
        """The walk of gradient descent on the whole training set from update 0 on, VGG-11 on CIFAR-10, after
        figure 1 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper took the gradient of all 45,000 images at lr 0.1 [text]; its script adds up the gradients of
        nine parts without dividing by nine, so that its step is 0.9 times the mean gradient [code]. It found
        that after some iterations every interval looks like a parabola with its minimum inside; the cosine
        turns negative and comes near -1, the floor falls smoothly, and the distance stays small [text].
        Look for walls that rise on both sides of every grey line, for a floor without ups and downs, and for
        how soon the cosine turns negative. A note gives lr times the largest eigenvalue of the Hessian if the
        run measured it. Below 2 the gradient need not bounce: then a cosine that stays positive does not
        contradict the paper, and on small networks with BatchNorm the bouncing is a matter of the first updates
        [small].""",
    ),
    "fig20_sgd_mlp_e2": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, the MLP on MNIST, after figure 20 of Xing, Arpit, Tsirigotis
        and Bengio (2018, arXiv 1802.08770), which shows epoch 2; this sheet shows the second of the epochs that
        the run measured, and its title names it. (a) The training loss on the straight way from theta_t to
        theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed orange line
        joins the minima that lie inside an interval (the valley floor), black triangles mark barriers. (b) The
        cosine of the gradients of two consecutive updates. (c) The distance from the initialisation.
        The paper trained plain SGD on 45,000 images [code]; its plotting script shows the first 50 updates
        [code]. It found the same as in its figure 2 (VGG-11, epoch 1): intervals like parabolas with their
        minima inside, a cosine clearly less negative than with the full gradient, a larger distance after as
        many updates, and a rough floor that goes up and down [text].
        Look for whether the walls are lower than in the first epoch while the shape of the intervals stays; the
        mean height H stands in the notes.""",
        options={"place": 2},
    ),
    "fig21_gd_tiny": PaperFigure(
        "trajectory",
        """The walk of gradient descent on the whole training set from update 0 on, VGG-11 on Tiny-ImageNet, after
        figure 21 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper took the gradient of the whole training set [text]. It found the same as for VGG-11 on
        CIFAR-10 in its figure 1: after some iterations every interval looks like a parabola with its minimum
        inside; the cosine turns negative and comes near -1, the floor falls smoothly, and the distance stays
        small [text].
        Look for walls that rise on both sides of every grey line, for a floor without ups and downs, and for
        how soon the cosine turns negative. A note gives lr times the largest eigenvalue of the Hessian if the
        run measured it. Below 2 the gradient need not bounce: then a cosine that stays positive does not
        contradict the paper, and on small networks with BatchNorm the bouncing is a matter of the first updates
        [small].""",
    ),
    "fig22_sgd_tiny_e1": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, VGG-11 on Tiny-ImageNet, after figure 22 of Xing, Arpit,
        Tsirigotis and Bengio (2018, arXiv 1802.08770), which shows epoch 1; this sheet shows the first of the
        epochs that the run measured, and its title names it. (a) The training loss on the straight way from
        theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed
        orange line joins the minima that lie inside an interval (the valley floor), black triangles mark
        barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance from the
        initialisation.
        The paper trained on a subset of 200 classes [code]; its plotting script shows the first 50 updates
        [code]. It found valleys of an odd look, and still no barrier between consecutive iterates [text].
        Look for black triangles in (a), of which there should be few or none, and for intervals that do not
        look like parabolas.""",
    ),
    "fig23_vgg11_variant": PaperFigure(
        "trajectory",
        """The walk of SGD in the first epoch measured with another batch size or learning rate, VGG-11 on
        CIFAR-10, after figure 23 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770); the values of
        that figure are not in the text at hand [doubt], so the footer's count. (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper found its variants in agreement with figure 2: intervals like parabolas with their minima
        inside, and a rough floor [text].
        Compare with the run of figure 2: the walls should be higher at a larger learning rate, and a larger
        batch should make the cosine more negative and the distance smaller [text]. The mean height and the mean
        cosine stand in the notes.""",
    ),
    "fig24_vgg11_variant": PaperFigure(
        "trajectory",
        """The walk of SGD in the first epoch measured with another batch size or learning rate, VGG-11 on
        CIFAR-10, after figure 24 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770); the values of
        that figure are not in the text at hand [doubt], so the footer's count. (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper found its variants in agreement with figure 2: intervals like parabolas with their minima
        inside, and a rough floor [text].
        Compare with the run of figure 2: the walls should be higher at a larger learning rate, and a larger
        batch should make the cosine more negative and the distance smaller [text]. The mean height and the mean
        cosine stand in the notes.""",
    ),
    "fig25_vgg11_variant": PaperFigure(
        "trajectory",
        """The walk of SGD in the first epoch measured with another batch size or learning rate, VGG-11 on
        CIFAR-10, after figure 25 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770); the values of
        that figure are not in the text at hand [doubt], so the footer's count. (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper found its variants in agreement with figure 2: intervals like parabolas with their minima
        inside, and a rough floor [text].
        Compare with the run of figure 2: the walls should be higher at a larger learning rate, and a larger
        batch should make the cosine more negative and the distance smaller [text]. The mean height and the mean
        cosine stand in the notes.""",
    ),
    "fig26_vgg11_variant": PaperFigure(
        "trajectory",
        """The walk of SGD in the first epoch measured with another batch size or learning rate, VGG-11 on
        CIFAR-10, after figure 26 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770); the values of
        that figure are not in the text at hand [doubt], so the footer's count. (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper found its variants in agreement with figure 2: intervals like parabolas with their minima
        inside, and a rough floor [text].
        Compare with the run of figure 2: the walls should be higher at a larger learning rate, and a larger
        batch should make the cosine more negative and the distance smaller [text]. The mean height and the mean
        cosine stand in the notes.""",
    ),
    "fig27_resnet56_variant": PaperFigure(
        "trajectory",
        """The walk of SGD in the first epoch measured with another batch size or learning rate, ResNet-56 on
        CIFAR-10, after figure 27 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770); the values of
        that figure are not in the text at hand [doubt], so the footer's count. (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper found its variants in agreement with figure 2: intervals like parabolas with their minima
        inside, and a rough floor [text].
        Compare with the run of figure 11: the walls should be higher at a larger learning rate, and a larger
        batch should make the cosine more negative and the distance smaller [text]. The mean height and the mean
        cosine stand in the notes.""",
    ),
    "fig28_resnet56_variant": PaperFigure(
        "trajectory",
        """The walk of SGD in the first epoch measured with another batch size or learning rate, ResNet-56 on
        CIFAR-10, after figure 28 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770); the values of
        that figure are not in the text at hand [doubt], so the footer's count. (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper found its variants in agreement with figure 2: intervals like parabolas with their minima
        inside, and a rough floor [text].
        Compare with the run of figure 11: the walls should be higher at a larger learning rate, and a larger
        batch should make the cosine more negative and the distance smaller [text]. The mean height and the mean
        cosine stand in the notes.""",
    ),
    "fig29_resnet56_variant": PaperFigure(
        "trajectory",
        """The walk of SGD in the first epoch measured with another batch size or learning rate, ResNet-56 on
        CIFAR-10, after figure 29 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770); the values of
        that figure are not in the text at hand [doubt], so the footer's count. (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper found its variants in agreement with figure 2: intervals like parabolas with their minima
        inside, and a rough floor [text].
        Compare with the run of figure 11: the walls should be higher at a larger learning rate, and a larger
        batch should make the cosine more negative and the distance smaller [text]. The mean height and the mean
        cosine stand in the notes.""",
    ),
    "fig2_sgd_vgg11_e1": PaperFigure(
        "trajectory",
        """The walk of SGD at the start of an epoch, VGG-11 on CIFAR-10, after figure 2 of Xing, Arpit, Tsirigotis
        and Bengio (2018, arXiv 1802.08770), which shows epoch 1; this sheet shows the first of the epochs that
        the run measured, and its title names it. (a) The training loss on the straight way from theta_t to
        theta_{t+1}, over the update plus alpha: a grey line stands at every iterate, the dashed orange line
        joins the minima that lie inside an interval (the valley floor), black triangles mark barriers. (b) The
        cosine of the gradients of two consecutive updates. (c) The distance from the initialisation.
        The paper trained at lr 0.1 with batches of 100 [text, code]; its plotting script shows the first 50
        updates [code]. It found intervals like parabolas with their minima inside, a cosine clearly less
        negative than with the full gradient, a larger distance after as many updates, and a rough floor that
        goes up and down [text].
        Look for the roughness of the orange line, and for cosines around 0 rather than near -1; full-batch
        gradient descent on the same network stands in the gd figures. An inset shows the last intervals where
        the loss falls too far for their valleys to be seen.""",
    ),
    "fig30_resnet56_variant": PaperFigure(
        "trajectory",
        """The walk of SGD in the first epoch measured with another batch size or learning rate, ResNet-56 on
        CIFAR-10, after figure 30 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770); the values of
        that figure are not in the text at hand [doubt], so the footer's count. (a) The training loss on the
        straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line stands at every
        iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
        triangles mark barriers. (b) The cosine of the gradients of two consecutive updates. (c) The distance
        from the initialisation.
        The paper found its variants in agreement with figure 2: intervals like parabolas with their minima
        inside, and a rough floor [text].
        Compare with the run of figure 11: the walls should be higher at a larger learning rate, and a larger
        batch should make the cosine more negative and the distance smaller [text]. The mean height and the mean
        cosine stand in the notes.""",
    ),
    "fig31_roles_resnet56": PaperFigure(
        "roles",
        """What the batch size and what the learning rate do in runs of ResNet-56, after figure 31 of Xing, Arpit,
        Tsirigotis and Bengio (2018, arXiv 1802.08770). Left: several batch sizes at one learning rate; right:
        several learning rates at one batch size. Above: the cosine of consecutive batch gradients, the first
        update having none; below: the distance of the parameters from initialisation. Thin: each seed, or with
        a single one each update; thick: their median or moving average.
        The paper's batch sizes and learning rates are not in its text [doubt]. It found that larger batches
        make the cosine more negative and keep the parameters closer to initialisation, while the learning rate
        changes the cosine little [text]: the batch size sets how much noise there is to leave the valley's
        direction, the learning rate how high above its floor the run bounces.
        Look for the order of the cosines and distances on the left, and for curves of the cosine that lie
        together on the right.
        What a cosine can show depends on lr times the largest eigenvalue, printed behind a label where it was
        measured: below 1 full-batch gradient descent does not bounce at all and the cosine of large batches is
        near +1. A rerun there does not contradict the paper, whose values are at the edge, near 2 [small].""",
    ),
    "fig32_roles_mlp": PaperFigure(
        "roles",
        """What the batch size and what the learning rate do in runs of a multilayer perceptron, after figure 32 of
        Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). Left: several batch sizes at one learning
        rate; right: several learning rates at one batch size. Above: the cosine of consecutive batch gradients,
        the first update having none; below: the distance of the parameters from initialisation. Thin: each
        seed, or with a single one each update; thick: their median or moving average.
        The paper's batch sizes and learning rates are not in its text [doubt]. It found that larger batches
        make the cosine more negative and keep the parameters closer to initialisation, while the learning rate
        changes the cosine little [text]: the batch size sets how much noise there is to leave the valley's
        direction, the learning rate how high above its floor the run bounces.
        Look for the order of the cosines and distances on the left, and for curves of the cosine that lie
        together on the right.
        What a cosine can show depends on lr times the largest eigenvalue, printed behind a label where it was
        measured: below 1 full-batch gradient descent does not bounce at all and the cosine of large batches is
        near +1. A rerun there does not contradict the paper, whose values are at the edge, near 2 [small].""",
    ),
    "fig33_roles_tiny": PaperFigure(
        "roles",
        """What the batch size and what the learning rate do in runs of VGG-11 on Tiny-ImageNet, after figure 33 of
        Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). Left: several batch sizes at one learning
        rate; right: several learning rates at one batch size. Above: the cosine of consecutive batch gradients,
        the first update having none; below: the distance of the parameters from initialisation. Thin: each
        seed, or with a single one each update; thick: their median or moving average.
        The paper's batch sizes and learning rates are not in its text [doubt]. It found that larger batches
        make the cosine more negative and keep the parameters closer to initialisation, while the learning rate
        changes the cosine little [text]: the batch size sets how much noise there is to leave the valley's
        direction, the learning rate how high above its floor the run bounces.
        Look for the order of the cosines and distances on the left, and for curves of the cosine that lie
        together on the right.
        What a cosine can show depends on lr times the largest eigenvalue, printed behind a label where it was
        measured: below 1 full-batch gradient descent does not bounce at all and the cosine of large batches is
        near +1. A rerun there does not contradict the paper, whose values are at the edge, near 2 [small].""",
    ),
    "fig34_noise_resnet56": PaperFigure(
        "noise",
        """Gradient descent (GD) on ResNet-56, GD with isotropic noise on every gradient, and SGD, after figure 34
        of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). Shown are the loss over the training
        set, the accuracy over the validation set, both with BatchNorm's running statistics, the cosine of
        consecutive gradients (without the noise) and the distance from initialisation. Runs that continue a
        noise-trained network begin at the update at which they take it over; their distance is from there.
        The paper found that even small isotropic noise makes loss and accuracy worse than those of GD and
        carries the parameters much farther, also than SGD does; that the cosine of GD is near -1; and that a
        network trained with such noise stays stuck with a lower learning rate or GD but recovers with SGD
        [text]. The variance of the noise is a factor times v_max, the largest variance of a gradient coordinate
        at the start; the paper's two factors are not in the text at hand, perhaps 0.01 and 0.001 [doubt], and
        its released code takes the same product for the standard deviation, with a factor of 0.02 [code].
        Parameter norms at the last update are in the footer: the paper ranks SGD smallest, then GD, the noise
        far above [text].
        Look for the curves with noise above GD in the first panel and far above everything in the last one, and
        for whether only the continuation with SGD leaves the plateau. A cosine near -1 needs lr times the
        largest eigenvalue near 2.""",
    ),
    "fig35_noise_mlp": PaperFigure(
        "noise",
        """Gradient descent (GD) on a multilayer perceptron, GD with isotropic noise on every gradient, and SGD,
        after figure 35 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). Shown are the loss over
        the training set, the accuracy over the validation set, both with BatchNorm's running statistics, the
        cosine of consecutive gradients (without the noise) and the distance from initialisation. Runs that
        continue a noise-trained network begin at the update at which they take it over; their distance is from
        there.
        The paper found that even small isotropic noise makes loss and accuracy worse than those of GD and
        carries the parameters much farther, also than SGD does; that the cosine of GD is near -1; and that a
        network trained with such noise stays stuck with a lower learning rate or GD but recovers with SGD
        [text]. The variance of the noise is a factor times v_max, the largest variance of a gradient coordinate
        at the start; the paper's two factors are not in the text at hand, perhaps 0.01 and 0.001 [doubt], and
        its released code takes the same product for the standard deviation, with a factor of 0.02 [code].
        Parameter norms at the last update are in the footer: the paper ranks SGD smallest, then GD, the noise
        far above [text].
        Look for the curves with noise above GD in the first panel and far above everything in the last one, and
        for whether only the continuation with SGD leaves the plateau. A cosine near -1 needs lr times the
        largest eigenvalue near 2.""",
    ),
    "fig36_quadratic": PaperFigure(
        "quadratic_descent",
        """Gradient descent on a quadratic in two dimensions, after figure 36 of Xing, Arpit, Tsirigotis and Bengio
        (2018, arXiv 1802.08770). One contour panel per learning rate: the valley runs from left to right, a
        ring marks the start, the cross the minimum. Beside them, over the steps: the loss, the cosine of
        consecutive gradients, and the mean height of the two ends of each interval above its lowest point, the
        valley's floor.
        The paper found three regimes along the eigenvector of the largest eigenvalue λ [text]: below 1/λ the
        iterate creeps down its side of the valley (over-damped), between 1/λ and 2/λ it crosses the floor at
        every step and comes closer all the same (under-damped), above 2/λ it diverges. They are exact: the
        coordinate along an eigenvector is multiplied by 1 - lr λ at each step. Eigenvalues and rates are our
        choice, as the text at hand does not give them.
        Look for the rate 1/λ, which is at the floor after one step; for the cosine, which stays near -1 only
        while the bouncing outlives the way along the flat valley, and turns to +1 where it does not; for the
        edge 2/λ, whose bounce neither grows nor fades; and for the height of the first interval, which rises
        with the learning rate although all rates share one start.""",
    ),
    "fig3_spectral_vgg11": PaperFigure(
        "spectral_norm",
        """How sharp the loss is along a run of VGG-11, after figure 3 of Xing, Arpit, Tsirigotis and Bengio (2018,
        arXiv 1802.08770). Top: the spectral norm of the Hessian of the loss over the measuring set, the largest
        absolute eigenvalue, BatchNorm in train mode unless the footer says otherwise; triangles: the largest
        eigenvalue, where the smallest one is larger in size. Middle: accuracy over the validation set. Bottom:
        learning rate times the largest eigenvalue. Values whose iteration did not converge are hollow.
        The paper found that the norm falls during training and rises towards the end, with a slight drop of the
        validation accuracy [text]. It takes 15 power iterations over freshly augmented data, whose result can
        be off by a few per cent [code]; the bottom panel is not in the paper. Above its dotted line at 2 a step
        of gradient descent along the top eigenvector ends higher on the parabola than it began, so that
        consecutive gradients point against each other.
        Look for a fall and a late rise of the norm, and for whether the accuracy gives way where it rises. A
        network with BatchNorm that finds its task easy need not show the rise: its product falls far below 2
        within the first epochs [small].""",
    ),
    "fig4_roles_vgg11": PaperFigure(
        "roles",
        """What the batch size and what the learning rate do in runs of VGG-11, after figure 4 of Xing, Arpit,
        Tsirigotis and Bengio (2018, arXiv 1802.08770). Left: several batch sizes at one learning rate; right:
        several learning rates at one batch size. Above: the cosine of consecutive batch gradients, the first
        update having none; below: the distance of the parameters from initialisation. Thin: each seed, or with
        a single one each update; thick: their median or moving average.
        The paper's batch sizes and learning rates are not in its text [doubt]. It found that larger batches
        make the cosine more negative and keep the parameters closer to initialisation, while the learning rate
        changes the cosine little [text]: the batch size sets how much noise there is to leave the valley's
        direction, the learning rate how high above its floor the run bounces.
        Look for the order of the cosines and distances on the left, and for curves of the cosine that lie
        together on the right.
        What a cosine can show depends on lr times the largest eigenvalue, printed behind a label where it was
        measured: below 1 full-batch gradient descent does not bounce at all and the cosine of large batches is
        near +1. A rerun there does not contradict the paper, whose values are at the edge, near 2 [small].""",
    ),
    "fig5_noise_vgg11": PaperFigure(
        "noise",
        """Gradient descent (GD) on VGG-11, GD with isotropic noise on every gradient, and SGD, after figure 5 of
        Xing, Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). Shown are the loss over the training set,
        the accuracy over the validation set, both with BatchNorm's running statistics, the cosine of
        consecutive gradients (without the noise) and the distance from initialisation. Runs that continue a
        noise-trained network begin at the update at which they take it over; their distance is from there.
        The paper found that even small isotropic noise makes loss and accuracy worse than those of GD and
        carries the parameters much farther, also than SGD does; that the cosine of GD is near -1; and that a
        network trained with such noise stays stuck with a lower learning rate or GD but recovers with SGD
        [text]. The variance of the noise is a factor times v_max, the largest variance of a gradient coordinate
        at the start; the paper's two factors are not in the text at hand, perhaps 0.01 and 0.001 [doubt], and
        its released code takes the same product for the standard deviation, with a factor of 0.02 [code].
        Parameter norms at the last update are in the footer: the paper ranks SGD smallest, then GD, the noise
        far above [text].
        Look for the curves with noise above GD in the first panel and far above everything in the last one, and
        for whether only the continuation with SGD leaves the plateau. A cosine near -1 needs lr times the
        largest eigenvalue near 2.""",
    ),
    "fig6_spectral_resnet56": PaperFigure(
        "spectral_norm",
        """How sharp the loss is along a run of ResNet-56, after figure 6 of Xing, Arpit, Tsirigotis and Bengio
        (2018, arXiv 1802.08770). Top: the spectral norm of the Hessian of the loss over the measuring set, the
        largest absolute eigenvalue, BatchNorm in train mode unless the footer says otherwise; triangles: the
        largest eigenvalue, where the smallest one is larger in size. Middle: accuracy over the validation set.
        Bottom: learning rate times the largest eigenvalue. Values whose iteration did not converge are hollow.
        The paper found that the norm falls during training and rises towards the end, with a slight drop of the
        validation accuracy [text]. It takes 15 power iterations over freshly augmented data, whose result can
        be off by a few per cent [code]; the bottom panel is not in the paper. Above its dotted line at 2 a step
        of gradient descent along the top eigenvector ends higher on the parabola than it began, so that
        consecutive gradients point against each other.
        Look for a fall and a late rise of the norm, and for whether the accuracy gives way where it rises. A
        network with BatchNorm that finds its task easy need not show the rise: its product falls far below 2
        within the first epochs [small].""",
    ),
    "fig7_schedules_resnet56": PaperFigure(
        "schedules",
        """Learning curves of three schedules on ResNet-56, after figure 7 of Xing, Arpit, Tsirigotis and Bengio
        (2018, arXiv 1802.08770): cyclical (triangular), trapezoid (up, flat, down to 0) and step-wise
        annealing. Each is drawn with the peak learning rate that had the best validation accuracy at the last
        evaluation, as a mean over the seeds; a rate at which a run diverged is not chosen, and the test set has
        no say. The others of the grid are thin and grey. The footer states what was chosen and its mean
        accuracies with their standard deviations over the seeds. Losses and accuracies are those of the network
        with BatchNorm's running statistics.
        The paper tuned each schedule by a grid search, at batch size 100, and found that schedules which raise
        the learning rate during training are slightly better than or equal to step-wise annealing, and that
        several cycles are not needed [text]. Its learning rates are not in the text [doubt].
        Look for whether trapezoid and cyclical schedules end at or above the step-wise one, and compare the
        differences with the standard deviations. If the chosen rate is the largest or smallest of the grid, the
        grid is too narrow to compare by.""",
    ),
    "fig8_schedules_vgg11": PaperFigure(
        "schedules",
        """Learning curves of three schedules on VGG-11, after figure 8 of Xing, Arpit, Tsirigotis and Bengio
        (2018, arXiv 1802.08770): cyclical (triangular), trapezoid (up, flat, down to 0) and step-wise
        annealing. Each is drawn with the peak learning rate that had the best validation accuracy at the last
        evaluation, as a mean over the seeds; a rate at which a run diverged is not chosen, and the test set has
        no say. The others of the grid are thin and grey. The footer states what was chosen and its mean
        accuracies with their standard deviations over the seeds. Losses and accuracies are those of the network
        with BatchNorm's running statistics.
        The paper tuned each schedule by a grid search, at batch size 100, and found that schedules which raise
        the learning rate during training are slightly better than or equal to step-wise annealing, and that
        several cycles are not needed [text]. Its learning rates are not in the text [doubt].
        Look for whether trapezoid and cyclical schedules end at or above the step-wise one, and compare the
        differences with the standard deviations. If the chosen rate is the largest or smallest of the grid, the
        grid is too narrow to compare by.""",
    ),
    "fig9_barriers_vgg11": PaperFigure(
        "barriers",
        """Barriers between consecutive iterates, after figure 9 of Xing, Arpit, Tsirigotis and Bengio (2018, arXiv
        1802.08770).
        An interval has a barrier if the training loss somewhere on the straight way from theta_t to theta_{t+1}
        exceeds that at both ends; its height is that excess. Left: barriers in each epoch that was measured,
        beside 5 % of its intervals.
        Right: the height of each barrier against the training loss before its update, both logarithmic; the
        line is a barrier as high as the loss.
        The paper (VGG-11, CIFAR-10) found none in most epochs; late ones have heights far below the loss
        [text]. Its losses were measured on samples drawn and augmented anew for every alpha [code], and that
        noise can feign barriers or hide them; here the samples are the same at every alpha, so that an excess
        of 1e-7 of the loss counts.
        Look for bars that stay below the blue dashes, and for points that lie decades below the line. A run
        without any barrier agrees with the paper.""",
    ),
    "table1_barriers": PaperFigure(
        "barrier_table",
        """Barriers between consecutive iterates in single epochs, after table 1 of Xing, Arpit, Tsirigotis and
        Bengio (2018, arXiv 1802.08770). Each entry is the number of intervals with a barrier, of all that were
        measured in the epoch, summed over the seeds.
        Published, of 450 intervals of one run each in epochs 1, 10, 25, 100: VGG-11 0, 0, 5, 13; ResNet-56 0,
        0, 2, 23; MLP 0, 3, 5 (no epoch 100) [text]. The published losses carry the noise of redrawn and newly
        augmented samples [code], which can feign barriers or hide them; here all alphas are measured on the
        same samples.
        Look for zeros in the first epochs, and for whether the share of intervals with a barrier stays below 5
        % later.""",
    ),
    "table2_heights": PaperFigure(
        "height_table",
        """Heights of the iterates above the valley floor, after table 2 of Xing, Arpit, Tsirigotis and Bengio
        (2018, arXiv 1802.08770). H of an interval is the mean of the loss at its two ends less the least loss
        between them. The formula is our reading of a text that lacks it [doubt]. Each entry has the mean over
        the intervals of an epoch with its standard deviation, and below it the variance; the seeds of a setting
        are pooled. Grey rows: the ratio of the mean heights of two learning rates, and the exponent p for which
        it is (ratio of the learning rates)^p.
        Published H in epochs 1, 10, 25, 100 [text]: VGG-11 lr 0.1: 0.0625+-1.2e-3, 0.0199+-4.8e-4,
        0.0104+-2.2e-5, 0.0025+-3.1e-6; lr 0.05: 0.0102+-3.8e-5, 0.0050+-2.8e-5, 0.0035+-1.7e-5, 0.0011+-1.0e-6.
        ResNet-56 lr 0.3: 0.0380+-5.9e-4, 0.0131+-4.5e-4, 0.0094+-1.3e-5, 0.0017+-1.0e-5; lr 0.15:
        0.0084+-5.2e-5, 0.0034+-3.2e-5, 0.0020+-7.2e-6, 0.0013+-6.7e-6. The published +- are so small beside the
        means that they look like variances [doubt].
        Half the learning rate divides the height of epoch 1 by 6.1 (VGG-11) and 4.5 (ResNet-56) [derived],
        exponents of 2.6 and 2.2: on a fixed parabola a bounce of length lr*||g|| has a height quadratic in lr.
        Look for higher walls at the larger learning rate in every epoch, and for heights that fall from epoch
        to epoch. Where a small network soon fits all of its images, the run with the larger learning rate can
        end with the lower walls, because it is further on [small].""",
    ),
    "table3_heights_tiny": PaperFigure(
        "height_table",
        """Heights of the iterates above the valley floor for VGG-11 on Tiny-ImageNet, after table 3 of Xing,
        Arpit, Tsirigotis and Bengio (2018, arXiv 1802.08770). H of an interval is the mean of the loss at its
        two ends less the least loss between them. The formula is our reading of a text that lacks it [doubt].
        Each entry has the mean over the intervals of an epoch with its standard deviation, and below it the
        variance; the seeds of a setting are pooled. Grey rows: the ratio of the mean heights of two learning
        rates, and the exponent p for which it is (ratio of the learning rates)^p.
        Published H in epochs 1, 10, 25, 100 [text]: lr 0.5: 0.028+-1.0e-3, 0.213+-1.5e-3, 0.187+-1.9e-3,
        9.8e-5+-2.0e-9; lr 0.1: 0.0039+-5.2e-5, 0.163+-2.6e-5, 0.116+-0.013, 1.1e-5+-3.6e-11. The published +-
        are so small beside the means that they look like variances [doubt].
        Five times the learning rate gives heights 7.2, 1.3, 1.6 and 8.9 times as large [derived]. Look for
        higher walls at the larger learning rate, and for heights that grow after the first epoch and vanish at
        the end.""",
    ),
}
