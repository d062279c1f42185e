import re
import types
import warnings

import keras
import numpy as np
import pytest
import scipy.spatial.distance
import tensorflow as tf
import tensorflow_probability as tfp
from support import IMAGE, normalized, tiny_gan

import keras_gen
from keras_gen import augmentations, distributions, losses, networks
from keras_gen.fitting.collapse import CollapseWarning, near_duplicates


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
    assert logs["discriminator_loss"] == pytest.approx(
        (softplus(-real) + softplus(fake)).mean(), rel=1e-5
    )
    l2 = 1e-2 * sum(
        np.square(v.numpy()).sum() for v in model.trainable_variables if v.path.endswith("kernel")
    )
    assert logs["regularization_loss"] == pytest.approx(l2, rel=1e-5)
    np.testing.assert_allclose(
        model.discriminate(images[:1]), 1 / (1 + np.exp(-real[:1, 0])), rtol=1e-4
    )
    np.testing.assert_allclose(model.generate(4, seed=1)[:1], model.generate(1, seed=1), atol=1e-5)


def normalized_gan():
    return keras_gen.GAN(normalized((3,), IMAGE, "sigmoid"), normalized(IMAGE, (1,)), seed=1)


@pytest.mark.parametrize("complete", [False, True], ids=["as the notes", "with all there is"])
def test_a_step_is_that_of_two_players_written_by_hand(images, complete):
    """With all options: paired losses, R1 and R2 on schedules, two discriminator updates."""
    model, by_hand = normalized_gan(), normalized_gan()
    weights = np.random.default_rng(1).random(20).astype("float32")
    by_hand.set_weights(model.get_weights())
    extras = {}
    if complete:
        penalties = [losses.R1(0.2), losses.R2(0.3, every=2)]
        extras = {
            "loss": losses.RelativisticPairing(),
            "penalties": penalties,
            "discriminator_steps": 2,
        }
    optimizers = [(keras.optimizers.Adam(1e-2), keras.optimizers.SGD(1e-1)) for _ in range(2)]
    model.compile(*optimizers[0], **extras)
    by_hand.compile(*optimizers[1])  # for the counter that its noise is folded from
    of_generator, of_discriminator = keras.optimizers.Adam(1e-2), keras.optimizers.SGD(1e-1)
    model.fit(images, sample_weight=weights, batch_size=8, shuffle=False, verbose=0)
    generator, discriminator, prior = (
        by_hand.generator,
        by_hand.discriminator,
        by_hand.prior.distribution(),
    )

    def half_squared_slope(points):
        moving = [variable.numpy() for variable in discriminator.non_trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(points)
            logits = discriminator(points, training=True)
        for variable, value in zip(discriminator.non_trainable_variables, moving, strict=True):
            variable.assign(value)
        return tf.reduce_sum(tape.gradient(logits, points) ** 2, axis=(1, 2, 3)) / 2

    for step, rows in enumerate((slice(0, 8), slice(8, 16), slice(16, 20))):
        batch, of_batch = tf.constant(images[rows]), weights[rows]
        *seeds, last = tf.unstack(
            tf.random.experimental.stateless_split(
                by_hand.noise_seed(training=True), 3 if complete else 2
            )
        )
        for seed in seeds:
            generated = generator(prior.sample(len(batch), seed=seed), training=True)
            with tf.GradientTape() as tape:
                real, fake = (discriminator(x, training=True)[:, 0] for x in (batch, generated))
                loss = sum(discriminator.losses)
                if complete:
                    penalty = 0.2 * half_squared_slope(batch) + (
                        2 * 0.3 * half_squared_slope(generated) if step % 2 == 0 else 0
                    )
                    loss += tf.reduce_mean(of_batch * (tf.math.softplus(fake - real) + penalty))
                else:
                    loss += tf.reduce_mean(
                        of_batch * (tf.math.softplus(-real) + tf.math.softplus(fake))
                    )
            gradients = tape.gradient(loss, discriminator.trainable_variables)
            of_discriminator.apply(gradients, discriminator.trainable_variables)
        with tf.GradientTape() as tape:
            generated = generator(prior.sample(len(batch), seed=last), training=True)
            loss = sum(generator.losses)
            fake = discriminator(generated, training=True)[:, 0]
            if complete:
                real = discriminator(batch, training=True)[:, 0]
                loss += tf.reduce_mean(of_batch * tf.math.softplus(real - fake))
            else:
                loss += tf.reduce_mean(tf.math.softplus(-fake))
        of_generator.apply(
            tape.gradient(loss, generator.trainable_variables), generator.trainable_variables
        )
        by_hand.optimizer.iterations.assign_add(1)
    for ours, theirs in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        assert np.all(np.isfinite(ours))
        np.testing.assert_allclose(
            ours, theirs, atol=5e-4
        )  # Adam steps of 1e-2, of gradients that round differently


def tanh_gan():
    return keras_gen.GAN(
        networks.mlp((3,), IMAGE, hidden=(5,), output_activation="sigmoid"),
        networks.mlp(IMAGE, (1,), (6,), "tanh"),
        seed=1,
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    "compiled", [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}]
)
def test_a_penalty_is_that_of_finite_differences_in_every_mode_and_precision(
    images, policy, compiled
):
    """R1, whose points are the same in all of them; under float16 it would be 1e-3 off."""
    keras.config.set_dtype_policy(policy)
    model = tanh_gan()
    w1, b1, w2, b2 = (weight.astype("float64") for weight in model.discriminator.get_weights())
    flat, steps = images.reshape(20, 64).astype("float64"), 1e-4 * np.eye(64)
    up, down = (np.tanh((flat[:, None] + sign * steps) @ w1 + b1) @ w2 + b2 for sign in (1, -1))
    squared_slopes = np.sum(((up - down)[..., 0] / 2e-4) ** 2, axis=1)
    model.compile(
        keras.optimizers.SGD(0.0),
        keras.optimizers.SGD(1e-4),
        Nothing(),
        penalties=losses.R1(1e3),
        **compiled,
    )
    before = model.discriminator.get_weights()[0]
    logs = model.fit(images, batch_size=20, verbose=0).history
    assert logs["penalty_loss"][0] == pytest.approx(1e3 / 2 * squared_slopes.mean(), rel=2e-5)
    change = (model.discriminator.get_weights()[0] - before)[10, 3] / -1e-4

    def penalty(kernel):
        slopes = ((1 - np.tanh(flat @ kernel + b1) ** 2) * w2[:, 0]) @ kernel.T
        return 1e3 / 2 * np.sum(slopes**2, axis=1).mean()

    step = np.zeros_like(w1)
    step[10, 3] = 1e-5
    assert change == pytest.approx((penalty(w1 + step) - penalty(w1 - step)) / 2e-5, rel=2e-3)


def test_a_penalty_of_every_third_step_is_three_times_as_large(images):
    model = tanh_gan()
    found = {1: [], 3: []}
    for every, values in found.items():
        sgd = [keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0)]
        model.compile(*sgd, penalties=losses.R1(1e3, every=every), run_eagerly=True)
        for _ in range(every + 1):
            model.reset_metrics()
            logs = model.train_on_batch(images[:2], return_dict=True)
            values.append(logs["penalty_loss"])
    [penalty, again] = found[1]
    assert penalty == again > 0
    np.testing.assert_allclose(found[3], np.array([3, 0, 0, 3]) * penalty, rtol=1e-5)


def test_the_discriminator_of_a_penalty_is_in_training_mode(images):
    model = normalized_gan()
    with tf.GradientTape() as tape:
        points = tf.constant(images)
        tape.watch(points)
        logits = model.discriminator(points, training=True)
    expected = tf.reduce_mean(tf.reduce_sum(tape.gradient(logits, points) ** 2, axis=(1, 2, 3)))
    model.compile("adam", "adam", penalties=losses.R1(2.0), run_eagerly=True)
    logs = model.train_on_batch(images, return_dict=True)
    assert logs["penalty_loss"] == pytest.approx(float(expected), rel=1e-3)


@keras.saving.register_keras_serializable("tests")
class Nothing(losses.AdversarialLoss):
    """A game without stakes, so that penalties are alone."""

    def generator(self, fake_logits, real_logits=None):
        return 0 * fake_logits[:, 0]

    def discriminator(self, real_logits, fake_logits):
        return 0 * real_logits[:, 0]


@pytest.mark.parametrize(
    "loss", ["Minimax", "LeastSquares", "Hinge", "Wasserstein", "RelativisticPairing"]
)
def test_every_loss_trains_with_every_penalty(images, loss):
    """One of them in a graph."""
    model = tanh_gan()
    penalties = [losses.GradientPenalty(), losses.DRAGAN(), losses.R1(1.0), losses.R2(1.0, every=2)]
    model.compile(
        "adam",
        "adam",
        loss=getattr(losses, loss)(),
        penalties=penalties,
        run_eagerly=loss != "Minimax",
    )
    before = [variable.numpy() for variable in model.trainable_variables]
    logs = model.fit(images, validation_data=images, batch_size=20, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())
    assert logs["penalty_loss"][0] > 0
    assert logs["val_penalty_loss"] == [0]
    for old, variable in zip(before, model.trainable_variables, strict=True):
        if variable.shape != (1,):  # a bias of all logits, which these losses need not feel
            assert not np.array_equal(old, variable.numpy())


def test_penalties_and_the_average_on_two_replicas_are_those_of_one(images, two_replicas):
    penalty_losses = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model = keras_gen.GAN(
                normalized((3,), IMAGE, "sigmoid"), networks.mlp(IMAGE, (1,), (6,), "tanh"), seed=1
            )
            model.compile(
                keras.optimizers.SGD(0.1),
                keras.optimizers.SGD(0.0),
                penalties=losses.R1(3.0, every=2),
                ema_momentum=0.0,
            )
        last = model.generator.layers[-3].kernel
        last.assign(tf.zeros_like(last))  # all examples of the first step are equal
        dataset = tf.data.Dataset.from_tensor_slices(images[:16]).batch(8)
        history = model.fit(dataset, epochs=2, verbose=0, shuffle=False).history
        penalty_losses.append(history["penalty_loss"])
        assert history["duplicates"][0] == 1
        for average, variable in zip(
            model.averaged_generator.variables, model.generator.variables, strict=True
        ):
            for mine, theirs in zip(
                *map(strategy.experimental_local_results, (average.value, variable.value)),
                strict=True,
            ):
                np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(*penalty_losses, rtol=1e-5)


def test_each_player_has_its_optimizer_and_iterations_count_steps(images):
    model, _ = tiny_gan()
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1))
    generator, discriminator = (
        model.generator.get_weights(),
        [v.numpy() for v in model.discriminator.trainable_variables],
    )
    model.fit(images, batch_size=8, epochs=2, verbose=0)
    for old, variable in zip(discriminator, model.discriminator.trainable_variables, strict=True):
        assert not np.array_equal(old, variable.numpy())
    trained = [variable.path for variable in model.generator.trainable_variables]
    for old, variable in zip(generator, model.generator.variables, strict=True):
        assert variable.path not in trained or np.array_equal(old, variable.numpy())
    assert int(model.optimizer.iterations) == 6
    assert [int(optimizer.iterations) for optimizer in model.optimizer.optimizers] == [6, 6]


def test_layers_of_the_same_name_in_both_networks_keep_their_own_optimizer(images):
    generator = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(64, name="out"), keras.layers.Reshape(IMAGE)]
    )
    discriminator = keras.Sequential(
        [keras.Input(IMAGE), keras.layers.Flatten(), keras.layers.Dense(1, name="out")]
    )
    model = keras_gen.GAN(generator, discriminator)
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1))
    before = generator.get_weights()
    model.fit(images, verbose=0)
    for old, new in zip(before, generator.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_training_logs_count_each_regularizer_once(images):
    model = normalized_gan()
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    l2 = 1e-2 * sum(
        np.square(v.numpy()).sum() for v in model.trainable_variables if v.path.endswith("kernel")
    )
    assert model.fit(images, verbose=0).history["regularization_loss"][0] == pytest.approx(
        l2, rel=1e-5
    )


def test_names_of_optimizers_serve_as_well(images):
    model, _ = tiny_gan()
    model.compile("adam", "rmsprop")
    model.fit(images, verbose=0)
    assert [type(optimizer) for optimizer in model.optimizer.optimizers] == [
        keras.optimizers.Adam,
        keras.optimizers.RMSprop,
    ]


def test_discriminate_is_the_sigmoid_of_the_logit(images):
    model, _ = tiny_gan()
    expected = 1 / (1 + np.exp(-model.discriminator(images).numpy()[:, 0]))
    np.testing.assert_allclose(model.discriminate(images), expected, rtol=1e-5)


def test_any_prior_of_the_right_size_is_taken():
    generator, discriminator = networks.mlp((3,), IMAGE), networks.mlp(IMAGE, (1,))
    assert isinstance(keras_gen.GAN(generator, discriminator).prior, distributions.StandardNormal)
    with pytest.raises(
        ValueError,
        match=re.escape("`prior` must be over 3 latents. Received: two with event_size=2."),
    ):
        keras_gen.GAN(generator, discriminator, prior=distributions.StandardNormal(2, name="two"))
    with pytest.raises(
        ValueError,
        match=r"If the discriminator uses labels, .* generator None, prior 2, discriminator None",
    ):
        keras_gen.GAN(
            generator, discriminator, prior=distributions.ConditionalNormal(3, num_classes=2)
        )
    with pytest.raises(ValueError, match=r"`prior` must be a keras_gen\.distributions\.Prior"):
        keras_gen.GAN(generator, discriminator, prior="normal")
    with pytest.raises(ValueError, match=r"turns a batch dimension into an event dimension"):
        keras_gen.GAN(generator, discriminator, prior=OfScalars(3))


class OfScalars(distributions.Prior):
    """A prior of one's own with the wrong event shape."""

    def distribution(self, condition=None):
        return tfp.distributions.Normal(tf.zeros(self.event_size), 1.0)


@pytest.mark.parametrize(
    ("discriminator", "message"),
    [
        (
            networks.mlp(IMAGE, (2,)),
            "`discriminator` must have outputs of shape (1,), because it maps the outputs of "
            "`generator` to one logit.",
        ),
        (
            networks.mlp(IMAGE, (1,), output_activation="sigmoid"),
            "`discriminator` must output logits, which can be any numbers.",
        ),
        (
            networks.mlp((64,), (1,)),
            "`discriminator` must have inputs of shape (8, 8, 1), because it maps the outputs of "
            "`generator` to one logit.",
        ),
    ],
)
def test_the_discriminator_is_checked(discriminator, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        keras_gen.GAN(networks.mlp((3,), IMAGE), discriminator)


def test_compile_is_checked():
    model, _ = tiny_gan()
    optimizer = keras.optimizers.Adam()
    with pytest.raises(
        ValueError, match="The generator and the discriminator each need an optimizer of their own"
    ):
        model.compile(optimizer, optimizer)
    with pytest.raises(
        ValueError,
        match=re.escape(
            "must be a keras_gen.losses.AdversarialLoss, such as NonSaturating(). Received: 'mse'"
        ),
    ):
        model.compile(loss="mse")
    with pytest.raises(
        ValueError,
        match="give `generator_optimizer` and `discriminator_optimizer` instead of `optimizer`",
    ):
        model.compile(optimizer="adam")
    with pytest.raises(ValueError, match="Omit `metrics`"):
        model.compile(metrics=["mse"])
    with pytest.raises(
        ValueError,
        match=re.escape("`penalties` must be keras_gen.losses.Penalty objects, such as [R1(10.0)]"),
    ):
        model.compile(penalties=["r1"])
    with pytest.raises(
        ValueError,
        match=re.escape(
            "`discriminator_steps` of GAN must be an integer of at least 1. "
            "Received: discriminator_steps=0"
        ),
    ):
        model.compile(discriminator_steps=0)
    with pytest.raises(
        ValueError,
        match=re.escape("`ema_momentum` must be a number in [0, 1) or None. Received: 1.0"),
    ):
        model.compile(ema_momentum=1.0)
    with pytest.raises(ValueError, match=r"keras_gen\.augmentations\.DiffAugment or None"):
        model.compile(augment="flip")
    of_rows = keras_gen.GAN(networks.mlp((2,), (4,)), networks.mlp((4,), (1,)))
    with pytest.raises(ValueError, match=r"must be None unless the data are images .* \(4,\)"):
        of_rows.compile(augment=augmentations.DiffAugment())
    model.compile(augment=augmentations.DiffAugment())


@keras.saving.register_keras_serializable("tests")
class Shifted(distributions.LearnedNormal):
    """A learned prior under a name of its own."""


def test_a_prior_with_weights_learns_with_the_generator(images):
    model = keras_gen.GAN(
        networks.mlp((3,), IMAGE, output_activation="sigmoid"),
        networks.mlp(IMAGE, (1,)),
        prior=Shifted(3),
    )
    model.compile("adam", "adam")
    before = [variable.numpy() for variable in model.prior.trainable_variables]
    model.fit(images, verbose=0)
    for old, variable in zip(before, model.prior.trainable_variables, strict=True):
        assert np.all(old != variable.numpy())


# === The averaged generator ===


def averaging_gan(**arguments):
    keras.utils.set_random_seed(0)
    model = normalized_gan()
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.optimizers.SGD(1e-2),
        **{"ema_momentum": 0.3, **arguments},
    )
    return model


def test_the_average_is_its_formula_moving_statistics_included(images):
    model = averaging_gan()
    expected = [variable.numpy() for variable in model.generator.variables]
    for momentum in (1 / 10, 2 / 11, 3 / 12, 0.3, 0.3):  # rising to what was asked for
        model.train_on_batch(images)
        pairs = zip(expected, model.generator.variables, strict=True)
        expected = [
            momentum * average + (1 - momentum) * variable.numpy() for average, variable in pairs
        ]
    for average, value in zip(model.averaged_generator.variables, expected, strict=True):
        np.testing.assert_allclose(average.numpy(), value, rtol=1e-5, atol=1e-6)
    assert not any(variable.trainable for variable in model.averaged_generator.variables)
    expected = model.regularization_loss(model.generator) + model.regularization_loss(
        model.discriminator
    )
    assert float(model.regularization_loss()) == pytest.approx(float(expected))


def test_an_average_is_made_once_and_only_with_a_momentum():
    keras.config.set_dtype_policy("bfloat16")
    model = normalized_gan()
    model.compile("adam", "adam")
    assert model.averaged_generator is None
    assert {variable.dtype for variable in model.generator.variables} == {"bfloat16"}
    model.compile("adam", "adam", ema_momentum=0.5)
    average = model.averaged_generator
    assert {variable.dtype for variable in average.variables} == {"float32"}
    model.compile("adam", "adam", ema_momentum=0.9)
    assert model.averaged_generator is average


def test_a_given_average_is_another_network_and_is_not_trained():
    generator, discriminator = networks.mlp((3,), IMAGE), networks.mlp(IMAGE, (1,))
    average = networks.mlp((3,), IMAGE)
    model = keras_gen.GAN(generator, discriminator, averaged_generator=average)
    assert model.trainable_variables == [
        *generator.trainable_variables,
        *discriminator.trainable_variables,
    ]
    with pytest.raises(ValueError, match="Received: the same network twice"):
        keras_gen.GAN(generator, discriminator, averaged_generator=generator)


def test_in_training_mode_a_call_uses_the_generator():
    model = averaging_gan()
    latents = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    expected = model.generator(latents, training=True)
    np.testing.assert_allclose(model(latents, training=True), expected, atol=1e-6)
    assert not np.allclose(model(latents), expected, atol=1e-3)


def test_the_average_generates_evaluates_is_saved_exported_and_resumed(images, tmp_path):
    model = averaging_gan(ema_momentum=0.9)
    model.fit(images, batch_size=8, epochs=2, verbose=0, shuffle=False)
    latents = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    expected = model.averaged_generator(latents).numpy()
    assert not np.allclose(expected, model.generator(latents), atol=1e-4)
    for outputs in (model.decode(latents), model.predict(latents, verbose=0), model(latents)):
        np.testing.assert_allclose(outputs, expected, atol=1e-6)
    samples, logs = model.generate(4, seed=3), model.evaluate(images, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    for compiled in (True, False):
        loaded = keras.saving.load_model(tmp_path / "model.keras", compile=compiled)
        np.testing.assert_allclose(loaded.generate(4, seed=3), samples, atol=1e-6)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(images, verbose=0, return_dict=True) == logs
    for one in (model, loaded):
        one.fit(images, batch_size=8, verbose=0, shuffle=False)
    for mine, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    samples = model.generate(4, seed=3)
    model.export(tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served"))
    rows = served.signatures["generate"](seed=3 * 2**32 + tf.range(4, dtype=tf.int64))
    np.testing.assert_allclose(rows["outputs"], samples, atol=1e-6)


def test_the_average_is_never_trained_and_may_be_made_outside_the_scope(images, two_replicas):
    model = averaging_gan()
    variables = len(model.trainable_variables)
    logs = model.evaluate(images, verbose=0, return_dict=True)
    model.trainable = False
    model.trainable = True
    assert model.evaluate(images, verbose=0, return_dict=True) == logs
    model.compile("adam", "adam", ema_momentum=0.5)
    assert len(model.trainable_variables) == variables
    with two_replicas.scope():
        model = normalized_gan()
    model.compile("adam", "adam", ema_momentum=0.5, penalties=losses.R1(1.0))
    dataset = tf.data.Dataset.from_tensor_slices(images[:9]).batch(
        8
    )  # the last batch is of one: a replica has none
    assert np.isfinite(model.fit(dataset, verbose=0).history["discriminator_loss"][0])
    assert all(np.all(np.isfinite(variable)) for variable in model.variables)


def test_compiled_without_a_momentum_an_average_keeps_up_with_the_generator(images):
    model = averaging_gan(ema_momentum=0.9)
    model.fit(images, verbose=0)
    model.compile("adam", "adam")
    model.fit(images, verbose=0)
    for average, variable in zip(
        model.averaged_generator.variables, model.generator.variables, strict=True
    ):
        np.testing.assert_array_equal(average.numpy(), variable.numpy())
    with pytest.raises(ValueError, match=r"`averaged_generator` must have outputs of shape"):
        keras_gen.GAN(
            model.generator, model.discriminator, averaged_generator=networks.mlp((3,), (4,))
        )


# === What the logs say of the game ===


def test_accuracies_and_duplicates_are_counted(images):
    model = tanh_gan()
    model.compile("adam", "adam", loss=losses.LeastSquares())
    logs = model.evaluate(images, batch_size=20, verbose=0, return_dict=True)
    model.reset_metrics()
    seed = tf.random.experimental.stateless_split(model.noise_seed(training=False), 1)[0]
    generated = model.decode(model.prior.distribution().sample(20, seed=seed)).numpy()
    real, fake = (model.discriminator(x).numpy() for x in (images, generated))
    assert logs["real_accuracy"] == pytest.approx(np.mean(real > 0.5))
    assert logs["fake_accuracy"] == pytest.approx(np.mean(fake < 0.5))
    distance = {
        name: scipy.spatial.distance.cdist(x, x) + np.diag([np.inf] * 20)
        for name, x in flat(generated, images).items()
    }
    nearest = {name: distances.min(axis=1) for name, distances in distance.items()}
    assert logs["duplicates"] == pytest.approx(
        np.mean(nearest["generated"] < 0.1 * np.sort(nearest["real"])[10])
    )


def test_an_undecided_discriminator_is_never_right(images):
    model = tanh_gan()
    model.discriminator.set_weights([0 * weight for weight in model.discriminator.get_weights()])
    model.compile("adam", "adam", run_eagerly=True)
    logs = model.evaluate(images, verbose=0, return_dict=True)
    assert (logs["real_accuracy"], logs["fake_accuracy"]) == (0, 0)


def flat(generated, real):
    return {"generated": generated.reshape(len(generated), -1), "real": real.reshape(len(real), -1)}


def test_duplicates_are_twins_by_the_measure_of_the_data():
    random = np.random.default_rng(0)
    real = random.normal(size=(200, 2)) * 0.01 + 5 * random.integers(
        0, 2, size=(200, 1)
    )  # two narrow clusters, far from 0
    same = random.normal(size=(200, 2)) * 0.01 + 5 * random.integers(0, 2, size=(200, 1))
    modes = np.repeat(random.normal(size=(4, 2)), 50, axis=0)
    share = {
        name: float(np.mean(near_duplicates(x, real + 100)))
        for name, x in (("same", same + 100), ("modes", modes + 100))
    }
    assert share["same"] < 0.1
    assert share["modes"] == 1
    assert np.all(near_duplicates(modes[:1], real[:1]) == 0)  # alone, it has no neighbour
    assert near_duplicates(modes[:0], real[:0]).shape == (
        0,
    )  # as for a replica for which a last batch has no example
    assert np.all(
        near_duplicates(same, np.zeros((200, 2))) == 0
    )  # data that are all the same are no measure


@pytest.mark.parametrize("rows", [4, 7])
def test_near_duplicates_are_closer_than_a_tenth_of_the_median_distance(rows):
    real = np.cumsum(np.arange(1.0, rows + 1))[:, None]  # the distances to the left grow by 1
    nearest = np.sort([2, *range(2, rows + 1)])
    median = nearest[rows // 2]
    for share, expected in ((0.099, 1), (0.101, 0)):
        generated = np.array([[0.0], [share * median], [50.0]])
        np.testing.assert_array_equal(near_duplicates(generated, real), [expected, expected, 0])


def warning_callback(steps=None, per_execution=1, examples=1000, relative=False):
    """Return a `CollapseWarning` at the start of a training, and its model."""
    count = types.SimpleNamespace(value=float(examples))
    model = types.SimpleNamespace(
        part_trackers=[types.SimpleNamespace(count=count)],
        loss=types.SimpleNamespace(relative=relative),
        steps_per_execution=per_execution,
        optimizer=types.SimpleNamespace(iterations=100),
    )
    callback = CollapseWarning()
    callback.set_params({"steps": steps})
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    return callback, model


RIGHT = {"real_accuracy": 0.999, "fake_accuracy": 1.0}


@pytest.mark.parametrize(
    ("logs", "arguments", "expected"),
    [
        ({"duplicates": 0.51}, {}, ["The generator has collapsed: in epoch 3, 51% of its"]),
        ({"duplicates": 0.5}, {}, []),
        ({"duplicates": 1.0}, {"examples": 999}, []),
        (
            RIGHT,
            {},
            ["The discriminator was right about at least 99.9% of the examples in epoch 3"],
        ),
        ({**RIGHT, "fake_accuracy": 0.998}, {}, []),
        ({"real_accuracy": 1.0}, {}, []),
        ({"fake_accuracy": 1.0}, {}, []),
        (RIGHT, {"relative": True}, []),
        ({}, {}, []),
        (None, {}, []),
    ],
)
def test_each_warning_has_a_limit_and_is_given_once(logs, arguments, expected):
    callback, _ = warning_callback(**arguments)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for epoch in (2, 3):
            callback.on_epoch_end(epoch, logs)
    assert len(said) == len(expected)
    for warning, start in zip(said, expected, strict=True):
        assert str(warning.message).startswith(start)


@pytest.mark.parametrize(
    ("steps", "per_execution", "expected"),
    [
        (5, 1, {3: 100}),
        (5, 2, {2: 101}),
        (6, 2, {4: 100}),
        (2, 1, {0: 100}),
        (1, 1, {0: 100}),
    ],
)
def test_the_step_that_counts_is_the_second_to_last(steps, per_execution, expected):
    callback, model = warning_callback(steps, per_execution)
    found = {}
    for batch in range(0, steps, per_execution):
        callback.on_train_batch_begin(batch)
        if model.near_duplicate_step < 10**9:
            found[batch] = model.near_duplicate_step
        else:
            assert model.near_duplicate_step < 2**63
    assert found == expected
    callback, model = warning_callback(None)
    callback.on_train_batch_begin(0)
    assert model.near_duplicate_step is None  # in every step


def test_a_game_that_is_over_is_said_in_words():
    data = np.random.default_rng(0).random((1000, *IMAGE)).astype("float32")
    constant = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(64, kernel_initializer="zeros"),
            keras.layers.Reshape(IMAGE),
        ]
    )
    model = keras_gen.GAN(constant, networks.mlp(IMAGE, (1,)), seed=0)
    model.compile(keras.optimizers.SGD(0.0), "adam")
    for callbacks in (None, keras.callbacks.CallbackList([], model=model)):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model.fit(data, validation_data=data[:10], epochs=3, verbose=0, callbacks=callbacks)
        said = [str(warning.message) for warning in said]
        assert len(said) == 2
        assert any(
            "collapsed: in epoch 1, 100% of its samples had a near-duplicate" in words
            for words in said
        )
        assert any("The discriminator was right about at least" in words for words in said)
    model.fit(data[:500], validation_data=data, verbose=0)  # of so few nothing is said


def test_a_healthy_game_is_not_warned_of():
    model = tanh_gan()
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    model.fit(model.generate(1000, seed=1), verbose=0, callbacks=keras.callbacks.TerminateOnNaN())


@pytest.mark.parametrize(("rows", "batch_size", "chosen"), [(20, 8, 1), (8, 8, 0)])
def test_near_duplicates_are_counted_in_one_step_per_epoch(images, rows, batch_size, chosen):
    """In the last step but one, since the last may have a partial batch; else in every step."""
    model = tanh_gan()
    model.compile("adam", "adam")
    tracker = model.part_trackers[model.loss_parts.index("duplicates")]
    examples = []
    see = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: examples.append(float(tracker.count.value))
    )
    model.fit(images[:rows], batch_size=batch_size, epochs=2, verbose=0, callbacks=[see])
    steps = -(-rows // batch_size)
    assert examples == 2 * [0.0 if step < chosen else 8.0 for step in range(steps)]
    assert model.near_duplicate_step is None
    model.reset_metrics()
    model.train_on_batch(images[:6])
    assert float(tracker.count.value) == 6
    model.evaluate(images[:12], batch_size=6, verbose=0)
    assert float(tracker.count.value) == 6


def test_near_duplicates_are_counted_after_an_interrupted_fit(images):
    def interrupt(batch, logs):
        raise KeyboardInterrupt

    model = tanh_gan()
    model.compile("adam", "adam", run_eagerly=True)
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(images, batch_size=8, verbose=0, callbacks=[stop])
    assert model.near_duplicate_step is None
    model.reset_metrics()
    model.train_on_batch(images[:8])
    tracker = model.part_trackers[model.loss_parts.index("duplicates")]
    assert float(tracker.count.value) == 8
