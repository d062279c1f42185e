"""The GAN whose players see labels."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE

import keras_gen
from keras_gen import distributions, losses, networks

LABELS = np.arange(20) % 4
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def gan_of(generator=4, discriminator=4, prior=None, filters=(4,), **arguments):
    """Make a tiny conditional GAN with all options, whose networks know these numbers of labels."""
    keras.utils.set_random_seed(0)
    model = keras_gen.GAN(
        networks.dcgan_generator(3, IMAGE, filters, num_classes=generator),
        networks.dcgan_discriminator(
            IMAGE, filters, num_classes=discriminator, spectral_normalization=True
        ),
        prior=prior,
        seed=0,
    )
    extras = {
        "loss": losses.Hinge(),
        "penalties": [losses.GradientPenalty(), losses.R1(1.0, every=2)],
        "ema_momentum": 0.9,
    }
    model.compile("adam", "adam", **{**extras, **arguments})
    return model


XLA = pytest.param(
    {"jit_compile": True}, marks=pytest.mark.exhaustive
)  # test_conformance.py has the GAN without labels


@pytest.mark.parametrize("compiled", [{"run_eagerly": True}, {"jit_compile": False}, XLA])
def test_it_trains_saves_and_draws_the_same_again(compiled, images, tmp_path):
    labels = LABELS
    if compiled.get(
        "jit_compile"
    ):  # XLA takes a minute over two penalties and partial batches; test_gan.py has each
        compiled, images, labels = (
            {**compiled, "penalties": [losses.R1(1.0, every=2)]},
            images[:16],
            LABELS[:16],
        )
    model = gan_of(**compiled)
    before = [variable.numpy() for variable in model.trainable_variables]
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    history = model.fit(
        dataset, validation_data=(images, labels), validation_batch_size=8, verbose=0
    ).history
    assert np.isfinite(history["val_loss"][-1])
    for old, new in zip(before, model.trainable_variables, strict=True):
        if new.shape != (1,):  # a bias of all logits, which this loss need not feel
            assert not np.array_equal(old, new.numpy())
    if not compiled.get("run_eagerly"):  # a graph's file is in test_conformance.py
        return
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.generate(4, seed=1, condition=2), model.generate(4, seed=1, condition=2), atol=1e-6
    )
    for one in (model, loaded):
        one.fit(images, labels, **FIT)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_players_see_the_label_of_each_example(images):
    """The logs of an evaluation agree with one example at a time, each with its label."""
    model = gan_of()
    logs = model.evaluate(images, LABELS, batch_size=20, verbose=0, return_dict=True)
    model.reset_metrics()
    seed = tf.random.experimental.stateless_split(model.noise_seed(training=False), 1)[0]
    latents = model.prior.distribution().sample(20, seed=seed)
    generated = [
        model.averaged_generator([latents[i : i + 1], tf.constant(LABELS[i : i + 1])])
        for i in range(20)
    ]
    real, fake = (
        np.array(
            [
                float(model.discriminator([tf.constant(x), tf.constant(LABELS[i : i + 1])])[0, 0])
                for i, x in enumerate(rows)
            ]
        )
        for rows in ([images[i : i + 1] for i in range(20)], generated)
    )
    assert logs["discriminator_loss"] == pytest.approx(
        np.mean(np.maximum(0, 1 - real) + np.maximum(0, 1 + fake)), rel=1e-4
    )
    assert logs["generator_loss"] == pytest.approx(-fake.mean(), rel=1e-4)
    gamma = model.discriminate(images, LABELS)
    np.testing.assert_allclose(gamma, 1 / (1 + np.exp(-real)), rtol=1e-4)
    assert not np.allclose(gamma, model.discriminate(images, 3 - LABELS), rtol=1e-3)


def test_the_discriminators_logit_is_the_projection_of_its_paper():
    network = networks.dcgan_discriminator(IMAGE, filters=(2, 2), num_classes=3)
    x = np.random.default_rng(0).random((3, *IMAGE)).astype("float32")
    features = keras.Model(
        network.inputs[0], next(layer for layer in network.layers if "flatten" in layer.name).output
    )(x).numpy()
    weights = {
        variable.path.split("/")[-1]: variable.numpy()
        for variable in network.variables
        if "conv" not in variable.path
    }
    expected = features @ weights["kernel"] + weights["bias"]
    expected += np.sum(weights["embeddings"][[2, 0, 1]] * features, axis=1, keepdims=True)
    np.testing.assert_allclose(network([x, np.array([2, 0, 1])]), expected, rtol=1e-4)


def test_a_row_depends_on_its_seed_and_its_label_alone():
    model, labels = gan_of(), np.array([0, 1, 2, 3, 1])
    rows = model.generate(5, seed=7, condition=labels).numpy()
    for i, label in enumerate(labels):
        np.testing.assert_allclose(
            model.generate(seed=[7 * 2**32 + i], condition=label)[0], rows[i], atol=1e-6
        )
    assert not np.allclose(model.generate(5, seed=7, condition=0)[1], rows[1])
    latents = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    np.testing.assert_allclose(
        model.predict((latents, labels), verbose=0), model.decode(latents, labels), atol=1e-6
    )


def test_labels_may_enter_by_the_prior(images):
    model = gan_of(
        generator=None,
        prior=distributions.ConditionalNormal(3, num_classes=4, hidden_size=5),
        penalties=(),
    )
    before = [variable.numpy() for variable in model.prior.trainable_variables]
    model.fit(images, LABELS, **FIT)
    assert not any(
        np.array_equal(old, new.numpy())
        for old, new in zip(before, model.prior.trainable_variables, strict=True)
    )
    assert not np.allclose(
        model.generate(1, seed=1, condition=0), model.generate(1, seed=1, condition=1)
    )


def test_labels_that_one_player_alone_would_see_are_refused(images):
    for generator, discriminator in ((4, None), (None, 4)):
        message = (
            "Received numbers of classes: "
            f"generator {generator}, prior None, discriminator {discriminator}."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            gan_of(generator, discriminator)
    with pytest.raises(
        ValueError, match=r"the same number of classes. Received: generator=4, discriminator=5"
    ):
        gan_of(4, 5)
    for y, message in (
        (None, "Received: none. Call fit(x, labels)"),
        (LABELS + 1, "Received: 4 at index 3."),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            gan_of().fit(images, y, **FIT)
    with pytest.raises(ValueError, match=r"Received: a list. Convert it: np.asarray\(labels\)"):
        gan_of().fit(images, LABELS.tolist(), **FIT)
    for condition in (4, -1, 1.5, [1, 2]):
        with pytest.raises(
            ValueError,
            match="`condition` must be an integer from 0 to 3, or 3 such integers, one per sample",
        ):
            gan_of().generate(3, condition=condition)
    with pytest.raises(ValueError, match="a label from 0 to 3 for each example"):
        gan_of().discriminate(images)


def test_a_network_need_not_say_how_many_labels_it_takes(images):
    x, labels = keras.Input(IMAGE), keras.Input((), dtype="int32")
    beside = keras.layers.Concatenate()([keras.layers.Flatten()(x), keras.ops.one_hot(labels, 4)])
    discriminator = keras.Model([x, labels], keras.layers.Dense(1)(beside))
    model = keras_gen.GAN(
        networks.dcgan_generator(3, IMAGE, filters=(4,), num_classes=4), discriminator
    )
    assert model.num_classes == 4
    model.compile("adam", "adam", penalties=losses.R1(1.0))
    assert np.isfinite(model.fit(images, LABELS, **FIT).history["loss"][0])


def test_two_replicas_and_mixed_precision(images, two_replicas):
    """Against one device without a graph; of two levels the first is of float16."""
    dataset = tf.data.Dataset.from_tensor_slices((images[:16], LABELS[:16])).batch(8)

    def training_loss(strategy=None, policy="float32", **arguments):
        keras.config.set_dtype_policy(policy)
        with (strategy or tf.distribute.get_strategy()).scope():
            model = gan_of(**arguments)
        return model.fit(dataset, verbose=0).history["loss"]

    plain, deep = {"penalties": ()}, {"penalties": [losses.R1(1.0)], "filters": (4, 4)}
    np.testing.assert_allclose(
        training_loss(two_replicas, **plain), training_loss(run_eagerly=True, **plain), rtol=0.1
    )
    np.testing.assert_allclose(
        training_loss(policy="mixed_float16", **deep),
        training_loss(run_eagerly=True, **deep),
        rtol=0.1,
    )
