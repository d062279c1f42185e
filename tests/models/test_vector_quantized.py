"""`VectorQuantizedAutoencoder`: losses, the bound, codes, the prior, scores, resuming, export."""

import itertools
import math
import re

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from support import IMAGE, tiny_vq_vae

import keras_gen
from keras_gen import distributions, evaluation, networks
from keras_gen.explore.exploration import Exploration

FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def small(codebook="gradient", num_codes=3, likelihood=None, **arguments):
    """Two latent vectors of two elements each, from multilayer perceptrons."""
    likelihood = likelihood or distributions.Bernoulli((4,))
    keras.utils.set_random_seed(0)
    model = keras_gen.VectorQuantizedAutoencoder(
        networks.mlp((4,), (2, 2), hidden=(5,)),
        networks.mlp((2, 2), likelihood.parameter_shape, hidden=(5,)),
        networks.VectorQuantizer(num_codes, codebook=codebook, **arguments),
        likelihood,
        seed=1,
    )
    vectors = np.random.default_rng(1).normal(size=model.quantizer.vectors.shape)
    model.quantizer.vectors.assign(vectors)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def with_prior(model):
    """Give a small model a prior with random weights."""
    prior = distributions.TransformerPrior(
        model.code_shape, model.quantizer.num_codes, width=8, depth=1, num_heads=2
    )
    random = np.random.default_rng(2)
    for weight in prior.weights:
        weight.assign(weight + random.normal(size=weight.shape))
    prior.fitted.assign(1.0)
    model.prior = prior
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 2, (20, 4)).astype("float32")


def log_prob_of_logits(x, logits):
    return np.sum(x * logits - np.logaddexp(0, logits), axis=-1)


# === Losses ===


@pytest.mark.parametrize("codebook", ["gradient", "moving_average"])
def test_the_losses_are_their_formulas(codebook, x):
    model = small(codebook, commitment=0.3)
    logs = model.evaluate(x, batch_size=20, verbose=0, return_dict=True)
    z = model.encoder(x).numpy()
    vectors = model.quantizer.vectors.numpy()[0]
    squares = np.sum((z[:, :, None] - vectors) ** 2, axis=-1)
    codes = squares.argmin(-1)
    log_prob = log_prob_of_logits(x, model.decoder(vectors[codes]).numpy())
    distance = np.mean(squares.min(-1).sum(-1))
    weights = np.linspace(0, 2, 20)
    weighted = model.evaluate(x, sample_weight=weights, batch_size=20, verbose=0, return_dict=True)
    assert weighted["reconstruction_loss"] == pytest.approx(-np.mean(weights * log_prob), rel=1e-5)
    of_example = 0.3 * squares.min(-1).sum(-1)
    assert weighted["commitment_loss"] == pytest.approx(np.mean(weights * of_example), rel=1e-5)
    assert logs["reconstruction_loss"] == pytest.approx(-log_prob.mean(), rel=1e-5)
    assert logs["commitment_loss"] == pytest.approx(0.3 * distance, rel=1e-5)
    assert logs["codebook_loss"] == pytest.approx(distance * (codebook == "gradient"), rel=1e-5)
    assert logs["bound"] == pytest.approx(log_prob.mean() - 2 * math.log(3), rel=1e-5)
    frequencies = np.bincount(codes.ravel(), minlength=3) / codes.size
    entropy = scipy.stats.entropy(frequencies)
    assert logs["perplexity"] == pytest.approx(np.exp(entropy), rel=1e-5)
    assert logs["usage"] == pytest.approx(np.mean(frequencies > 0))
    np.testing.assert_array_equal(model.encode(x).numpy()[..., 0], codes)


def test_perplexity_and_usage_are_those_of_the_epoch_and_means_over_the_codebooks(images):
    model, arguments = tiny_vq_vae()
    model.compile(**arguments)
    expected = model.evaluate(images, batch_size=20, verbose=0, return_dict=True)
    codes = model.encode(images).numpy().reshape(-1, 2)
    entropies = [scipy.stats.entropy(np.bincount(book)) for book in codes.T]
    assert expected["perplexity"] == pytest.approx(np.mean(np.exp(entropies)), rel=1e-5)
    used = [len(np.unique(book)) / model.quantizer.num_codes for book in codes.T]
    assert expected["usage"] == pytest.approx(np.mean(used))
    books = model.encode(images[:1]).numpy().reshape(-1, 2).T
    counts = np.stack([np.bincount(b, minlength=model.quantizer.num_codes) for b in books])
    assert np.any(counts == 1)  # a code that occurs once is used
    one = model.evaluate(images[:1], verbose=0, return_dict=True)
    assert one["usage"] == pytest.approx(np.mean(counts > 0))
    for batch_size in (1, 3):
        logs = model.evaluate(images, batch_size=batch_size, verbose=0, return_dict=True)
        assert logs == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("codebook", ["gradient", "moving_average"])
def test_a_step_moves_the_weights_by_the_gradient_of_the_closed_form(codebook, x):
    """The encoder gets the gradient of the decoder's input, the codebook only that of its loss."""
    model = small(codebook, commitment=0.3, restart_below=0.0, decay=0.6)
    model.compile(keras.optimizers.SGD(1.0))
    vectors = model.quantizer.vectors.numpy()[0]
    codes = model.encode(x).numpy()[..., 0]
    before = model.encoder.get_weights(), model.decoder.get_weights()
    with tf.GradientTape(persistent=True) as tape:
        e = tf.constant(vectors[codes])
        tape.watch(e)
        logits = model.decoder(e)
        loss = tf.reduce_mean(tf.reduce_sum(tf.nn.softplus(logits) - x * logits, axis=-1))
    through = tape.gradient(loss, e)
    of_decoder = tape.gradient(loss, [each.value for each in model.decoder.trainable_variables])
    with tf.GradientTape() as tape:
        z = model.encoder(x)
        of_z = tf.reduce_sum(through * z) + 0.3 * tf.reduce_sum((z - e) ** 2) / 20
    of_encoder = tape.gradient(of_z, [each.value for each in model.encoder.trainable_variables])
    model.train_on_batch(x)
    for network, weights, gradients in (
        (model.encoder, before[0], of_encoder),
        (model.decoder, before[1], of_decoder),
    ):
        for old, gradient, new in zip(weights, gradients, network.get_weights(), strict=True):
            np.testing.assert_allclose(new, old - gradient, rtol=1e-4, atol=1e-5)
    expected = vectors.copy()
    for k in range(3):
        own = z.numpy()[codes == k]
        if codebook == "moving_average" and len(own):
            expected[k] = own.mean(axis=0)
        elif codebook == "gradient":
            expected[k] -= 2 * np.sum(vectors[k] - own, axis=0) / 20
    np.testing.assert_allclose(model.quantizer.vectors.numpy()[0], expected, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only(x):
    networks_of = {}
    for name, shapes in {"encoder": ((4,), (2, 2)), "decoder": ((2, 2), (4,))}.items():
        inputs = keras.Input(shapes[0])
        dropped = keras.layers.Dropout(0.5)(inputs)
        networks_of[name] = keras.Model(inputs, networks.mlp(*shapes, hidden=())(dropped))
    quantizer = networks.VectorQuantizer(8, codebook="gradient", restart_below=0.0)
    model = keras_gen.VectorQuantizedAutoencoder(**parts(**networks_of, quantizer=quantizer))
    model.compile(keras.optimizers.SGD(0.0), metrics=["mae"], run_eagerly=True)
    codes = model.encode(x)
    for call in (
        lambda: model.evaluate(x, verbose=0),
        lambda: model.encode(x),
        lambda: model.decode(codes),
        lambda: model.reconstruct(x),
        lambda: model.score(x),
    ):
        np.testing.assert_array_equal(call(), call())
    logs = [model.train_on_batch(x, return_dict=True) for _ in range(2)]
    assert not np.isclose(logs[0]["reconstruction_loss"], logs[1]["reconstruction_loss"])
    model.reset_metrics()
    first = model.train_on_batch(x, return_dict=True)["mae"]
    model.reset_metrics()
    assert model.train_on_batch(x, return_dict=True)["mae"] == first


def test_each_step_restarts_codes_with_other_latents(x):
    model = small("moving_average", num_codes=50, restart_below=0.5)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    vectors = model.quantizer.vectors.numpy()
    after = []
    for _ in range(2):
        for variable in (model.quantizer.counts, model.quantizer.sums):
            variable.assign(np.zeros(variable.shape))
        model.quantizer.vectors.assign(vectors)
        model.train_on_batch(x)
        after.append(model.quantizer.vectors.numpy())
    assert not np.array_equal(*after)


def test_training_lowers_the_loss_and_uses_more_codes(images):
    model, arguments = tiny_vq_vae()
    model.compile(keras.optimizers.Adam(1e-2))
    x = np.repeat(images, 4, axis=0).round()
    history = model.fit(x, epochs=12, **FIT).history
    assert history["reconstruction_loss"][-1] < history["reconstruction_loss"][0] - 2
    assert history["usage"][-1] > 0.8
    assert arguments == {"optimizer": "adam"}


# === The bound and the prior ===


def exact_log_evidence(model, x):
    """log p(x) = log Σ_c p(c) p(x | c) over all codes c."""
    number = model.quantizer.num_codes
    codes = np.array(list(itertools.product(range(number), repeat=2))).reshape(-1, 2, 1)
    log_prior = model.prior.log_prob(codes).numpy().astype("float64")
    logits = model.decoder(model.quantizer.decode(codes)).numpy().astype("float64")
    return scipy.special.logsumexp(
        log_prior[:, None] + log_prob_of_logits(x[None], logits[:, None]), axis=0
    )


def test_minus_the_score_is_a_lower_bound_of_the_evidence_over_all_codes(x):
    model = with_prior(small())
    evidence = exact_log_evidence(model, x)
    score = model.score(x).numpy()
    assert np.all(-score < evidence)
    codes = model.encode(x)
    log_prob = log_prob_of_logits(x, model.decoder(model.quantizer.decode(codes)).numpy())
    expected = -log_prob - model.prior.log_prob(codes).numpy()
    np.testing.assert_allclose(score, expected, rtol=1e-5)
    logs = model.evaluate(x, verbose=0, return_dict=True)
    assert logs["bound"] == pytest.approx(-score.mean(), rel=1e-5)


def test_without_a_prior_the_score_assumes_uniform_codes_and_generate_says_what_to_do(x):
    model = small()
    codes = model.encode(x)
    log_prob = log_prob_of_logits(x, model.decoder(model.quantizer.decode(codes)).numpy())
    np.testing.assert_allclose(model.score(x), -log_prob + 2 * math.log(3), rtol=1e-5)
    assert "generate" not in model.signatures()
    for call in (lambda: model.generate(2), lambda: model.generate_rows(tf.range(2))):
        with pytest.raises(
            ValueError, match=r"no distribution of its latents yet\. Call fit_prior"
        ):
            call()


@pytest.mark.parametrize("form", ["array", "data set", "data set of pairs"])
def test_fit_prior_fits_the_codes_of_the_data(form, x):
    model = small(num_codes=4)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(6)
    forms = {"array": x, "data set": dataset, "data set of pairs": dataset.map(lambda x: (x, x))}
    model.calibrate(x, 0.5)
    weights = [w.numpy() for w in model.trainable_variables]
    history = model.fit_prior(
        forms[form], epochs=60, learning_rate=0.01, validation_data=x, verbose=0
    ).history
    assert model.threshold is None
    for old, new in zip(weights, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)
    codes = model.encode(x)
    log_prob = model.prior.log_prob(codes).numpy()
    assert history["val_loss"][-1] == pytest.approx(-log_prob.mean(), rel=1e-3)
    _, counts = np.unique(codes.numpy().reshape(20, 2), axis=0, return_counts=True)
    entropy = scipy.stats.entropy(counts)  # the lowest value of the loss
    assert entropy - 0.01 < -log_prob.mean() < entropy + 0.3
    samples = model.prior.sample_rows(np.arange(300)).numpy()
    known = {tuple(row) for row in codes.numpy().reshape(20, 2)}
    assert np.mean([tuple(row) in known for row in samples.reshape(300, 2)]) > 0.8


def test_the_data_of_fit_prior_are_checked(x):
    model = small()
    with pytest.raises(ValueError, match="Expected `validation_data`"):
        model.fit_prior(x, validation_data=x[:, :3])
    empty = tf.data.Dataset.from_tensor_slices(x).batch(6).filter(lambda batch: False)
    with pytest.raises(ValueError, match="Expected at least one example in `x`"):
        model.fit_prior(empty)
    assert model.prior is None


def test_a_second_fit_of_the_prior_and_training_go_on(images, tmp_path):
    model, arguments = tiny_vq_vae()
    model.compile(**arguments)
    model.fit(images, **FIT)
    before = model.score(images).numpy()
    first = model.fit_prior(images, epochs=5, verbose=0).history["loss"]
    second = model.fit_prior(images, epochs=5, verbose=0).history["loss"]
    assert second[0] < first[0]
    assert np.all(model.score(images) != before)
    model.fit(images, **FIT)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.score(images), model.score(images))
    np.testing.assert_array_equal(loaded.generate(3, seed=1), model.generate(3, seed=1))


def test_a_prior_that_fit_prior_made_is_in_the_file(x, tmp_path):
    model = small()
    model.fit(x, **FIT)
    model.fit_prior(x, epochs=1, verbose=0)
    expected = model.generate(3, seed=1, temperature=0.7)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.generate(3, seed=1, temperature=0.7), expected)


# === Generation ===


def test_generated_data_are_decoded_samples_of_the_prior(x):
    model = with_prior(small())
    seeds = tf.range(700, dtype=tf.int64) + (4 << 32)
    rows = model.generate_rows(seeds)
    np.testing.assert_array_equal(rows["latents"], model.prior.sample_rows(seeds))
    np.testing.assert_allclose(rows["outputs"], model.decode(rows["latents"]), atol=1e-6)
    generated = model.generate(700, seed=4)  # in two parts
    np.testing.assert_allclose(generated, rows["outputs"], atol=1e-6)
    cold = model.generate(50, seed=4, temperature=1e-6).numpy()
    assert np.ptp(cold, axis=0).max() < 1e-6
    assert not np.array_equal(model.generate(50), model.generate(50))
    with pytest.raises(ValueError, match="`temperature`"):
        model.generate(2, temperature=-1.0)


def test_rows_of_a_table_are_sampled(x):
    likelihood = distributions.Bernoulli((4,))
    likelihood.generates_samples = True
    model = with_prior(small(likelihood=likelihood))
    assert not model.generates_means
    generated = model.generate(200, seed=0).numpy()
    assert set(np.unique(generated)) == {0.0, 1.0}
    parameters = model.decoder(
        model.quantizer.decode(model.generate_rows(np.arange(200))["latents"])
    )
    expected = 1 / (1 + np.exp(-parameters.numpy()))
    assert generated.mean() == pytest.approx(expected.mean(), abs=0.08)


# === Codes ===


def test_encode_decode_reconstruct_and_latents(images):
    model, _ = tiny_vq_vae()
    codes = model.encode(images)
    assert codes.shape == (20, 2, 2, 2)
    assert codes.dtype == tf.int64
    np.testing.assert_array_equal(model.decode(codes), model.reconstruct(images))
    np.testing.assert_array_equal(model.decode(codes.numpy().astype("uint8")), model.decode(codes))
    np.testing.assert_array_equal(model(images), model.reconstruct(images))
    vectors = model.quantizer.decode(codes)
    np.testing.assert_array_equal(model.latents(images), tf.reshape(vectors, (20, 16)))
    np.testing.assert_array_equal(evaluation.latents(model, images), model.latents(images))
    with pytest.raises(ValueError, match=r"`condition` of .* must be None"):
        model.latents(images, np.zeros(20, int))


@pytest.mark.parametrize(
    ("codes", "received"),
    [
        (np.full((3, 2, 2, 2), 6), "Received: values from 6 to 6."),
        (np.full((3, 2, 2, 2), -1), "Received: values from -1 to -1."),
        (np.zeros((3, 2, 2), int), "Received: shape (3, 2, 2) of int64."),
        (np.zeros((3, 2, 2, 2)), "Received: shape (3, 2, 2, 2) of float64."),
    ],
)
def test_invalid_codes_are_refused(codes, received):
    model, _ = tiny_vq_vae()
    expected = "Expected codes as `latents`, integers of shape (batch, 2, 2, 2) from 0 to 5"
    with pytest.raises(ValueError, match=re.escape(expected) + ".*" + re.escape(received)):
        model.decode(codes)


def test_traversals_interpolations_and_the_page_need_latents_that_are_real_numbers(
    images, tmp_path
):
    model, arguments = tiny_vq_vae()
    model.compile(**arguments)
    evaluation.save_latent_figures(model, tmp_path, images)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.png"]
    with pytest.raises(ValueError, match="Expected codes as `latents`"):
        evaluation.traverse(model, model.latents(images))
    with pytest.raises(ValueError, match="VectorQuantizedAutoencoder, whose latents are integers"):
        Exploration(model, images)


def test_a_model_without_a_prior_is_evaluated_and_the_remedy_is_named():
    model = keras_gen.VectorQuantizedAutoencoder(
        networks.mlp((28, 28, 1), (2, 2), hidden=()),
        networks.mlp((2, 2), (28, 28, 1), hidden=()),
        networks.VectorQuantizer(4),
        distributions.Bernoulli((28, 28, 1)),
    )
    model.compile()
    result = evaluation.summarize(model, np.zeros((10, 28, 28, 1), "float32"))
    assert any("Call fit_prior(x)" in comment for comment in result.comments)
    values = {score.name: score.value for score in result.scores}
    assert set(values) == {
        "reconstruction_loss",
        "commitment_loss",
        "bound",
        "perplexity",
        "usage",
    }
    # equal images have equal codes: at each of the two positions one of four codes
    assert values["perplexity"] <= 2
    assert values["usage"] <= 0.5


# === Scores ===


def test_scores_of_elements_sum_to_the_score_up_to_the_prior(x):
    model = with_prior(small())
    per_feature = model.score_per_feature(x).numpy()
    log_prior = model.prior.log_prob(model.encode(x)).numpy()
    np.testing.assert_allclose(model.score(x), per_feature.sum(axis=1) - log_prior, rtol=1e-5)
    threshold = model.calibrate(x, quantile=0.7)
    assert threshold == pytest.approx(np.quantile(model.score(x), 0.7), rel=1e-5)
    assert np.sum(model.is_anomaly(x)) == np.sum(model.score(x).numpy() > threshold)
    noisy = np.roll(x, 1, axis=0)
    dataset = tf.data.Dataset.from_tensors((noisy, x))
    logits = model.decoder(model.quantizer.decode(model.encode(noisy))).numpy()
    log_prior = model.prior.log_prob(model.encode(noisy)).numpy()
    expected = -log_prob_of_logits(x, logits) - log_prior
    assert model.calibrate(dataset, 0.5) == pytest.approx(np.median(expected), rel=1e-5)


# === Resume, replicas, files, export ===


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize("codebook", ["gradient", "moving_average"])
def test_a_resumed_training_is_bit_for_bit_identical_also_its_restarts(codebook, images, tmp_path):
    def fit(folder, *callbacks):
        keras.utils.set_random_seed(0)
        model, arguments = tiny_vq_vae(codebook=codebook)
        model.compile(**arguments)
        callbacks = [keras_gen.Checkpoints(tmp_path / folder, every=1), *callbacks]
        history = model.fit(images, epochs=4, batch_size=8, verbose=0, callbacks=callbacks)
        return model, history.history

    reference, expected = fit("whole")
    with pytest.raises(KeyboardInterrupt):
        fit("broken", Stop())
    model, history = fit("broken")
    assert history == expected
    for a, b in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_seeds_restart_codes_with_other_latents(images):
    after = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        model, arguments = tiny_vq_vae(seed=seed)
        model.compile(**arguments)
        model.train_on_batch(images)
        after.append(model.quantizer.vectors.numpy())
    np.testing.assert_array_equal(after[0], after[1])
    assert not np.array_equal(after[0], after[2])


def test_two_replicas_have_the_codebook_of_the_whole_batch(images, two_replicas):
    models = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model, arguments = tiny_vq_vae(restart_below=0.0)
            model.compile(**arguments)
        dataset = tf.data.Dataset.from_tensor_slices(images).batch(8)
        history = model.fit(dataset, epochs=2, validation_data=dataset, verbose=0).history
        models.append((model, history))
    (one, expected), (two, found) = models
    for name in ("vectors", "counts", "sums"):
        np.testing.assert_allclose(
            getattr(two.quantizer, name), getattr(one.quantizer, name), rtol=1e-3, atol=1e-5
        )
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3)
    losses = two.fit_prior(images, epochs=8, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(8 * math.log(6), rel=0.05)
    assert losses[-1] < losses[0]


def test_a_step_with_a_loss_of_nan_changes_no_moving_average(images):
    for mode in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        model, arguments = tiny_vq_vae()
        model.compile(**arguments, **mode)
        model.fit(images[:8], **FIT)
        before = [weight.numpy() for weight in model.quantizer.weights]
        bias = model.decoder.layers[-1].bias
        bias.assign(bias * np.nan)
        with pytest.raises(keras_gen.NonFiniteError):
            model.fit(images[:8], **FIT)
        for old, weight in zip(before, model.quantizer.weights, strict=True):
            np.testing.assert_array_equal(old, weight)


def test_the_exported_functions_use_codes(images, tmp_path):
    model, arguments = tiny_vq_vae()
    model.compile(**arguments)
    model.fit(images, **FIT)
    model.fit_prior(images, epochs=1, verbose=0)
    model.export(tmp_path / "1")
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    codes = signatures["encode"](inputs=tf.constant(images))["latents"]
    np.testing.assert_array_equal(codes, model.encode(images))
    np.testing.assert_allclose(
        signatures["decode"](latents=codes)["outputs"], model.reconstruct(images), atol=1e-6
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected codes as `latents`"):
        signatures["decode"](latents=codes + 6)
    seed = tf.range(3, dtype=tf.int64)
    np.testing.assert_allclose(
        signatures["generate"](seed=seed)["outputs"], model.generate(seed=seed), atol=1e-6
    )


# === Arguments ===


def parts(**changes):
    likelihood = distributions.Bernoulli((4,))
    return {
        "encoder": networks.mlp((4,), (2, 2), hidden=()),
        "decoder": networks.mlp((2, 2), (4,), hidden=()),
        "quantizer": networks.VectorQuantizer(3),
        "likelihood": likelihood,
    } | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantizer": 3}, "`quantizer` must be a keras_gen.networks.VectorQuantizer"),
        ({"likelihood": "mse"}, "`likelihood` must be a keras_gen.distributions.Likelihood"),
        (
            {"encoder": networks.mlp((5,), (2, 2))},
            "`encoder` must have inputs of shape (4,), the `event_shape` of `Bernoulli`",
        ),
        ({"encoder": networks.mlp((4,), (3, 2))}, "`decoder` must have inputs of shape (3, 2)"),
        ({"decoder": networks.mlp((2, 2), (5,))}, "the `parameter_shape` of `Bernoulli`"),
        (
            {"decoder": networks.mlp((2, 2), (4,), output_activation="sigmoid")},
            "sigmoid",
        ),
        (
            {"quantizer": networks.VectorQuantizer(3, num_codebooks=4)},
            "must be divisible by `num_codebooks`",
        ),
        (
            {"likelihood": distributions.Bernoulli((4,), missing=True)},
            "`encoder` must accept NaN, because `Bernoulli` has missing=True",
        ),
        ({"prior": distributions.StandardNormal(2)}, "TransformerPrior or None. Received"),
        (
            {"prior": distributions.TransformerPrior((3, 1), 3, width=4)},
            "`prior` must be a TransformerPrior((2, 1), num_codes=3), to match",
        ),
        (
            {"prior": distributions.TransformerPrior((2, 1), 4, width=4)},
            "`prior` must be a TransformerPrior((2, 1), num_codes=3), to match",
        ),
    ],
)
def test_arguments_are_checked(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        keras_gen.VectorQuantizedAutoencoder(**parts(**changes))


def test_a_keras_loss_and_labels_are_refused(x):
    model = keras_gen.VectorQuantizedAutoencoder(**parts())
    with pytest.raises(ValueError, match=r"of its likelihood\. Received: loss='mse'"):
        model.compile("adam", loss="mse")
    model.compile("adam", metrics=["mae"])
    assert "mae" in model.fit(x, verbose=0).history
    with pytest.raises(ValueError, match="not conditional"):
        model.score(x, np.zeros(20, int))


@pytest.mark.parametrize(
    ("likelihood", "data"),
    [
        (distributions.Normal(IMAGE, scale="optimal"), lambda x: x),
        (distributions.Categorical(IMAGE, num_levels=4), lambda x: np.round(3 * x) / 3),
        (distributions.Bernoulli(IMAGE, missing=True), lambda x: np.where(x > 0.9, np.nan, x)),
    ],
)
def test_any_likelihood_trains(likelihood, data, images):
    features = networks.MissingAsZero() if likelihood.missing else None
    model = keras_gen.VectorQuantizedAutoencoder(
        networks.conv_grid_encoder(IMAGE, 4, filters=(4, 4), features=features),
        networks.conv_grid_decoder((2, 2, 4), likelihood.parameter_shape, filters=(4, 4)),
        networks.VectorQuantizer(5),
        likelihood,
        seed=0,
    )
    assert likelihood.built  # so that a `.keras` file of a new model contains its weights
    model.compile(run_eagerly=True)
    x = data(images).astype("float32")
    history = model.fit(x, **FIT).history
    assert all(np.isfinite(values).all() for values in history.values())
    per_feature = model.score_per_feature(x).numpy()
    prior = 4 * math.log(5)
    np.testing.assert_allclose(model.score(x), per_feature.sum(axis=(1, 2, 3)) + prior, rtol=1e-4)
