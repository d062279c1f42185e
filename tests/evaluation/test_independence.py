"""The audit of independence, on linear-Gaussian models where its cost is known."""

import itertools
import re
import types

import keras
import numpy as np
import pytest
import scipy.stats

import keras_gen
from keras_gen import distributions, evaluation, networks, objectives
from keras_gen.evaluation import independence

SIZE, SCALE = 6, 0.5


def linear_gaussian(correlated, epochs=40):
    """Return a trained VAE with p(x | z) = N(Wz, s²) and a fixed decoder, data, and the exact cost.

    p(z | x) has the precision Λ = WᵀW/s² + I for each x. The best independent normal has the
    precisions Λ_ii. It costs KL(q ‖ p(z | x)) = ½ (Σ log Λ_ii − log |Λ|).
    """
    random = np.random.default_rng(0)
    weights = np.linalg.qr(random.normal(size=(SIZE, 2)))[0].T  # orthogonal rows: a diagonal Λ
    if correlated:
        weights = np.array([[1.0, 0.8], [0.0, 0.6]]).T @ weights
    precision = weights @ weights.T / SCALE**2 + np.eye(2)
    cost = 0.5 * (np.sum(np.log(np.diag(precision))) - np.linalg.slogdet(precision)[1])
    x = (random.normal(size=(600, 2)) @ weights + SCALE * random.normal(size=(600, SIZE))).astype(
        "float32"
    )
    encoder = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(4)])
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(SIZE)])
    decoder.set_weights([weights, np.zeros(SIZE)])
    decoder.trainable = False
    vae = keras_gen.VAE(
        encoder,
        decoder,
        distributions.DiagonalNormal(2),
        distributions.Normal((SIZE,), SCALE),
        seed=0,
    )
    vae.compile(keras.optimizers.Adam(0.02))
    vae.fit(x, batch_size=100, epochs=epochs, verbose=0)
    vae.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, 4 * 40)))
    return vae, x, cost


def test_a_short_audit_comes_near_a_cost_that_is_known(capsys):
    """A single seed and few steps, as a quick version of the test below."""
    vae, x, cost = linear_gaussian(correlated=True)
    states = []

    def train():
        states.append(np.random.random())
        return x[:400]

    audit = evaluation.audit_independence(
        vae,
        train,
        x[400:450],
        epochs=15,
        seeds=(0,),
        images=20,
        num_samples=300,
        refinement_steps=100,
        batch_size=100,
    )
    assert len(states) == 2
    assert states[0] == states[1]  # both copies see the same order of the data
    assert not capsys.readouterr().out
    assert audit.independence_gap.mean == pytest.approx(cost, abs=0.03)
    assert audit.elbo_gain.mean == pytest.approx(cost, abs=0.03)
    assert audit.log_likelihood_gain.mean == pytest.approx(0, abs=0.1)
    assert audit.normality_gap.mean == pytest.approx(0, abs=0.03)
    assert audit.correlations[0, 1] == pytest.approx(correlation_of(vae), abs=0.1)
    assert not audit.adequate
    assert "Independent latents have a cost" in str(audit)


@pytest.mark.slow
def test_the_audit_finds_a_cost_that_is_known():
    vae, x, cost = linear_gaussian(correlated=True)
    assert cost > 0.2
    audit = evaluation.audit_independence(
        vae,
        x[:400],
        x[400:],
        epochs=40,
        seeds=(0, 1, 2),
        images=50,
        num_samples=1000,
        refinement_steps=250,
        batch_size=100,
    )
    assert audit.independence_gap.low <= cost <= audit.independence_gap.high
    assert audit.elbo_gain.low <= cost <= audit.elbo_gain.high
    assert audit.log_likelihood_gain.mean == pytest.approx(
        0, abs=0.02
    )  # the decoder stays as it is
    assert audit.normality_gap.mean == pytest.approx(0, abs=0.01)  # p(z | x) is normal
    assert audit.correlations[0, 1] == pytest.approx(correlation_of(vae), abs=0.03)
    assert not audit.adequate
    assert "Independent latents have a cost" in str(audit)


def correlation_of(vae):
    weights = vae.decoder.get_weights()[0]
    covariance = np.linalg.inv(weights @ weights.T / SCALE**2 + np.eye(2))
    return abs(covariance[0, 1]) / np.sqrt(covariance[0, 0] * covariance[1, 1])


def test_where_independence_costs_nothing_it_says_so():
    vae, x, cost = linear_gaussian(correlated=False)
    assert cost == pytest.approx(0, abs=1e-6)
    audit = evaluation.audit_independence(
        vae,
        x[:400],
        x[400:450],
        epochs=5,
        seeds=(0, 1),
        images=20,
        num_samples=200,
        refinement_steps=60,
        batch_size=100,
    )
    assert audit.adequate
    assert "Independent latents were adequate" in str(audit)
    assert audit.correlations[0, 1] < 0.1


def test_a_posterior_that_is_not_yet_the_best_is_no_cost_of_independence():
    """Both posteriors get equally many steps, so that too few steps do not favour the second."""
    vae, x, _ = linear_gaussian(correlated=False, epochs=0)
    refined = evaluation.independence._refine(vae, x[:50], None, steps=50, num_samples=500)
    assert abs(np.mean(refined.independence)) < 0.1


def test_schedules_of_the_kl_are_at_their_end(images):
    posterior, likelihood = distributions.DiagonalNormal(3), distributions.Bernoulli((8, 8, 1))
    vae = keras_gen.VAE(
        networks.mlp((8, 8, 1), (6,)), networks.mlp((3,), (8, 8, 1)), posterior, likelihood, seed=1
    )
    for weight, settled in (
        (objectives.LinearWarmUp(100, 0.5), 0.5),
        (objectives.Cyclical(100), 1.0),
        (lambda step: min(step / 1e6, 0.75), 0.75),
        ([objectives.LinearWarmUp(100, 0.5)], [0.5]),
        (0.25, 0.25),
    ):
        vae.compile("adam", objective=objectives.ELBO(weight, free_bits=1.0))
        copy = evaluation.independence._copy(vae, 0, full=False)
        assert copy.objective.kl_weight == settled
        assert copy.objective.free_bits == 1.0
        assert vae.objective.kl_weight is weight or vae.objective.kl_weight == weight
    vae.compile("adam", objective=objectives.IWAE(3))
    assert evaluation.independence._copy(vae, 0, full=False).objective.num_samples == 3


def test_both_begin_with_the_same_posterior_whatever_the_encoder(images):
    posterior, likelihood = distributions.DiagonalNormal(3), distributions.Bernoulli((8, 8, 1))
    for encoder in (
        networks.conv_encoder((8, 8, 1), (6,), filters=(4,)),
        networks.mlp((8, 8, 1), (6,), num_classes=4),
        networks.mlp((8, 8, 1), (6,), hidden=(7, 5, 4)),
    ):
        vae = keras_gen.VAE(encoder, networks.mlp((3,), (8, 8, 1)), posterior, likelihood, seed=1)
        vae.compile("adam")
        full = evaluation.independence._copy(vae, 5, full=True)
        labels = np.arange(20) % 4 if vae.num_classes else None
        ours, theirs = full.encode(images, labels), vae.encode(images, labels)
        np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=1e-6)
        np.testing.assert_allclose(
            ours.covariance(), np.asarray(theirs.stddev())[..., None] ** 2 * np.eye(3), atol=1e-6
        )
        before = vae.get_weights()
        full.fit(images, labels, verbose=0)
        assert all(np.array_equal(a, b) for a, b in zip(before, vae.get_weights(), strict=True))
        assert np.any(
            np.abs(np.asarray(full.encode(images, labels).covariance()) * (1 - np.eye(3))) > 0
        )


def audit_of(elbo, independence):
    """Return an audit whose intervals are `elbo` and `independence`, each `(low, high)`."""
    intervals = [
        evaluation.Interval(mean=sum(pair) / 2, low=pair[0], high=pair[1])
        for pair in (elbo, (0, 1), (0, 1), independence, (0, 1))
    ]
    correlations = np.array([[1.0, 0.25], [0.25, 1.0]])
    return evaluation.IndependenceAudit(*intervals, correlations, seeds=(0, 1), images=7)


@pytest.mark.parametrize(
    ("elbo", "independence", "verdict"),
    [
        ((-0.2, 0.09), (0.0, 0.09), "Independent latents were adequate"),
        ((-0.2, 0.1), (0.0, 0.05), "Undecided"),
        ((-0.2, 0.05), (0.0, 0.1), "Undecided"),
        ((0.01, 0.5), (0.0, 0.05), "Independent latents have a cost"),
        ((0.0, 0.5), (0.1, 0.2), "Undecided"),
        ((-0.1, 0.0), (0.11, 0.2), "Independent latents have a cost"),
    ],
)
def test_the_verdict_depends_on_the_ends_of_the_intervals(elbo, independence, verdict):
    audit = audit_of(elbo, independence)
    assert str(audit).startswith(verdict)
    assert audit.adequate == ("adequate" in verdict)
    assert "over 2 seed(s)" in str(audit)
    assert "over 7 single images" in str(audit)
    assert "0.25" in str(audit).splitlines()[-1]


def test_several_seeds_give_the_variation_between_seeds():
    gains = [np.array([0.0, 4.0, 2.0]), np.array([1.0, 5.0, 3.0])]
    of_seeds = independence._interval_of_gains(gains)
    assert of_seeds == evaluation.Interval.of(np.array([2.0, 3.0]))
    assert independence._interval_of_gains(gains[:1]) == evaluation.Interval.of(gains[0])
    assert of_seeds != evaluation.Interval.of(np.concatenate(gains))


def test_what_cannot_be_audited_is_refused(images):
    posterior, likelihood = (
        distributions.FullCovarianceNormal(3),
        distributions.Bernoulli((8, 8, 1)),
    )
    encoder = networks.mlp((8, 8, 1), (posterior.parameter_size,))
    vae = keras_gen.VAE(encoder, networks.mlp((3,), (8, 8, 1)), posterior, likelihood)
    with pytest.raises(ValueError, match="with a DiagonalNormal posterior of at least two latents"):
        evaluation.audit_independence(vae, images, images)
    posterior = distributions.DiagonalNormal(3)
    vae = keras_gen.VAE(
        networks.mlp((8, 8, 1), (6,)), networks.mlp((3,), (8, 8, 1)), posterior, likelihood
    )
    with pytest.raises(ValueError, match="`vae` must be compiled"):
        evaluation.audit_independence(vae, images, images)
    vae.compile("adam")
    for seeds in ((), (0, 0)):
        with pytest.raises(
            ValueError,
            match=rf"`seeds` must contain at least one seed, and no seed twice\. "
            rf"Received: seeds={re.escape(str(seeds))}",
        ):
            evaluation.audit_independence(vae, images, images, seeds=seeds)
    for name, value, least in (
        ("images", 1, 2),
        ("epochs", 0, 1),
        ("num_samples", 2.5, 1),
        ("refinement_steps", 0, 1),
    ):
        with pytest.raises(
            ValueError,
            match=f"`{name}` must be an integer of at least {least}. Received: {name}={value}",
        ):
            evaluation.audit_independence(vae, images, images, **{name: value})


@pytest.mark.parametrize("hidden", [(), (5,), (7, 5, 4)])
def test_the_new_outputs_have_the_input_of_the_last_layer(hidden):
    full = distributions.FullCovarianceNormal(3)
    encoder = networks.mlp((8,), (6,), hidden=hidden)
    kernel = independence.extended(encoder, full).get_layer("below").kernel
    assert tuple(kernel.shape) == ((hidden or (8,))[-1], full.parameter_size - 6)


def test_an_interval_is_that_of_students_t():
    values = np.random.default_rng(0).normal(1, 2, size=7)
    found = evaluation.Interval.of(values)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_single_test_example_is_refused():
    vae, x, _ = linear_gaussian(correlated=True, epochs=0)
    with pytest.raises(ValueError, match="at least 2 examples"):
        evaluation.audit_independence(vae, x, x[:1])


def test_an_encoder_that_is_not_made_of_layers_is_refused():
    class Encoder(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="`encoder` must consist of Keras layers"):
        independence.extended(Encoder(), distributions.FullCovarianceNormal(2))


def test_correlations_are_root_mean_squares_over_the_images():
    scale_trils = np.tril(np.random.default_rng(0).normal(size=(2, 3, 3))) + np.eye(3)
    covariances = scale_trils @ scale_trils.swapaxes(1, 2)
    found = independence._mean_correlations(covariances)
    for i, j in itertools.product(range(3), repeat=2):
        of_images = [c[i, j] / np.sqrt(c[i, i] * c[j, j]) for c in covariances]
        assert found[i, j] == pytest.approx(np.sqrt(np.mean(np.square(of_images))))


def test_estimates_use_all_samples_in_chunks(monkeypatch):
    monkeypatch.setattr(independence, "samples_per_chunk", lambda decoder, rows: 3)
    calls = []

    def log_weights(x, labels, number, seed, posterior):
        calls.append((number, seed))
        return np.random.default_rng(len(calls)).normal(size=(number, len(x)))

    vae = types.SimpleNamespace(decoder=None, seed=5, log_weights=log_weights)
    elbos, log_likelihoods = independence._elbo(vae, None, np.zeros((2, 4)), None, 7)
    assert [number for number, _ in calls] == [3, 3, 1]
    assert len({seed for _, seed in calls}) == 3
    # The optimization of the posteriors uses the seeds from 0.
    assert all(first == 5 and second < 0 for _, (first, second) in calls)
    chunks = [
        np.random.default_rng(call).normal(size=(number, 2))
        for call, (number, _) in enumerate(calls, 1)
    ]
    samples = np.concatenate(chunks)
    np.testing.assert_allclose(elbos, samples.mean(axis=0))
    np.testing.assert_allclose(log_likelihoods, np.log(np.exp(samples).mean(axis=0)))


def test_the_gaps_start_from_the_posterior_of_the_encoder_without_dropout(monkeypatch):
    """Without an optimization, all posteriors of an image are the same."""
    vae, x, _ = linear_gaussian(correlated=True, epochs=0)
    dropout = keras.Sequential(
        [keras.Input((SIZE,)), keras.layers.Dropout(0.9), *vae.encoder.layers]
    )
    vae = keras_gen.VAE(dropout, vae.decoder, vae.posterior, vae.likelihood, seed=0)
    given = []

    def optimized(vae, posterior, parameters, *_):
        given.append(posterior(parameters))
        return parameters

    monkeypatch.setattr(independence, "_optimized", optimized)
    refined = independence._refine(vae, x[:3], None, steps=1, num_samples=4)
    of_encoder = vae.encode(x[:3])
    assert len(given) == 3
    for posterior in given:
        np.testing.assert_allclose(posterior.mean(), of_encoder.mean(), atol=1e-6)
        np.testing.assert_allclose(posterior.stddev(), of_encoder.stddev(), atol=1e-6)
    np.testing.assert_allclose(refined.correlations, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(refined.amortization, 0, atol=1e-4)
