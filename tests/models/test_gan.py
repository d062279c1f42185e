import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import IMAGE, normalized, tiny_gan

import keras_gen
from keras_gen import distributions, networks


def softplus(x):
    return np.logaddexp(0, x)


def test_the_logs_are_the_formula_written_by_hand(images):
    model = normalized_gan()
    model.compile("adam", "adam")
    model.fit(images, verbose=0)
    logs = model.evaluate(images, batch_size=20, verbose=0, return_dict=True)
    model.reset_metrics()
    seed = tf.random.experimental.stateless_split(model.noise_seed(training=False), 2)[0]
    generated = model.generator(model.prior.distribution().sample(20, seed=seed))
    real, fake = model.discriminator(images).numpy(), model.discriminator(generated).numpy()
    assert logs["generator_loss"] == pytest.approx(softplus(-fake).mean(), rel=1e-5)
    assert logs["discriminator_loss"] == pytest.approx((softplus(-real) + softplus(fake)).mean(), rel=1e-5)
    l2 = 1e-2 * sum(np.square(v.numpy()).sum() for v in model.trainable_variables if v.path.endswith("kernel"))
    assert logs["regularization_loss"] == pytest.approx(l2, rel=1e-5)
    np.testing.assert_allclose(model.discriminate(images[:1]), 1 / (1 + np.exp(-real[:1, 0])), rtol=1e-4)
    np.testing.assert_allclose(model.generate(4, seed=1)[:1], model.generate(1, seed=1), atol=1e-5)


def normalized_gan():
    return keras_gen.GAN(normalized((3,), IMAGE, "sigmoid"), normalized(IMAGE, (1,)), seed=1)


def test_a_step_is_that_of_two_players_written_by_hand(images):
    model, by_hand = normalized_gan(), normalized_gan()
    weights = np.random.default_rng(1).random(20).astype("float32")
    by_hand.set_weights(model.get_weights())
    optimizers = [(keras.optimizers.Adam(1e-2), keras.optimizers.SGD(1e-1)) for _ in range(2)]
    model.compile(*optimizers[0])
    by_hand.compile(*optimizers[1])  # for the counter that its noise is folded from
    of_generator, of_discriminator = keras.optimizers.Adam(1e-2), keras.optimizers.SGD(1e-1)
    model.fit(images, sample_weight=weights, batch_size=8, shuffle=False, verbose=0)
    for rows in (slice(0, 8), slice(8, 16), slice(16, 20)):
        batch = images[rows]
        generator, discriminator = by_hand.generator, by_hand.discriminator
        first, second = tf.unstack(tf.random.experimental.stateless_split(by_hand.noise_seed(training=True), 2))
        prior = by_hand.prior.distribution()
        generated = generator(prior.sample(len(batch), seed=first), training=True)
        with tf.GradientTape() as tape:
            real, fake = discriminator(batch, training=True), discriminator(generated, training=True)
            loss = tf.reduce_mean(weights[rows, None] * (tf.math.softplus(-real) + tf.math.softplus(fake)))
            loss += sum(discriminator.losses)
        gradients = tape.gradient(loss, discriminator.trainable_variables)
        of_discriminator.apply(gradients, discriminator.trainable_variables)
        with tf.GradientTape() as tape:
            generated = generator(prior.sample(len(batch), seed=second), training=True)
            loss = tf.reduce_mean(tf.math.softplus(-discriminator(generated, training=True))) + sum(generator.losses)
        of_generator.apply(tape.gradient(loss, generator.trainable_variables), generator.trainable_variables)
        by_hand.optimizer.iterations.assign_add(1)
    for ours, theirs in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)  # Adam steps of 1e-2, of gradients that round differently


def test_each_player_has_its_optimizer_and_iterations_count_steps(images):
    model, _ = tiny_gan()
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1))
    generator, discriminator = model.generator.get_weights(), [v.numpy() for v in model.discriminator.trainable_variables]
    model.fit(images, batch_size=8, epochs=2, verbose=0)
    for old, variable in zip(discriminator, model.discriminator.trainable_variables, strict=True):
        assert not np.array_equal(old, variable.numpy())
    trained = [variable.path for variable in model.generator.trainable_variables]
    for old, variable in zip(generator, model.generator.variables, strict=True):
        assert variable.path not in trained or np.array_equal(old, variable.numpy())
    assert int(model.optimizer.iterations) == 6
    assert [int(optimizer.iterations) for optimizer in model.optimizer.optimizers] == [6, 6]


def test_layers_of_the_same_name_in_both_networks_keep_their_own_optimizer(images):
    generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(64, name="out"), keras.layers.Reshape(IMAGE)])
    discriminator = keras.Sequential([keras.Input(IMAGE), keras.layers.Flatten(), keras.layers.Dense(1, name="out")])
    model = keras_gen.GAN(generator, discriminator)
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1))
    before = generator.get_weights()
    model.fit(images, verbose=0)
    for old, new in zip(before, generator.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_training_logs_count_each_regularizer_once(images):
    model = normalized_gan()
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    l2 = 1e-2 * sum(np.square(v.numpy()).sum() for v in model.trainable_variables if v.path.endswith("kernel"))
    assert model.fit(images, verbose=0).history["regularization_loss"][0] == pytest.approx(l2, rel=1e-5)


def test_names_of_optimizers_serve_as_well(images):
    model, _ = tiny_gan()
    model.compile("adam", "rmsprop")
    model.fit(images, verbose=0)
    assert [type(optimizer) for optimizer in model.optimizer.optimizers] == [keras.optimizers.Adam, keras.optimizers.RMSprop]


def test_discriminate_is_the_sigmoid_of_the_logit(images):
    model, _ = tiny_gan()
    expected = 1 / (1 + np.exp(-model.discriminator(images).numpy()[:, 0]))
    np.testing.assert_allclose(model.discriminate(images), expected, rtol=1e-5)


def test_any_prior_of_the_right_size_is_taken():
    generator, discriminator = networks.mlp((3,), IMAGE), networks.mlp(IMAGE, (1,))
    assert isinstance(keras_gen.GAN(generator, discriminator).prior, distributions.StandardNormal)
    with pytest.raises(ValueError, match=re.escape("Expected `prior` over 3 latents. Received: two with event_size=2.")):
        keras_gen.GAN(generator, discriminator, prior=distributions.StandardNormal(2, name="two"))
    with pytest.raises(ValueError, match="Expected `prior` without a condition, since this model has no labels"):
        keras_gen.GAN(generator, discriminator, prior=distributions.ConditionalNormal(3, num_classes=2))
    with pytest.raises(ValueError, match=r"`prior` is a keras_gen\.distributions\.Prior"):
        keras_gen.GAN(generator, discriminator, prior="normal")


@pytest.mark.parametrize(
    ("discriminator", "message"),
    [
        (
            networks.mlp(IMAGE, (2,)),
            "Expected `discriminator` with outputs of shape (1,), the outputs of `generator` and one logit.",
        ),
        (networks.mlp(IMAGE, (1,), output_activation="sigmoid"), "Expected `discriminator` to end in logits."),
        (
            networks.mlp((64,), (1,)),
            "Expected `discriminator` with inputs of shape (8, 8, 1), the outputs of `generator` and one logit.",
        ),
    ],
)
def test_the_discriminator_is_checked(discriminator, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        keras_gen.GAN(networks.mlp((3,), IMAGE), discriminator)


def test_compile_is_checked():
    model, _ = tiny_gan()
    optimizer = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="Each player needs an optimizer of its own"):
        model.compile(optimizer, optimizer)
    with pytest.raises(
        ValueError, match=re.escape("is a keras_gen.losses.AdversarialLoss, such as NonSaturating(). Received: 'mse'")
    ):
        model.compile(loss="mse")
    with pytest.raises(ValueError, match="give `generator_optimizer` and `discriminator_optimizer`, not `optimizer`"):
        model.compile(optimizer="adam")
    with pytest.raises(ValueError, match="Leave `metrics` out"):
        model.compile(metrics=["mse"])


@keras.saving.register_keras_serializable("tests")
class Shifted(distributions.LearnedNormal):
    """A learned prior under a name of its own."""


def test_a_prior_with_weights_learns_with_the_generator(images):
    model = keras_gen.GAN(networks.mlp((3,), IMAGE, output_activation="sigmoid"), networks.mlp(IMAGE, (1,)), prior=Shifted(3))
    model.compile("adam", "adam")
    before = [variable.numpy() for variable in model.prior.trainable_variables]
    model.fit(images, verbose=0)
    for old, variable in zip(before, model.prior.trainable_variables, strict=True):
        assert np.all(old != variable.numpy())
