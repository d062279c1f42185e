"""Objectives on a linear-Gaussian model: z ~ N(0, I), x | z ~ N(Wz, σ²I).

There the posterior p(z | x) and log p(x) are known in closed form.
"""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_gen.objectives import ELBO, IWAE, Batch, Cyclical, LinearWarmUp, Objective, Terms

tfd = tfp.distributions
SCALE = 0.5
W = np.array([[1, 0], [0, -2], [0, 0.5]])  # of orthogonal columns: p(z | x) is diagonal
X = np.array([0.7, -1.0, 0.3])
ROWS = 20_000


def exact_posterior():
    covariance = np.linalg.inv(np.eye(2) + W.T @ W / SCALE**2)
    return covariance @ W.T @ X / SCALE**2, np.sqrt(np.diag(covariance))


PRIOR = tfd.Independent(tfd.Normal(tf.zeros(2), 1.0), 1)


def normal(mean, scale):
    return tfd.Independent(tfd.Normal(tf.cast(mean, tf.float32), tf.cast(scale, tf.float32)), 1)


def likelihood_of(w):
    return lambda z: normal(tf.linalg.matvec(tf.cast(w, tf.float32), z), SCALE)


def batch_of(mean, scale, w=W, step=0, seed=(1, 2), rows=ROWS):
    """A batch of copies of X, each with the posterior N(mean, diag scale²)."""
    mean = tf.cast(mean, tf.float32) + tf.zeros((rows, 2))
    scale = tf.cast(scale, tf.float32) + tf.zeros((rows, 2))

    def frozen_posterior():
        return normal(tf.stop_gradient(mean), tf.stop_gradient(scale))

    return Batch(
        x=tf.constant(X, tf.float32),
        posterior=normal(mean, scale),
        frozen_posterior=frozen_posterior,
        prior=PRIOR,
        likelihood=likelihood_of(w),
        seed=tf.constant(seed),
        step=step,
    )


def terms(mean, scale, objective=None, **arguments):
    """The terms of an objective, in float64."""
    values = (objective or ELBO())(batch_of(mean, scale, **arguments))
    assert isinstance(values, Terms)
    return {name: np.asarray(value, np.float64) for name, value in values.by_name().items()}


def mean_within(values, expected):
    return abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values)) + 1e-6


def evidence():
    return scipy.stats.multivariate_normal(np.zeros(3), W @ W.T + SCALE**2 * np.eye(3)).logpdf(X)


def test_at_the_exact_posterior_the_elbo_is_the_evidence():
    assert mean_within(terms(*exact_posterior())["elbo"], evidence())


class SigmaPoints:
    """N(μ, diag σ²) with the samples μ ± √n σ_i e_i.

    All terms here are quadratic, and the mean of a quadratic over these samples is exact.
    """

    def __init__(self, mean, scale):
        self.exact = normal(mean, scale)
        spread = np.sqrt(2) * np.diag(scale)
        self.points = tf.constant(mean + np.concatenate([spread, -spread]), tf.float32)[:, None]

    def sample(self, num_samples, seed=None):
        assert num_samples == len(self.points)
        return self.points

    def __getattr__(self, name):
        return getattr(self.exact, name)


@pytest.mark.parametrize(
    ("shift", "stretch"), [([0, 0], [1, 1]), ([0.3, -0.2], [2.0, 0.5]), ([-1, 1], [0.2, 3.0])]
)
def test_the_identity_of_the_notes_holds_to_1e_4(shift, stretch):
    """KL(q ‖ p(z | x)) = KL(q ‖ p(z)) − E_q[log p(x | z)] + log p(x), with each term exact."""
    mean, scale = exact_posterior()
    q_mean = mean + np.array(shift)
    q_scale = scale * np.array(stretch)
    batch = batch_of(q_mean, q_scale, rows=1)
    batch = dataclasses.replace(batch, posterior=SigmaPoints(q_mean, q_scale), seed=None)
    values = ELBO(num_samples=4)(batch)
    kl = float(values.kl_loss)
    reconstruction = float(values.reconstruction_loss[0])
    to_posterior = 0.5 * np.sum(
        np.log(scale**2 / q_scale**2) + q_scale**2 / scale**2 + (q_mean - mean) ** 2 / scale**2 - 1
    )
    assert kl == pytest.approx(
        0.5 * np.sum(q_scale**2 + q_mean**2 - 1 - np.log(q_scale**2)), rel=1e-5
    )
    expected = -scipy.stats.norm(W @ q_mean, SCALE).logpdf(X).sum() + 0.5 * np.sum(
        (W**2 @ q_scale**2) / SCALE**2
    )
    assert reconstruction == pytest.approx(expected, rel=1e-5)
    assert kl + reconstruction + evidence() == pytest.approx(to_posterior, abs=1e-4)
    assert -float(values.elbo[0]) == pytest.approx(kl + reconstruction, rel=1e-6)


def test_elsewhere_the_gap_is_the_divergence_to_the_exact_posterior():
    """log p(x) − ELBO = KL(q ‖ p(z | x)), the identity of MATH 2."""
    mean, scale = exact_posterior()
    q_mean = mean + np.array([0.3, -0.2])
    q_scale = scale * [2.0, 0.5]
    gap = 0.5 * np.sum(
        np.log(scale**2 / q_scale**2) + q_scale**2 / scale**2 + (q_mean - mean) ** 2 / scale**2 - 1
    )
    assert mean_within(terms(q_mean, q_scale)["elbo"], evidence() - gap)


def test_the_loss_is_the_sum_with_the_kl_weighted():
    values = terms(*exact_posterior(), objective=ELBO(kl_weight=4.0))
    np.testing.assert_allclose(
        values["loss"], values["reconstruction_loss"] + 4 * values["kl_loss"], rtol=1e-6
    )
    np.testing.assert_allclose(
        values["elbo"], -values["reconstruction_loss"] - values["kl_loss"], rtol=1e-6
    )
    assert all(value.shape == (ROWS,) for value in values.values())


@pytest.mark.parametrize("kl_weight", [-1, "1", None, True])
def test_kl_weight_is_checked(kl_weight):
    message = "`kl_weight` of ELBO must be a number of at least 0, or a schedule"
    with pytest.raises(ValueError, match=message):
        ELBO(kl_weight)


def test_several_samples_estimate_the_same_with_less_noise():
    one, ten = (
        terms(*exact_posterior(), objective=ELBO(num_samples=k))["reconstruction_loss"]
        for k in (1, 10)
    )
    assert abs(one.mean() - ten.mean()) < 4 * one.std() / np.sqrt(ROWS)
    assert ten.std() == pytest.approx(one.std() / np.sqrt(10), rel=0.05)


def test_free_bits_cost_nothing():
    mean, scale = exact_posterior()
    kl = terms(mean, scale)["kl_loss"][0]
    for free_bits in (kl / 2, kl * 2):
        values = terms(mean, scale, objective=ELBO(free_bits=free_bits, kl_weight=3.0))
        np.testing.assert_allclose(
            values["loss"] - values["reconstruction_loss"], 3 * max(kl, free_bits), rtol=1e-4
        )


def test_a_schedule_weighs_the_kl_by_the_step():
    for step, weight in ((0, 0), (5, 0.5), (10, 1), (99, 1)):
        values = terms(
            *exact_posterior(),
            objective=ELBO(kl_weight=LinearWarmUp(steps=10)),
            step=tf.constant(step, tf.int64),
        )
        np.testing.assert_allclose(
            values["loss"], values["reconstruction_loss"] + weight * values["kl_loss"], rtol=1e-5
        )
    cycle = Cyclical(period=8, rise=0.25, end=2.0)
    assert [float(cycle(step)) for step in range(10)] == [0, 1, 2, 2, 2, 2, 2, 2, 0, 1]
    saw = Cyclical(period=4, rise=1.0)
    assert [float(saw(step)) for step in range(6)] == [0, 0.25, 0.5, 0.75, 0, 0.25]


def layered(rows=5, samples=3):
    """A batch of a model with two layers of latents, and the terms of the layers as arrays.

    The first two arrays `[samples, rows]` are closed forms, and the others are estimates.
    """
    kls = np.random.default_rng(0).normal(1.0, size=(4, samples, rows))
    batch = dataclasses.replace(
        batch_of(*exact_posterior(), rows=rows, step=tf.constant(5)),
        layer_kls=lambda z, closed_form: [
            tf.constant(kl, tf.float32) for kl in (kls[:2] if closed_form else kls[2:])
        ],
    )
    return batch, kls


def test_each_layer_of_latents_has_its_own_weight_and_threshold():
    batch, kls = layered()
    kls = kls[:2].mean(axis=1)
    objective = ELBO(kl_weight=[2.0, LinearWarmUp(steps=10)], num_samples=3, free_bits=1.0)
    values = objective(batch).by_name()
    assert set(values) == {
        *("loss", "reconstruction_loss", "kl_loss", "elbo", "kl_loss_1", "kl_loss_2")
    }
    np.testing.assert_allclose([values["kl_loss_1"], values["kl_loss_2"]], kls, rtol=1e-5)
    np.testing.assert_allclose(values["kl_loss"], kls.sum(axis=0), rtol=1e-5)
    penalty = 2 * np.maximum(kls[0], 1) + 0.5 * np.maximum(kls[1], 1)
    np.testing.assert_allclose(values["loss"] - values["reconstruction_loss"], penalty, rtol=1e-5)
    one_weight = ELBO(kl_weight=3.0, num_samples=3)(batch)
    np.testing.assert_allclose(
        one_weight.loss - one_weight.reconstruction_loss,
        3 * np.maximum(kls, 0).sum(axis=0),
        rtol=1e-5,
    )
    message = r"one item per layer of latents, 2 for this model\. Received: kl_weight=\[1\.0\]"
    with pytest.raises(ValueError, match=message):
        ELBO(kl_weight=[1.0])(batch)


def test_the_iwae_bound_of_layers_has_the_sum_of_their_estimates():
    batch, kls = layered()
    kls = kls[2:]
    terms = IWAE(num_samples=3)(batch)
    np.testing.assert_allclose(terms.layer_kl_losses, kls.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(terms.kl_loss, kls.mean(axis=1).sum(axis=0), rtol=1e-5)
    z = batch.posterior.sample(3, seed=batch.seed)
    log_weights = batch.likelihood(z).log_prob(batch.x) - kls.sum(axis=0)
    bound = np.log(np.exp(log_weights).mean(axis=0))
    np.testing.assert_allclose(-terms.loss, bound, rtol=1e-4)


@pytest.mark.parametrize("objective", [ELBO(), IWAE(2)], ids=repr)
def test_one_layer_of_latents_has_no_terms_of_layers(objective):
    values = objective(batch_of(*exact_posterior(), rows=2)).by_name()
    assert set(values) == {"loss", "reconstruction_loss", "kl_loss", "elbo"}


def test_the_iwae_bound_is_log_mean_of_the_weights():
    mean, scale = exact_posterior() + np.array([[0.3, -0.2], [0.3, 0.1]])
    z = normal(np.broadcast_to(mean, (50, 2)), scale).sample(7, seed=tf.constant([1, 2])).numpy()
    norm = scipy.stats.norm
    log_weights = (
        norm(z @ W.T, SCALE).logpdf(X).sum(-1)
        + norm.logpdf(z).sum(-1)
        - norm(mean, scale).logpdf(z).sum(-1)
    )  # [samples, batch]
    values = terms(mean, scale, objective=IWAE(num_samples=7), rows=50)
    np.testing.assert_allclose(-values["loss"], np.log(np.exp(log_weights).mean(axis=0)), rtol=1e-4)
    np.testing.assert_allclose(values["elbo"], log_weights.mean(axis=0), rtol=1e-4)


def test_the_iwae_bound_rises_with_the_number_of_samples_to_the_evidence():
    mean, scale = exact_posterior()
    bounds = [
        -terms(mean + 0.3, scale * 1.5, objective=IWAE(k))["loss"].mean()
        for k in (1, 2, 5, 20, 100)
    ]
    assert np.all(np.diff(bounds) > 0)
    assert bounds[0] < evidence() - 0.2
    assert bounds[-1] == pytest.approx(evidence(), abs=0.01)


@pytest.mark.parametrize("doubly_reparameterized", [False, True])
def test_at_the_exact_posterior_every_weight_is_the_evidence(doubly_reparameterized):
    values = terms(*exact_posterior(), objective=IWAE(5, doubly_reparameterized))
    np.testing.assert_allclose(-values["loss"], evidence(), rtol=1e-5)


def gradients(objective, rows, at_once=25_000):
    """The mean gradient over so many rows, a part at a time for the sake of memory."""
    mean, scale = exact_posterior()
    variables = [
        tf.Variable(mean + 0.3, dtype=tf.float32),
        tf.Variable(scale * 1.5, dtype=tf.float32),
        tf.Variable(W, dtype=tf.float32),
    ]
    parts = []
    for part in range(rows // at_once):
        with tf.GradientTape() as tape:
            batch = batch_of(
                variables[0], variables[1], w=variables[2], rows=at_once, seed=(1, part)
            )
            loss = tf.reduce_mean(objective(batch).loss)
        parts.append([gradient.numpy() for gradient in tape.gradient(loss, variables)])
    return [np.mean(of_variable, axis=0) for of_variable in zip(*parts, strict=True)]


def test_the_doubly_reparameterized_gradient_is_the_same_in_the_mean_and_less_noisy():
    plain, doubly = (gradients(IWAE(10, flag), rows=200_000) for flag in (False, True))
    for one, other in zip(plain, doubly, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)
    np.testing.assert_array_equal(plain[2], doubly[2])  # the decoder's gradient is the plain one
    spread = [np.std(gradients_of_rows(IWAE(50, flag), rows=100), axis=0) for flag in (False, True)]
    assert np.all(spread[1] < 0.7 * spread[0])


def gradients_of_rows(objective, rows):
    """The gradient of the loss of each row by its own mean and scale."""
    mean, scale = exact_posterior()
    variables = [
        tf.Variable(np.tile(value, (rows, 1)), dtype=tf.float32) for value in (mean, scale * 1.2)
    ]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(objective(batch_of(*variables, rows=rows)).loss)
    return np.concatenate(tape.gradient(loss, variables), axis=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ELBO(num_samples=0), "`num_samples` of ELBO must be an integer of at least 1"),
        (lambda: ELBO(free_bits=-1), "`free_bits` of ELBO must be a number of nats of at least 0"),
        (lambda: IWAE(num_samples=1.5), "`num_samples` of IWAE must be an integer of at least 1"),
        (lambda: LinearWarmUp(steps=0), "`steps` of LinearWarmUp must be an integer of at least 1"),
        (lambda: Cyclical(period=None), "`period` of Cyclical must be an integer of at least 1"),
        (
            lambda: Cyclical(period=10, rise=0),
            "`rise` of Cyclical must be a fraction of the period",
        ),
        (
            lambda: Cyclical(period=10, rise=1.5),
            "`rise` of Cyclical must be a fraction of the period",
        ),
        (
            lambda: LinearWarmUp(steps=10, end=float("inf")),
            "`end` of LinearWarmUp must be a number of at least 0. Received: end=inf",
        ),
        (lambda: ELBO(mmd=10.0), "`mmd` of ELBO must be a keras_gen.regularizers.LatentMMD"),
        (
            lambda: LinearWarmUp(steps=10, end="1"),
            "`end` of LinearWarmUp must be a number of at least 0. Received: end='1'",
        ),
        (
            lambda: Cyclical(period=10, end=-1.0),
            "`end` of Cyclical must be a number of at least 0. Received: end=-1.0",
        ),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_largest_weight_of_a_schedule_is_kept_as_a_float():
    for schedule in (LinearWarmUp(steps=10, end=2), Cyclical(period=10, end=np.float32(2))):
        assert type(schedule.end) is float
        assert float(schedule(9)) == pytest.approx(
            1.8 if isinstance(schedule, LinearWarmUp) else 2.0
        )


def test_only_the_objective_that_needs_it_makes_the_frozen_posterior():
    def refuse():
        raise AssertionError("no frozen posterior is needed")

    batch = dataclasses.replace(batch_of(*exact_posterior(), rows=2), frozen_posterior=refuse)
    for objective in (ELBO(), IWAE(3)):
        objective(batch)
    with pytest.raises(AssertionError, match="no frozen posterior is needed"):
        IWAE(3, doubly_reparameterized=True)(batch)


class CappedELBO(ELBO):
    """An objective of one's own, as in docs/extending.md."""

    def __init__(self, cap, **kwargs):
        super().__init__(**kwargs)
        self.cap = cap

    def __call__(self, batch):
        values = super().__call__(batch)
        return dataclasses.replace(values, loss=tf.minimum(values.loss, self.cap))


def test_an_objective_of_ones_own_changes_the_terms_of_another():
    plain = terms(*exact_posterior(), rows=100)
    cap = np.median(plain["loss"])
    capped = terms(*exact_posterior(), objective=CappedELBO(cap=cap), rows=100)
    np.testing.assert_allclose(capped["loss"], np.minimum(plain["loss"], cap), rtol=1e-6)
    np.testing.assert_array_equal(capped["elbo"], plain["elbo"])


def test_an_objective_of_ones_own_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="__call__"):
        Objective()(batch_of(*exact_posterior(), rows=1))
