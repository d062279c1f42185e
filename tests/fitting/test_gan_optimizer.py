"""The optimizer of a GAN, used as the one optimizer of a Keras model."""

import re

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from support import tiny, tiny_gan

FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def rates(model):
    return [float(optimizer.learning_rate) for optimizer in model.optimizer.optimizers]


@pytest.fixture(params=["float32", "mixed_float16"])
def gan(request):
    """A GAN whose learning rates are 0.001 and 0.01."""
    keras.config.set_dtype_policy(request.param)
    model = tiny("gan")
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (request.param == "mixed_float16")
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


# === Random learning rates and optimizers ===

NUMBERS = st.floats(0, 1, width=32) | st.sampled_from([0, 1, 1e-5])
FORMS = {
    "number": lambda number: number,
    "NumPy": np.float64,
    "array": np.asarray,
    "tensor": lambda number: tf.constant(number, tf.float32),
    "variable": lambda number: keras.Variable(number, dtype="float32"),
}
INVALID = (None, "fast", "0.1", [1e-3, 1e-2], {"generator": 1e-3}, float("nan"), float("inf"), -1.0)
CHANGES = st.tuples(
    st.sampled_from(["set", "assign", "add", "subtract", "times", "generator", "discriminator"]),
    st.tuples(NUMBERS, st.sampled_from(sorted(FORMS)))
    | st.tuples(st.sampled_from(INVALID), st.just("number")),
)


def changed(optimizer, how, value):
    """Change learning rates as a user writes it."""
    if how == "set":
        optimizer.learning_rate = value
    elif how == "times":
        optimizer.learning_rate = optimizer.learning_rate * value
    elif how in ("assign", "add", "subtract"):
        method = {"assign": "assign", "add": "assign_add", "subtract": "assign_sub"}[how]
        getattr(optimizer.learning_rate, method)(value)
    else:
        optimizer.optimizers[how == "discriminator"].learning_rate = value


def expected_rates(before, how, value):
    """Return the two learning rates after a change, computed in float32 by NumPy."""
    generator, discriminator = np.float32(before)
    value = np.float32(value)
    return {
        "set": (value, value),
        "assign": (value, value),
        "add": (generator + value, discriminator + value),
        "subtract": (generator - value, discriminator - value),
        "times": (generator * value, generator * value),
        "generator": (value, discriminator),
        "discriminator": (generator, value),
    }[how]


@pytest.fixture(scope="module")
def optimizers():
    """The optimizer of a GAN by policy."""
    found = {}
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        found[policy] = tiny("gan").optimizer
    keras.config.set_dtype_policy("float32")
    return found


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(st.lists(CHANGES, max_size=6), st.sampled_from(["float32", "mixed_float16"]))
def test_random_changes_of_the_learning_rate_do_what_they_say(optimizers, changes, policy):
    optimizer = optimizers[policy]
    optimizer.learning_rate = 1e-3
    optimizer.optimizers[1].learning_rate = 1e-2
    for how, (value, form) in changes:
        before = [float(each.learning_rate) for each in optimizer.optimizers]
        invalid = value in INVALID
        if invalid and how in ("generator", "discriminator", "times"):
            continue  # an assignment to a Keras optimizer, or an error of NumPy
        if invalid and how in ("add", "subtract") and value == -1.0:
            continue  # a valid number to add
        if invalid or min(expected_rates(before, how, value)) < 0:
            value = value if invalid else FORMS[form](value)
            with pytest.raises(
                ValueError, match=r"`(learning_rate|value)` must be a finite number"
            ):
                changed(optimizer, how, value)
            expected = before
        else:
            changed(optimizer, how, FORMS[form](value))
            expected = expected_rates(before, how, value)
        rates = [float(each.learning_rate) for each in optimizer.optimizers]
        np.testing.assert_allclose(rates, expected, rtol=1e-6)
        assert float(optimizer.learning_rate) == rates[0]


ADAM = {"class_name": "Adam", "config": {"learning_rate": 0.25}}
OPTIMIZERS = {
    "object": lambda: keras.optimizers.RMSprop(0.25),
    "name": lambda: "adamw",
    "Name": lambda: "SGD",
    "serialized": lambda: keras.optimizers.serialize(keras.optimizers.Lion(0.25)),
    "dictionary": lambda: ADAM,
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.25, 9)),
    "clipped": lambda: keras.optimizers.Adam(0.25, clipnorm=1.0),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
    "class": lambda: keras.optimizers.Adam,
    "number": lambda: 0.001,
    "list": lambda: ["adam"],
    "misspelled": lambda: "adamm",
    "unknown class": lambda: {"class_name": "Adamm", "config": {}},
    "unknown argument": lambda: {"class_name": "Adam", "config": {"rate": 1.0}},
    "pair": lambda: ("adam", "adam"),
}
ACCEPTED = ("object", "name", "Name", "serialized", "dictionary", "schedule", "clipped")


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(st.sampled_from(sorted(OPTIMIZERS)), st.sampled_from(sorted(OPTIMIZERS)))
def test_random_optimizers_are_those_of_keras_or_refused(generator, discriminator):
    model, _ = tiny_gan()
    given = [OPTIMIZERS[name]() for name in (generator, discriminator)]
    wrong = [
        player
        for player, name in (("generator", generator), ("discriminator", discriminator))
        if name not in ACCEPTED
    ]
    if wrong:
        with pytest.raises(ValueError, match=f"`{wrong[0]}_optimizer` must"):
            model.compile(*given)
        return
    model.compile(*given)
    for found, name in zip(model.optimizer.optimizers, (generator, discriminator), strict=True):
        expected = keras.optimizers.get(OPTIMIZERS[name]())
        assert isinstance(found, type(expected))
        assert found.clipnorm == expected.clipnorm
        assert float(found.learning_rate) == float(expected.learning_rate)
