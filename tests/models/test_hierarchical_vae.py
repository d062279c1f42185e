"""The hierarchical VAE, on linear-Gaussian hierarchies whose evidence is known exactly."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from support import CLASSES, IMAGE, tiny_hierarchical_vae

import keras_gen
from keras_gen import distributions, evaluation, networks, objectives

tfd = tfp.distributions

# z_2 ~ N(0, I), z_1 | z_2 ~ N(B z_2 + b, diag s_1²), x | z_1 ~ N(A z_1 + a, s_x² I)
A = np.array([[1.0, 0.5], [0.0, -1.5], [0.7, 0.2]])
a = np.array([0.1, -0.2, 0.3])
B = np.array([[0.8], [-0.6]])
b = np.array([0.2, 0.4])
S_1 = np.array([0.5, 0.9])
S_X = 0.6
X = np.array([[0.7, -1.0, 0.3], [-0.2, 0.4, 1.1]], np.float32)


def raw(scale):
    """The number that `positive_scale` maps to `scale`."""
    softplus = (np.asarray(scale) - 1e-4) / (1 - 1e-4)
    return np.log(np.expm1(softplus)) - np.log(np.e - 1)


def linear(weights, bias, scale=None):
    """A network that returns W v + c, followed by the raw scales if `scale` is given."""
    weights, bias = np.asarray(weights, np.float64), np.asarray(bias, np.float64)
    if scale is not None:
        weights = np.concatenate([weights, np.zeros((len(scale), weights.shape[1]))])
        bias = np.concatenate([bias, raw(scale)])
    network = networks.mlp((weights.shape[1],), (len(bias),), hidden=())
    network.set_weights([weights.T, bias])
    return network


def normal_logpdf(value, mean, covariance):
    return scipy.stats.multivariate_normal(mean, covariance).logpdf(value)


def joint_of_prior():
    """Mean and covariance of p(z_1, z_2)."""
    covariance = np.block([[B @ B.T + np.diag(S_1**2), B], [B.T, np.eye(1)]])
    return np.concatenate([b, np.zeros(1)]), covariance


def evidence(x=X):
    mean, covariance = joint_of_prior()
    a_of_z = np.concatenate([A, np.zeros((3, 1))], axis=1)
    return normal_logpdf(x, a_of_z @ mean + a, a_of_z @ covariance @ a_of_z.T + S_X**2 * np.eye(3))


C, C_0, S_Q = np.array([[0.4, 0.1, 0.2], [0.1, -0.5, 0.0]]), np.array([0.1, 0.0]), [0.4, 0.3]
D, D_0, T_Q = np.array([[0.6, -0.3]]), np.array([-0.1]), [0.7]
E, E_0 = np.array([[0.3, -0.2, 0.4]]), np.array([0.2])


def joint_of_posterior(inference, x):
    """Mean and covariance of q(z_1, z_2 | x) for one x, by the rules of Gaussian conditioning."""
    upward = C @ x + C_0
    if inference == "bottom_up":
        first = np.diag(np.square(S_Q))
        mean = np.concatenate([upward, D @ upward + D_0])
        last = D @ first @ D.T + np.diag(np.square(T_Q))
        return mean, np.block([[first, first @ D.T], [D @ first, last]])
    precision = 1 / np.square(S_Q) + 1 / S_1**2
    slope = (B.T / S_1**2 / precision).T
    offset = (upward / np.square(S_Q) + b / S_1**2) / precision
    top, last = E @ x + E_0, np.diag(np.square(T_Q))
    first = slope @ last @ slope.T + np.diag(1 / precision)
    mean = np.concatenate([slope @ top + offset, top])
    return mean, np.block([[first, slope @ last], [last @ slope.T, last]])


def hierarchy(inference):
    """The model of these two distributions."""
    if inference == "bottom_up":
        encoders = [linear(C, C_0, S_Q), linear(D, D_0, T_Q)]
    else:
        encoders = [linear(np.eye(3), np.zeros(3)), linear(np.eye(3), np.zeros(3))]
    model = keras_gen.HierarchicalVAE(
        encoders,
        [linear(A, a), linear(B, b, S_1)],
        [distributions.DiagonalNormal(2), distributions.DiagonalNormal(1)],
        distributions.Normal((3,), scale=S_X),
        inference=inference,
        seed=0,
    )
    if inference == "top_down":
        dense = [layer for layer in model.encoder.layers if isinstance(layer, keras.layers.Dense)]
        for layer, (weights, bias, scale) in zip(
            dense, [(C, C_0, S_Q), (E, E_0, T_Q)], strict=True
        ):
            layer.set_weights(linear(weights, bias, scale).get_weights())
    model.compile("adam")
    return model


@pytest.fixture(scope="module", params=["bottom_up", "top_down"])
def inference(request):
    return request.param


@pytest.fixture(scope="module")
def model(inference):
    return hierarchy(inference)


def within(values, expected):
    """Whether the mean of values agrees with a number up to its sampling error."""
    values = np.asarray(values, np.float64)
    return abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values)) + 1e-4


def divergence(a, b):
    """KL of two Gaussians, as in MATH.md."""
    (mean_a, covariance_a), (mean_b, covariance_b) = a, b
    inverse = np.linalg.inv(covariance_b)
    shift = mean_b - mean_a
    log_ratio = np.linalg.slogdet(covariance_b)[1] - np.linalg.slogdet(covariance_a)[1]
    trace = np.trace(inverse @ covariance_a)
    return 0.5 * (trace + shift @ inverse @ shift - len(shift) + log_ratio)


def test_both_densities_are_the_joint_gaussians(model, inference):
    q = model.encode(X)
    for z in (
        q.sample(5, seed=(1, 2)),
        tf.constant(np.random.default_rng(0).normal(size=(5, 2, 3))),
    ):
        np.testing.assert_allclose(
            model.prior.distribution().log_prob(z), normal_logpdf(z, *joint_of_prior()), rtol=1e-4
        )
        for row in range(2):
            expected = normal_logpdf(z[:, row], *joint_of_posterior(inference, X[row]))
            np.testing.assert_allclose(q.log_prob(z)[:, row], expected, rtol=1e-4)


def test_samples_have_the_moments_of_the_joint_gaussians(model, inference):
    number = 50_000
    of_prior = model.prior.distribution().sample(number, seed=(0, 1))
    of_posterior = model.encode(X[:1]).sample(number, seed=(0, 2))[:, 0]
    by_row = model.prior.sample_rows(np.arange(2000))
    for z, (mean, covariance) in (
        (of_prior, joint_of_prior()),
        (of_posterior, joint_of_posterior(inference, X[0])),
        (by_row, joint_of_prior()),
    ):
        z = np.asarray(z, np.float64)
        error = 5 / np.sqrt(len(z))
        np.testing.assert_allclose(z.mean(axis=0), mean, atol=error * np.sqrt(covariance.max()))
        np.testing.assert_allclose(np.cov(z.T), covariance, atol=2 * error * covariance.max())


def test_the_noise_of_the_layers_is_independent(inference):
    """With weights of 0, all latents of three layers are independent."""
    networks_of_zeros = [linear(np.zeros((1, 1)), [0.0], [1.0]) for _ in range(2)]
    encoders = [linear(np.zeros((2, 1)), np.zeros(2)) for _ in range(3)]
    if inference == "top_down":
        encoders = [linear([[1.0]], [0.0]) for _ in range(3)]
    model = keras_gen.HierarchicalVAE(
        encoders,
        [linear([[0.0]], [0.0]), *networks_of_zeros],
        [distributions.DiagonalNormal(1) for _ in range(3)],
        distributions.Normal((1,), scale=1.0),
        inference=inference,
        seed=0,
    )
    number = 4000
    for z in (
        model.prior.distribution().sample(number, seed=(0, 1)),
        model.encode(np.zeros((1, 1), "float32")).sample(number, seed=(0, 1))[:, 0],
        model.prior.sample_rows(np.arange(number)),
    ):
        correlations = np.corrcoef(np.transpose(z)) - np.eye(3)
        assert np.abs(correlations).max() < 5 / np.sqrt(number)


def terms_of(model, objective, number=4000, x=X[0]):
    """The terms of an objective for many copies of one example."""
    model.compile("adam", objective=objective)
    batch = model.unpack(tf.constant(np.tile(x, (number, 1))))
    terms = model.objective(model._objective_batch(batch, training=False))
    return {name: np.asarray(value, np.float64) for name, value in terms.by_name().items()}


@pytest.mark.parametrize("objective", [objectives.ELBO(), objectives.IWAE(1)])
def test_each_term_of_the_kl_has_the_exact_mean(model, inference, objective):
    q, p = joint_of_posterior(inference, X[0]), joint_of_prior()
    mean, covariance = q
    top = mean[2:], covariance[2:, 2:]
    if inference == "bottom_up":
        # E over z_1 of KL(q(z_2 | z_1) ‖ N(0, 1)); q(z_2) has the variance of its mean beside T_Q²
        of_top = 0.5 * (top[1].sum() + top[0] @ top[0] - 1 - np.log(T_Q[0] ** 2))
    else:
        of_top = divergence(top, (np.zeros(1), np.eye(1)))
    terms = terms_of(model, objective)
    assert within(terms["kl_loss"], divergence(q, p))
    assert within(terms["kl_loss_2"], of_top)
    assert within(terms["kl_loss_1"], divergence(q, p) - of_top)
    np.testing.assert_allclose(terms["kl_loss"], terms["kl_loss_1"] + terms["kl_loss_2"], atol=1e-4)


def test_closed_forms_are_used_where_there_are_some(model, inference):
    q = model.encode(X)
    z = q.sample(3, seed=(1, 2))
    closed, sampled = q.layer_kls(z, True), q.layer_kls(z, False)
    assert all(kl.shape == (3, 2) for kl in (*closed, *sampled))
    z_1, z_2 = np.split(z.numpy().astype(np.float64), [2], axis=-1)
    if inference == "bottom_up":
        mean, variance = z_1 @ D.T + D_0, np.square(T_Q)
        np.testing.assert_array_equal(closed[0], sampled[0])
        expected = 0.5 * (variance + mean**2 - 1 - np.log(variance)).sum(axis=-1)
    else:
        expected = divergence((E @ X[0] + E_0, np.diag(np.square(T_Q))), (np.zeros(1), np.eye(1)))
        variance = 1 / (1 / np.square(S_Q) + 1 / S_1**2)
        mean = variance * ((X @ C.T + C_0) / np.square(S_Q) + (z_2 @ B.T + b) / S_1**2)
        shift = (mean - z_2 @ B.T - b) ** 2
        lower = 0.5 * (variance / S_1**2 + shift / S_1**2 - 1 - np.log(variance / S_1**2))
        np.testing.assert_allclose(closed[0], lower.sum(axis=-1), atol=1e-4)
        expected = [expected, closed[1][0, 1]]
    np.testing.assert_allclose(closed[1], np.broadcast_to(expected, (3, 2)), atol=1e-4)
    for layer in (0, 1):
        assert inference == "bottom_up" or not np.allclose(closed[layer], sampled[layer])


def test_the_elbo_is_the_evidence_minus_the_divergence_to_the_exact_posterior(model, inference):
    mean, covariance = joint_of_prior()
    a_of_z = np.concatenate([A, np.zeros((3, 1))], axis=1)
    exact_covariance = np.linalg.inv(np.linalg.inv(covariance) + a_of_z.T @ a_of_z / S_X**2)
    exact_mean = exact_covariance @ (
        np.linalg.solve(covariance, mean) + a_of_z.T @ (X[0] - a) / S_X**2
    )
    gap = divergence(joint_of_posterior(inference, X[0]), (exact_mean, exact_covariance))
    expected = evidence()[0] - gap
    assert within(terms_of(model, objectives.ELBO())["elbo"], expected)
    assert within(terms_of(model, objectives.IWAE(5))["elbo"], expected)
    bound = -terms_of(model, objectives.IWAE(200))["loss"]
    assert expected + 0.1 < bound.mean() < evidence()[0] + 0.01
    assert (
        within(-model.score(np.tile(X[:1], (2, 1)), num_samples=8000)[:1], expected)
        or abs(float(model.score(X[:1], num_samples=8000)[0]) + expected) < 0.05
    )


def test_the_estimated_log_likelihood_is_the_evidence(model):
    estimate = evaluation.log_likelihood(model, X, num_samples=5000, verbose=0)
    assert abs(estimate.mean - evidence().mean()) < 4 * estimate.standard_error + 1e-3
    assert estimate.standard_error < 0.05


@pytest.mark.parametrize("kind", ["bottom_up", "top_down"])
def test_with_the_exact_posterior_every_weight_is_the_evidence(kind):
    """z_2 → z_1 → x, one number each: both kinds of inference contain the exact posterior."""
    slope, offset, s_1, w, s_x = 0.8, 0.3, 0.6, 1.5, 0.4
    decoders = [linear([[w]], [0.2]), linear([[slope]], [offset], [s_1])]
    total = slope**2 + s_1**2  # variance of z_1
    gain = total * w / (w**2 * total + s_x**2)
    if kind == "bottom_up":
        first = linear(
            [[gain]], [offset - gain * (w * offset + 0.2)], [np.sqrt(total - gain * w * total)]
        )
        encoders = [
            first,
            linear([[slope / total]], [-slope * offset / total], [s_1 / np.sqrt(total)]),
        ]
    else:
        encoders = [linear([[1.0]], [0.0]), linear([[1.0]], [0.0])]
    model = keras_gen.HierarchicalVAE(
        encoders,
        decoders,
        [distributions.DiagonalNormal(1)] * 2
        if kind == "bottom_up"
        else [distributions.DiagonalNormal(1), distributions.DiagonalNormal(1)],
        distributions.Normal((1,), scale=s_x),
        inference=kind,
        seed=0,
    )
    if kind == "top_down":
        # the message of x to z_1 is N((x − 0.2) / w, (s_x / w)²); z_2 given x
        spread = w**2 * total + s_x**2
        of_top = w * slope / spread
        heads = [
            linear([[1 / w]], [-0.2 / w], [s_x / w]),
            linear([[of_top]], [-of_top * (w * offset + 0.2)], [np.sqrt(1 - of_top * w * slope)]),
        ]
        dense = [layer for layer in model.encoder.layers if isinstance(layer, keras.layers.Dense)]
        for layer, head in zip(dense, heads, strict=True):
            layer.set_weights(head.get_weights())
    x = np.array([[0.3], [-1.2], [2.0]], np.float32)
    expected = scipy.stats.norm(w * offset + 0.2, np.sqrt(w**2 * total + s_x**2)).logpdf(x)[:, 0]
    log_weights = model.log_weights(x, num_samples=50, seed=(1, 2))
    np.testing.assert_allclose(log_weights, np.broadcast_to(expected, (50, 3)), atol=2e-4)
    np.testing.assert_allclose(
        evaluation.log_likelihood(model, x, num_samples=20, verbose=0).values, expected, atol=1e-4
    )


def test_one_layer_is_the_vae(images):
    posterior = distributions.FullCovarianceNormal(3)
    parts = {"posterior": posterior, "likelihood": distributions.Bernoulli(IMAGE), "seed": 1}
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(5,))
    decoder = networks.mlp((3,), IMAGE, hidden=(5,))
    vae = keras_gen.VAE(encoder, decoder, **parts)
    parts["posteriors"] = [parts.pop("posterior")]
    model = keras_gen.HierarchicalVAE([encoder], [decoder], **parts)
    for each in (vae, model):
        each.compile("adam")
    np.testing.assert_allclose(model.latents(images), vae.latents(images), atol=1e-6)
    np.testing.assert_allclose(model.reconstruct(images), vae.reconstruct(images), atol=1e-6)
    np.testing.assert_allclose(model.generate(5, seed=1), vae.generate(5, seed=1), atol=1e-6)
    logs = [each.evaluate(images, verbose=0, return_dict=True) for each in (vae, model)]
    assert logs[1]["kl_loss"] == logs[1]["kl_loss_1"] == pytest.approx(logs[0]["kl_loss"], rel=1e-5)


def gradients_of_networks(doubly_reparameterized, number=100):
    """Return the gradients of the IWAE loss on `number` batches of 500 copies of one example.

    Returns:
        A list with one array `[number, ...]` per weight of both encoders and of both decoders.
    """
    model = hierarchy("bottom_up")
    model.compile("adam", objective=objectives.IWAE(10, doubly_reparameterized))
    batch = model.unpack(tf.constant(np.tile(X[0], (500, 1))))

    @tf.function
    def gradient(seed):
        inputs = dataclasses.replace(model._objective_batch(batch, training=True), seed=seed)
        return tf.gradients(tf.reduce_mean(model.objective(inputs).loss), weights_of(model))

    of_batches = [gradient(tf.constant([1, i])) for i in range(number)]
    return [np.array(each) for each in zip(*of_batches, strict=True)]


def weights_of(model):
    """Return the weights of the encoders, followed by those of the decoders."""
    networks_ = (*model.encoders, *model.decoders)
    return [weight.value for network in networks_ for weight in network.trainable_variables]


def test_the_doubly_reparameterized_gradient_has_the_same_mean_and_less_noise():
    plain, doubly = (gradients_of_networks(flag) for flag in (False, True))
    for one, other in zip(plain[:4], doubly[:4], strict=True):  # the encoders
        differences = one - other
        error = differences.std(axis=0) / np.sqrt(len(differences))
        assert np.all(np.abs(differences.mean(axis=0)) < 4.5 * error + 1e-5)
        assert np.abs(one.mean(axis=0)).max() > 10 * error.max()
        assert other.std(axis=0).mean() < 0.8 * one.std(axis=0).mean()
    for one, other in zip(plain[4:], doubly[4:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def of_layers(number, num_classes=None, posterior=distributions.DiagonalNormal):
    """A model with some number of layers of latents and bottom-up inference."""
    keras.utils.set_random_seed(0)
    posteriors = [posterior(size) for size in (3, 2, 2)[:number]]
    inputs = [(4,), (3,), (2,)][:number]
    outputs = [(4,), (6,), (4,)][:number]
    labels = {"num_classes": num_classes, "hidden": (5,), "activation": "tanh"}
    return keras_gen.HierarchicalVAE(
        [
            networks.mlp(shape, (each.parameter_size,), **labels)
            for shape, each in zip(inputs, posteriors, strict=True)
        ],
        [
            networks.mlp((each.event_size,), shape, **labels)
            for shape, each in zip(outputs, posteriors, strict=True)
        ],
        posteriors,
        distributions.Normal((4,), scale=0.5),
        seed=0,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"number": 1},
        {"number": 2},
        {"number": 3},
        {"number": 2, "num_classes": 3},
        {"number": 2, "posterior": distributions.FullCovarianceNormal},
    ],
    ids=str,
)
def test_with_one_sample_the_doubly_reparameterized_gradient_lacks_the_score(arguments):
    """With one sample, the two gradients differ by ∂ log q(z | x) / ∂φ at a fixed z."""
    model = of_layers(**arguments)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    labels = np.array([0, 1, 2, 0, 1]) if "num_classes" in arguments else None
    batch = model.unpack((x, labels) if labels is not None else x)
    gradients = []
    for flag in (False, True):
        model.compile("adam", objective=objectives.IWAE(1, flag))
        with tf.GradientTape() as tape:
            inputs = dataclasses.replace(model._objective_batch(batch, True), seed=(1, 2))
            loss = tf.reduce_sum(model.objective(inputs).loss)
        gradients.append(map(tf.convert_to_tensor, tape.gradient(loss, weights_of(model))))
    z = tf.stop_gradient(model._objective_batch(batch, True).posterior.sample(1, seed=(1, 2)))
    with tf.GradientTape() as tape:
        log_q = tf.reduce_sum(model._objective_batch(batch, True).posterior.log_prob(z))
    scores = tape.gradient(log_q, weights_of(model), unconnected_gradients="zero")
    scores = [tf.convert_to_tensor(score) for score in scores]
    for plain, doubly, score in zip(*gradients, scores, strict=True):
        np.testing.assert_allclose(plain - doubly, score, rtol=1e-3, atol=1e-4)
    of_encoders = sum(len(network.trainable_variables) for network in model.encoders)
    assert all(np.any(score) for score in scores[:of_encoders])
    assert not any(np.any(score) for score in scores[of_encoders:])


class OwnEncoder(keras.Model):
    """A model whose `call` has no argument `training`."""

    def __init__(self, size, dropout, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(20, "tanh", activity_regularizer="l2")
        self.normalization = keras.layers.BatchNormalization()
        self.dropout = keras.layers.Dropout(dropout, seed=1)
        self.last = keras.layers.Dense(size)

    def call(self, x):
        return self.last(self.dropout(self.normalization(self.hidden(x))))


def with_random_layers(doubly_reparameterized, **arguments):
    """A model whose second encoder has dropout, batch normalization and an activity regularizer."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    second = keras.Model(inputs, OwnEncoder(4, dropout=0.5, name="own")(inputs))
    model, _ = tiny_hierarchical_vae(
        "bottom_up",
        encoders=[networks.mlp(IMAGE, (6,), hidden=(5,)), second],
        decoders=[networks.mlp((3,), IMAGE), networks.mlp((2,), (6,))],
    )
    model.compile("sgd", objective=objectives.IWAE(4, doubly_reparameterized), **arguments)
    return model


@pytest.mark.parametrize("mode", ["eager", "graph", "XLA", "mixed_float16", "two replicas"])
def test_the_doubly_reparameterized_gradient_keeps_the_logs(mode, images, two_replicas):
    """Dropout has the same mask when q(z_2 | z_1) is sampled and when its density is computed."""
    keras.config.set_dtype_policy("mixed_float16" if mode == "mixed_float16" else "float32")
    modes = {"eager": {"run_eagerly": True}, "XLA": {"jit_compile": True}}
    scope = two_replicas.scope if mode == "two replicas" else tf.distribute.get_strategy().scope
    logs, states = [], []
    for flag in (False, True):
        with scope():
            model = with_random_layers(flag, **modes.get(mode, {}))
        before = model.encoders[1].get_weights()
        history = model.fit(images[:8], epochs=1, batch_size=8, verbose=0).history
        logs.append({name: values[0] for name, values in history.items()})
        own = model.encoders[1].get_layer("own")
        states.append([own.normalization.moving_mean.numpy(), own.dropout.seed_generator.state])
        if mode != "mixed_float16":  # the first steps only reduce the scale of the loss
            assert not np.array_equal(model.encoders[1].get_weights()[0], before[0])
    assert logs[0]["regularization_loss"] > 0
    assert logs[1] == pytest.approx(logs[0], rel=1e-2 if mode == "mixed_float16" else 1e-4)
    np.testing.assert_allclose(states[1][0], states[0][0], rtol=1e-2, atol=1e-5)
    np.testing.assert_array_equal(states[1][1], states[0][1])
    assert np.any(states[1][0])


def test_free_bits_and_weights_are_per_layer():
    x = tf.zeros((2, 3))
    kls = [tf.constant([[0.2, 3.0]]), tf.constant([[2.0, 0.5]])]
    batch = objectives.Batch(
        x=x,
        posterior=tfd.Independent(tfd.Normal(tf.zeros((2, 1)), 1.0), 1),
        frozen_posterior=None,
        prior=None,
        likelihood=lambda z: tfd.Independent(tfd.Normal(tf.zeros((1, 2, 3)), 1.0), 1),
        seed=(0, 0),
        step=tf.constant(5),
        layer_kls=lambda z, closed_form: kls,
    )
    constant = 1.5 * np.log(2 * np.pi)
    cases = [
        (objectives.ELBO(), [2.2, 3.5]),
        (objectives.ELBO(free_bits=1.0), [1.0 + 2.0, 3.0 + 1.0]),
        (objectives.ELBO(kl_weight=0.5), [1.1, 1.75]),
        (objectives.ELBO(kl_weight=[2.0, 0.1]), [0.6, 6.05]),
        (
            objectives.ELBO(kl_weight=[objectives.LinearWarmUp(10), 1], free_bits=1.0),
            [0.5 + 2.0, 1.5 + 1.0],
        ),
    ]
    for objective, expected in cases:
        terms = objective(batch)
        np.testing.assert_allclose(terms.loss, np.array(expected) + constant, rtol=1e-5)
        np.testing.assert_allclose(terms.kl_loss, [2.2, 3.5], rtol=1e-5)
        assert list(terms.by_name())[-2:] == ["kl_loss_1", "kl_loss_2"]
        np.testing.assert_array_equal(terms.by_name()["kl_loss_2"], [2.0, 0.5])
    with pytest.raises(ValueError, match=r"one item per layer of latents, 2 for this model"):
        objectives.ELBO(kl_weight=[1.0])(batch)
    for wrong in ([], [1.0, -1.0], ["a"]):
        with pytest.raises(ValueError, match=r"or a list of these with one item per layer"):
            objectives.ELBO(kl_weight=wrong)


@pytest.mark.parametrize(
    "objective",
    [
        objectives.ELBO([objectives.LinearWarmUp(4), 0.5], free_bits=0.3),
        objectives.IWAE(3),
    ],
)
def test_it_trains_saves_and_continues(inference, objective, images, tmp_path):
    check_that_it_trains_saves_and_continues(inference, objective, images, tmp_path)


def test_it_continues_with_the_doubly_reparameterized_gradient(images, tmp_path):
    objective = objectives.IWAE(3, doubly_reparameterized=True)
    check_that_it_trains_saves_and_continues("bottom_up", objective, images, tmp_path)


def check_that_it_trains_saves_and_continues(inference, objective, images, tmp_path):
    model, _ = tiny_hierarchical_vae(inference)
    model.compile("adam", objective=objective, run_eagerly=True)
    history = model.fit(images, batch_size=8, epochs=2, validation_data=images, verbose=0).history
    names = ("kl_loss_1", "kl_loss_2")
    logged = {name for name in history if "kl_loss_" in name}
    assert logged == {*names, *(f"val_{name}" for name in names)}
    np.testing.assert_allclose(
        history["kl_loss"], np.sum([history[name] for name in names], axis=0), rtol=1e-4
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    assert repr(loaded.objective) == repr(objective)
    np.testing.assert_array_equal(loaded.generate(4, seed=0), model.generate(4, seed=0))
    assert loaded.evaluate(images, verbose=0) == model.evaluate(images, verbose=0)
    for each in (model, loaded):
        each.fit(images, batch_size=8, verbose=0)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_weight_learns_and_is_counted_once(inference, images):
    model, arguments = tiny_hierarchical_vae(inference)
    model.compile(**arguments, run_eagerly=True)
    ids = [id(variable) for variable in model.trainable_variables]
    assert len(ids) == len(set(ids))
    of_networks = [v for network in (*model.encoders, *model.decoders) for v in network.variables]
    heads = 4 if inference == "top_down" else 0
    assert len(ids) == len(of_networks) + heads
    before = [variable.numpy() for variable in model.trainable_variables]
    model.fit(images, epochs=2, batch_size=8, verbose=0)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert not np.array_equal(old, variable), variable.path


def test_batch_normalization_of_upper_networks_learns_once_per_step(inference, images):
    model, arguments = tiny_hierarchical_vae(inference)
    normalized = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(6, use_bias=False),
            keras.layers.BatchNormalization(momentum=0.5),
        ]
    )
    model, arguments = tiny_hierarchical_vae(inference, decoders=[model.decoders[0], normalized])
    model.compile(**arguments, run_eagerly=True)
    dense, batch_normalization = normalized.layers
    call = dense.call
    for objective in (objectives.ELBO(), objectives.IWAE(4)):
        model.compile("sgd", objective=objective, run_eagerly=True)
        seen = []
        dense.call = lambda x, training, seen=seen: seen.append(call(x)) or seen[-1]
        before = batch_normalization.moving_mean.numpy()
        model.train_on_batch(images[:8])
        dense.call = call
        [output] = seen
        mean = tf.reduce_mean(output, axis=0)
        after = batch_normalization.moving_mean.numpy()
        np.testing.assert_allclose(after, 0.5 * before + 0.5 * mean, atol=1e-5)
        model.test_on_batch(images[:8])
        model.generate(2, seed=0)
        np.testing.assert_array_equal(batch_normalization.moving_mean, after)


@pytest.mark.parametrize("posterior", ["full", "flow"])
def test_bottom_up_inference_takes_any_posterior(posterior, images, tmp_path):
    posteriors = {
        "full": [distributions.FullCovarianceNormal(3), distributions.FullCovarianceNormal(2)],
        "flow": [
            distributions.InverseAutoregressiveNormal(3, 1, 4, 2),
            distributions.InverseAutoregressiveNormal(2, 1, 4, 2),
        ],
    }[posterior]
    model = keras_gen.HierarchicalVAE(
        [
            networks.mlp(IMAGE, (posteriors[0].parameter_size,), hidden=(5,)),
            networks.mlp((3,), (posteriors[1].parameter_size,), hidden=(5,)),
        ],
        [networks.mlp((3,), IMAGE, hidden=(5,)), networks.mlp((2,), (6,), hidden=(5,))],
        posteriors,
        distributions.Bernoulli(IMAGE),
        distributions.NormalMixture(2, 3),
        seed=1,
    )
    model.compile("adam", objective=objectives.ELBO(num_samples=2), run_eagerly=True)
    history = model.fit(images, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["kl_loss_2"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.latents(images), model.latents(images), atol=1e-6)
    keys = {"full": {"mean", "scale_tril"}, "flow": {"latents"}}[posterior]
    found = model.posterior.summary(model.encode(images))
    assert found.keys() == {f"{key}_{layer}" for key in keys for layer in (1, 2)}
    with pytest.raises(ValueError, match="`temperature` must be 1 unless `top_prior` is a normal"):
        model.generate(2, seed=0, temperature=0.5)
    z = model.latents(images[:1])
    assert model.generate(2, seed=0, top_latents=z[:, 3:]).shape == (2, *IMAGE)


def conditional(inference, top_prior=None):
    sizes = (3, 2)
    output = 7 if inference == "top_down" else 6
    model = keras_gen.HierarchicalVAE(
        [
            networks.mlp(IMAGE, (output,), hidden=(5,), num_classes=CLASSES),
            networks.mlp(
                (7 if inference == "top_down" else 3,), (4,), hidden=(5,), num_classes=CLASSES
            ),
        ],
        [
            networks.mlp((3,), IMAGE, hidden=(5,), num_classes=CLASSES),
            networks.mlp((2,), (6,), hidden=(5,), num_classes=CLASSES),
        ],
        [distributions.DiagonalNormal(size) for size in sizes],
        distributions.Bernoulli(IMAGE),
        top_prior or distributions.ConditionalNormal(2, CLASSES, hidden_size=4),
        inference=inference,
        seed=1,
    )
    model.compile("adam", run_eagerly=True)
    return model


def test_labels_reach_every_network(inference, images):
    model = conditional(inference)
    labels = np.arange(20) % CLASSES
    model.fit(images, labels, epochs=2, batch_size=8, verbose=0)
    assert model.num_classes == CLASSES
    q = model.encode(images, labels)
    np.testing.assert_array_equal(q.labels, labels)
    z = q.sample(2, seed=(0, 1))
    p = model.prior.distribution(labels)
    # one example at a time, with its label written by hand
    for row in (1, 2):
        label = labels[row : row + 1]
        mean, scale = np.split(
            np.asarray(model.decoders[1]([z[:, row, 3:], tf.repeat(label, 2)])), 2, 1
        )
        scale = 1e-4 + (1 - 1e-4) * np.log1p(np.exp(scale + np.log(np.e - 1)))
        of_top = model.top_prior.distribution(label).log_prob(z[:, row, 3:])
        of_first = scipy.stats.norm(mean, scale).logpdf(z[:, row, :3]).sum(axis=1)
        np.testing.assert_allclose(p.log_prob(z)[:, row], of_top + of_first, rtol=1e-4)
        alone = model.encode(images[row : row + 1], label)
        np.testing.assert_allclose(
            alone.log_prob(z[:, row : row + 1])[:, 0], q.log_prob(z)[:, row], rtol=1e-4
        )
    other = model.encode(images, (labels + 1) % CLASSES)
    assert not np.allclose(other.log_prob(z), q.log_prob(z))
    assert not np.allclose(
        model.generate(3, seed=0, condition=1), model.generate(3, seed=0, condition=2)
    )
    assert model.generate(3, seed=0, condition=1, temperature=0.5).shape == (3, *IMAGE)
    model.score(images, labels)
    score, _ = model.signatures()["score"]
    found = score(tf.constant(images), tf.constant(labels, tf.int64))["score"]
    np.testing.assert_allclose(found, model.score(images, labels), rtol=1e-4)
    for row in (1, 2):
        alone = model.score(images[row : row + 1], labels[row : row + 1])
        np.testing.assert_allclose(alone, found[row : row + 1], rtol=1e-4)
    binary = np.round(images[:3])
    values = evaluation.log_likelihood(model, binary, labels[:3], 10, verbose=0).values
    assert np.isfinite(values).all()
    assert evaluation.latent_report(model, images, labels).kl_per_dimension.shape == (5,)


def test_labels_may_enter_by_the_networks_alone():
    """If the top prior has no labels, it is sampled once per label."""
    model = conditional("bottom_up", distributions.StandardNormal(2))
    p = model.prior.distribution(np.array([0, 2, 2]))
    z = p.sample((4, 5), seed=(0, 1))
    assert z.shape == (4, 5, 3, 5)
    assert p.log_prob(z).shape == (4, 5, 3)
    assert len(np.unique(z[..., 4])) == 4 * 5 * 3


def test_the_temperature_scales_the_standard_deviations():
    model = hierarchy("bottom_up")
    model.outputs_for = lambda latents, seed, condition: latents
    seeds = np.arange(4000)
    mean, covariance = joint_of_prior()
    for temperature in (0.0, 0.5, 2):
        z = np.asarray(
            model._generate_from(
                tf.constant(seeds), None, tf.constant(temperature, tf.float32), None
            ),
            np.float64,
        )
        expected = temperature**2 * covariance
        np.testing.assert_allclose(z.mean(axis=0), mean, atol=0.1 * temperature + 1e-6)
        np.testing.assert_allclose(np.cov(z.T), expected, atol=0.1 * temperature**2 + 1e-6)
    at_one = model.prior.sample_from(tf.constant(seeds[:50]), None, tf.constant(1.0))
    np.testing.assert_allclose(at_one, model.prior.sample_rows(seeds[:50]), atol=1e-5)


def test_generated_data_are_as_far_from_their_mean_as_the_temperature_says():
    """In a linear model, the mean of the data is the output for the mean of the latents."""
    model = hierarchy("bottom_up")
    mean = A @ b + a
    deviation = model.generate(4, seed=0) - mean
    for temperature in (0, 0.5, 2):
        found = model.generate(4, seed=0, temperature=temperature)
        np.testing.assert_allclose(found - mean, temperature * deviation, atol=1e-4)


def test_a_fitted_density_replaces_the_prior_and_has_no_temperature(images):
    model, arguments = tiny_hierarchical_vae()
    model.compile(**arguments, run_eagerly=True)
    model.fit_latent_density(images, 2)
    latents = model.density.sample_rows(model.seeds(3, 0))
    np.testing.assert_allclose(model.generate(3, seed=0), model.decode(latents), atol=1e-6)
    for given in ({"temperature": 0.5}, {"top_latents": latents[:, 3:]}):
        with pytest.raises(ValueError, match="for a model with a fitted density of its latents"):
            model.generate(3, seed=0, **given)


def test_fixed_top_layers_stay_and_the_others_follow_their_conditional(images):
    model, arguments = tiny_hierarchical_vae()
    model.compile(**arguments, run_eagerly=True)
    seeds = tf.range(3, dtype=tf.int64)
    z = model.prior.sample_rows(seeds)
    fixed = tf.constant([[2.0, -1.0]])
    given = model.prior.sample_from(seeds, None, None, tf.repeat(fixed, 3, axis=0))
    np.testing.assert_array_equal(given[:, 3:], tf.repeat(fixed, 3, axis=0))
    again = model.prior.sample_from(seeds, None, None, z[:, 3:])
    np.testing.assert_allclose(again, z, atol=1e-6)
    np.testing.assert_allclose(
        model.generate(seed=seeds, top_latents=z[:, 3:]), model.generate(seed=seeds), atol=1e-6
    )
    np.testing.assert_allclose(
        model.generate(3, seed=0, top_latents=fixed),
        model.generate(3, seed=0, top_latents=np.repeat(fixed, 3, axis=0)),
        atol=1e-6,
    )
    np.testing.assert_allclose(model.generate(3, seed=0, top_latents=z), model.decode(z), atol=1e-6)
    for wrong in (tf.zeros((3, 3)), tf.zeros((2, 2)), tf.zeros(2)):
        with pytest.raises(ValueError, match="`top_latents` must have 1 or 3 rows, and one column"):
            model.generate(3, seed=0, top_latents=wrong)
    for wrong in (-1.0, np.nan, np.inf, "a", True):
        with pytest.raises(ValueError, match="`temperature` must be a number of at least 0"):
            model.generate(3, seed=0, temperature=wrong)
    with pytest.raises(ValueError, match="must be None, because the model is not conditional"):
        model.generate(3, seed=0, condition=1, temperature=0.5)


def test_latents_are_those_of_all_layers(inference, images):
    model, _ = tiny_hierarchical_vae(inference)
    q = model.encode(images)
    assert (q.event_shape, q.batch_shape) == ((5,), (20,))
    latents = model.latents(images)
    np.testing.assert_allclose(
        latents, tf.concat([layer.mean() for layer in q.layers], axis=-1), atol=1e-6
    )
    np.testing.assert_allclose(model.decode(latents), model.reconstruct(images), atol=1e-6)
    other_top = tf.concat([latents[:, :3], latents[:, 3:] + 1], axis=1)
    np.testing.assert_array_equal(model.decode(other_top), model.decode(latents))
    z = q.sample((2, 3), seed=(0, 0))
    assert [part.shape for part in q.split(z)] == [(2, 3, 20, 3), (2, 3, 20, 2)]
    np.testing.assert_allclose(q.log_prob(z), q.log_prob(tf.identity(z)), rtol=1e-5)
    for method in (q.mean, q.stddev, q.variance, q.covariance, lambda: q.kl_divergence(q)):
        with pytest.raises(NotImplementedError, match="has no closed form"):
            method()


def test_traversals_vary_latents_that_are_decoded():
    model, _ = tiny_hierarchical_vae()
    latents = np.random.default_rng(0).normal(size=(50, 5)) * [1, 1, 1, 9, 9]
    rows = evaluation.traverse(model, latents)
    assert len(rows) == 3
    assert all(np.abs(row[0] - row[-1]).max() > 1e-3 for row in rows)


def test_the_report_of_latents_covers_all_layers(images):
    """The moments of a prior with more latents than 64, the samples per example, are regular."""
    sizes = (70, 2)
    model = keras_gen.HierarchicalVAE(
        [networks.mlp(IMAGE, (140,)), networks.mlp((70,), (4,))],
        [networks.mlp((70,), IMAGE), networks.mlp((2,), (140,))],
        [distributions.DiagonalNormal(size) for size in sizes],
        distributions.Bernoulli(IMAGE),
        seed=1,
    )
    report = evaluation.latent_report(model, images)
    assert report.kl_per_dimension.shape == (72,)
    assert 0 < report.aggregate_kl < 500


def test_missing_pixels_are_imputed(inference, images):
    features = networks.MissingAsZero()
    size = 7 if inference == "top_down" else 6
    model, arguments = tiny_hierarchical_vae(
        inference,
        encoders=[
            networks.mlp(IMAGE, (size,), features=features),
            networks.mlp((7 if inference == "top_down" else 3,), (4,)),
        ],
        likelihood=distributions.Bernoulli(IMAGE, missing=True),
    )
    model.compile(**arguments, run_eagerly=True)
    holes = images.copy()
    holes[:, 2] = np.nan
    filled = model.impute(holes, num_samples=10, seed=0)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[:, 3:], images[:, 3:])
    assert model.impute(holes, num_samples=10, num_imputations=2, seed=0).shape == (2, 20, *IMAGE)


class LearnedWidth(distributions.DiagonalNormal):
    """A posterior with a weight."""

    def build(self, *shapes):
        self.raw_width = self.add_weight((), "zeros")
        super().build(*shapes)


class OwnObjective(objectives.Objective):
    """An objective that does not know several layers."""

    def __call__(self, batch):
        return dataclasses.replace(objectives.ELBO()(batch), layer_kl_losses=())


def test_objectives_that_cannot_be_used_are_refused(images):
    model, _ = tiny_hierarchical_vae("top_down")
    with pytest.raises(ValueError, match=r"needs bottom-up inference.*inference='top_down'"):
        model.compile("adam", objective=objectives.IWAE(2, doubly_reparameterized=True))
    model, _ = tiny_hierarchical_vae(
        "bottom_up", posteriors=[distributions.DiagonalNormal(3), LearnedWidth(2)]
    )
    with pytest.raises(
        ValueError, match=r"`posteriors\[1\]` must be a layer without weights.*LearnedWidth"
    ):
        model.compile("adam", objective=objectives.IWAE(2, doubly_reparameterized=True))
    model, _ = tiny_hierarchical_vae("bottom_up")
    model.compile("adam", objective=OwnObjective())
    with pytest.raises(ValueError, match="`objective` must return `Terms` with `layer_kl_losses`"):
        model.fit(images, verbose=0)


def test_the_audit_is_refused_and_says_what_it_needs(images):
    model, arguments = tiny_hierarchical_vae()
    model.compile(**arguments, run_eagerly=True)
    received = r"posterior=_JointPosterior\(\[DiagonalNormal.*, DiagonalNormal\(event_size=2\)\]\)"
    message = f"`vae` must be a VAE with a DiagonalNormal posterior.*{received}"
    with pytest.raises(ValueError, match=message):
        evaluation.audit_independence(model, images, images)
    with pytest.raises(ValueError, match="must have a KL divergence in closed"):
        evaluation.check_kl(model, np.repeat(images, 5, axis=0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoders": []}, "`encoders` must be a list with one item per layer"),
        (
            {"posteriors": [distributions.DiagonalNormal(3)]},
            "must have one item per layer. Received: 2 encoders, 2 decoders, 1 posteriors.",
        ),
        (
            {"inference": "up"},
            "`inference` must be 'bottom_up' or 'top_down'. Received: inference='up'",
        ),
        (
            {"posteriors": [distributions.DiagonalNormal(3), "normal"]},
            "`posteriors[1]` must be a keras_gen.distributions.Posterior",
        ),
        (
            {
                "posteriors": [
                    distributions.DiagonalNormal(3),
                    distributions.FullCovarianceNormal(2),
                ]
            },
            "`posteriors[1]` must be a DiagonalNormal for inference='top_down'",
        ),
        ({"likelihood": "normal"}, "`likelihood` must be a keras_gen.distributions.Likelihood"),
        (
            {"top_prior": distributions.StandardNormal(3, name="top")},
            "`top_prior` must be over 2 latents. Received: top with event_size=3.",
        ),
        (
            {"top_prior": distributions.VampPrior(2)},
            "`top_prior` must not depend on the encoder of the model.",
        ),
        (
            {"encoders": [networks.mlp(IMAGE, (7,)), networks.mlp((6,), (4,))]},
            "`encoders[1]` must have inputs of shape (7,), the output shape of `encoders[0]`.",
        ),
        (
            {"encoders": [networks.mlp((8, 8), (7,)), networks.mlp((7,), (4,))]},
            "`encoders[0]` must have inputs of shape (8, 8, 1), the `event_shape` of `Bernoulli`.",
        ),
        (
            {"decoders": [networks.mlp((3,), IMAGE), networks.mlp((2,), (3,))]},
            "`decoders[1]` must have outputs of shape (6,), the mean and the raw scale of each "
            "latent of `posteriors[0]`.",
        ),
        (
            {"decoders": [networks.mlp((5,), IMAGE), networks.mlp((2,), (6,))]},
            "`decoders[0]` must have inputs of shape (3,), the `event_size` of `posteriors[0]`.",
        ),
        (
            {
                "decoders": [
                    networks.mlp((3,), IMAGE, output_activation="sigmoid"),
                    networks.mlp((2,), (6,)),
                ]
            },
            "`decoders[0]` must output logits, which can be any numbers.",
        ),
        (
            {
                "encoders": [
                    networks.mlp(IMAGE, (7,), num_classes=3),
                    networks.mlp((7,), (4,), num_classes=4),
                ]
            },
            "must have the same number of classes. Received: encoders[0]=3, encoders[1]=4",
        ),
    ],
)
def test_arguments_are_checked(arguments, message):
    inference = arguments.pop("inference", "top_down")
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_hierarchical_vae(inference, **arguments)


def test_bottom_up_encoders_are_checked():
    for encoders, message in (
        (
            [networks.mlp(IMAGE, (6,)), networks.mlp((6,), (4,))],
            "`encoders[1]` must have inputs of shape (3,), the `event_size` of `posteriors[0]`.",
        ),
        (
            [networks.mlp(IMAGE, (5,)), networks.mlp((3,), (4,))],
            "`encoders[0]` must have outputs of shape (6,), the `parameter_size` of",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            tiny_hierarchical_vae("bottom_up", encoders=encoders)
