"""Adversarial losses against formulas and known optima; penalties against finite differences."""

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
# Per loss: the formulas of the generator and of the discriminator, in the notation of the papers.
FORMULAS = {
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
def test_both_losses_equal_the_formulas_of_the_paper(loss):
    generator, discriminator = FORMULAS[loss]
    np.testing.assert_allclose(loss.generator(FAKE, REAL), generator[:, 0], rtol=1e-6)
    np.testing.assert_allclose(loss.discriminator(REAL, FAKE), discriminator[:, 0], rtol=1e-6)


# Discrete distributions: data p and generated examples q on five points of a line. The optimal
# discriminator is a vector of five logits.
POINTS = np.array([0.0, 0.5, 1.5, 2.0, 4.0])
P = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
Q = np.array([0.1, 0.15, 0.3, 0.05, 0.4])
RATIO = np.log(P / Q)


def expected(loss, network, logits):
    """Return the expected loss of a network over real ~ p and, independently, generated ~ q."""
    real, fake = (grid.reshape(-1, 1) for grid in np.meshgrid(logits, logits, indexing="ij"))
    if network == "discriminator":
        values = loss.discriminator(real, fake)
    else:
        values = loss.generator(fake, real)
    return np.sum(np.outer(P, Q).ravel() * np.asarray(values))


def js(p, q):
    middle = (p + q) / 2
    return (scipy.special.rel_entr(p, middle).sum() + scipy.special.rel_entr(q, middle).sum()) / 2


def kl(p, q):
    return scipy.special.rel_entr(p, q).sum()


JS_OF_PAIRS = js(np.outer(P, Q), np.outer(Q, P))
# The optimal critic of the earth mover's distance on a line (Kantorovich potential).
POTENTIAL = np.concatenate([[0], np.cumsum(-np.sign(np.cumsum(P - Q))[:-1] * np.diff(POINTS))])
# Per loss: the optimal logits, and the losses of the discriminator and of the generator there.
OPTIMA = {
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
    # With b − a = 2 and b − c = 1, twice the sum of the generator's two terms is Pearson's χ² of
    # (p + q)/2 and q (LSGAN, section 3.3).
    losses.LeastSquares(-1, 1, 0): (
        (P - Q) / (P + Q),
        np.sum(2 * P * Q / (P + Q)),
        np.sum(Q * ((P - Q) / (P + Q)) ** 2) / 2,
    ),
    losses.Hinge(): (np.sign(P - Q), 2 - np.abs(P - Q).sum(), -np.sum(Q * np.sign(P - Q))),
    losses.RelativisticPairing(): (RATIO, np.log(2) - JS_OF_PAIRS, None),
}


@pytest.mark.parametrize("loss", OPTIMA, ids=repr)
def test_the_optimal_discriminator_and_the_divergence_it_measures(loss):
    logits, discriminator_loss, generator_loss = OPTIMA[loss]
    assert expected(loss, "discriminator", logits) == pytest.approx(discriminator_loss, rel=1e-6)
    if generator_loss is not None:
        assert expected(loss, "generator", logits) == pytest.approx(generator_loss, rel=1e-6)
    start = logits + np.array([0.3, -0.2, 0.1, 0.4, -0.3])
    assert expected(loss, "discriminator", start) > discriminator_loss
    found = scipy.optimize.minimize(
        lambda x: expected(loss, "discriminator", x),
        start,
        method="Nelder-Mead",
        options={"fatol": 1e-9},
    )
    assert found.fun >= discriminator_loss - 1e-6  # no logits are better
    assert found.fun == pytest.approx(discriminator_loss, abs=1e-3)


def test_the_value_of_minimax_is_twice_the_jensen_shannon_divergence_minus_log_4():
    value = -expected(losses.Minimax(), "discriminator", RATIO)
    assert value == pytest.approx(2 * js(P, Q) - np.log(4), rel=1e-6)
    # The term of the real examples does not depend on the generator.
    real_term = np.sum(P * np.log(scipy.special.expit(RATIO)))
    generator_loss = expected(losses.Minimax(), "generator", RATIO)
    assert generator_loss + real_term == pytest.approx(value, rel=1e-6)


def test_wasserstein_over_lipschitz_critics_is_the_earth_movers_distance():
    loss = losses.Wasserstein()
    distance = scipy.stats.wasserstein_distance(POINTS, POINTS, P, Q)
    assert expected(loss, "discriminator", POTENTIAL) == pytest.approx(-distance, rel=1e-6)
    # The best critic with |slopes @ critic| <= 1, by linear programming.
    slopes = np.diff(np.eye(5), axis=0) / np.diff(POINTS)[:, None]
    best = scipy.optimize.linprog(Q - P, np.vstack([slopes, -slopes]), np.ones(8), bounds=(-10, 10))
    assert best.fun == pytest.approx(-distance)
    assert expected(loss, "discriminator", best.x) == pytest.approx(best.fun, rel=1e-5)


def test_only_the_pairing_loss_of_the_generator_needs_real_examples():
    assert {type(loss) for loss in FORMULAS if loss.paired} == {losses.RelativisticPairing}


def test_the_boundary_between_real_and_generated_logits():
    logits = np.array([[-1.0], [3.0]], "float32")
    for loss in (losses.NonSaturating(), losses.Minimax(), losses.Hinge()):
        assert loss.boundary(logits + 7, logits + 5) == 0
    for loss in (losses.Wasserstein(), losses.RelativisticPairing()):
        assert float(loss.boundary(logits + 7, logits + 5)) == 7
    assert losses.LeastSquares(0, 1).boundary(logits, logits) == 0.5


@pytest.mark.parametrize("loss", FORMULAS, ids=repr)
def test_losses_and_gradients_are_finite_where_the_discriminator_is_certain(loss):
    logits = tf.Variable([[-200.0], [200.0]])
    with tf.GradientTape(persistent=True) as tape:
        values = [loss.generator(logits, -logits), loss.discriminator(logits, -logits)]
    for value in values:
        assert np.all(np.isfinite(value))
        assert np.all(np.isfinite(tape.gradient(value, logits)))
    with tf.GradientTape() as tape:
        generator_loss = losses.NonSaturating().generator(logits, logits)
    # The gradient does not vanish for an example that is certainly classified as generated.
    np.testing.assert_allclose(tape.gradient(generator_loss, logits), [[-1], [0]], atol=1e-6)


def test_the_errors_of_an_incomplete_subclass_name_the_method():
    with pytest.raises(NotImplementedError, match="`generator`"):
        losses.AdversarialLoss().generator(FAKE, REAL)
    with pytest.raises(NotImplementedError, match="`discriminator`"):
        losses.AdversarialLoss().discriminator(REAL, FAKE)
    with pytest.raises(NotImplementedError, match="`points`"):
        losses.Penalty(1.0).points(REAL, FAKE, [0, 0])
    with pytest.raises(NotImplementedError, match="`from_squared_norm`"):
        losses.Penalty(1.0).from_squared_norm(REAL)


def test_a_penalty_written_for_version_0_1_0_keeps_its_formula():
    class OneSided(losses.GradientPenalty):
        def of_squared_slope(self, squared_slope):
            return tf.nn.relu(tf.sqrt(squared_slope) - self.target) ** 2

    at_zero = (tf.zeros((1, 2)), tf.zeros((1, 2)), [0, 0])
    steep = OneSided()(lambda x: x @ [[3.0], [4.0]], *at_zero)
    flat = OneSided()(lambda x: x @ [[0.3], [0.4]], *at_zero)
    np.testing.assert_allclose([steep[0], flat[0]], [160.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: losses.NonSaturating(label_smoothing=0.5),
            r"`label_smoothing` of \w+ must be a number in \[0, 0\.5\)",
        ),
        (
            lambda: losses.Minimax(label_smoothing=-0.1),
            r"`label_smoothing` of \w+ must be a number in \[0, 0\.5\)",
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
            "`target` of GradientPenalty must be a number of at least 0",
        ),
        (
            lambda: losses.GradientPenalty(target=float("inf")),
            "`target` of GradientPenalty must be a number of at least 0",
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
    losses.GradientPenalty(2.0, target=0),
    losses.DRAGAN(3.0),
    losses.R1(3.0),
    losses.R2(3.0),
]


def tanh_network(x, kernel, bias, last):
    """Return the gradient of a discriminator's logit, by central differences in float64."""

    def logit(x):
        return np.tanh(x @ kernel + bias) @ last

    steps = 1e-5 * np.eye(x.shape[1])
    return np.concatenate([(logit(x + step) - logit(x - step)) / 2e-5 for step in steps], axis=1)


def from_gradients(penalty, gradients):
    """Return the penalty by the formula of its paper, from gradients `[batch, n]`."""
    if isinstance(penalty, (losses.R1, losses.R2)):
        return penalty.weight / 2 * np.sum(gradients**2, axis=1)
    return penalty.weight * (np.linalg.norm(gradients, axis=1) - penalty.target) ** 2


@pytest.mark.parametrize(
    "compiled", [{}, {"jit_compile": False}, {"jit_compile": True}], ids=["eager", "graph", "XLA"]
)
@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_penalties_and_their_gradients_equal_finite_differences(penalty, compiled):
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
        points = penalty.points(real, fake, [1, 2])  # XLA samples other points
        return values, tape.gradient(total, variables[:1] + variables[2:]), points

    if compiled:
        values_and_gradients = tf.function(values_and_gradients, **compiled)
    values, gradients, points = values_and_gradients()
    points = np.asarray(points, np.float64)
    reference = from_gradients(penalty, tanh_network(points, *weights))
    np.testing.assert_allclose(values, reference, rtol=2e-4, atol=1e-5)
    for index, gradient in zip((0, 2), gradients, strict=True):
        direction = random.normal(size=weights[index].shape)
        totals = []
        for step in (1e-4, -1e-4):
            moved = list(weights)
            moved[index] = moved[index] + step * direction
            totals.append(from_gradients(penalty, tanh_network(points, *moved)).sum())
        derivative = (totals[0] - totals[1]) / 2e-4
        assert np.sum(np.asarray(gradient) * direction) == pytest.approx(derivative, rel=2e-3)


def test_penalties_take_the_gradient_at_the_points_of_their_papers():
    fake = np.full((1000, 3, 2), -2.0, "float32")
    real = fake + np.arange(1000, dtype="float32")[:, None, None]
    np.testing.assert_array_equal(losses.R1(1.0).points(real, fake, [0, 0]), real)
    np.testing.assert_array_equal(losses.R2(1.0).points(real, fake, [0, 0]), fake)
    points = losses.GradientPenalty().points(real[1:], fake[1:], [0, 0])
    share = (points - fake[1:]) / (real - fake)[1:]
    one_per_example = share[:, :1, :1] * np.ones((1, 3, 2))
    np.testing.assert_allclose(share, one_per_example, rtol=1e-6)
    assert scipy.stats.kstest(share[:, 0, 0], "uniform").pvalue > 0.01
    near = losses.DRAGAN(noise=0.5).points(real, fake, [0, 0]) - real
    share = near / (0.5 * real.std())
    assert share.numpy().min() >= 0
    assert share.numpy().max() <= 1
    assert np.mean(share) == pytest.approx(0.25, abs=0.02)  # E[α u], both uniform
    other = losses.GradientPenalty().points(real, fake, [0, 1])
    assert not np.allclose(other, losses.GradientPenalty().points(real, fake, [0, 0]))


def test_a_constant_discriminator_has_finite_gradients():
    kernel = tf.Variable(tf.zeros((4, 1)))
    for penalty in PENALTIES:
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(
                penalty(lambda x: x @ kernel, tf.ones((8, 4)), tf.zeros((8, 4)), [0, 0])
            )
        assert np.all(np.isfinite(tape.gradient(value, kernel)))


@pytest.mark.parametrize("obj", [*FORMULAS, *PENALTIES, losses.R1(2.0, every=16)], ids=repr)
def test_configurations_round_trip(obj):
    config = keras.saving.serialize_keras_object(obj)
    assert repr(keras.saving.deserialize_keras_object(config)) == repr(obj)
