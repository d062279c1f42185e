"""Losses and gradients that are not finite never reach the weights, in every execution mode."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import MODELS, tiny_hierarchical_vae
from test_conformance import MODES

import keras_gen

STEPS = {"batch_size": 4, "shuffle": False, "verbose": 0}  # five


@tf.custom_gradient
def bad_gradient(x):
    """x, whose gradient is NaN."""
    return x, lambda upstream: upstream * np.nan


SPOILS = {"loss": lambda x: x * np.nan, "gradient": bad_gradient}


@keras.saving.register_keras_serializable("keras_gen_tests")
class Poison(keras.layers.Layer):
    """A layer that passes values on until a step, and then spoils them or their gradient."""

    def __init__(self, step, spoil, **kwargs):
        super().__init__(**kwargs)
        self.step, self.spoil = step, spoil
        self.counter = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="int32", name="steps"
        )

    def call(self, x, training=False):
        if not training:
            return x
        self.counter.assign_add(1)
        return tf.cond(tf.equal(self.counter, self.step), lambda: SPOILS[self.spoil](x), lambda: x)

    def get_config(self):
        return {**super().get_config(), "step": self.step, "spoil": self.spoil}


def poisoned(network, step, spoil):
    layer = Poison(step, spoil)
    return keras.Sequential([keras.Input(network.input_shape[1:]), network, layer])


def model_of(kind, spoil, player="generator"):
    """A tiny model, in the third step of which the decoder or that player is spoilt."""
    model, arguments = MODELS[kind]()
    if kind == "hierarchical_vae":
        decoders = [poisoned(model.decoders[0], 3, spoil), *model.decoders[1:]]
        return tiny_hierarchical_vae(decoders=decoders)
    parts = {
        name: getattr(model, name)
        for name in ("encoder", "decoder", "generator", "discriminator")
        if hasattr(model, name)
    }
    last = player if kind == "gan" else "decoder"
    call = {"decoder": 3, "generator": 6, "discriminator": 7}[
        last
    ]  # a step has one, two or three without penalty
    parts[last] = poisoned(parts[last], call, spoil)
    names = {"vae": ("posterior", "likelihood"), "vq_vae": ("quantizer", "likelihood")}
    families = {name: getattr(model, name) for name in names.get(kind, ())}
    return type(model)(**parts, **families, seed=1), arguments


def weights(model):
    return [variable.numpy() for variable in model.trainable_variables]


class Remember(keras.callbacks.Callback):
    """Keeps the weights as they were before each step."""

    def on_train_batch_begin(self, batch, logs=None):
        self.before = weights(self.model)


@pytest.mark.parametrize(
    ("kind", "spoil", "mode"),
    [
        *itertools.product(MODELS, ["loss"], MODES),
        *itertools.product(MODELS, ["gradient"], ["graph"]),
        ("autoencoder", "gradient", "XLA"),
    ],
)
def test_the_step_is_not_taken_and_the_error_says_which(kind, mode, spoil, images):
    model, arguments = model_of(kind, spoil)
    model.compile(**arguments, **MODES[mode])
    remember = Remember()
    name = {
        "autoencoder": "reconstruction_loss",
        "vae": "reconstruction_loss",
        "hierarchical_vae": "reconstruction_loss",
        "gan": "generator_loss",
        "vq_vae": "reconstruction_loss",
    }[kind]
    with pytest.raises(
        keras_gen.NonFiniteError,
        match=r"Expected finite losses and gradients\. Received: in step 3, ",
    ) as error:
        model.fit(images, callbacks=[remember], **STEPS)
    assert name in str(error.value) or "a non-finite gradient of loss" in str(error.value)
    assert all(np.all(np.isfinite(weight)) for weight in weights(model))
    movable = kind == "gan" or mode in (
        "XLA",
        "two steps an execution",
    )  # the other player's move; momentum; the step before
    assert movable or all(
        np.array_equal(a, b) for a, b in zip(weights(model), remember.before, strict=True)
    )


def test_xla_replaces_a_gradient_that_is_not_finite_by_zero(images):
    """The weights stay as they are if the optimizer has no momentum."""
    model, _ = model_of("autoencoder", "gradient")
    model.compile("sgd", loss="mse", jit_compile=True)
    remember = Remember()
    with pytest.raises(keras_gen.NonFiniteError, match="in step 3, a non-finite gradient of loss"):
        model.fit(images, callbacks=[remember], **STEPS)
    for before, after in zip(remember.before, weights(model), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_discriminator_is_guarded_too_and_train_on_batch(images):
    model, arguments = model_of("gan", "loss", player="discriminator")
    model.compile(**{**arguments, "penalties": ()})
    for _ in range(2):
        model.train_on_batch(images)
    before = weights(model)
    with pytest.raises(
        keras_gen.NonFiniteError, match="in step 3, discriminator_loss = nan"
    ) as error:
        model.train_on_batch(images)
    assert "generator_loss" not in str(error.value)
    assert all(np.array_equal(a, b) for a, b in zip(weights(model), before, strict=True))


def test_no_replica_takes_the_step(images, two_replicas):
    with two_replicas.scope():
        model, arguments = model_of("autoencoder", "gradient")
        model.compile(**arguments)
    remember = Remember()
    with pytest.raises(keras_gen.NonFiniteError, match="in step 3, a non-finite gradient of loss"):
        model.fit(images, callbacks=[remember], **STEPS)
    assert all(np.array_equal(a, b) for a, b in zip(weights(model), remember.before, strict=True))


def test_under_mixed_precision_a_loss_stops_and_a_gradient_lowers_the_scale(images):
    keras.config.set_dtype_policy("mixed_float16")
    model, arguments = model_of("autoencoder", "loss")
    model.compile(**arguments)
    with pytest.raises(keras_gen.NonFiniteError, match="in step 3, reconstruction_loss = nan"):
        model.fit(images, **STEPS)
    model, arguments = model_of("autoencoder", "gradient")
    model.compile(**arguments)
    model.fit(images, **STEPS)
    assert float(model.optimizer.dynamic_scale) == 2.0**14  # Keras halves 2¹⁵
    assert all(np.all(np.isfinite(weight)) for weight in weights(model))


def test_the_error_names_the_last_checkpoint_which_is_whole(tmp_path, images):
    model, arguments = model_of("vae", "loss")
    model.compile(**arguments)
    with pytest.raises(
        keras_gen.NonFiniteError,
        match=f"The last checkpoint is {re.escape(str(tmp_path))}/epoch-000000-step-000000002",
    ):
        model.fit(images, callbacks=[keras_gen.Checkpoints(tmp_path, every=1)], **STEPS)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("clip", [{"global_clipnorm": 0.1}, {"clipvalue": 0.01}], ids=str)
def test_gradients_are_clipped_before_the_step(kind, clip, images):
    """Plain gradient descent moves each player by its clipped gradient."""
    model, _ = MODELS[kind]()
    sgd = {"learning_rate": 1000.0, **clip}
    optimizers = {"optimizer": keras.optimizers.SGD(**sgd)}
    if kind == "gan":
        optimizers = {
            f"{player}_optimizer": keras.optimizers.SGD(**sgd)
            for player in ("generator", "discriminator")
        }
    model.compile(
        **optimizers, **({"loss": "mse"} if kind == "autoencoder" else {}), run_eagerly=True
    )
    before = {id(variable): variable.numpy() for variable in model.trainable_variables}
    model.train_on_batch(images)
    networks = [model.generator, model.discriminator] if kind == "gan" else [model]
    for network in networks:
        moves = [
            (variable.numpy() - before[id(variable)]) / 1000
            for variable in network.trainable_variables
        ]
        if "clipvalue" in clip:
            assert max(np.abs(move).max() for move in moves) <= 0.0101
        else:
            assert np.sqrt(sum(np.square(move).sum() for move in moves)) <= 0.101
