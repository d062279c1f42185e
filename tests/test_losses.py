"""Adversarial losses against their papers' formulas and known optima, penalties against finite differences."""

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_gen import losses

RANDOM = np.random.default_rng(0)
REAL, FAKE = RANDOM.normal(size=(2, 50, 1), scale=3)
GAMMA_REAL, GAMMA_FAKE = scipy.special.expit(REAL), scipy.special.expit(FAKE)
FORMULAS = {  # loss: (generator's, discriminator's), in the papers' notation
    losses.NonSaturating(): (-np.log(GAMMA_FAKE), -np.log(GAMMA_REAL) - np.log(1 - GAMMA_FAKE)),
    losses.NonSaturating(label_smoothing=0.1): (
        -np.log(GAMMA_FAKE),
        -0.9 * np.log(GAMMA_REAL) - 0.1 * np.log(1 - GAMMA_REAL) - np.log(1 - GAMMA_FAKE),
    ),
    losses.Minimax(): (np.log(1 - GAMMA_FAKE), -np.log(GAMMA_REAL) - np.log(1 - GAMMA_FAKE)),
    losses.Minimax(label_smoothing=0.2): (
        np.log(1 - GAMMA_FAKE),
        -0.8 * np.log(GAMMA_REAL) - 0.2 * np.log(1 - GAMMA_REAL) - np.log(1 - GAMMA_FAKE),
    ),
    losses.LeastSquares(): ((FAKE - 1) ** 2 / 2, (REAL - 1) ** 2 / 2 + FAKE**2 / 2),
    losses.LeastSquares(fake_label=-1, real_label=0.9, generator_label=0): (
        FAKE**2 / 2,
        (REAL - 0.9) ** 2 / 2 + (FAKE + 1) ** 2 / 2,
    ),
    losses.Hinge(): (-FAKE, np.maximum(0, 1 - REAL) + np.maximum(0, 1 + FAKE)),
    losses.Wasserstein(): (-FAKE, FAKE - REAL),
    losses.RelativisticPairing(): (
        -np.log(scipy.special.expit(FAKE - REAL)),
        -np.log(scipy.special.expit(REAL - FAKE)),
    ),
}


@pytest.mark.parametrize("loss", FORMULAS, ids=repr)
def test_both_players_minimize_the_formulas_of_the_paper(loss):
    generator, discriminator = FORMULAS[loss]
    np.testing.assert_allclose(loss.generator(FAKE, REAL), generator[:, 0], rtol=1e-6)
    np.testing.assert_allclose(loss.discriminator(REAL, FAKE), discriminator[:, 0], rtol=1e-6)


# A discrete toy: data p and generated q over five points on a line, where the optimal discriminator is a vector of five logits.
POINTS = np.array([0.0, 0.5, 1.5, 2.0, 4.0])
P, Q = np.array([0.3, 0.25, 0.2, 0.15, 0.1]), np.array([0.1, 0.15, 0.3, 0.05, 0.4])
RATIO = np.log(P / Q)


def expected(loss, player, logits):
    """The player's expected loss over real ~ p and, independently, generated ~ q."""
    real, fake = (grid.reshape(-1, 1) for grid in np.meshgrid(logits, logits, indexing="ij"))
    values = (
        loss.discriminator(real, fake) if player == "discriminator" else loss.generator(fake, real)
    )
    return np.sum(np.outer(P, Q).ravel() * np.asarray(values))


def js(p, q):
    middle = (p + q) / 2
    return (scipy.special.rel_entr(p, middle).sum() + scipy.special.rel_entr(q, middle).sum()) / 2


def kl(p, q):
    return scipy.special.rel_entr(p, q).sum()


OF_PAIRS = js(np.outer(P, Q), np.outer(Q, P))
POTENTIAL = np.concatenate(
    [[0], np.cumsum(-np.sign(np.cumsum(P - Q))[:-1] * np.diff(POINTS))]
)  # Kantorovich's, on a line
OPTIMA = {  # loss: (optimal logits, the discriminator's value there, the generator's)
    losses.Minimax(): (RATIO, np.log(4) - 2 * js(P, Q), -np.log(2) + kl(Q, (P + Q) / 2)),
    losses.NonSaturating(): (
        RATIO,
        np.log(4) - 2 * js(P, Q),
        np.log(2) + kl(Q, P) - kl(Q, (P + Q) / 2),
    ),
    losses.LeastSquares(): (
        P / (P + Q),
        np.sum(P * Q / (P + Q)) / 2,
        np.sum(Q * (Q / (P + Q)) ** 2) / 2,
    ),
    # b − a = 2 and b − c = 1: twice both of the generator's terms is Pearson's χ² of (p + q)/2 and q (LSGAN, section 3.3)
    losses.LeastSquares(-1, 1, 0): (
        (P - Q) / (P + Q),
        np.sum(2 * P * Q / (P + Q)),
        np.sum(Q * ((P - Q) / (P + Q)) ** 2) / 2,
    ),
    losses.Hinge(): (np.sign(P - Q), 2 - np.abs(P - Q).sum(), -np.sum(Q * np.sign(P - Q))),
    losses.RelativisticPairing(): (RATIO, np.log(2) - OF_PAIRS, None),
}


@pytest.mark.parametrize("loss", OPTIMA, ids=repr)
def test_the_optimal_discriminator_and_the_divergence_it_measures(loss):
    logits, of_discriminator, of_generator = OPTIMA[loss]
    assert expected(loss, "discriminator", logits) == pytest.approx(of_discriminator, rel=1e-6)
    if of_generator is not None:
        assert expected(loss, "generator", logits) == pytest.approx(of_generator, rel=1e-6)
    start = logits + np.array([0.3, -0.2, 0.1, 0.4, -0.3])
    assert expected(loss, "discriminator", start) > of_discriminator
    found = scipy.optimize.minimize(
        lambda x: expected(loss, "discriminator", x),
        start,
        method="Nelder-Mead",
        options={"fatol": 1e-9},
    )
    assert found.fun >= of_discriminator - 1e-6  # nothing is better
    assert found.fun == pytest.approx(of_discriminator, abs=1e-3)


def test_minimax_is_the_saddle_point_with_twice_the_jensen_shannon_divergence_less_log_4():
    value = -expected(losses.Minimax(), "discriminator", RATIO)
    assert value == pytest.approx(2 * js(P, Q) - np.log(4), rel=1e-6)
    of_data = np.sum(
        P * np.log(scipy.special.expit(RATIO))
    )  # the part of the value that the generator cannot change
    assert expected(losses.Minimax(), "generator", RATIO) + of_data == pytest.approx(
        value, rel=1e-6
    )


def test_wasserstein_over_lipschitz_critics_is_the_earth_movers_distance():
    loss, distance = losses.Wasserstein(), scipy.stats.wasserstein_distance(POINTS, POINTS, P, Q)
    assert expected(loss, "discriminator", POTENTIAL) == pytest.approx(-distance, rel=1e-6)
    slopes = (
        np.diff(np.eye(5), axis=0) / np.diff(POINTS)[:, None]
    )  # |slopes @ critic| <= 1: over all such critics, by linear programming
    best = scipy.optimize.linprog(Q - P, np.vstack([slopes, -slopes]), np.ones(8), bounds=(-10, 10))
    assert best.fun == pytest.approx(-distance)
    assert expected(loss, "discriminator", best.x) == pytest.approx(best.fun, rel=1e-5)


def test_accuracies_count_about_the_boundary_of_the_loss():
    logits = np.array([[-1.0], [3.0]], "float32")
    for loss in (losses.NonSaturating(), losses.Minimax(), losses.Hinge()):
        assert loss.boundary(logits + 7, logits + 5) == 0
    for loss in (losses.Wasserstein(), losses.RelativisticPairing()):
        assert float(loss.boundary(logits + 7, logits + 5)) == 7
    assert losses.LeastSquares(0, 1).boundary(logits, logits) == 0.5


@pytest.mark.parametrize("loss", FORMULAS, ids=repr)
def test_losses_and_gradients_stay_finite_where_the_discriminator_is_sure(loss):
    logits = tf.Variable([[-200.0], [200.0]])
    with tf.GradientTape(persistent=True) as tape:
        values = [loss.generator(logits, -logits), loss.discriminator(logits, -logits)]
    for value in values:
        assert np.all(np.isfinite(value))
        assert np.all(np.isfinite(tape.gradient(value, logits)))
    with tf.GradientTape() as tape:
        alive = losses.NonSaturating().generator(logits, logits)
    np.testing.assert_allclose(
        tape.gradient(alive, logits), [[-1], [0]], atol=1e-6
    )  # of a sure discriminator, too


def test_a_loss_of_ones_own_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="`generator`"):
        losses.AdversarialLoss().generator(FAKE, REAL)
    with pytest.raises(NotImplementedError, match="`discriminator`"):
        losses.AdversarialLoss().discriminator(REAL, FAKE)
    with pytest.raises(NotImplementedError, match="`points`"):
        losses.Penalty(1.0).points(REAL, FAKE, [0, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: losses.NonSaturating(label_smoothing=0.5),
            r"`label_smoothing` is a number in \[0, 0\.5\)",
        ),
        (
            lambda: losses.Minimax(label_smoothing=-0.1),
            r"`label_smoothing` is a number in \[0, 0\.5\)",
        ),
        (
            lambda: losses.LeastSquares(fake_label=1, real_label=1),
            "`fake_label` less than `real_label`",
        ),
        (lambda: losses.R1(-1.0), "`weight` of R1 must be a positive number"),
        (lambda: losses.R1(float("nan")), "`weight` of R1 must be a positive number"),
        (lambda: losses.R2(1.0, every=0), "`every` of R2 must be an integer of at least 1"),
        (
            lambda: losses.GradientPenalty(target=-1),
            "`target` of GradientPenalty is a number of at least 0",
        ),
        (lambda: losses.DRAGAN(noise=0), "`noise` of DRAGAN must be a positive number"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# === Penalties ===

PENALTIES = [
    losses.GradientPenalty(3.0),
    losses.GradientPenalty(2.0, target=0.5),
    losses.DRAGAN(3.0),
    losses.R1(3.0),
    losses.R2(3.0),
]


def tanh_network(x, kernel, bias, last):
    """A discriminator in numpy, float64, and the gradient of its logit by central differences."""

    def logit(x):
        return np.tanh(x @ kernel + bias) @ last

    steps = 1e-5 * np.eye(x.shape[1])
    return np.concatenate([(logit(x + step) - logit(x - step)) / 2e-5 for step in steps], axis=1)


def of_slopes(penalty, gradients):
    """The papers' formulas, of the gradients `[batch, n]`."""
    if isinstance(penalty, (losses.R1, losses.R2)):
        return penalty.weight / 2 * np.sum(gradients**2, axis=1)
    return penalty.weight * (np.linalg.norm(gradients, axis=1) - penalty.target) ** 2


@pytest.mark.parametrize(
    "compiled", [{}, {"jit_compile": False}, {"jit_compile": True}], ids=["eager", "graph", "XLA"]
)
@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_penalties_and_their_gradients_are_finite_differences(penalty, compiled):
    random = np.random.default_rng(1)
    weights = [random.normal(size=shape) for shape in ((4, 6), (6,), (6, 1))]
    variables = [tf.Variable(weight, dtype=tf.float32) for weight in weights]
    real, fake = random.normal(size=(2, 8, 4)).astype("float32")

    def values_and_gradients():
        with tf.GradientTape() as tape:
            values = penalty(
                lambda x: tf.tanh(x @ variables[0] + variables[1]) @ variables[2],
                real,
                fake,
                [1, 2],
            )
            total = tf.reduce_sum(values)
        points = penalty.points(real, fake, [1, 2])  # XLA draws others
        return values, tape.gradient(total, variables[:1] + variables[2:]), points

    values, gradients, points = (
        tf.function(values_and_gradients, **compiled) if compiled else values_and_gradients
    )()
    points = np.asarray(points, np.float64)
    reference = of_slopes(penalty, tanh_network(points, *weights))
    np.testing.assert_allclose(values, reference, rtol=2e-4, atol=1e-5)
    for of, gradient in zip((0, 2), gradients, strict=True):
        direction = random.normal(size=weights[of].shape)
        moved = [
            [w + step * direction if i == of else w for i, w in enumerate(weights)]
            for step in (1e-4, -1e-4)
        ]
        up, down = (of_slopes(penalty, tanh_network(points, *w)).sum() for w in moved)
        assert np.sum(np.asarray(gradient) * direction) == pytest.approx(
            (up - down) / 2e-4, rel=2e-3
        )


def test_penalties_look_where_their_papers_say():
    real, fake = (
        np.ones((1000, 3, 2), "float32") * np.arange(1000, dtype="float32")[:, None, None],
        np.zeros((1000, 3, 2), "float32"),
    )
    np.testing.assert_array_equal(losses.R1(1.0).points(real, fake, [0, 0]), real)
    np.testing.assert_array_equal(losses.R2(1.0).points(real, fake, [0, 0]), fake)
    share = losses.GradientPenalty().points(real[1:], fake[1:], [0, 0]) / real[1:]
    np.testing.assert_allclose(
        share, share[:, :1, :1] * np.ones((1, 3, 2)), rtol=1e-6
    )  # one share an example
    assert scipy.stats.kstest(share[:, 0, 0], "uniform").pvalue > 0.01
    near = losses.DRAGAN(noise=0.5).points(real, fake, [0, 0]) - real
    share = near / (0.5 * real.std())
    assert share.numpy().min() >= 0
    assert share.numpy().max() <= 1
    assert np.mean(share) == pytest.approx(0.25, abs=0.02)  # E[α u], both uniform
    other = losses.GradientPenalty().points(real, fake, [0, 1])
    assert not np.allclose(other, losses.GradientPenalty().points(real, fake, [0, 0]))


def test_a_flat_discriminator_has_finite_gradients():
    kernel = tf.Variable(tf.zeros((4, 1)))
    for penalty in PENALTIES:
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(
                penalty(lambda x: x @ kernel, tf.ones((8, 4)), tf.zeros((8, 4)), [0, 0])
            )
        assert np.all(np.isfinite(tape.gradient(value, kernel)))


@pytest.mark.parametrize("obj", [*FORMULAS, *PENALTIES, losses.R1(2.0, every=16)], ids=repr)
def test_configurations_come_back(obj):
    config = keras.saving.serialize_keras_object(obj)
    assert repr(keras.saving.deserialize_keras_object(config)) == repr(obj)
