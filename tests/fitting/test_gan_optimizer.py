"""The optimizer of a GAN, used as the one optimizer of a Keras model."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import tiny, tiny_gan

FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def rates(model):
    return [float(optimizer.learning_rate) for optimizer in model.optimizer.optimizers]


@pytest.fixture(params=["float32", "mixed_float16"])
def gan(request):
    """A GAN whose learning rates are 0.001 and 0.01."""
    keras.config.set_dtype_policy(request.param)
    model = tiny("gan")
    assert rates(model) == pytest.approx([1e-3, 1e-2])
    return model


def test_setting_the_learning_rate_sets_both(gan):
    gan.optimizer.learning_rate = 1e-5
    assert rates(gan) == pytest.approx([1e-5, 1e-5])
    gan.optimizer.learning_rate.assign(2e-5)
    assert rates(gan) == pytest.approx([2e-5, 2e-5])
    gan.optimizer.learning_rate = gan.optimizer.learning_rate * 0.5
    assert rates(gan) == pytest.approx([1e-5, 1e-5])


def test_adding_to_the_learning_rate_adds_to_both(gan):
    gan.optimizer.learning_rate.assign_add(1e-3)
    assert rates(gan) == pytest.approx([2e-3, 1.1e-2])
    gan.optimizer.learning_rate.assign_sub(2e-3)
    assert rates(gan) == pytest.approx([0, 9e-3])


def test_one_of_the_two_learning_rates_can_be_set(gan):
    gan.optimizer.optimizers[1].learning_rate = 0.5
    assert rates(gan) == pytest.approx([1e-3, 0.5])


def test_the_learning_rate_reads_as_that_of_a_keras_optimizer(gan):
    rate = gan.optimizer.learning_rate
    plain = keras.optimizers.Adam(1e-3).learning_rate
    for read in (float, np.asarray, tf.convert_to_tensor, keras.ops.convert_to_numpy):
        assert read(rate) == read(plain)
    assert (rate.numpy(), rate.dtype, rate.shape) == (plain.numpy(), plain.dtype, plain.shape)
    assert float(keras.ops.multiply(rate, 2.0)) == float(keras.ops.multiply(plain, 2.0))
    assert float(rate + 1) == pytest.approx(float(plain + 1))
    assert rate > 0
    assert repr(rate).startswith("<Variable")


def test_callbacks_change_each_learning_rate_by_its_own(gan, images):
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)
    gan.fit(images[:8], epochs=2, callbacks=[scheduler], **FIT)
    assert rates(gan) == pytest.approx([0.25e-3, 0.25e-2])
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=1e9)
    gan.fit(images[:8], epochs=2, callbacks=[plateau], **FIT)
    assert rates(gan) == pytest.approx([0.125e-3, 0.125e-2])


def test_a_learning_rate_of_zero_stops_both_networks(gan, images):
    gan.optimizer.learning_rate = 0.0
    before = [variable.numpy() for variable in gan.trainable_variables]
    gan.fit(images[:8], **FIT)
    for old, variable in zip(before, gan.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def test_the_learning_rates_are_saved(gan, tmp_path):
    gan.optimizer.learning_rate = 1e-5
    gan.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert rates(loaded) == pytest.approx([1e-5, 1e-5])
    assert type(loaded.optimizer) is type(gan.optimizer)


def test_a_schedule_is_not_overwritten():
    model, arguments = tiny_gan()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    model.compile(**{**arguments, "discriminator_optimizer": keras.optimizers.SGD(schedule)})
    message = "Expected an optimizer of the discriminator with a number as learning rate."
    for change in (
        lambda: setattr(model.optimizer, "learning_rate", 1e-5),
        lambda: model.optimizer.learning_rate.assign_add(1e-5),
    ):
        with pytest.raises(ValueError, match=message):
            change()
        assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)
    model.optimizer.learning_rate = schedule
    assert rates(model) == pytest.approx([0.1, 0.1])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
def test_a_frozen_network_keeps_its_optimizer_in_the_file(frozen, images, tmp_path):
    model, arguments = tiny_gan()
    getattr(model, frozen).trainable = False
    model.compile(**arguments)
    model.fit(images[:8], **FIT)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [optimizer.name for optimizer in loaded.optimizer.optimizers] == ["adam", "sgd"]
    assert rates(loaded) == pytest.approx([1e-3, 1e-2])


def test_optimizers_are_given_by_name_or_serialized():
    model, _ = tiny_gan()
    serialized = keras.optimizers.serialize(keras.optimizers.SGD(0.25))
    model.compile("adam", serialized)
    assert rates(model) == pytest.approx([1e-3, 0.25])
    model.compile({"class_name": "rmsprop", "config": {"learning_rate": 0.5}}, "adam")
    assert rates(model) == pytest.approx([0.5, 1e-3])


@pytest.mark.parametrize("player", ["generator", "discriminator"])
@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
            "must not be a LossScaleOptimizer, because the generator and the discriminator share",
        ),
        (
            lambda: keras.optimizers.MultiOptimizer(
                keras.optimizers.OptimizerMap(keras.optimizers.Adam())
            ),
            "must be the optimizer of one network. Received: multi_optimizer",
        ),
        (lambda: "adamm", "must be a Keras optimizer, its name such as 'adam', or its serialized"),
        (lambda: 0.001, "must be a Keras optimizer, its name such as 'adam', or its serialized"),
        (lambda: None, "must be a Keras optimizer, its name such as 'adam', or its serialized"),
        (lambda: {"generator": "adam"}, "must be a Keras optimizer, its name such as 'adam', or"),
    ],
)
def test_other_optimizers_of_a_player_are_refused(player, optimizer, message):
    model, _ = tiny_gan()
    with pytest.raises(ValueError, match=re.escape(f"`{player}_optimizer` {message}")):
        model.compile(**{f"{player}_optimizer": optimizer()})


def test_one_optimizer_for_both_players_is_refused():
    model, _ = tiny_gan()
    optimizer = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="each need an optimizer of their own"):
        model.compile(optimizer, optimizer)
