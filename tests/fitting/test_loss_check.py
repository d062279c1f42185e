"""Losses as people write them: of a wrong shape, or of logits that are probabilities."""

import dataclasses
import functools
import re

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from keras import losses
from support import IMAGE, tiny_gan, tiny_vae

import keras_gen
from keras_gen import losses as adversarial
from keras_gen import networks, objectives, regularizers
from keras_gen.fitting.loss_check import check_cross_entropy, check_loss_shape


def autoencoder(activation="sigmoid", shape=IMAGE):
    return keras_gen.RegularizedAutoencoder(
        networks.mlp(shape, (3,), hidden=(4,)),
        networks.mlp((3,), shape, hidden=(4,), output_activation=activation),
    )


def squared(y, p):
    return (y - p) ** 2


@keras.saving.register_keras_serializable("tests_loss")
class WrongAxis(losses.Loss):
    def call(self, y, p):
        return keras.ops.mean(squared(y, p), axis=0)


@pytest.mark.parametrize(
    ("loss", "received"),
    [
        (lambda y, p: tf.reduce_mean(squared(y, p)), "the shape () for a batch of 3 examples"),
        (lambda y, p: keras.ops.sum(squared(y, p)), "the shape () for a batch of 3 examples"),
        (lambda y, p: 1.0, "the shape () for a batch of 3 examples"),
        (
            lambda y, p: tf.reduce_mean(squared(y, p), axis=0),
            "the shape (8, 8, 1) for a batch of 3 examples",
        ),
        (
            lambda y, p: tf.reduce_mean(squared(y, p), axis=0, keepdims=True),
            "the shape (1, 8, 8, 1) for a batch of 3 examples",
        ),
        (lambda y, p: tf.reshape(squared(y, p), (-1,)), "the shape (192,) for a batch of 3"),
        (lambda y, p: tf.transpose(squared(y, p)), "the shape (1, 8, 8, 3) for a batch of 3"),
        (WrongAxis(), "the shape (8, 8, 1) for a batch of 3 examples"),
    ],
)
def test_a_loss_must_return_one_value_per_example(loss, received):
    message = "`loss` must return one value per example, a tensor of shape (batch,) or (batch, ...)"
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        autoencoder().compile("adam", loss=loss)
    assert f"which returns {received}" in str(raised.value)
    assert "Average over all axes except the first" in str(raised.value)


@pytest.mark.parametrize("size", [3, 5])
def test_an_axis_as_long_as_the_batch_is_not_the_batch(size):
    with pytest.raises(ValueError, match="must return one value per example"):
        check_loss_shape(lambda y, p: tf.reduce_mean(squared(y, p), axis=0), (size,))


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, p: tf.reduce_mean(squared(y, p), axis=(1, 2, 3)),
        lambda y, p: tf.reduce_mean(squared(y, p), axis=-1),
        lambda y, p: tf.cast(squared(y, p), "float64"),
        squared,
        functools.partial(losses.binary_crossentropy, label_smoothing=0.1),
        "mse",
        "MeanAbsoluteError",
        losses.Huber(reduction="none"),
        {"class_name": "Huber", "config": {"delta": 0.5}},
    ],
)
def test_losses_of_one_or_more_values_per_example_are_averaged(loss, images):
    model = autoencoder()
    model.compile("adam", loss=loss, run_eagerly=True)
    function = losses.get(loss)
    values = np.asarray(getattr(function, "call", function)(images, model.reconstruct(images)))
    expected = values.reshape(20, -1).mean(axis=1)
    np.testing.assert_allclose(model.score(images), expected, rtol=1e-5)
    logs = model.evaluate(images, verbose=0, return_dict=True)
    assert logs["reconstruction_loss"] == pytest.approx(expected.mean(), rel=1e-5)


def test_a_loss_is_tested_with_probabilities_in_two_sizes_of_batches():
    seen = []

    def see(y, p):
        seen.append((y, p))
        return tf.reduce_mean(tf.sqrt(y - p), axis=1)  # NaN for most of them

    check_loss_shape(see, (200,))
    assert {len(y) for y, _ in seen} == {1, 3, 5}
    for values in zip(*seen, strict=True):
        values = np.concatenate(values)
        assert 0.2 <= values.min() < 0.21
        assert 0.79 < values.max() <= 0.8


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("kl_divergence", "kl_divergence"),
        (losses.KLDivergence(), "KLDivergence"),
        (losses.BinaryCrossentropy(), "BinaryCrossentropy with from_logits=False"),
    ],
)
def test_the_message_names_from_logits_only_if_the_loss_has_this_argument(loss, name):
    with pytest.raises(ValueError, match=f"because `loss` is {name}\\. Received"):
        check_cross_entropy(loss, autoencoder(None).decoder)


def failing(y, p):
    raise RuntimeError("no such table")


@pytest.mark.parametrize("loss", [failing, lambda y: y, losses.Loss()])
def test_a_loss_that_fails_is_named(loss):
    with pytest.raises(ValueError, match="`loss` must be a function of data and their reconstruct"):
        autoencoder().compile("adam", loss=loss)


LOGITS = [
    losses.BinaryCrossentropy(from_logits=True),
    losses.BinaryFocalCrossentropy(from_logits=True),
    functools.partial(losses.binary_crossentropy, from_logits=True),
]
PROBABILITIES = [
    "binary_crossentropy",
    "BinaryCrossentropy",
    losses.binary_crossentropy,
    losses.BinaryCrossentropy(),
    losses.BinaryFocalCrossentropy(),
    functools.partial(losses.binary_crossentropy, label_smoothing=0.1),
]


@pytest.mark.parametrize("loss", LOGITS)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "relu", "hard_sigmoid"])
def test_a_loss_of_logits_refuses_probabilities(loss, activation):
    message = (
        rf"`decoder` must output logits.* ends in the activation {activation}.*from_logits=False"
    )
    with pytest.raises(ValueError, match=message):
        autoencoder(activation).compile("adam", loss=loss)


@pytest.mark.parametrize("loss", PROBABILITIES)
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_a_loss_of_probabilities_refuses_logits(loss, activation):
    message = "`decoder` must output probabilities, because `loss` is .* Add activation='sigmoid'"
    with pytest.raises(ValueError, match=message):
        autoencoder(activation).compile("adam", loss=loss)


@pytest.mark.parametrize("loss", LOGITS)
def test_a_loss_of_logits_trains_with_a_warning_about_the_reconstructions(loss, images):
    model = autoencoder(None)
    with pytest.warns(
        UserWarning, match="the generated data of this model are logits, and not"
    ) as warned:
        model.compile("adam", loss=loss, run_eagerly=True)
    assert warned[0].filename == __file__
    function = losses.get(loss)
    values = getattr(function, "call", function)(images, model.reconstruct(images))
    expected = np.asarray(values).reshape(20, -1).mean(axis=1)
    np.testing.assert_allclose(model.score(images), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [*PROBABILITIES, "mse"])
def test_probabilities_train_without_a_warning(loss):
    autoencoder().compile("adam", loss=loss)


def test_an_unknown_activation_is_accepted():
    autoencoder(lambda x: keras.ops.clip(x, 0, 1)).compile("adam", loss="binary_crossentropy")


def broadcast(y, p):
    """The mean over the batch, once per example."""
    return tf.reduce_mean(squared(y, p)) * tf.ones_like(y[:, 0, 0, 0])


@pytest.mark.parametrize(
    "loss",
    [
        broadcast,
        lambda y, p: squared(y, p) - tf.reduce_mean(squared(y, p), axis=0, keepdims=True),
        lambda y, p: tf.reverse(tf.reduce_mean(squared(y, p), axis=(1, 2, 3)), axis=[0]),
    ],
)
def test_a_loss_whose_values_depend_on_other_examples_is_refused(loss):
    """The score of an example would differ alone and among others."""
    with pytest.raises(ValueError, match="do not depend on the other examples of the batch"):
        autoencoder().compile("adam", loss=loss)


def balanced_crossentropy(y, p):
    return tf.nn.sigmoid_cross_entropy_with_logits(y, p)


class BalancedCrossentropy(losses.Loss):
    def call(self, y, p):
        return balanced_crossentropy(y, p)


@pytest.mark.parametrize("loss", [balanced_crossentropy, BalancedCrossentropy()])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_a_loss_of_the_user_with_the_name_of_a_cross_entropy_is_another_loss(loss, activation):
    autoencoder(activation).compile("adam", loss=loss)


# === Random losses ===

REDUCTIONS = st.sampled_from(["mean", "sum", "max", None])
FORMS = st.sampled_from([None] * 4 + ["transpose", "flatten", "mean of batch", "shuffled"])


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
    shape=st.sampled_from([(3,), (5,), (4,), (3, 5), (2, 2, 1)]),
    axes=st.sets(st.integers(0, 3)) | st.sets(st.integers(1, 3)) | st.none(),
    reduction=REDUCTIONS,
    keepdims=st.booleans(),
    form=FORMS,
    kind=st.sampled_from(["function", "Loss", "partial"]),
)
def test_random_losses_are_a_mean_per_example_or_refused(
    shape, axes, reduction, keepdims, form, kind
):
    rank = len(shape) + 1
    axes = axes if axes is None else tuple(axis for axis in axes if axis < rank)

    def function(y, p, scale=1.0):
        values = scale * abs(y - p)
        if reduction:
            values = getattr(keras.ops, reduction)(values, axis=axes, keepdims=keepdims)
        if form == "transpose":
            values = tf.transpose(values)
        elif form == "flatten":
            values = tf.reshape(values, (-1,))
        elif form == "mean of batch":
            values = values * 0 + tf.reduce_mean(values)
        elif form == "shuffled" and len(values.shape):
            values = tf.reverse(values, axis=[0])
        return values

    class Wrapped(losses.Loss):
        def call(self, y, p):
            return function(y, p)

    loss = {"function": function, "Loss": Wrapped(), "partial": functools.partial(function)}[kind]
    # the values of an example must be those of the example alone
    y, p = np.random.default_rng(0).random((2, 7, *shape), dtype=np.float32)
    together = np.asarray(function(y, p))
    alone = [np.asarray(function(y[i : i + 1], p[i : i + 1])) for i in range(7)]
    per_example = all(values.shape[:1] == (1,) for values in alone)
    per_example = per_example and together.shape == (7, *alone[0].shape[1:])
    per_example = per_example and np.allclose(together, np.concatenate(alone), rtol=1e-5)
    if not per_example:
        with pytest.raises(ValueError, match="`loss` must return"):
            check_loss_shape(loss, shape)
        return
    check_loss_shape(loss, shape)


NO_ACTIVATIONS = ("get", "serialize", "deserialize", "glu", "threshold")  # or not of one argument
ACTIVATIONS = [
    name
    for name in vars(keras.activations)
    if name not in NO_ACTIVATIONS and not name.startswith("_")
]
AFTER = {
    "nothing": [],
    "shape": [keras.layers.Reshape((4, 1)), keras.layers.Flatten()],
    "copies": [keras.layers.Reshape((4, 1)), keras.layers.UpSampling1D(2)],
    "linear": [keras.layers.Activation("linear", dtype="float32")],
}


def values_of(network):
    """Return many outputs of a network with random large weights."""
    random = np.random.default_rng(0)
    network.set_weights([random.normal(size=w.shape, scale=3) for w in network.get_weights()])
    return np.asarray(network(random.normal(size=(500, 3), scale=30).astype("float32")))


@hypothesis.settings(max_examples=80, deadline=None, derandomize=True)
@hypothesis.given(
    activation=st.sampled_from(ACTIVATIONS),
    as_layer=st.booleans(),
    after=st.sampled_from(sorted(AFTER)),
    loss=st.sampled_from([*LOGITS, *PROBABILITIES, losses.KLDivergence(), "kl_divergence"]),
)
@pytest.mark.filterwarnings("ignore:`loss` is .* with from_logits=True")
def test_random_decoders_output_what_a_cross_entropy_expects_or_are_refused(
    activation, as_layer, after, loss
):
    dense = [keras.layers.Dense(4), keras.layers.Activation(activation)]
    dense = dense if as_layer else [keras.layers.Dense(4, activation)]
    decoder = keras.Sequential([keras.Input((3,)), *dense, *AFTER[after]])
    values = values_of(decoder)
    if loss in LOGITS:
        refused = values.min() > -10 or values.max() < 10
    else:
        refused = values.min() < 0 or values.max() > 1
    if refused:
        with pytest.raises(ValueError, match="`decoder` must output"):
            check_cross_entropy(loss, decoder)
    else:
        check_cross_entropy(loss, decoder)


# === Objectives, adversarial losses and regularizers of users ===


def reduced(values, how):
    """Return values `[batch]` as a user may return them by mistake."""
    return {
        "scalar": lambda: tf.reduce_mean(values),
        "matrix": lambda: values[:, None] - values[None, :],
        "other size": lambda: tf.concat([values, values], axis=0),
        "column": lambda: values[:, None],
        "values": lambda: values,
    }[how]()


def model_with(part, how, **compiled):
    """Return a compiled model whose loss has a wrong shape, and the name of the wrong part."""
    if part == "objective":

        class Mine(objectives.ELBO):
            def __call__(self, batch):
                terms = super().__call__(batch)
                return dataclasses.replace(terms, loss=reduced(terms.loss, how))

        model, _ = tiny_vae()
        model.compile("adam", objective=Mine(), **compiled)
        return model, "`loss` of Mine"
    if part == "regularizer":

        class Mine(regularizers.LatentL2):
            def __call__(self, latents, x, encode):
                return reduced(super().__call__(latents, x, encode), how)

        model = autoencoder()
        model.compile("adam", loss="mse", regularizers=Mine(1.0), **compiled)
        return model, "Mine"

    class Mine(adversarial.NonSaturating):
        def generator(self, fake_logits, real_logits=None):
            value = super().generator(fake_logits)
            return reduced(value, how) if part == "generator" else value

        def discriminator(self, real_logits, fake_logits):
            value = super().discriminator(real_logits, fake_logits)
            return reduced(value, how) if part == "discriminator" else value

    model, _ = tiny_gan()
    model.compile("adam", "adam", loss=Mine(), **compiled)
    return model, f"`{part}` of Mine"


PARTS = ["objective", "regularizer", "generator", "discriminator"]


@pytest.mark.parametrize("how", ["scalar", "matrix", "other size"])
@pytest.mark.parametrize("part", PARTS)
def test_parts_of_users_must_return_one_value_per_example(part, how, images):
    model, what = model_with(part, how, run_eagerly=True)
    with pytest.raises(ValueError, match=f"{what} must return one value per example, a tensor"):
        model.train_on_batch(images[:8])


def test_the_number_of_values_is_checked_in_a_graph(images):
    model, what = model_with("regularizer", "other size", jit_compile=False)
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"{what} must return one value per example, a tensor"):
        model.fit(images, batch_size=8, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("part", PARTS)
def test_a_column_of_values_is_one_value_per_example(part, images):
    """With weights, a column would otherwise be broadcast to a matrix."""
    weights = np.linspace(0, 2, 8, dtype="float32")
    logs = []
    for how in ("values", "column"):
        keras.utils.set_random_seed(0)
        model, _ = model_with(part, how, run_eagerly=True)
        model.seed = 1
        logs.append(model.train_on_batch(images[:8], sample_weight=weights, return_dict=True))
    assert logs[0] == pytest.approx(logs[1], rel=1e-6)
