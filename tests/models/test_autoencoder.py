import re

import keras
import numpy as np
import pytest
import sklearn.mixture
import tensorflow as tf
import tensorflow_probability as tfp
from support import IMAGE, normalized, tiny_autoencoder

import keras_gen
from keras_gen import distributions, networks, regularizers

tfd = tfp.distributions
RANDOM = np.random.default_rng(0)
FIT = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0}


def plain_keras(autoencoder, **compile_arguments):
    """The same networks as one functional Keras model, with weights of its own."""
    encoder, decoder = (
        keras.models.clone_model(network) for network in (autoencoder.encoder, autoencoder.decoder)
    )
    inputs = keras.Input(IMAGE)
    model = keras.Model(inputs, decoder(encoder(inputs)))
    model.set_weights(autoencoder.get_weights())
    model.compile(**compile_arguments)
    return model


@pytest.mark.usefixtures("keras_own_adam")
@pytest.mark.parametrize(
    "loss",
    [
        "binary_crossentropy",
        "mse",
        "MeanAbsoluteError",
        keras.losses.Huber(0.1),
        keras.losses.log_cosh,
    ],
)
def test_training_is_that_of_a_plain_keras_model(images, loss):
    """One of them with its validation."""
    model, _ = tiny_autoencoder()
    plain = plain_keras(model, optimizer="adam", loss=loss, metrics=["mae"])
    model.compile("adam", loss=loss, metrics=["mae"])
    validated = loss == "mse"
    expected = plain.fit(
        images, images, validation_data=(images, images) if validated else None, **FIT
    ).history
    history = model.fit(images, validation_data=images if validated else None, **FIT).history
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("loss", "mae", *(["val_loss"] if validated else [])):
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-5)


@pytest.mark.usefixtures("keras_own_adam")
def test_training_and_evaluation_mode_are_those_of_a_plain_keras_model(images):
    model = keras_gen.RegularizedAutoencoder(
        normalized(IMAGE, (3,)), normalized((3,), IMAGE, "sigmoid")
    )
    plain = plain_keras(model, optimizer="adam", loss="mse")
    model.compile("adam", loss="mse")
    plain.fit(images, images, **FIT)
    model.fit(images, **FIT)
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert model.evaluate(images, verbose=0, return_dict=True)["loss"] == pytest.approx(
        plain.evaluate(images, images, verbose=0)
    )
    np.testing.assert_allclose(
        model.predict(images, verbose=0), plain.predict(images, verbose=0), atol=1e-6
    )
    latents = model.encode(images)
    np.testing.assert_allclose(model.encode(images[:1]), latents[:1], atol=1e-6)
    np.testing.assert_allclose(model.decode(latents[:1]), model.decode(latents)[:1], atol=1e-6)


@pytest.mark.usefixtures("keras_own_adam")
def test_denoising_learns_the_clean_target(images):
    noisy = images + np.random.default_rng(1).normal(size=images.shape, scale=0.5).astype(
        "float32"
    )  # outside [0, 1]
    model, arguments = tiny_autoencoder()
    plain = plain_keras(model, **arguments, metrics=["mae"])
    model.compile(**arguments, metrics=["mae"])
    expected = plain.fit(noisy, images, **FIT).history
    history = model.fit(noisy, images, **FIT).history
    np.testing.assert_allclose(history["mae"], expected["mae"], rtol=1e-5)
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_sample_weights_are_those_of_a_plain_keras_model(images):
    flat = images.reshape(20, -1)
    l2 = keras.regularizers.L2(1e-3)
    model = keras_gen.RegularizedAutoencoder(
        networks.mlp((64,), (3,), hidden=(6,), kernel_regularizer=l2),
        networks.mlp((3,), (64,), hidden=(6,), kernel_regularizer=l2),
    )
    inputs = keras.Input((64,))
    decoder = keras.models.clone_model(model.decoder)
    plain = keras.Model(inputs, decoder(keras.models.clone_model(model.encoder)(inputs)))
    plain.set_weights(model.get_weights())
    plain.compile("adam", loss="mse")
    model.compile("adam", loss="mse")
    weights = np.random.default_rng(0).random(20)
    plain.fit(flat, flat, sample_weight=weights, **FIT)
    model.fit(flat, sample_weight=weights, **FIT)
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("batch_size", [3, 20])
def test_the_regularization_loss_is_lambda_times_the_squared_kernels(images, policy, batch_size):
    keras.config.set_dtype_policy(policy)
    model, arguments = tiny_autoencoder(l2=1e-2)
    model.compile(**arguments)
    model.fit(images, **FIT)
    logs = model.evaluate(images, batch_size=batch_size, verbose=0, return_dict=True)
    kernels = [
        variable.numpy()
        for variable in model.trainable_variables
        if variable.path.endswith("kernel")
    ]
    assert len(kernels) == 4
    assert logs["regularization_loss"] == pytest.approx(
        1e-2 * sum(np.square(kernel).sum() for kernel in kernels), rel=1e-6
    )


def test_encode_decode_reconstruct(images):
    model, _ = tiny_autoencoder()
    latents = model.encode(images)
    assert latents.shape == (20, 3)
    np.testing.assert_allclose(model.decode(latents), model.reconstruct(images), atol=1e-6)
    with pytest.raises(
        ValueError, match=r"no distribution of its latents yet\. Call fit_latent_density\(x\)"
    ):
        model.generate(4)
    with pytest.raises(ValueError, match=r"no distribution of its latents yet"):
        model.generate_rows(tf.range(4, dtype=tf.int64))


def test_a_prior_is_of_vectors():
    encoder, decoder = networks.mlp(IMAGE, (3, 2)), networks.mlp((3, 2), IMAGE)
    with pytest.raises(
        ValueError,
        match=re.escape("A `prior` needs vectors as latents. Received: latents of shape (3, 2)."),
    ):
        keras_gen.RegularizedAutoencoder(encoder, decoder, prior=distributions.StandardNormal(3))
    model = keras_gen.RegularizedAutoencoder(encoder, decoder)
    with pytest.raises(ValueError, match="latent density needs vectors as latents"):
        model.fit_latent_density(np.zeros((4, *IMAGE), "float32"))


def test_a_prior_has_one_distribution_of_the_latents():
    class Batch(distributions.StandardNormal):
        def distribution(self, condition=None):
            return tfd.Normal(tf.zeros(3), 1.0)

    encoder, decoder = networks.mlp(IMAGE, (3,)), networks.mlp((3,), IMAGE)
    for prior, message in (
        (distributions.StandardNormal(4), "`prior` must be over 3 latents"),
        (Batch(3), r"must have the event shape \(3,\), the batch shape \(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_gen.RegularizedAutoencoder(encoder, decoder, prior=prior)


def test_latents_of_noisy_data_fit_no_density_and_labels_are_refused(images):
    model, _ = tiny_autoencoder()
    with pytest.raises(ValueError, match=r"Expected data in \[0, 1\]"):
        model.fit_latent_density(images - 0.9, num_components=2)
    with pytest.raises(ValueError, match=r"`condition` of .* must be None"):
        model.latents(images, np.zeros(20, int))
    assert "score" not in model.signatures()  # which needs a loss


def test_a_fitted_density_generates_saves_and_exports(images, tmp_path):
    model, arguments = tiny_autoencoder()
    model.compile(**arguments)
    model.fit(images, verbose=0)
    assert "generate" not in model.signatures()
    trainable = len(model.trainable_variables)
    model.fit_latent_density(images, num_components=2)
    assert len(model.trainable_variables) == trainable
    mixture = sklearn.mixture.GaussianMixture(2, random_state=1).fit(
        np.asarray(model.encode(images), np.float64)
    )
    z = RANDOM.normal(size=(5, 3))
    np.testing.assert_allclose(
        model.prior.distribution().log_prob(z), mixture.score_samples(z), rtol=1e-3
    )
    rows = model.generate_rows(tf.range(2000, dtype=tf.int64))
    np.testing.assert_allclose(
        rows["latents"].numpy().mean(axis=0), mixture.weights_ @ mixture.means_, atol=0.1
    )
    expected = model.generate(4, seed=3)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(
        keras.saving.load_model(tmp_path / "model.keras").generate(4, seed=3), expected, atol=1e-6
    )
    model.export(tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["generate"](
        seed=3 * 2**32 + tf.range(4, dtype=tf.int64)
    )
    np.testing.assert_allclose(served["outputs"], expected, atol=1e-6)
    model.fit_latent_density(
        tf.data.Dataset.from_tensor_slices(images[:10]).batch(5), num_components=2
    )
    assert not np.allclose(model.generate(4, seed=3), expected)
    model.fit(images, verbose=0)
    model.fit_latent_density(images, num_components=3)
    assert model.prior.num_components == 3
    with pytest.raises(
        ValueError,
        match=r"`latents` must have the shape \(n, 3\), where n is at least 2, the number of",
    ):
        model.fit_latent_density(images[:1], num_components=2)


def test_networks_of_ones_own_serve_as_well(images, tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Encoder(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(2)

        def call(self, x):
            return self.dense(self.flatten(x))

    encoder = Encoder()
    with pytest.raises(ValueError, match="`encoder` must be built"):
        keras_gen.RegularizedAutoencoder(encoder, networks.mlp((2,), IMAGE))
    encoder(images)
    decoder = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(64), keras.layers.Reshape(IMAGE)]
    )
    model = keras_gen.RegularizedAutoencoder(encoder, decoder)
    model.compile("sgd", loss="mse")
    model.fit(images * 9, verbose=0)  # a linear decoder reaches any value
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (None, networks.mlp((3,), IMAGE), "`encoder` must be a built keras.Model. Received: None"),
        (
            keras.Sequential([keras.layers.Dense(3)]),
            networks.mlp((3,), IMAGE),
            "Begin a Sequential model with keras.Input(shape)",
        ),
        (
            networks.mlp(IMAGE, (4,)),
            networks.mlp((3,), IMAGE),
            "`decoder` must have inputs of shape (4,), because it maps the outputs of `encoder`",
        ),
        (
            networks.mlp((4, 2), (3,)),
            networks.mlp((3,), (8,)),
            "`decoder` must have outputs of shape (4, 2), because it maps the outputs of ",
        ),
        (
            networks.mlp(IMAGE, (3,)),
            networks.mlp((3,), (64,)),
            "`decoder` must have outputs of shape (8, 8, 1), because it maps the outputs of ",
        ),
    ],
)
def test_networks_are_checked(encoder, decoder, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        keras_gen.RegularizedAutoencoder(encoder, decoder)


def test_the_loss_is_checked():
    model, _ = tiny_autoencoder()
    with pytest.raises(ValueError, match="needs a reconstruction loss"):
        model.compile("adam")
    with pytest.raises(ValueError, match="averaged over the batch"):
        model.compile("adam", loss=keras.losses.MeanSquaredError(reduction="sum"))
    with pytest.raises(ValueError, match="`loss` must return one value per example"):
        model.compile("adam", loss=lambda x, y: keras.ops.mean((x - y) ** 2))
    linear = keras_gen.RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    with pytest.raises(ValueError, match="`decoder` must output probabilities"):
        linear.compile("adam", loss="binary_crossentropy")


@pytest.mark.filterwarnings("ignore:`loss` is BinaryCrossentropy")
def test_data_of_a_cross_entropy_are_in_0_to_1_even_if_the_decoder_outputs_logits():
    model = keras_gen.RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    assert np.isfinite(model.score(np.eye(4))).all()
    for invalid in (-0.5, 1.5):
        with pytest.raises(ValueError, match=r"Expected data in \[0, 1\]"):
            model.score(np.full((2, 4), invalid))


# === Regularizers of the latents ===


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    "compiled", [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}]
)
def test_regularizers_of_the_latents_are_their_formulas_and_are_learned_from(
    images, policy, compiled
):
    keras.config.set_dtype_policy(policy)
    encoder = networks.mlp(IMAGE, (3,), hidden=(5,), activation="tanh")
    model = keras_gen.RegularizedAutoencoder(encoder, networks.mlp((3,), IMAGE, hidden=(5,)))
    w1, b1, w2, b2 = (weight.astype("float64") for weight in encoder.get_weights())
    weights = np.linspace(0, 2, 20)
    active = np.tanh(images.reshape(20, 64) @ w1 + b1)
    z = active @ w2 + b2
    jacobians = np.einsum("ih,bh,hj->bij", w1, 1 - active**2, w2)
    contractive = weights @ np.sum(jacobians**2, axis=(1, 2)) / 20
    expected = (
        contractive + weights @ (0.5 * np.abs(z).sum(axis=1) + 0.25 / 2 * np.sum(z**2, axis=1)) / 20
    )
    all_three = [
        regularizers.Contractive(1.0),
        regularizers.LatentL1(0.5),
        regularizers.LatentL2(0.25),
    ]
    model.compile(keras.optimizers.SGD(0.5), loss="mse", regularizers=all_three, **compiled)
    history = model.fit(images, sample_weight=weights, batch_size=20, epochs=5, verbose=0).history
    assert history["penalty_loss"][0] == pytest.approx(
        expected, rel=1e-5 if policy == "float32" else 2e-3
    )
    assert history["penalty_loss"][-1] < 0.7 * history["penalty_loss"][0]
    assert history["loss"][0] == pytest.approx(
        history["penalty_loss"][0] + history["reconstruction_loss"][0], rel=1e-5
    )


def test_regularizers_are_saved_with_the_model_and_count_once_on_two_replicas(
    images, two_replicas, tmp_path
):
    histories = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model, arguments = tiny_autoencoder()
            model.compile(**arguments, regularizers=regularizers.Contractive(0.1))
        dataset = tf.data.Dataset.from_tensor_slices(images).batch(8)
        histories.append(model.fit(dataset, validation_data=dataset, epochs=2, verbose=0).history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)
    model, arguments = tiny_autoencoder()
    model.compile(
        **arguments,
        regularizers=[regularizers.LatentL1(0.1), regularizers.Contractive(0.1)],
        run_eagerly=True,
    )
    model.fit(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.regularizers) == "(LatentL1(weight=0.1), Contractive(weight=0.1))"
    assert loaded.evaluate(images, verbose=0) == model.evaluate(images, verbose=0)


def test_regularizers_of_weights_belong_in_the_layers():
    with pytest.raises(
        ValueError,
        match=r"`regularizers` must be regularizers of latents, such as .* to the layers",
    ):
        tiny_autoencoder()[0].compile(
            "adam", loss="mse", regularizers=[keras.regularizers.L2(1e-4)]
        )


# === Scores ===


def test_scores_are_the_loss_of_each_example_and_a_quantile_of_them_the_threshold(images, tmp_path):
    model, _ = tiny_autoencoder()
    with pytest.raises(ValueError, match=r"has no loss, so it cannot compute scores\. Compile the"):
        model.score(images)
    model.compile("adam", loss="mse")
    expected = np.mean((images - model.predict(images, verbose=0)) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(model.score(images), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=re.escape("has no threshold yet. Call calibrate(x)")):
        model.is_anomaly(images)
    model.export(tmp_path / "before")
    score = tf.saved_model.load(str(tmp_path / "before")).signatures["score"]
    assert set(score.structured_outputs) == {"score", "per_feature"}
    for data in (
        images,
        tf.data.Dataset.from_tensor_slices(images).batch(8),
        tf.data.Dataset.from_tensors((images, images)),
    ):
        assert model.calibrate(data, quantile=0.8) == pytest.approx(
            np.quantile(expected, 0.8), rel=1e-5
        )
    np.testing.assert_array_equal(model.is_anomaly(images), expected > np.quantile(expected, 0.8))
    assert np.sum(model.is_anomaly(images)) == 4
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.is_anomaly(images), model.is_anomaly(images))
    loaded.export(tmp_path / "after")
    score = tf.saved_model.load(str(tmp_path / "after")).signatures["score"]
    for rows in (0, 1, 20):
        outputs = score(inputs=tf.constant(images[:rows]))
        np.testing.assert_allclose(outputs["score"], expected[:rows], rtol=1e-5)
        np.testing.assert_array_equal(outputs["anomaly"], model.is_anomaly(images)[:rows])


def test_what_calibrate_and_score_are_given_is_checked(images):
    model, _ = tiny_autoencoder()
    model.compile("adam", loss="mse")
    for data, message in (
        (
            (batch for batch in [images]),
            "Expected `x` as an array or a tf.data.Dataset. Received: generator.",
        ),
        (images[:0], "Expected at least one example in `x`. Received: none."),
        (images[..., 0], "Expected `x` of shape (batch, 8, 8, 1)"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            model.calibrate(data)
    with pytest.raises(ValueError, match="Divide pixels of 0 to 255 by 255"):
        model.score((images * 255).astype("uint8"))
    noisy = images + 1
    error = np.mean((images - model.predict(noisy, verbose=0)) ** 2, axis=(1, 2, 3))
    assert model.calibrate(tf.data.Dataset.from_tensors((noisy, images)), 0.5) == pytest.approx(
        np.median(error), rel=1e-5
    )
    model.compile("adam", loss="mse")
    assert model.threshold is not None
    model.compile("adam", loss="mae")
    assert model.threshold is None
    with pytest.raises(ValueError, match="`threshold` must be a number or None"):
        keras_gen.RegularizedAutoencoder(model.encoder, model.decoder, threshold="high")


def test_a_contractive_autoencoder_is_evaluated_without_dropout(images):
    encoder = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2, kernel_initializer="ones"),
        ]
    )
    model = keras_gen.RegularizedAutoencoder(encoder, networks.mlp((2,), (64,)))
    model.compile("adam", loss="mse", regularizers=regularizers.Contractive(1.0))
    logs = model.evaluate(images.reshape(20, 64), verbose=0, return_dict=True)
    assert logs["penalty_loss"] == pytest.approx(128)


@pytest.mark.parametrize("quantile", [0, 1, 99, "0.9"])
def test_the_quantile_is_a_share(images, quantile):
    model, arguments = tiny_autoencoder()
    model.compile(**arguments)
    with pytest.raises(ValueError, match="`quantile` must be a number between 0 and 1"):
        model.calibrate(images, quantile=quantile)


def test_logged_values_are_means_over_the_examples_also_if_the_last_batch_is_smaller(images):
    model, arguments = tiny_autoencoder(l2=0.0)
    model.compile(**arguments, run_eagerly=True)
    x = images * np.linspace(0, 1, 20, dtype="float32")[:, None, None, None]
    expected = np.mean(model.score(x))
    for batch_size in (3, 8, 20):
        logs = model.evaluate(x, batch_size=batch_size, verbose=0, return_dict=True)
        assert logs["reconstruction_loss"] == pytest.approx(expected, rel=1e-5)
