"""Closed forms and estimates of the divergence, against NumPy and SciPy in float64."""

import itertools
import re

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_gen.distributions import (
    DiagonalNormal,
    FullCovarianceNormal,
    StandardNormal,
    closed_form_kl,
    cross_check,
    kl_divergence,
)

tfd = tfp.distributions
RANDOM = np.random.default_rng(0)
SIZE = 5


def numerical_kl(a, b):
    """KL(a ‖ b) of two scipy distributions on the line, by quadrature."""
    low = a.mean() - 12 * a.std()
    high = a.mean() + 12 * a.std()
    return scipy.integrate.quad(
        lambda z: a.pdf(z) * (a.logpdf(z) - b.logpdf(z)), low, high, limit=200
    )[0]


def float32(value):
    return tf.constant(value, tf.float32)


def diagonal(mean, scale):
    return tfd.Independent(tfd.Normal(float32(mean), float32(scale)), 1)


def test_to_the_standard_normal_it_is_the_formula_of_the_notes():
    mean, scale = RANDOM.normal(size=(100, 4)), RANDOM.uniform(0.1, 3, size=(100, 4))
    expected = -0.5 * np.sum(np.log(scale**2) - mean**2 - scale**2 + 1, axis=1)
    value, analytic = kl_divergence(diagonal(mean, scale), StandardNormal(4).distribution())
    assert analytic
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_between_two_diagonal_normals_it_is_the_formula_of_the_notes_and_the_integral():
    mu, beta = RANDOM.normal(size=(2, 20, 3))
    sigma, eta = RANDOM.uniform(0.2, 2, size=(2, 20, 3))
    formula = 0.5 * np.sum(
        np.log(eta**2 / sigma**2) + sigma**2 / eta**2 + (mu - beta) ** 2 / eta**2 - 1, axis=1
    )
    value, analytic = kl_divergence(diagonal(mu, sigma), diagonal(beta, eta))
    assert analytic
    np.testing.assert_allclose(value, formula, rtol=1e-5)
    norm = scipy.stats.norm
    integral = sum(
        numerical_kl(norm(mu[0, i], sigma[0, i]), norm(beta[0, i], eta[0, i])) for i in range(3)
    )
    assert float(value[0]) == pytest.approx(integral, rel=1e-5)


def transposed(matrix):
    return np.swapaxes(matrix, -1, -2)


def gaussian_kl(mean_a, covariance_a, mean_b, covariance_b):
    """The formula of the notes for two Gaussians, in float64: MATH 3."""
    inverse = np.linalg.inv(covariance_b)
    step = (mean_b - mean_a)[..., None]
    trace = np.trace(inverse @ covariance_a, axis1=-2, axis2=-1)
    distance = (transposed(step) @ inverse @ step)[..., 0, 0]
    log_ratio = np.linalg.slogdet(covariance_b)[1] - np.linalg.slogdet(covariance_a)[1]
    return 0.5 * (trace + distance - step.shape[-2] + log_ratio)


def random_parameters(batch):
    """A mean, a positive scale per latent, and a lower triangular matrix with that diagonal."""
    mean = RANDOM.normal(size=(*batch, SIZE))
    scale = RANDOM.uniform(0.3, 2, size=(*batch, SIZE))
    below = np.tril(RANDOM.normal(size=(*batch, SIZE, SIZE), scale=0.5), -1)
    return mean, scale, below + np.eye(SIZE) * scale[..., None]


def independent_normal(batch):
    mean, scale, _ = random_parameters(batch)
    return diagonal(mean, scale), mean, scale


def independent_normal_with_one_scale(batch):
    mean, scale, _ = random_parameters(batch)
    return diagonal(mean, 0.7), mean, np.full_like(scale, 0.7)


def independent_normal_with_one_mean(batch):
    mean, scale, _ = random_parameters(batch)
    return diagonal(0.3, scale), np.full_like(mean, 0.3), scale


def mvn_diag(batch):
    mean, scale, _ = random_parameters(batch)
    signs = [1, -1, 1, 1, -1]  # which the covariance does not show
    return tfd.MultivariateNormalDiag(float32(mean), float32(signs * scale)), mean, scale


def mvn_diag_without_loc(batch):
    mean, scale, _ = random_parameters(batch)
    return tfd.MultivariateNormalDiag(scale_diag=float32(scale)), np.zeros_like(mean), scale


def mvn_diag_without_scale(batch):
    mean, scale, _ = random_parameters(batch)
    return tfd.MultivariateNormalDiag(float32(mean)), mean, np.ones_like(scale)


def mvn_tril(batch):
    mean, _, scale_tril = random_parameters(batch)
    return tfd.MultivariateNormalTriL(float32(mean), float32(scale_tril)), mean, scale_tril


def mvn_full_covariance(batch):
    mean, _, scale_tril = random_parameters(batch)
    covariance = float32(scale_tril @ transposed(scale_tril))
    return tfd.MultivariateNormalFullCovariance(float32(mean), covariance), mean, scale_tril


def of_operator(mean, operator):
    return tfd.MultivariateNormalLinearOperator(float32(mean), operator)


def full_operator(batch):
    mean, _, scale_tril = random_parameters(batch)
    scale = scale_tril @ np.linalg.qr(RANDOM.normal(size=(SIZE, SIZE)))[0]  # not triangular
    return of_operator(mean, tf.linalg.LinearOperatorFullMatrix(float32(scale))), mean, scale


def diagonal_operator(batch):
    mean, scale, _ = random_parameters(batch)
    return of_operator(mean, tf.linalg.LinearOperatorDiag(float32(scale))), mean, scale


def scaled_identity(batch):
    mean, scale, _ = random_parameters(batch)
    operator = tf.linalg.LinearOperatorScaledIdentity(SIZE, float32(scale[..., 0]))
    return of_operator(mean, operator), mean, np.repeat(scale[..., :1], SIZE, axis=-1)


def block_operator(batch):
    mean, _, scale_tril = random_parameters(batch)
    scale = scale_tril.copy()
    scale[..., 2:, :2] = 0
    first = tf.linalg.LinearOperatorLowerTriangular(float32(scale[..., :2, :2]))
    second = tf.linalg.LinearOperatorFullMatrix(float32(scale[..., 2:, 2:]))
    return of_operator(mean, tf.linalg.LinearOperatorBlockDiag([first, second])), mean, scale


def low_rank_update(batch):
    mean, scale, scale_tril = random_parameters(batch)
    factor = scale_tril[..., :2] / 2
    operator = tf.linalg.LinearOperatorLowRankUpdate(
        tf.linalg.LinearOperatorDiag(float32(scale), is_positive_definite=True), float32(factor)
    )
    scale_matrix = np.eye(SIZE) * scale[..., None] + factor @ transposed(factor)
    return of_operator(mean, operator), mean, scale_matrix


def diag_plus_low_rank(batch):
    mean, scale, scale_tril = random_parameters(batch)
    factor = scale_tril[..., :2] / 2
    distribution = tfd.MultivariateNormalDiagPlusLowRank(
        float32(mean), float32(scale), scale_perturb_factor=float32(factor)
    )
    return distribution, mean, np.eye(SIZE) * scale[..., None] + factor @ transposed(factor)


def diag_plus_low_rank_covariance(batch):
    mean, scale, scale_tril = random_parameters(batch)
    factor = scale_tril[..., :2] / 2
    distribution = tfd.MultivariateNormalDiagPlusLowRankCovariance(
        float32(mean), float32(scale), float32(factor)
    )
    covariance = np.eye(SIZE) * scale[..., None] + factor @ transposed(factor)
    return distribution, mean, np.linalg.cholesky(covariance)


GAUSSIANS = [
    independent_normal,
    independent_normal_with_one_scale,
    independent_normal_with_one_mean,
    mvn_diag,
    mvn_diag_without_loc,
    mvn_diag_without_scale,
    mvn_tril,
    mvn_full_covariance,
    full_operator,
    diagonal_operator,
    scaled_identity,
    block_operator,
    low_rank_update,
    diag_plus_low_rank,
    diag_plus_low_rank_covariance,
]
BATCHES = [((), ()), ((4,), (4,)), ((3, 1), (4,)), ((), (4,)), ((4,), ())]


def made(make, batch):
    """A Gaussian of TFP, its mean and its covariance."""
    distribution, mean, scale = make(batch)
    if scale.ndim == mean.ndim:
        scale = np.eye(SIZE) * scale[..., None]
    return distribution, mean, scale @ transposed(scale)


@pytest.mark.parametrize("batches", BATCHES, ids=str)
def test_every_pair_of_gaussians_has_a_closed_form_in_both_orders(batches):
    first = {make.__name__: made(make, batches[0]) for make in GAUSSIANS}
    second = {make.__name__: made(make, batches[1]) for make in GAUSSIANS}
    for pair in itertools.product(first, second):
        a, mean_a, covariance_a = first[pair[0]]
        b, mean_b, covariance_b = second[pair[1]]
        value, analytic = kl_divergence(a, b)
        assert analytic, pair
        expected = gaussian_kl(mean_a, covariance_a, mean_b, covariance_b)
        assert value.shape == expected.shape, pair
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-5, err_msg=str(pair))


def tril_of(mean, scale):
    below = tf.constant(np.tril(np.full((3, 3), 0.5), -1), mean.dtype)
    return tfd.MultivariateNormalTriL(mean, tf.linalg.diag(scale) + below)


def operator_of(mean, scale):
    matrix = tf.linalg.diag(scale) + tf.constant(0.1, mean.dtype)
    return tfd.MultivariateNormalLinearOperator(mean, tf.linalg.LinearOperatorFullMatrix(matrix))


OF_MEAN_AND_SCALE = {
    "independent": lambda mean, scale: tfd.Independent(tfd.Normal(mean, scale), 1),
    "diag": tfd.MultivariateNormalDiag,
    "tril": tril_of,
    "operator": operator_of,
}
PAIRS = list(itertools.product(OF_MEAN_AND_SCALE, OF_MEAN_AND_SCALE))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_gradients_of_every_pair_are_those_of_differences_and_of_xla(pair):
    means = RANDOM.normal(size=(2, 4, 3))
    scales = RANDOM.uniform(0.5, 2, size=(2, 4, 3))
    parameters = tf.constant(np.stack([means, scales]))  # in float64, for the differences

    def divergence(parameters):
        a = OF_MEAN_AND_SCALE[pair[0]](parameters[0, 0], parameters[1, 0])
        b = OF_MEAN_AND_SCALE[pair[1]](parameters[0, 1], parameters[1, 1])
        return tf.reduce_sum(closed_form_kl(a, b))

    def gradient(parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            value = divergence(parameters)
        return tape.gradient(value, parameters)

    found = gradient(parameters)
    step = 1e-5 * RANDOM.normal(size=parameters.shape)
    difference = divergence(parameters + step) - divergence(parameters - step)
    assert float(tf.reduce_sum(2 * found * step)) == pytest.approx(float(difference), rel=1e-4)
    if "operator" not in pair:  # XLA has no determinant of a full matrix
        compiled = tf.function(gradient, jit_compile=True)
        np.testing.assert_allclose(compiled(parameters), found, rtol=1e-7)


@pytest.mark.parametrize("kinds", [("tril", "independent"), ("independent", "tril")], ids="-".join)
def test_full_and_diagonal_pairs_compile_with_an_unknown_batch(kinds):
    def gradient(mean, scale):
        with tf.GradientTape() as tape:
            tape.watch([mean, scale])
            a = OF_MEAN_AND_SCALE[kinds[0]](mean, scale)
            b = OF_MEAN_AND_SCALE[kinds[1]](tf.zeros(3), tf.fill((3,), 0.5))
            value = closed_form_kl(a, b)
        return tape.gradient(value, [mean, scale])

    signature = [tf.TensorSpec((None, 3))] * 2
    compiled = tf.function(gradient, input_signature=signature, jit_compile=True)
    mean = float32(RANDOM.normal(size=(4, 3)))
    scale = float32(RANDOM.uniform(0.5, 2, size=(4, 3)))
    for ours, expected in zip(compiled(mean, scale), gradient(mean, scale), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_diagonal_pairs_make_no_matrix():
    """A VAE computes such a pair in every step, so its cost must not grow with n²."""
    size = 200

    def operations(make_a, make_b):
        def divergence(mean, scale):
            return closed_form_kl(make_a(mean, scale), make_b(mean, scale))

        specification = tf.TensorSpec((3, size))
        graph = tf.function(divergence).get_concrete_function(specification, specification).graph
        outputs = [tensor for operation in graph.get_operations() for tensor in operation.outputs]
        return max(tensor.shape.num_elements() or 0 for tensor in outputs)

    kinds = [OF_MEAN_AND_SCALE["independent"], OF_MEAN_AND_SCALE["diag"]]
    for pair in itertools.product(kinds, kinds):
        assert operations(*pair) <= 3 * size


def test_pairs_of_scalars_and_of_one_class_keep_the_closed_forms_of_tfp():
    a, b = tfd.Normal(0.3, 0.5), tfd.Normal(-0.2, 2.0)
    value, analytic = kl_divergence(a, b)
    assert analytic
    expected = numerical_kl(scipy.stats.norm(0.3, 0.5), scipy.stats.norm(-0.2, 2.0))
    assert float(value) == pytest.approx(expected, rel=1e-5)
    laplace_a = tfd.Independent(tfd.Laplace([0.3, 0.0], 0.5), 1)
    laplace_b = tfd.Independent(tfd.Laplace([-0.2, 1.0], 2.0), 1)
    value, analytic = kl_divergence(laplace_a, laplace_b)
    assert analytic
    laplace = scipy.stats.laplace
    expected = numerical_kl(laplace(0.3, 0.5), laplace(-0.2, 2.0))
    expected += numerical_kl(laplace(0.0, 0.5), laplace(1.0, 2.0))
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_closed_form_kl_is_none_for_a_pair_without_one():
    normal = diagonal([0.3, -0.5], [0.5, 1.5])
    laplace = tfd.Independent(tfd.Laplace(tf.zeros(2), 1.0), 1)
    mixture = tfd.MixtureSameFamily(tfd.Categorical(tf.zeros(3)), diagonal(np.zeros((3, 2)), 1.0))
    full = tfd.MultivariateNormalTriL(tf.zeros(2), tf.eye(2))
    for other in (laplace, mixture):
        for gaussian in (normal, full):
            assert closed_form_kl(gaussian, other) is None
            assert closed_form_kl(other, gaussian) is None
            assert not kl_divergence(gaussian, other).analytic


def test_tfp_registers_no_pair_more_than_without_the_package():
    a, b = diagonal([0.0, 0.0], 1.0), tfd.MultivariateNormalDiag([0.0, 0.0])
    assert kl_divergence(a, b).analytic
    with pytest.raises(NotImplementedError):
        tfd.kl_divergence(a, b)


def test_extreme_pairs_stay_finite():
    n, raws = 4, [-1e4, -20.0, 0.0, 20.0, 1e4]
    full = [FullCovarianceNormal(n)(tf.fill((1, 14), raw)) for raw in raws]
    independent = [DiagonalNormal(n)(tf.fill((1, 8), raw)) for raw in raws]
    for a in full + independent:
        for b in [full[2], *independent]:  # a prior is not driven to a singular covariance
            value, analytic = kl_divergence(a, b)
            assert analytic
            assert np.isfinite(value)
            assert float(value[0]) >= -1e-3 * max(1, abs(float(value[0])))


def test_a_full_posterior_against_a_prior_without_a_closed_form_is_sampled():
    a = FullCovarianceNormal(2)(tf.constant([0.3, -0.5, 0.0, 0.0, 1.0]))
    b = tfd.Independent(tfd.Laplace(tf.zeros(2), 1.0), 1)
    assert not kl_divergence(a, b).analytic


def test_the_expectation_is_under_the_first_argument():
    a, b = tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 3.0)
    assert float(kl_divergence(a, b).value) == pytest.approx(
        numerical_kl(scipy.stats.norm(0, 1), scipy.stats.norm(0, 3)), rel=1e-5
    )
    assert float(kl_divergence(b, a).value) == pytest.approx(
        numerical_kl(scipy.stats.norm(0, 3), scipy.stats.norm(0, 1)), rel=1e-5
    )


def test_without_a_closed_form_it_is_sampled_without_bias():
    a, b = diagonal([0.3, -0.5], [0.5, 1.5]), tfd.Independent(tfd.Laplace(tf.zeros(2), 1.0), 1)
    value, analytic = kl_divergence(a, b, num_samples=100_000, seed=(1, 2))
    assert not analytic
    norm, laplace = scipy.stats.norm, scipy.stats.laplace()
    expected = numerical_kl(norm(0.3, 0.5), laplace) + numerical_kl(norm(-0.5, 1.5), laplace)
    z = a.sample(1000, seed=(3, 4))
    standard_error = np.std(a.log_prob(z) - b.log_prob(z)) / np.sqrt(100_000)
    assert abs(float(value) - expected) < 4 * standard_error
    np.testing.assert_array_equal(
        value, kl_divergence(a, b, num_samples=100_000, seed=(1, 2)).value
    )


def test_gradients_flow_through_the_samples():
    parameters = tf.Variable([[0.5, 0.5, 0.0, 0.0]])
    laplace = tfd.Independent(tfd.Laplace(tf.zeros(2), 1.0), 1)
    with tf.GradientTape() as tape:
        loss = kl_divergence(
            DiagonalNormal(2)(parameters), laplace, num_samples=20_000, seed=(1, 2)
        ).value
    gradient = np.float64(tape.gradient(loss, parameters)[0, 0])
    norm, difference = scipy.stats.norm, 1e-4
    shifted = [
        numerical_kl(norm(0.5 + shift, 1), scipy.stats.laplace())
        for shift in (-difference, difference)
    ]
    assert gradient == pytest.approx((shifted[1] - shifted[0]) / (2 * difference), abs=0.03)


def test_event_shapes_must_agree():
    with pytest.raises(
        ValueError, match=re.escape("the same event shape. Received: (2,) and (3,)")
    ):
        kl_divergence(diagonal([0.0, 0.0], 1.0), diagonal([0.0, 0.0, 0.0], 1.0))


@pytest.mark.parametrize("count", [0, 2.5])
def test_num_samples_is_checked(count):
    message = re.escape(
        f"`num_samples` must be an integer of at least 1. Received: num_samples={count}"
    )
    with pytest.raises(ValueError, match=message):
        kl_divergence(tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 1.0), num_samples=count)
    with pytest.raises(ValueError, match=message):
        cross_check(
            DiagonalNormal(1), [[0.0, 1.0]], tfd.MultivariateNormalDiag([0.0]), num_samples=count
        )


def test_a_cross_check_compares_values_and_gradients():
    """Against the derivatives of both, by hand, of the posterior N(μ, σ²) and the prior N(0, I)."""
    parameters = RANDOM.normal(size=(3, 4)).astype("float32")
    posterior, prior = DiagonalNormal(2), StandardNormal(2).distribution()
    found = cross_check(posterior, parameters, prior, num_samples=50, seed=(1, 2))
    mean, raw = np.split(parameters.astype("float64"), 2, axis=1)
    shifted = raw + np.log(np.e - 1)
    scale = 1e-4 + (1 - 1e-4) * np.log1p(np.exp(shifted))
    z = np.float64(posterior(parameters).sample(50, seed=(1, 2)))
    log_ratio = scipy.stats.norm(mean, scale).logpdf(z) - scipy.stats.norm.logpdf(z)
    sampled = log_ratio.sum(axis=-1).mean(axis=0)
    analytic = 0.5 * np.sum(mean**2 + scale**2 - 1 - 2 * np.log(scale), axis=1)
    np.testing.assert_allclose(found.analytic, analytic, rtol=1e-4)
    np.testing.assert_allclose(found.sampled, sampled, rtol=1e-4)
    np.testing.assert_allclose(found.difference, sampled - analytic, rtol=1e-3, atol=1e-5)
    of_raw = (1 - 1e-4) / (1 + np.exp(-shifted))  # the derivative of the scale
    expected = np.concatenate([mean, (scale - 1 / scale) * of_raw], axis=1)
    by_scale = np.mean(z * (z - mean) / scale, axis=0) - 1 / scale
    estimated = np.concatenate([z.mean(axis=0), by_scale * of_raw], axis=1)
    direction = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    projected = np.sum((estimated - expected) * direction, axis=1)
    np.testing.assert_allclose(found.gradient_difference, projected, rtol=1e-3, atol=1e-5)
