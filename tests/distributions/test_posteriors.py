import functools

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_gen.distributions import (
    DiagonalNormal,
    FullCovarianceNormal,
    InverseAutoregressiveNormal,
    Posterior,
    StandardNormal,
    kl_divergence,
)


def test_diagonal_normal_is_scipys_multivariate_normal():
    parameters = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    posterior = DiagonalNormal(3)(parameters)
    mean, raw = parameters[:, :3], parameters[:, 3:]
    scale = 1e-4 + (1 - 1e-4) * np.log1p(np.exp(raw + np.log(np.e - 1)))
    np.testing.assert_allclose(posterior.mean(), mean, rtol=1e-6)
    np.testing.assert_allclose(posterior.stddev(), scale, rtol=1e-5)
    z = np.random.default_rng(1).normal(size=(5, 3))
    expected = [
        scipy.stats.multivariate_normal(m, np.diag(s**2)).logpdf(at)
        for m, s, at in zip(mean, scale, z, strict=True)
    ]
    np.testing.assert_allclose(posterior.log_prob(z.astype("float32")), expected, rtol=1e-4)


def test_diagonal_normal_samples_have_its_moments():
    posterior = DiagonalNormal(2)(tf.constant([1.0, -2.0, 0.5, -1.0]))
    z = posterior.sample(100_000, seed=(1, 2)).numpy()
    standard_error = posterior.stddev().numpy() / np.sqrt(len(z))
    assert np.all(np.abs(z.mean(axis=0) - [1, -2]) < 4 * standard_error)
    np.testing.assert_allclose(z.std(axis=0), posterior.stddev(), rtol=0.02)
    assert abs(np.corrcoef(z.T)[0, 1]) < 4 / np.sqrt(len(z))


@pytest.mark.parametrize("signs", ["same", "random"])
@pytest.mark.parametrize("event_size", [1, 2, 50])
@pytest.mark.parametrize(
    "family", [DiagonalNormal, FullCovarianceNormal, InverseAutoregressiveNormal]
)
def test_every_family_stays_finite(family, event_size, signs):
    family, raw = family(event_size), np.float32([-1e4, -50, 0, 50, 1e4])
    sign = (
        1
        if signs == "same"
        else np.random.default_rng(0).choice([-1, 1], size=(1, family.parameter_size))
    )
    parameters = tf.Variable(
        np.repeat(raw[:, None], family.parameter_size, axis=1) * sign, dtype=tf.float32
    )
    standard = StandardNormal(event_size).distribution()
    with tf.GradientTape() as tape:
        posterior = family(parameters)
        z = posterior.sample(seed=(0, 0))
        values = [z, posterior.log_prob(z), kl_divergence(posterior, standard).value]
        total = sum(tf.reduce_sum(value) for value in values)
    for value in [*values, tape.gradient(total, parameters)]:
        assert np.all(np.isfinite(value))


def test_full_covariance_normal_is_scipys_multivariate_normal():
    parameters = np.random.default_rng(0).normal(size=(5, 9)).astype("float32")
    posterior = FullCovarianceNormal(3)(parameters)
    scale = DiagonalNormal(3)(parameters[:, :6]).stddev().numpy()
    z = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    for i, (_, _, _, _, _, _, a, b, c) in enumerate(parameters):
        rows = np.array(
            [[0, 0, 0], short_row([c], 3), short_row([b, a], 3)]
        )  # TFP fills a triangle from its end
        tril = scale[i][:, None] * (np.eye(3) + rows)
        np.testing.assert_allclose(posterior.covariance()[i], tril @ tril.T, rtol=1e-4, atol=1e-5)
        expected = scipy.stats.multivariate_normal(parameters[i, :3], tril @ tril.T).logpdf(z[i])
        assert float(posterior.log_prob(z)[i]) == pytest.approx(expected, rel=1e-3)


def short_row(entries, length):
    entries = np.array(entries)
    return np.pad(entries * 10 / np.sqrt(100 + np.sum(entries**2)), (0, length - len(entries)))


def test_full_covariance_normal_with_nothing_below_the_diagonal_is_the_diagonal_one():
    parameters = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    diagonal = DiagonalNormal(3)(parameters)
    full = FullCovarianceNormal(3)(np.pad(parameters, [(0, 0), (0, 3)]))
    z = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    np.testing.assert_allclose(full.log_prob(z), diagonal.log_prob(z), rtol=1e-5)


def test_a_full_covariance_fits_a_correlated_posterior_and_a_diagonal_one_is_left_with_the_cost_of_independence():
    """The best diagonal q has KL(q ‖ p) = ½ [Σ log (Λ_ii) + log det Σ], Λ = Σ⁻¹: the closed-form cost of independence."""
    covariance = np.array([[1.0, 0.8, 0.2], [0.8, 1.5, -0.3], [0.2, -0.3, 0.7]])
    mean = np.array([0.5, -1.0, 2.0])
    target = tfp.distributions.MultivariateNormalTriL(
        tf.constant(mean, tf.float32), tf.constant(np.linalg.cholesky(covariance), tf.float32)
    )
    cost = 0.5 * (
        np.log(np.diag(np.linalg.inv(covariance))).sum() + np.linalg.slogdet(covariance)[1]
    )
    for family, left in ((FullCovarianceNormal(3), 0), (DiagonalNormal(3), cost)):
        parameters = tf.Variable(tf.zeros(family.parameter_size))
        optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 600))

        @tf.function
        def step(family=family, parameters=parameters, optimizer=optimizer):
            with tf.GradientTape() as tape:
                kl = kl_divergence(family(parameters), target).value
            optimizer.apply([tape.gradient(kl, parameters)], [parameters])
            return kl

        for _ in range(600):
            kl = step()
        assert float(kl) == pytest.approx(left, abs=1e-4)
    assert cost > 0.3
    np.testing.assert_allclose(family(parameters).mean(), mean, atol=1e-2)


def stirred_flow(event_size=4):
    """A flow that is not the identity."""
    family, random = (
        InverseAutoregressiveNormal(event_size, hidden_size=16, context_size=3),
        np.random.default_rng(0),
    )
    for variable in family.variables:
        variable.assign(random.normal(size=variable.shape))
    return family, random.normal(size=(1, family.parameter_size)).astype("float32")


def test_the_flow_is_the_change_of_variables_of_its_normal():
    family, parameters = stirred_flow()
    posterior, base = family(parameters), DiagonalNormal(4)(parameters[:, :8])
    noise = base.sample(seed=(1, 2))
    with tf.GradientTape() as tape:
        tape.watch(noise)
        z = posterior.bijector.forward(noise)
    jacobian = tape.jacobian(z, noise)[0, :, 0, :].numpy()
    expected = base.log_prob(noise)[0] - np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(
        family(parameters).log_prob(tf.identity(z))[0], expected, rtol=1e-4
    )  # by the way back, step by step
    assert np.abs(jacobian - np.diag(np.diag(jacobian))).max() > 0.1
    np.testing.assert_allclose(family.point(posterior), posterior.bijector.forward(base.mean()))


def test_each_flow_is_autoregressive_and_begins_as_the_identity():
    family, parameters = stirred_flow()
    flow = family(parameters).bijector.bijectors[-1]  # of a chain, the last is applied first
    with tf.GradientTape() as tape:
        z = tf.constant([[0.3, -0.5, 0.1, 0.9]])
        tape.watch(z)
        out = flow.forward(z)
    jacobian = tape.jacobian(out, z)[0, :, 0, :].numpy()
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0)
    assert np.abs(jacobian[np.tril_indices(4, -1)]).min() > 0
    fresh = InverseAutoregressiveNormal(4, num_flows=2, context_size=3)
    np.testing.assert_allclose(fresh(parameters).bijector.forward(z), z)


def test_a_flow_fits_what_a_normal_cannot():
    """z_1 ~ N(0, 1), z_2 | z_1 ~ N(z_1², 0.3²): bent, so that no normal posterior has a small divergence."""
    bent = tfp.distributions.JointDistributionSequential(
        [tfp.distributions.Normal(0.0, 1.0), lambda z1: tfp.distributions.Normal(z1**2, 0.3)]
    )

    def divergence(family):
        parameters, optimizer = (
            tf.Variable(tf.zeros((1, family.parameter_size))),
            keras.optimizers.Adam(0.03),
        )
        variables = [parameters, *(variable.value for variable in family.variables)]

        @tf.function
        def step(i):
            with tf.GradientTape() as tape:
                q = family(parameters)
                z = q.sample(256, seed=tf.stack([i, 0]))
                kl = tf.reduce_mean(q.log_prob(z)[:, 0] - bent.log_prob([z[:, 0, 0], z[:, 0, 1]]))
            optimizer.apply(tape.gradient(kl, variables), variables)
            return kl

        return np.mean([float(step(tf.constant(i))) for i in range(1000)][-50:])

    keras.utils.set_random_seed(0)
    flow, full = (
        divergence(InverseAutoregressiveNormal(2, hidden_size=32, context_size=1)),
        divergence(FullCovarianceNormal(2)),
    )
    assert full > 0.5
    assert flow < 0.5 * full


FLOW = functools.partial(InverseAutoregressiveNormal, hidden_size=8, context_size=2)


@pytest.mark.parametrize("family", [DiagonalNormal, FullCovarianceNormal, FLOW])
def test_gradients_under_xla_with_an_unknown_batch_are_those_without(family):
    family, standard = family(3), StandardNormal(3).distribution()

    def gradient(parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            posterior = family(parameters)
            z = family.point(posterior) + 0.1
            loss = posterior.log_prob(z)
            if family.variables == ():  # a sampled divergence has other noise under XLA
                loss += kl_divergence(posterior, standard).value
        return tape.gradient(loss, parameters)

    parameters = tf.constant(
        np.random.default_rng(0).normal(size=(4, family.parameter_size)), tf.float32
    )
    signature = [tf.TensorSpec((None, family.parameter_size))]
    compiled = tf.function(gradient, input_signature=signature, jit_compile=True)
    np.testing.assert_allclose(compiled(parameters), gradient(parameters), rtol=1e-4, atol=1e-5)


def test_float16_parameters_make_a_float32_distribution():
    assert DiagonalNormal(2)(tf.zeros((1, 4), tf.float16)).dtype == tf.float32


@pytest.mark.parametrize("event_size", [0, -1, 2.0, "2", None])
def test_event_size_is_checked(event_size):
    with pytest.raises(ValueError, match="`event_size` of DiagonalNormal must be an integer of at least 1"):
        DiagonalNormal(event_size)


def test_a_family_of_ones_own_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="parameter_size"):
        Posterior(2).parameter_size  # noqa: B018
    with pytest.raises(NotImplementedError, match="__call__"):
        Posterior(2)(tf.zeros((1, 2)))
