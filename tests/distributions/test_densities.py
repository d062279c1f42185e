"""Fitted densities against scikit-learn, scipy, finite differences and exact densities."""

import keras
import numpy as np
import pytest
import scipy.stats
import sklearn.mixture

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


def test_a_flow_of_latents_without_spread_is_finite():
    flow = FittedFlow(2, num_flows=1, hidden_size=4)
    flow.fit(np.ones((5, 2)), num_steps=2)
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
