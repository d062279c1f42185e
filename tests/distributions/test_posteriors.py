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
from keras_gen.distributions.posteriors import autoregressive_masks


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
    "make", [DiagonalNormal, FullCovarianceNormal, InverseAutoregressiveNormal]
)
def test_every_posterior_stays_finite(make, event_size, signs):
    posterior = make(event_size)
    sign = np.ones((1, posterior.parameter_size))
    if signs == "random":
        sign = np.random.default_rng(0).choice([-1, 1], size=(1, posterior.parameter_size))
    raw = np.array([[-1e4], [-50], [0], [50], [1e4]])
    parameters = tf.Variable(raw * sign, dtype=tf.float32)
    standard = StandardNormal(event_size).distribution()
    with tf.GradientTape() as tape:
        q = posterior(parameters)
        z = q.sample(seed=(0, 0))
        values = [z, q.log_prob(z), kl_divergence(q, standard).value]
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


def test_a_full_covariance_fits_a_correlated_posterior_and_a_diagonal_one_does_not():
    """The best diagonal q has KL(q ‖ p) = ½ [Σ log (Λ_ii) + log det Σ], with Λ = Σ⁻¹.

    It is the closed-form cost of the assumption of independence.
    """
    covariance = np.array([[1.0, 0.8, 0.2], [0.8, 1.5, -0.3], [0.2, -0.3, 0.7]])
    mean = np.array([0.5, -1.0, 2.0])
    target = tfp.distributions.MultivariateNormalTriL(
        tf.constant(mean, tf.float32), tf.constant(np.linalg.cholesky(covariance), tf.float32)
    )
    cost = 0.5 * (
        np.log(np.diag(np.linalg.inv(covariance))).sum() + np.linalg.slogdet(covariance)[1]
    )
    for posterior, left in ((FullCovarianceNormal(3), 0), (DiagonalNormal(3), cost)):
        parameters = tf.Variable(tf.zeros(posterior.parameter_size))
        optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 600))

        @tf.function
        def step(posterior=posterior, parameters=parameters, optimizer=optimizer):
            with tf.GradientTape() as tape:
                kl = kl_divergence(posterior(parameters), target).value
            optimizer.apply([tape.gradient(kl, parameters)], [parameters])
            return kl

        for _ in range(600):
            kl = step()
        assert float(kl) == pytest.approx(left, abs=1e-4)
    assert cost > 0.3
    np.testing.assert_allclose(posterior(parameters).mean(), mean, atol=1e-2)


def test_a_full_covariance_of_two_latents():
    posterior = FullCovarianceNormal(2)(tf.constant([[0.0, 0.0, 0.0, 0.0, 1.0]]))
    below = 10 / np.sqrt(101)
    expected = [[1, below], [below, 1 + below**2]]
    np.testing.assert_allclose(posterior.covariance()[0], expected, rtol=1e-5)


@pytest.mark.parametrize("event_size", [1, 3])
@pytest.mark.parametrize(
    "make", [DiagonalNormal, FullCovarianceNormal, InverseAutoregressiveNormal]
)
def test_parameters_can_have_several_leading_axes(make, event_size):
    posterior = make(event_size)
    random = np.random.default_rng(0)
    for variable in posterior.variables:
        variable.assign(0.3 * random.normal(size=variable.shape))
    parameters = random.normal(size=(2, 4, posterior.parameter_size)).astype("float32")
    z = random.normal(size=(2, 4, event_size)).astype("float32")
    together = posterior(parameters)
    points = posterior.point(together)
    log_prob = together.log_prob(z)
    assert log_prob.shape == (2, 4)
    for i in range(2):
        alone = posterior(parameters[i])
        np.testing.assert_allclose(points[i], posterior.point(alone), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_prob[i], alone.log_prob(z[i]), rtol=1e-4)


def random_flow(event_size=4, **arguments):
    """A flow that is not the identity, and parameters for it."""
    posterior = InverseAutoregressiveNormal(event_size, hidden_size=16, context_size=3, **arguments)
    random = np.random.default_rng(0)
    for variable in posterior.variables:
        variable.assign(random.normal(size=variable.shape))
    return posterior, random.normal(size=(1, posterior.parameter_size)).astype("float32")


def test_the_flow_is_the_change_of_variables_of_its_normal():
    posterior, parameters = random_flow()
    q = posterior(parameters)
    base = DiagonalNormal(4)(parameters[:, :8])
    noise = base.sample(seed=(1, 2))
    with tf.GradientTape() as tape:
        tape.watch(noise)
        z = q.bijector.forward(noise)
    jacobian = tape.jacobian(z, noise)[0, :, 0, :].numpy()
    expected = base.log_prob(noise)[0] - np.linalg.slogdet(jacobian)[1]
    not_sampled_here = tf.identity(z)  # its density is found by inverting the flows
    found = posterior(parameters).log_prob(not_sampled_here)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.abs(jacobian - np.diag(np.diag(jacobian))).max() > 0.1
    np.testing.assert_allclose(posterior.point(q), q.bijector.forward(base.mean()))


def test_a_flow_is_a_masked_network_whose_result_is_reversed():
    posterior, parameters = random_flow(num_flows=1)
    from_z, from_context, bias, to_output = posterior.get_weights()
    random = np.random.default_rng(1)
    z = random.normal(size=(1, 4))
    degrees = 1 + np.arange(16) % 3  # the number of latents that a hidden unit depends on
    hidden_mask = np.arange(1, 5)[:, None] <= degrees
    output_mask = degrees[:, None] < np.tile(np.arange(1, 5), 2)
    hidden = np.tanh(z @ (from_z * hidden_mask) + parameters[:, 8:] @ from_context + bias)
    shift, raw = np.split(hidden @ (to_output * output_mask), 2, axis=1)
    expected = ((z - shift) * np.exp(-3 * np.tanh(raw / 3)))[:, ::-1]
    found = posterior(parameters).bijector.forward(z.astype("float32"))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("event_size", "hidden_mask", "output_mask"),
    [
        (1, [[0, 0, 0]], [[1, 1], [1, 1], [1, 1]]),
        (2, [[1, 1, 1], [0, 0, 0]], [[0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1]]),
        (
            3,
            [[1, 1, 1], [0, 1, 0], [0, 0, 0]],
            [[0, 1, 1, 0, 1, 1], [0, 0, 1, 0, 0, 1], [0, 1, 1, 0, 1, 1]],
        ),
    ],
)
def test_masks_of_the_smallest_networks(event_size, hidden_mask, output_mask):
    found = autoregressive_masks(event_size, 3)
    np.testing.assert_array_equal(found[0], hidden_mask)
    np.testing.assert_array_equal(found[1], output_mask)


def test_each_flow_is_autoregressive_and_begins_as_the_identity():
    posterior, parameters = random_flow()
    flow = posterior(parameters).bijector.bijectors[-1]  # of a chain, the last is applied first
    with tf.GradientTape() as tape:
        z = tf.constant([[0.3, -0.5, 0.1, 0.9]])
        tape.watch(z)
        out = flow.forward(z)
    jacobian = tape.jacobian(out, z)[0, :, 0, :].numpy()
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0)
    assert np.abs(jacobian[np.tril_indices(4, -1)]).min() > 0
    fresh = InverseAutoregressiveNormal(4, num_flows=2, context_size=3)
    np.testing.assert_allclose(fresh(parameters).bijector.forward(z), z)


def test_the_flow_owns_its_weights_in_the_order_of_the_first_version():
    posterior = InverseAutoregressiveNormal(3, num_flows=2, hidden_size=400, context_size=300)
    of_one_flow = [(3, 400), (300, 400), (400,), (400, 6)]
    assert [variable.shape for variable in posterior.variables] == 2 * of_one_flow
    assert posterior.count_params() == 2 * sum(np.prod(shape) for shape in of_one_flow)
    assert all(network.built for network in posterior.networks)
    for start in (0, 4):
        inputs, context, bias, outputs = posterior.get_weights()[start : start + 4]
        for kernel in (inputs, context):  # uniform with the limit of Glorot & Bengio 2010
            limit = np.sqrt(6 / sum(kernel.shape))
            assert scipy.stats.kstest(kernel.ravel() / limit, "uniform", (-1, 2)).pvalue > 1e-3
        assert scipy.stats.kstest(bias, "uniform", (-1, 2)).pvalue > 1e-3
        np.testing.assert_array_equal(outputs, 0)
    assert not np.array_equal(posterior.get_weights()[0], posterior.get_weights()[4])


class Caller(keras.layers.Layer):
    """A layer that reads the posterior's weights inside of its call, as a VAE does."""

    def __init__(self, posterior):
        super().__init__()
        self.posterior = posterior

    def call(self, parameters):
        return self.posterior.point(self.posterior(parameters))


def test_the_flow_computes_in_float32_under_mixed_precision():
    float32_flow, parameters = random_flow()
    expected = Caller(float32_flow)(parameters)
    keras.config.set_dtype_policy("mixed_float16")
    flow, _ = random_flow()
    rounded = parameters.astype("float16").astype("float32")
    found = Caller(flow)(rounded)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, float32_flow.point(float32_flow(rounded)))
    assert not np.array_equal(found, expected)


def test_a_flow_fits_what_a_normal_cannot():
    """z_1 ~ N(0, 1), z_2 | z_1 ~ N(z_1², 0.3²): no normal posterior has a small divergence."""
    bent = tfp.distributions.JointDistributionSequential(
        [tfp.distributions.Normal(0.0, 1.0), lambda z1: tfp.distributions.Normal(z1**2, 0.3)]
    )

    def divergence(posterior):
        parameters = tf.Variable(tf.zeros((1, posterior.parameter_size)))
        optimizer = keras.optimizers.Adam(0.03)
        variables = [parameters, *(variable.value for variable in posterior.variables)]

        @tf.function
        def step(i):
            with tf.GradientTape() as tape:
                q = posterior(parameters)
                z = q.sample(256, seed=tf.stack([i, 0]))
                kl = tf.reduce_mean(q.log_prob(z)[:, 0] - bent.log_prob([z[:, 0, 0], z[:, 0, 1]]))
            optimizer.apply(tape.gradient(kl, variables), variables)
            return kl

        return np.mean([float(step(tf.constant(i))) for i in range(1000)][-50:])

    keras.utils.set_random_seed(0)
    flow = divergence(InverseAutoregressiveNormal(2, hidden_size=32, context_size=1))
    full = divergence(FullCovarianceNormal(2))
    assert full > 0.5
    assert flow < 0.5 * full


FLOW = functools.partial(InverseAutoregressiveNormal, hidden_size=8, context_size=2)


@pytest.mark.parametrize("make", [DiagonalNormal, FullCovarianceNormal, FLOW])
def test_gradients_under_xla_with_an_unknown_batch_are_those_without(make):
    posterior = make(3)
    standard = StandardNormal(3).distribution()

    def gradient(parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            q = posterior(parameters)
            z = posterior.point(q) + 0.1
            loss = q.log_prob(z)
            if make is not FLOW:  # a sampled divergence has other noise under XLA
                loss += kl_divergence(q, standard).value
        return tape.gradient(loss, parameters)

    parameters = tf.constant(
        np.random.default_rng(0).normal(size=(4, posterior.parameter_size)), tf.float32
    )
    signature = [tf.TensorSpec((None, posterior.parameter_size))]
    compiled = tf.function(gradient, input_signature=signature, jit_compile=True)
    np.testing.assert_allclose(compiled(parameters), gradient(parameters), rtol=1e-4, atol=1e-5)


def test_float16_parameters_make_a_float32_distribution():
    assert DiagonalNormal(2)(tf.zeros((1, 4), tf.float16)).dtype == tf.float32


@pytest.mark.parametrize("event_size", [0, -1, 2.0, "2", None])
def test_event_size_is_checked(event_size):
    message = "`event_size` of DiagonalNormal must be an integer of at least 1"
    with pytest.raises(ValueError, match=message):
        DiagonalNormal(event_size)


def test_a_posterior_of_ones_own_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="must define `parameter_size`"):
        Posterior(2).parameter_size  # noqa: B018
    with pytest.raises(NotImplementedError, match="must define `__call__`"):
        Posterior(2)(tf.zeros((1, 2)))


@keras.saving.register_keras_serializable("tests")
class Scaled(Posterior):
    """N(μ, s² I) with one learned s, written without the arguments of a Keras layer."""

    def __init__(self, event_size, start="ones"):
        super().__init__(event_size)
        self.start = start
        self.spread = self.add_weight((), start, name="spread", autocast=False)

    @property
    def parameter_size(self):
        return self.event_size

    def __call__(self, parameters):
        spread = tf.convert_to_tensor(self.spread)
        normal = tfp.distributions.Normal(tf.cast(parameters, tf.float32), tf.abs(spread))
        return tfp.distributions.Independent(normal, 1)


def test_a_posterior_is_a_layer_and_gives_its_distribution():
    posterior = Scaled(3)
    assert isinstance(posterior, keras.layers.Layer)
    assert posterior.built
    assert isinstance(posterior(tf.zeros((2, 3))), tfp.distributions.Distribution)
    assert [variable.name for variable in posterior.trainable_variables] == ["spread"]
    assert posterior.count_params() == 1
    assert DiagonalNormal(3).variables == []


def test_a_configuration_has_only_what_the_constructor_accepts():
    config = Scaled(3, start="zeros").get_config()
    del config["other attributes"]  # such as the dtype policy, which is set after construction
    assert config == {"event_size": 3, "start": "zeros"}
    again = Scaled.from_config(Scaled(3, start="zeros").get_config())
    assert (again.event_size, again.start) == (3, "zeros")
    config = DiagonalNormal(3, name="mine", trainable=False).get_config()
    assert config.keys() == {"event_size", "name", "trainable", "dtype"}
    again = DiagonalNormal.from_config(config)
    assert (again.event_size, again.name, again.trainable) == (3, "mine", False)


def test_a_posterior_shows_the_call_that_makes_it():
    assert repr(FullCovarianceNormal(event_size=5)) == "FullCovarianceNormal(event_size=5)"
    assert str(Scaled(3, "zeros")) == "Scaled(event_size=3, start='zeros')"


def test_a_posterior_that_overrides_build_is_not_built_by_its_constructor():
    class Later(DiagonalNormal):
        def build(self, input_shape):
            self.extra = self.add_weight((), "ones", name="extra")

    posterior = Later(2)
    assert not posterior.built
    posterior.build(None)
    assert posterior.built
    assert posterior.count_params() == 1
