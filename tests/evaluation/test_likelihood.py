"""log p(x) by importance sampling, against models whose log p(x) is known."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import keras_gen
from keras_gen import distributions, evaluation, networks

SIZE, LATENTS, SCALE = 5, 2, 0.7


def linear_gaussian(wrong=0.0, full=False):
    """Return a VAE with p(x | z) = N(Wz + b, s²), and its exact p(x) = N(b, WWᵀ + s²).

    q(z | x) is p(z | x) if `full`, and has scales of 1 otherwise. `wrong` is added to its mean.
    """
    random = np.random.default_rng(0)
    weights, bias = random.normal(size=(LATENTS, SIZE)) / 2, random.normal(size=SIZE)
    covariance = np.linalg.inv(weights @ weights.T / SCALE**2 + np.eye(LATENTS))
    gain = weights.T @ covariance / SCALE**2  # E[z | x] = (x − b) gain
    posterior = (distributions.FullCovarianceNormal if full else distributions.DiagonalNormal)(
        LATENTS
    )
    scales = np.zeros(posterior.parameter_size - LATENTS)
    if full:
        parameters = np.concatenate([np.zeros(LATENTS), scales])[None].astype("float32")
        scales = scale_parameters(posterior, parameters, np.linalg.cholesky(covariance))
    encoder = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(posterior.parameter_size)])
    decoder = keras.Sequential([keras.Input((LATENTS,)), keras.layers.Dense(SIZE)])
    encoder.set_weights(
        [
            np.hstack([gain, np.zeros((SIZE, len(scales)))]),
            np.concatenate([-bias @ gain + wrong, scales]),
        ]
    )
    decoder.set_weights([weights, bias])
    likelihood = distributions.Normal((SIZE,), scale=SCALE)
    density = scipy.stats.multivariate_normal(bias, weights.T @ weights + SCALE**2 * np.eye(SIZE))
    return keras_gen.VAE(encoder, decoder, posterior, likelihood), density


def scale_parameters(posterior, parameters, scale_tril):
    """Return the parameters after the mean for a scale, by Newton's method."""
    found = parameters.astype("float64")
    lower = np.tril_indices(LATENTS)

    def tril(parameters):
        distribution = posterior(parameters.astype("float32"))
        return np.linalg.cholesky(np.asarray(distribution.covariance())[0])[lower]

    for _ in range(20):
        jacobian = np.stack(
            [
                (tril(found + 1e-2 * step) - tril(found - 1e-2 * step)) / 2e-2
                for step in np.eye(found.shape[1])[LATENTS:]
            ],
            axis=1,
        )
        found[0, LATENTS:] += np.linalg.solve(jacobian, scale_tril[lower] - tril(found))
    return found[0, LATENTS:]


def test_with_the_exact_posterior_each_sample_is_exact():
    vae, density = linear_gaussian(full=True)
    x = density.rvs(20, random_state=1).astype("float32")
    estimate = evaluation.log_likelihood(vae, x, num_samples=3, verbose=0)
    np.testing.assert_allclose(estimate.values, density.logpdf(x), atol=2e-3)
    np.testing.assert_allclose(estimate.effective_sample_sizes, 3, rtol=1e-4)
    assert estimate.standard_error < 1e-3
    assert estimate.measure == "density"
    assert estimate.bits_per_dimension is None


def hundred(of_all):
    """Split an estimate on a hundred copies of some examples into a hundred estimates."""
    fields = ("values", "variances", "halved")
    parts = zip(*(np.split(getattr(of_all, name), 100) for name in fields), strict=True)
    return [dataclasses.replace(of_all, **dict(zip(fields, part, strict=True))) for part in parts]


def test_the_interval_covers_the_exact_value_in_93_of_100_seeds():
    """Each example has noise of its own, so 100 copies of the examples stand for 100 seeds."""
    vae, density = linear_gaussian(wrong=0.5)
    x = density.rvs(200, random_state=1).astype("float32")
    truth = density.logpdf(x).mean()
    of_all = evaluation.log_likelihood(vae, np.tile(x, (100, 1)), num_samples=100, verbose=0)
    estimates = hundred(of_all)
    assert (
        sum(low <= truth <= high for low, high in (estimate.interval for estimate in estimates))
        >= 93
    )
    means = np.array([estimate.mean for estimate in estimates])
    assert np.std(means) == pytest.approx(
        np.mean([estimate.standard_error for estimate in estimates]), rel=0.3
    )
    assert truth - means.mean() == pytest.approx(
        np.mean([estimate.bias for estimate in estimates]), rel=0.3
    )


def test_the_interval_reaches_up_to_the_exact_value_where_the_weights_have_a_heavy_tail():
    """q has the covariance of p(z | x) and a wrong mean, so that log w is normal with scale 2.5."""
    vae, density = linear_gaussian(full=True)
    scale_tril = np.linalg.cholesky(
        np.asarray(vae.encode(np.zeros((1, SIZE), "float32")).covariance())[0]
    )
    wrong = 2.5 / np.linalg.norm(np.linalg.solve(scale_tril, np.ones(LATENTS)))
    vae, density = linear_gaussian(wrong, full=True)
    x = density.rvs(200, random_state=1).astype("float32")
    truth = density.logpdf(x).mean()
    of_all = evaluation.log_likelihood(vae, np.tile(x, (100, 1)), num_samples=500, verbose=0)
    assert truth - np.mean(of_all.elbos) == pytest.approx(2.5**2 / 2, rel=0.02)
    estimates = hundred(of_all)
    assert (
        sum(low <= truth <= high for low, high in (estimate.interval for estimate in estimates))
        >= 90
    )
    missing = truth - of_all.mean
    assert missing > 2 * np.mean(of_all.variances / 2)  # which the delta method would say
    assert missing < of_all.bias < 1.5 * missing


def test_too_few_samples_have_no_interval():
    vae, density = linear_gaussian(wrong=0.5)
    x = density.rvs(5, random_state=1).astype("float32")
    one, two, three, four = (
        evaluation.log_likelihood(vae, x, num_samples=count, verbose=0) for count in (1, 2, 3, 4)
    )
    assert np.isnan(
        [one.standard_error, one.bias, *one.interval, three.bias, three.interval[1]]
    ).all()
    for few in (two, three):
        assert few.interval[0] < few.mean
    assert four.interval[0] < four.mean < four.interval[1]


def test_the_widest_layer_decides_the_size_of_a_chunk():
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(100), keras.layers.Dense(10)])
    assert evaluation.likelihood.samples_per_chunk(decoder, memory=4 * 100 * 30, rows=3) == 10
    assert evaluation.likelihood.samples_per_chunk(decoder, memory=1) == 1
    [inputs] = decoder.inputs
    wider = keras.Model(inputs, keras.ops.repeat(decoder.outputs[0], 20, axis=-1))
    assert evaluation.likelihood.samples_per_chunk(wider, memory=4 * 200 * 7) == 7


def test_the_last_chunk_contains_the_remaining_samples():
    """If x does not depend on z, the effective sample size is the number of samples."""
    vae, density = linear_gaussian()
    vae.set_weights([np.zeros_like(weight) for weight in vae.get_weights()])
    x = density.rvs(2, random_state=1).astype("float32")
    estimate = evaluation.log_likelihood(vae, x, num_samples=7, memory=3 * 4 * SIZE, verbose=0)
    np.testing.assert_allclose(estimate.effective_sample_sizes, 7, rtol=1e-4)


def test_the_progress_bar_counts_the_examples(capsys):
    vae, density = linear_gaussian()
    x = density.rvs(60, random_state=1).astype("float32")
    evaluation.log_likelihood(vae, x, num_samples=1, verbose=1)
    assert "60/60" in capsys.readouterr().out
    evaluation.log_likelihood(vae, x, num_samples=1, verbose=0)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("scale", [2, 5000])
def test_estimates_are_those_of_logsumexp(scale):
    """The weights are too large for a float. Some are 0 relative to the largest of an example."""
    log_weights = 1000 + scale * np.random.default_rng(0).normal(size=(3, 11))
    found = evaluation.likelihood._estimates(log_weights, (1, 5, 11))

    def log_mean(log_weights):
        return scipy.special.logsumexp(log_weights, axis=1) - np.log(log_weights.shape[1])

    expected = [log_mean(log_weights[:, :count]) for count in (1, 5, 11)]
    np.testing.assert_allclose(found.by_count, expected)
    halves = np.split(log_weights[:, :10], 2, axis=1)
    quarters = np.split(log_weights[:, :8], 4, axis=1)
    expected = [np.mean([log_mean(part) for part in parts], axis=0) for parts in (halves, quarters)]
    np.testing.assert_allclose(found.halved, expected)
    np.testing.assert_allclose(found.elbos, log_weights.mean(axis=1))
    shares = scipy.special.softmax(log_weights, axis=1)
    np.testing.assert_allclose(found.sizes, 1 / np.sum(shares**2, axis=1))


def test_more_samples_come_nearer_and_the_curve_shows_it():
    vae, density = linear_gaussian(wrong=1.0)
    x = density.rvs(100, random_state=1).astype("float32")
    estimate = evaluation.log_likelihood(vae, x, num_samples=2000, verbose=0)
    assert list(estimate.curve) == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]
    counts = evaluation.likelihood._SAMPLE_COUNTS  # the series 1, 2, 5, 10, …
    assert list(counts) == [digit * 10**power for power in range(5) for digit in (1, 2, 5)]
    gaps = [density.logpdf(x).mean() - value for value in estimate.curve.values()]
    assert gaps[0] > gaps[2] > gaps[4] > abs(gaps[-1])
    assert estimate.curve[2000] == estimate.mean
    assert abs(gaps[-1]) < 0.02
    assert np.all(
        (estimate.effective_sample_sizes >= 1) & (estimate.effective_sample_sizes <= 2000)
    )


def test_the_estimate_does_not_depend_on_the_memory_limit():
    """Each chunk of samples has noise of its own, and the estimates agree within their errors."""
    vae, density = linear_gaussian(wrong=0.5)
    x = density.rvs(30, random_state=1).astype("float32")
    estimates = [
        evaluation.log_likelihood(vae, x, num_samples=500, memory=memory, verbose=0)
        for memory in (10**5, 1000)
    ]
    gap = math.hypot(*(estimate.standard_error for estimate in estimates))
    assert abs(estimates[0].mean - estimates[1].mean) < 4 * gap
    again = evaluation.log_likelihood(vae, x, num_samples=500, memory=1000, verbose=0)
    np.testing.assert_array_equal(again.values, estimates[1].values)
    assert len(set(estimates[1].curve.values())) == len(
        estimates[1].curve
    )  # no chunk repeats the samples of another


def test_an_estimate_does_not_depend_on_the_other_examples():
    vae, density = linear_gaussian(wrong=0.5)
    x = density.rvs(30, random_state=1).astype("float32")
    values = evaluation.log_likelihood(vae, x, num_samples=50, verbose=0).values
    np.testing.assert_allclose(
        evaluation.log_likelihood(vae, x[:7], num_samples=50, verbose=0).values,
        values[:7],
        rtol=1e-6,
    )
    twice = evaluation.log_likelihood(vae, x[[0, 0]], num_samples=50, verbose=0).values
    # Noise depends on the position, so that errors of equal examples average out.
    assert twice[0] != twice[1]


def test_binary_pixels_have_a_probability_and_grey_ones_no_likelihood():
    """With a decoder that ignores z, p(x) is known: 64 fair coins."""
    posterior, likelihood = (
        distributions.DiagonalNormal(LATENTS),
        distributions.Bernoulli((8, 8, 1)),
    )
    vae = keras_gen.VAE(
        networks.mlp((8, 8, 1), (4,)), networks.mlp((LATENTS,), (8, 8, 1)), posterior, likelihood
    )
    vae.decoder.set_weights([np.zeros_like(weight) for weight in vae.decoder.get_weights()])
    binary = (np.random.default_rng(0).random((10, 8, 8, 1)) < 0.5).astype("float32")
    estimate = evaluation.log_likelihood(vae, binary, num_samples=2000, verbose=0)
    assert estimate.mean == pytest.approx(-64 * math.log(2), abs=0.05)
    assert estimate.bits_per_dimension == pytest.approx(1, abs=1e-3)
    assert "bits per dimension" in str(estimate)
    message = "cross-entropy on grey values is not a likelihood"
    with pytest.warns(UserWarning, match=message) as caught:
        grey = evaluation.log_likelihood(vae, binary / 2, num_samples=10, verbose=0)
    assert caught[0].filename == __file__
    assert grey.bits_per_dimension is None
    assert "not a likelihood: a cross-entropy on grey values" in str(grey)


def test_pixels_with_256_levels_have_a_probability_at_these_levels():
    likelihood = distributions.Categorical((4,), num_levels=256)
    decoder = networks.mlp((LATENTS,), likelihood.parameter_shape, hidden=())
    encoder = networks.mlp((4,), (2 * LATENTS,), hidden=())
    vae = keras_gen.VAE(encoder, decoder, distributions.DiagonalNormal(LATENTS), likelihood)
    x = np.float32([[0, 3, 100, 255]]) / 255
    y = np.float32([[0, 3.3, 100, 255]]) / 255
    assert evaluation.likelihood._measure(vae, x) == "probability"
    with pytest.warns(UserWarning, match="not a likelihood"):
        assert evaluation.likelihood._measure(vae, y) == "none"


def test_examples_may_be_a_dataset(models, images):
    images, labels = np.round(images), np.arange(20) % 4
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    for name, given in (("vae", None), ("conditional_vae", labels)):
        values = evaluation.log_likelihood(
            models[name], images, given, num_samples=3, verbose=0
        ).values
        np.testing.assert_array_equal(
            evaluation.log_likelihood(models[name], dataset, num_samples=3, verbose=0).values,
            values,
        )
        report = evaluation.latent_report(models[name], images, given)
        np.testing.assert_array_equal(
            evaluation.latent_report(models[name], dataset).aggregate_mean, report.aggregate_mean
        )
        np.testing.assert_array_equal(
            evaluation.latents(models[name], dataset),
            evaluation.latents(models[name], images, given),
        )


def test_a_conditional_model_has_log_p_given_the_label():
    """The mean of the prior depends on the label, and so does log p(x | y)."""
    vae, density = linear_gaussian(wrong=0.3)
    prior = distributions.ConditionalNormal(LATENTS, num_classes=2)
    prior.network.layers[0].set_weights(
        [np.repeat([[-0.8], [0.8]], 64, axis=1)]
    )  # the embedding: far apart
    of_labels = keras_gen.VAE(vae.encoder, vae.decoder, vae.posterior, vae.likelihood, prior)
    x, labels = density.rvs(40, random_state=1).astype("float32"), np.arange(40) % 2
    estimate = evaluation.log_likelihood(of_labels, x, labels, num_samples=3000, verbose=0)
    weights, bias = vae.decoder.get_weights()
    values = []
    for label in (0, 1):
        given = prior.distribution(np.array([label]))
        mean, scale = np.asarray(given.mean())[0], np.asarray(given.stddev())[0]
        exact = scipy.stats.multivariate_normal(
            mean @ weights + bias, weights.T * scale**2 @ weights + SCALE**2 * np.eye(SIZE)
        )
        values.append(exact.logpdf(x))
    np.testing.assert_allclose(estimate.values, np.choose(labels, values), atol=0.1)
    assert np.mean(np.abs(values[0] - values[1])) > 1


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (np.zeros((0, SIZE)), {}, "Received: 0 examples"),
        (np.zeros((3, SIZE + 1)), {}, "shape"),
        (np.full((3, SIZE), np.nan), {}, "NaN"),
        (np.zeros((3, SIZE)), {"num_samples": 0}, "num_samples=0"),
        (np.zeros((3, SIZE)), {"condition": [0, 1, 0]}, "condition"),
    ],
)
def test_invalid_arguments_are_refused(x, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluation.log_likelihood(linear_gaussian()[0], x.astype("float32"), verbose=0, **arguments)


def estimates(values, halved):
    """Return estimates with these values, which all have the variance 0.04."""
    values = np.array(values)
    return evaluation.LogLikelihood(
        values=values,
        variances=np.full(len(values), 0.04),
        halved=np.array(halved),
        elbos=values - 1,
        effective_sample_sizes=np.full(len(values), 5.0),
        curve={1: -3.0, 10: float(values.mean())},
        data_size=4,
        measure="density",
    )


def test_the_interval_of_one_example_is_as_wide_as_its_bias():
    one = estimates([-10.0], [[-10.5, -11.3]])
    assert math.isnan(one.standard_error_of_data)
    assert one.standard_error == pytest.approx(0.2)
    bias = 0.5 / (0.8 / 0.5 - 1)  # Richardson extrapolation
    assert one.bias == pytest.approx(bias)
    low, high = one.interval
    assert low == pytest.approx(-10 - 1.96 * 0.2)
    assert high == pytest.approx(-10 + bias + 1.96 * math.hypot(0.2, bias))


@pytest.mark.parametrize(("first_gain", "divisor"), [(0.52, 0.1), (1.5, 1.0), (0.75, 0.5)])
def test_the_exponent_of_the_bias_is_limited(first_gain, divisor):
    """If the number of samples doubles, the bias becomes at most half, and at least 1/1.1."""
    one = estimates([-10.0], [[-10.5, -10.5 - first_gain]])
    assert one.bias == pytest.approx(0.5 / divisor)


def test_standard_errors_are_those_of_independent_examples():
    two = estimates([-10.0, -12.0], [[-10.5, -11.3], [-12.4, -13.2]])
    assert two.mean == -11
    assert two.standard_error == pytest.approx(math.sqrt(0.08) / 2)
    assert two.standard_error_of_data == pytest.approx(np.std([-10, -12], ddof=1) / math.sqrt(2))


@pytest.mark.parametrize("number", [2, 3])
def test_the_error_of_the_bias_follows_from_its_derivatives(number):
    """The bias is a function of two means, so its variance follows from the delta method."""
    halved = np.array([[-10.5, -11.2], [-12.6, -13.5], [-9.3, -9.8]])[:number]
    found = estimates([-10.0, -12.0, -9.0][:number], halved)
    gains = np.stack([found.values - halved[:, 0], halved[:, 0] - halved[:, 1]])

    def bias(last, first):
        return last / (first / last - 1)

    means = gains.mean(axis=1)
    step = 1e-6
    slopes = [
        (bias(*(means + step * one)) - bias(*(means - step * one))) / (2 * step)
        for one in np.eye(2)
    ]
    error = math.sqrt(np.array(slopes) @ np.cov(gains) @ slopes / number)
    assert found.bias == pytest.approx(bias(*means))
    width = 1.96 * math.hypot(found.standard_error, error)
    assert found.interval[1] == pytest.approx(found.mean + found.bias + width, rel=1e-6)
