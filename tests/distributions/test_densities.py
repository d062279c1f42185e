"""Fitted densities against scikit-learn, scipy, finite differences and exact densities."""

import keras
import numpy as np
import pytest
import scipy.stats
import sklearn.mixture
import tensorflow as tf

from keras_gen.distributions import (
    FittedDensity,
    FittedFlow,
    FittedMixture,
    StandardNormal,
    densities,
)
from keras_gen.distributions.densities import density_to_fit

RANDOM = np.random.default_rng(0)
CENTERS = np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
CLUSTERS = np.concatenate([center + RANDOM.normal(size=(200, 2)) for center in CENTERS])
DENSITIES = {
    "mixture": lambda size: FittedMixture(size, 2),
    "mixture of any number": lambda size: FittedMixture(size, None),
    "flow": lambda size: FittedFlow(size, num_flows=2, hidden_size=8),
}


def log_prob(density, z):
    return density.distribution().log_prob(np.asarray(z, np.float32)).numpy()


def bic(number):
    """The BIC of a mixture of 2-dimensional normal distributions, by scipy and its definition."""
    mixture = sklearn.mixture.GaussianMixture(number, random_state=0).fit(CLUSTERS)
    parts = [
        np.log(weight) + scipy.stats.multivariate_normal(mean, covariance).logpdf(CLUSTERS)
        for weight, mean, covariance in zip(
            mixture.weights_, mixture.means_, mixture.covariances_, strict=True
        )
    ]
    log_likelihood = scipy.special.logsumexp(parts, axis=0).sum()
    parameters = number * (2 + 3) + number - 1  # means, covariances, weights
    return parameters * np.log(len(CLUSTERS)) - 2 * log_likelihood


def test_the_number_of_components_has_the_lowest_bic():
    density = FittedMixture(2, num_components=None)
    density.fit(CLUSTERS)
    assert density.fitted_components == 1 + np.argmin([bic(number) for number in range(1, 7)])
    assert density.fitted_components == len(CENTERS)
    assert density.num_components is None
    mixture = sklearn.mixture.GaussianMixture(3, random_state=0).fit(CLUSTERS)
    z = RANDOM.normal(scale=5, size=(100, 2))
    np.testing.assert_allclose(log_prob(density, z), mixture.score_samples(z), rtol=1e-4)
    samples = density.sample_rows(np.arange(1000)).numpy()
    distances = np.linalg.norm(samples[:, None] - CENTERS, axis=-1)
    np.testing.assert_allclose(np.bincount(distances.argmin(axis=1)) / 1000, 1 / 3, atol=0.06)
    assert distances.min(axis=1).max() < 5


def test_a_second_fit_chooses_the_number_of_components_again():
    density = FittedMixture(2, num_components=None)
    density.fit(CLUSTERS)
    density.fit(CLUSTERS[:200])
    assert density.fitted_components == 1
    expected = scipy.stats.multivariate_normal(
        CLUSTERS[:200].mean(axis=0), np.cov(CLUSTERS[:200].T, bias=True)
    )
    np.testing.assert_allclose(
        log_prob(density, CLUSTERS[:50]), expected.logpdf(CLUSTERS[:50]), rtol=1e-4
    )


def test_the_number_of_components_grows_by_a_fifth_from_ten_to_64(monkeypatch):
    tried = []

    class Mixture:
        def __init__(self, number, **_):
            tried.append(number)

        def fit(self, latents):
            return self

        def bic(self, latents):
            return -len(tried)  # more components are always better

    monkeypatch.setattr("sklearn.mixture.GaussianMixture", Mixture)
    assert densities._number_of_components(np.zeros((100, 2)), 0) == 64
    assert tried == [*range(1, 11), 12, 14, 17, 20, 24, 28, 34, 40, 48, 56, 64]
    assert densities._number_of_components(np.zeros((15, 2)), 0) == 14  # as many as latents
    assert densities._number_of_components(np.zeros((14, 2)), 0) == 14


def test_numbers_of_components_are_compared_on_at_most_10000_latents(monkeypatch):
    received = []

    class Mixture:
        def __init__(self, number, **_):
            pass

        def fit(self, latents):
            received.append(latents)
            return self

        def bic(self, latents):
            return [5.0, 5.0, 4.0, 6.0][(len(received) - 1) % 4]

    monkeypatch.setattr("sklearn.mixture.GaussianMixture", Mixture)
    latents = np.arange(10_001.0)[:, None]
    assert densities._number_of_components(latents, 0) == 3
    assert len(received) == 4  # the BIC rises, and no larger number is tried
    assert received[0].shape == (10_000, 1)
    assert len(np.unique(received[0])) == 10_000
    densities._number_of_components(latents[:10_000], 0)
    np.testing.assert_array_equal(received[-1], latents[:10_000])


def test_equal_latents_are_fitted_without_a_warning():
    density = FittedMixture(1, num_components=None)
    density.fit([[0.0]] * 10 + [[1.0]] * 10)
    assert density.fitted_components == 2


@pytest.mark.parametrize("kind", ["mixture", "mixture of any number"])
def test_two_latents_are_enough(kind):
    density = DENSITIES[kind](2)
    density.fit([[0.0, 1.0], [2.0, -1.0]])
    assert np.isfinite(log_prob(density, [[1.0, 0.0]])).all()


class Caller(keras.layers.Layer):
    """A layer that reads the weights of a density inside of its call."""

    def __init__(self, density):
        super().__init__()
        self.density = density

    def call(self, z):
        return self.density.distribution().log_prob(tf.cast(z, tf.float32))


@pytest.mark.parametrize("kind", DENSITIES)
def test_weights_are_float32_under_mixed_precision(kind):
    keras.config.set_dtype_policy("mixed_float16")
    density = DENSITIES[kind](2)
    for weight in density.weights:
        weight.assign(weight + 0.1 + 1e-4)
    z = np.float32([[0.5, -0.25]])
    found = Caller(density)(z)
    np.testing.assert_array_equal(found, log_prob(density, z))


@pytest.mark.parametrize("kind", DENSITIES)
def test_before_the_fit_it_is_the_standard_normal_distribution(kind):
    z = RANDOM.normal(size=(10, 3))
    expected = scipy.stats.norm.logpdf(z).sum(axis=1)
    density = DENSITIES[kind](3)
    np.testing.assert_allclose(log_prob(density, z), expected, rtol=1e-5)
    assert density.trainable_variables == []


def random_flow(size, seed=0):
    """A flow with random weights, far from the identity."""
    random = np.random.default_rng(seed)
    flow = FittedFlow(size, num_flows=3, hidden_size=7)
    for weight in flow.weights:
        weight.assign(random.normal(scale=0.7, size=weight.shape))
    flow.scale.assign(random.uniform(0.5, 1.5, size))
    return flow


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_density_of_a_flow_is_that_of_the_change_of_variables(size):
    distribution = random_flow(size).distribution()
    noise = RANDOM.normal(size=size).astype(np.float32)

    def sample_of(u):
        return np.asarray(distribution.bijector.forward(u.astype(np.float32)), np.float64)

    jacobian = np.stack(
        [(sample_of(noise + step) - sample_of(noise - step)) / 2e-2 for step in 1e-2 * np.eye(size)]
    )
    _, log_determinant = np.linalg.slogdet(jacobian)
    expected = scipy.stats.norm.logpdf(noise).sum() - log_determinant
    found = distribution.log_prob(sample_of(noise).astype(np.float32))
    assert float(found) == pytest.approx(expected, abs=0.02)


def test_a_flow_is_two_masked_networks_with_a_reversal_between_them():
    flow = FittedFlow(3, num_flows=2, hidden_size=4)
    random = np.random.default_rng(0)
    for weight in flow.weights:
        weight.assign(random.normal(size=weight.shape))
    *networks, mean, scale = flow.get_weights()
    degrees = 1 + np.arange(4) % 2  # the number of latents that a hidden unit depends on
    hidden_mask = np.arange(1, 4)[:, None] <= degrees
    output_mask = degrees[:, None] < np.tile(np.arange(1, 4), 2)
    u = random.normal(size=3)
    z = u
    for hidden_kernel, hidden_bias, output_kernel, output_bias in zip(*networks, strict=True):
        z = z[::-1] if z is not u else u
        of_flow = np.zeros(3)
        for i in range(3):
            hidden = np.tanh(of_flow @ (hidden_kernel * hidden_mask) + hidden_bias)
            output = hidden @ (output_kernel * output_mask) + output_bias
            of_flow[i] = z[i] * np.exp(3 * np.tanh(output[3 + i] / 3)) + output[i]
        z = of_flow
    found = flow.distribution().bijector.forward(u.astype("float32"))
    np.testing.assert_allclose(found, mean + scale * z, rtol=1e-4)


def test_the_steps_of_the_training_of_a_flow(monkeypatch):
    """256 latents per step, at most 30 evaluations on a tenth of the latents, the best weights."""
    flow = FittedFlow(2, num_flows=2, hidden_size=400)
    batches, values, seen = [], iter([3.0, 1.0, 1.0, *[2.0] * 13]), []

    class Density:
        def __init__(self, weights):
            seen.append([np.array(weight) for weight in weights])
            self.total = tf.add_n([tf.reduce_sum(weight) for weight in weights])

        def log_prob(self, batch):
            batches.append(np.array(batch))
            if len(batch) == 4:
                return tf.constant([-next(values)])
            return self.total + tf.zeros(len(batch))

    monkeypatch.setattr(flow, "_standardized", Density)
    monkeypatch.setattr(tf, "function", lambda function, **_: function)
    latents = np.arange(80.0).reshape(40, 2)
    flow.fit(latents, num_steps=31)
    assert [len(batch) for batch in batches] == [256, 256, 4] * 15 + [256, 4]
    rows = np.unique(np.concatenate([batches[2], *batches[:2]]), axis=0)
    np.testing.assert_allclose(rows, (latents - latents.mean(0)) / latents.std(0), rtol=1e-5)
    np.testing.assert_allclose(flow.mean, latents.mean(0))
    np.testing.assert_allclose(flow.scale, latents.std(0))
    for weight, best in zip(flow.network_weights, seen[5], strict=True):  # the first of two best
        np.testing.assert_array_equal(weight, best)
    kernel, bias, *output = seen[0]
    limit = np.sqrt(6 / (2 + 400))  # Glorot & Bengio 2010
    assert scipy.stats.kstest(kernel.ravel() / limit, "uniform", (-1, 2)).pvalue > 1e-3
    assert np.abs(kernel).max() == pytest.approx(limit, rel=0.01)
    assert scipy.stats.kstest(bias.ravel(), "uniform", (-1, 2)).pvalue > 1e-3
    for weight in output:
        np.testing.assert_array_equal(weight, 0)
    # the first step of Adam is as long as the learning rate
    np.testing.assert_allclose(seen[1][0] - kernel, 0.002, rtol=1e-3)


def test_the_density_of_a_flow_integrates_to_one():
    axis = np.linspace(-25, 25, 1001)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    for seed in range(3):
        values = np.exp(log_prob(random_flow(2, seed), grid).astype(np.float64))
        assert values.sum() * 0.05**2 == pytest.approx(1, abs=0.02)


def test_samples_of_a_flow_are_those_of_its_density_and_depend_on_their_seed_alone():
    flow = random_flow(4)
    samples = flow.sample_rows(np.arange(500)).numpy()
    u = flow.distribution().bijector.inverse(samples).numpy()
    assert all(scipy.stats.kstest(u[:, i], "norm").pvalue > 1e-3 for i in range(4))
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.15
    np.testing.assert_allclose(flow.sample_rows([7, 3])[1], samples[3], atol=1e-5)
    assert flow.sample_rows(np.zeros(0, np.int64)).shape == (0, 4)


def banana(number, random):
    """Samples with z₁ ~ N(0, 1) and z₂ | z₁ ~ N(z₁², 0.3²), scaled, and their exact density."""
    first = random.normal(size=number)
    second = first**2 + 0.3 * random.normal(size=number)
    exact = scipy.stats.norm.logpdf(first) + scipy.stats.norm(first**2, 0.3).logpdf(second)
    return np.stack([10 * first + 5, second], axis=1), exact - np.log(10)


def test_a_fitted_flow_comes_near_the_exact_density():
    latents, _ = banana(4000, RANDOM)
    test, exact = banana(2000, np.random.default_rng(1))
    flow = FittedFlow(2, num_flows=2, hidden_size=32)
    flow.fit(latents, num_steps=600)
    found = log_prob(flow, test).mean()
    normal = scipy.stats.multivariate_normal(latents.mean(axis=0), np.cov(latents.T))
    assert exact.mean() - 0.25 < found < exact.mean() + 0.05
    assert normal.logpdf(test).mean() < exact.mean() - 0.8


@pytest.mark.parametrize("kind", DENSITIES)
def test_a_fit_depends_on_its_latents_and_its_seed_alone(kind):
    arguments = {"num_steps": 3} if kind == "flow" else {}
    fitted = []
    for seed in (0, 0, 1):
        density = DENSITIES[kind](2)
        keras.utils.set_random_seed(len(fitted))
        before = np.random.get_state()[1].copy()
        density.fit(CLUSTERS + 0.0, seed, **arguments)
        np.testing.assert_array_equal(np.random.get_state()[1], before)
        fitted.append([weight.numpy() for weight in density.weights])
    for first, second in zip(fitted[0], fitted[1], strict=True):
        np.testing.assert_array_equal(first, second)
    if kind != "mixture of any number":  # any seed leads to the same three clusters
        assert any(not np.array_equal(a, b) for a, b in zip(fitted[0], fitted[2], strict=True))


def test_a_flow_of_two_latents_without_spread_is_finite():
    flow = FittedFlow(2, num_flows=1, hidden_size=4)
    flow.fit(np.ones((2, 2)), num_steps=2)
    np.testing.assert_allclose(flow.sample_rows([0]), [[1.0, 1.0]], atol=1e-2)
    assert np.isfinite(log_prob(flow, np.ones((1, 2)))).all()


@pytest.mark.parametrize("kind", DENSITIES)
@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((5, 3)), r"must have the shape \(n, 2\), where n is at least 2"),
        (np.zeros((1, 2)), r"where n is at least 2.*Received: shape \(1, 2\)"),
        (np.zeros(2), r"Received: shape \(2,\)"),
        ([[0.0, 1.0], [2.0, np.nan], [0.0, 1.0]], "Received: NaN or infinity in row 1"),
    ],
)
def test_latents_are_checked_before_anything_changes(kind, latents, message):
    density = DENSITIES[kind](2)
    before = [weight.numpy() for weight in density.weights]
    with pytest.raises(ValueError, match=message):
        density.fit(latents)
    for old, weight in zip(before, density.weights, strict=True):
        np.testing.assert_array_equal(old, weight)


def test_the_density_of_a_model_is_chosen_by_its_arguments():
    current, flow = FittedMixture(3, 4), FittedFlow(3)
    assert density_to_fit(None, None, 3, None).num_components == 10
    assert density_to_fit(4, None, 3, None).num_components == 4
    assert density_to_fit(None, 4, 3, None).num_components == 4
    assert density_to_fit(None, None, 3, current) is current
    assert density_to_fit(4, None, 3, current) is current
    assert density_to_fit(None, 5, 3, current).num_components == 5
    assert density_to_fit(flow, None, 3, current) is flow
    assert density_to_fit(None, 4, 3, flow).num_components == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FittedFlow(3), 5, 3, None), "Expected either `density` or `num_components`"),
        ((FittedFlow(2), None, 3, None), "FittedDensity over 3 latents, such as FittedMixture"),
        ((StandardNormal(3), None, 3, None), "`density` must be a keras_gen.distributions.Fitted"),
        ((True, None, 3, None), "Received: True"),
        ((0, None, 3, None), "`num_components` of FittedMixture must be an integer of at least 1"),
        ((None, None, 3, StandardNormal(3)), "already has the prior standard_normal"),
    ],
)
def test_a_wrong_density_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        density_to_fit(*arguments)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="`num_components` of FittedMixture"):
        FittedMixture(2, 0)
    with pytest.raises(ValueError, match="`num_flows` of FittedFlow must be an integer of at"):
        FittedFlow(2, num_flows=0)
    with pytest.raises(ValueError, match="`hidden_size` of FittedFlow must be an integer of at"):
        FittedFlow(2, hidden_size=0)
    with pytest.raises(NotImplementedError, match="must implement `fit`"):
        FittedDensity(2).fit(CLUSTERS)
