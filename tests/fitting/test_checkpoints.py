"""A stopped training continues as if it had not stopped; damage and other trainings are found."""

import linecache
import pathlib
import random
import re
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import MODELS, tiny_autoencoder

import keras_gen
from keras_gen.fitting.checkpoints import _first_difference

STEPS = 3  # an epoch of 20 images in batches of 8


class SendSignal(keras.callbacks.Callback):
    """Sends a signal to this process at a step, or in the validation of an epoch."""

    def __init__(self, step=None, validation_of=None, number=signal.SIGTERM):
        super().__init__()
        self.step, self.validation_of, self.number = step, validation_of, number
        self.steps = self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.steps == self.step:
            signal.raise_signal(self.number)
        self.steps += 1

    def on_test_batch_begin(self, batch, logs=None):
        if self.epoch == self.validation_of:
            signal.raise_signal(self.number)


def state(model):
    return [np.asarray(variable) for variable in [*model.variables, *model.optimizer.variables]]


def assert_same_training(model, history, reference, expected):
    assert (history.epoch, history.history) == (expected.epoch, expected.history)
    for mine, theirs in zip(state(model), state(reference), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def as_arrays(images):
    return {"x": images, "batch_size": 8, "validation_split": 0.1}


def as_dataset(images):
    return {
        "x": tf.data.Dataset.from_tensor_slices(images).shuffle(20, seed=4).batch(8),
        "validation_data": images[:5],
    }


def as_endless_dataset(images):
    dataset = tf.data.Dataset.from_tensor_slices(images).shuffle(20, seed=4).repeat().batch(8)
    return {"x": dataset, "steps_per_epoch": STEPS, "validation_data": images[:5]}


def as_generator(images):
    order = np.random.default_rng(0)
    return {
        "x": ((images[order.permutation(20)[:8]],) for _ in range(100)),
        "steps_per_epoch": STEPS,
        "validation_data": images[:5],
    }


@pytest.mark.parametrize(
    ("kind", "data", "stops"),
    [
        *((kind, as_arrays, [{"step": 4}]) for kind in ("autoencoder", "gan", "hierarchical_vae")),
        ("vae", as_arrays, [{"step": 4}, {"validation_of": 1}]),
        *(
            ("autoencoder", data, [{"step": 4}])
            for data in (as_dataset, as_endless_dataset, as_generator)
        ),
    ],
)
def test_stopped_and_resumed_is_the_same_training(kind, make_model, images, tmp_path, data, stops):
    def train(folder, *callbacks):
        model = make_model()
        plateau = keras.callbacks.ReduceLROnPlateau(
            "val_loss", factor=0.5, patience=2, min_delta=1e9
        )
        callbacks = [keras_gen.Checkpoints(tmp_path / folder), plateau, *callbacks]
        return model, model.fit(epochs=4, verbose=0, callbacks=callbacks, **data(images))

    reference, expected = train("unbroken")
    for stop in stops:
        broken = f"broken-{next(iter(stop))}"
        with pytest.raises(SystemExit) as stopped:
            train(broken, SendSignal(**stop))
        assert stopped.value.code == 143
        assert [path.name for path in sorted((tmp_path / broken).iterdir())] == [
            "epoch-000001-step-000000000",
            f"epoch-000001-step-{2 if 'step' in stop else STEPS:09d}",
        ]
        assert_same_training(*train(broken), reference, expected)
    for name, rates in expected.history.items():
        assert "learning_rate" not in name or rates[3] < rates[1] == rates[0]


def fit(
    folder,
    make=tiny_autoencoder,
    drawn=0,
    epochs=2,
    callbacks=(),
    data=None,
    count=20,
    **compile_arguments,
):
    """A tiny model trained with checkpoints; the images are the same each time."""
    keras.utils.set_random_seed(0)
    random.seed(drawn)  # from which seeds are drawn, but not the weights
    model, arguments = make()
    model.compile(**(arguments | compile_arguments))
    x = np.random.default_rng(0).random((count, 8, 8, 1), dtype=np.float32)
    arguments = {"x": x, "batch_size": 8} if data is None else {"x": data}
    callbacks = [keras_gen.Checkpoints(folder), *callbacks]
    return model, model.fit(epochs=epochs, verbose=0, callbacks=callbacks, **arguments)


@pytest.mark.parametrize(
    "mode",
    [{"steps_per_execution": 2}, {"run_eagerly": True}, {"jit_compile": True}, "mixed_float16"],
    ids=str,
)
def test_every_mode_of_execution_resumes(mode, tmp_path):
    if mode == "mixed_float16":
        keras.config.set_dtype_policy(mode)
        mode = {}
    make, count = MODELS["vae"], 20
    if "jit_compile" in mode:
        make, count = tiny_autoencoder, 16  # which XLA compiles sooner, and without a partial batch
    reference, expected = fit(tmp_path / "unbroken", make, count=count, **mode)
    with pytest.raises(SystemExit):
        fit(tmp_path / "broken", make, callbacks=[SendSignal(step=1)], count=count, **mode)
    assert_same_training(*fit(tmp_path / "broken", make, count=count, **mode), reference, expected)


def noisy(seed=None):
    """Make an autoencoder with a random layer, whose seed is drawn unless it is given."""
    network = [
        keras.Input((8, 8, 1)),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(3),
    ]
    decoder = [
        keras.Input((3,)),
        keras.layers.Dense(64, "sigmoid"),
        keras.layers.Reshape((8, 8, 1)),
    ]
    model = keras_gen.RegularizedAutoencoder(
        keras.Sequential(network), keras.Sequential(decoder), seed=seed
    )
    return model, {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]}


def test_the_state_of_random_layers_and_a_seed_that_was_drawn_come_back(tmp_path):
    reference, expected = fit(tmp_path / "unbroken", noisy, run_eagerly=True)
    with pytest.raises(SystemExit):
        fit(tmp_path / "broken", noisy, callbacks=[SendSignal(step=4)], run_eagerly=True)
    model, history = fit(tmp_path / "broken", noisy, drawn=1, run_eagerly=True)
    assert_same_training(model, history, reference, expected)


def test_early_stopping_goes_on_counting_and_stays_stopped(tmp_path):
    def stopping():
        return keras.callbacks.EarlyStopping(
            "loss", mode="max", patience=2, restore_best_weights=True
        )  # the first is the best

    reference, expected = fit(tmp_path / "unbroken", epochs=9, callbacks=[stopping()])
    assert len(expected.epoch) == 3
    with pytest.raises(SystemExit):
        fit(tmp_path / "broken", epochs=9, callbacks=[stopping(), SendSignal(step=2 * STEPS)])
    model, history = fit(tmp_path / "broken", epochs=9, callbacks=[stopping()])
    assert_same_training(model, history, reference, expected)
    model, history = fit(tmp_path / "broken", epochs=9, callbacks=[stopping()])
    assert_same_training(model, history, reference, expected)
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == [
        f"epoch-{epoch:06d}-step-{step:09d}" for epoch, step in ((2, 1), (3, 0))
    ]


def test_ctrl_c_is_a_keyboard_interrupt_after_the_checkpoint_and_handlers_come_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(
        KeyboardInterrupt,
        match=re.escape("epoch-000000-step-000000002."),
    ):
        fit(tmp_path, callbacks=[SendSignal(step=1, number=signal.SIGINT)])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_stops_at_once_without_a_checkpoint(tmp_path):
    twice = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda *_, **__: [signal.raise_signal(signal.SIGINT) for _ in "12"]
    )
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "runs" / "1", callbacks=[twice], run_eagerly=True)
    assert not (tmp_path / "runs").exists()


def test_a_signal_at_the_end_of_an_epoch_or_before_a_new_step_leaves_one_checkpoint(
    tmp_path, capsys
):
    folder = tmp_path / "runs" / "1"
    at_end = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    with pytest.raises(SystemExit):
        fit(folder, callbacks=[at_end], run_eagerly=True)
    [last] = folder.iterdir()
    assert last.name == "epoch-000001-step-000000000"
    message = f"Stopped by SIGTERM. The last checkpoint is {last}."
    assert message in capsys.readouterr().out
    with pytest.raises(SystemExit):
        fit(folder, callbacks=[SendSignal(step=1)], run_eagerly=True)
    before = sorted(path.name for path in folder.iterdir())
    assert before == [last.name, "epoch-000001-step-000000002"]
    with pytest.raises(SystemExit):
        # in a step that was trained before
        fit(folder, callbacks=[SendSignal(step=0)], run_eagerly=True)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_checkpoints_between_the_ends_of_epochs_and_how_many_are_kept(tmp_path, images):
    model, arguments = tiny_autoencoder()
    model.compile(**arguments)
    seen = []
    see = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda *_, **__: seen.append(
            {path.name for path in tmp_path.iterdir()}
        )
    )
    model.fit(
        images,
        batch_size=2,
        verbose=0,
        callbacks=[keras_gen.Checkpoints(tmp_path, every=4, keep=1), see],
    )
    after = [{f"epoch-000000-step-{step:09d}"} for step in (4, 8)]
    assert seen == [set()] * 4 + after[:1] * 4 + after[1:] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-000001-step-000000000"]


@pytest.fixture
def seen(monkeypatch):
    """The arguments that Keras's `fit` receives. It does not train."""
    received = {}

    def fit(self, **arguments):
        received.update(arguments)
        history = keras.callbacks.History()
        history.epoch = []
        return history

    monkeypatch.setattr(keras.Model, "fit", fit)
    return received


@pytest.mark.parametrize("kind", ["a dataset's own", "arrays"])
def test_the_tuner_of_tf_data_stays_off(kind, tmp_path, images, seen):
    options = tf.data.Options()
    options.autotune.enabled = False
    model, arguments = tiny_autoencoder()
    model.compile(**arguments)
    x = (
        images
        if kind == "arrays"
        else tf.data.Dataset.from_tensor_slices(images).batch(8).with_options(options)
    )
    model.fit(x, callbacks=[keras_gen.Checkpoints(tmp_path)])
    assert seen["x"].options().autotune.enabled is False


def test_the_default_batch_size_is_that_of_keras(tmp_path, seen):
    model, arguments = tiny_autoencoder()
    model.compile(**arguments)
    x = np.zeros((100, 8, 8, 1), "float32")
    model.fit(x, validation_split=0.25, callbacks=[keras_gen.Checkpoints(tmp_path)])
    assert [len(batch) for batch in seen["x"]] == [32, 32, 11]
    assert seen["validation_batch_size"] == 32


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_checkpoint_is_renamed_and_the_one_before_is_used(damage, tmp_path):
    reference, expected = fit(tmp_path / "unbroken", epochs=3)
    fit(tmp_path / "broken", epochs=2)
    good, last = sorted((tmp_path / "broken").iterdir())
    file = last / "state.data-00000-of-00001"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content)
    (tmp_path / "broken" / "unfinished-epoch-000002-step-000000001").mkdir()  # of a killed process
    with pytest.warns(
        UserWarning,
        match=re.escape(
            f"The checkpoint {last} is damaged and was renamed to damaged-{last.name}, because "
            f"{file.name} is"
        ),
    ) as warned:
        model, history = fit(tmp_path / "broken", epochs=3)
    [warning] = [each for each in warned if "is damaged" in str(each.message)]
    assert "model.fit(" in linecache.getline(warning.filename, warning.lineno)
    assert_same_training(model, history, reference, expected)
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == [
        f"damaged-{last.name}",
        "epoch-000002-step-000000000",
        "epoch-000003-step-000000000",
    ]
    assert not good.exists()


def test_if_all_are_damaged_that_is_an_error(tmp_path):
    fit(tmp_path)
    for state in tmp_path.glob("*/state.json"):
        state.write_text("{}")
        earlier = tmp_path / f"damaged-{state.parent.name}"  # of an earlier damage
        earlier.mkdir()
        (earlier / "state.json").write_text("{")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(keras_gen.CheckpointError, match="Remove the folder to train from the start"),
    ):
        fit(tmp_path)
    texts = [state.read_text() for state in tmp_path.glob("damaged-*/state.json")]
    assert texts == ["{}", "{}"]


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}, None),
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, ("b.c", 2, 3)),
        ({"a": 1}, {"a": 1, "b": 2}, ("b", None, 2)),
        ({"a": 1, "b": 2}, {"a": 1}, ("b", 2, None)),
        ({"a": "mse"}, {"a": {"b": 1}}, ("a", "mse", {"b": 1})),
        ({"a": {"b": 1}}, {"a": "mse"}, ("a", {"b": 1}, "mse")),
        ({"a": {"name": "dense"}}, {"a": {"name": "dense_1"}}, None),
        # checkpoints of version 0.1.0 lack these keys
        ({"a": {}}, {"a": {"other attributes": {"n": 1}, "exact arguments": {"n": 1}}}, None),
        (
            {"a": {"other attributes": {"n": 1}}},
            {"a": {"other attributes": {"n": 2}}},
            ("a.other attributes.n", 1, 2),
        ),
    ],
)
def test_the_first_difference_of_two_settings(there, here, expected):
    assert _first_difference(there, here) == expected


def test_another_training_is_refused_by_the_name_of_what_differs(tmp_path):
    fit(tmp_path)

    def wider():
        return keras_gen.RegularizedAutoencoder(
            keras_gen.networks.mlp((8, 8, 1), (3,), hidden=(7,)),
            keras_gen.networks.mlp((3,), (8, 8, 1), hidden=(7,), output_activation="sigmoid"),
            seed=1,
        ), tiny_autoencoder()[1]

    def of_other_depth():
        return keras_gen.RegularizedAutoencoder(
            keras_gen.networks.mlp((8, 8, 1), (3,), hidden=()),
            tiny_autoencoder()[0].decoder,
            seed=1,
        ), tiny_autoencoder()[1]

    def with_a_frozen_layer():
        """It has as many weights, but fewer variables of the optimizer, at the end."""
        model, arguments = tiny_autoencoder()
        model.decoder.layers[-2].trainable = False
        return model, arguments

    def with_another_seed():
        model, arguments = tiny_autoencoder()
        parts = model.encoder, model.decoder
        return keras_gen.RegularizedAutoencoder(*parts, seed=2), arguments

    for arguments, message in (
        (
            {"optimizer": keras.optimizers.Adam(0.5)},
            "Expected optimizer.config.learning_rate: 0.001. Received: 0.5",
        ),
        ({"optimizer": "sgd"}, "Expected optimizer.class_name: 'Adam'. Received: 'SGD'"),
        ({"loss": "mse"}, "Expected loss: 'binary_crossentropy'. Received: 'mse'"),
        ({"make": with_another_seed}, "Expected seed: '1'. Received: '2'"),
        ({"make": wider}, "kernel: [[64, 6], 'float32']. Received: [[64, 7], 'float32']"),
        ({"make": with_a_frozen_layer}, "Expected number of variables: "),
        ({"make": MODELS["vae"]}, "The training must match the checkpoints in"),
        (
            {"data": tf.data.Dataset.from_tensors(np.zeros((4, 8, 8, 1), "float32"))},
            "Expected number of steps per epoch: 3. Received: 1",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            fit(tmp_path, **({"epochs": 3} | arguments))
    with pytest.raises(ValueError, match="The training must match the checkpoints in"):
        fit(tmp_path, make=of_other_depth)
    assert sorted(path.name[:12] for path in tmp_path.iterdir()) == ["epoch-000001", "epoch-000002"]


def test_mistakes_in_the_arguments(tmp_path):
    for argument in ({"every": 0}, {"keep": 0}, {"keep": None}, {"every": 1.5}, {"keep": True}):
        with pytest.raises(
            ValueError,
            match=f"`{next(iter(argument))}` of Checkpoints must be an integer of at least 1",
        ):
            keras_gen.Checkpoints(tmp_path, **argument)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="which is a file"):
        fit(tmp_path / "file")


def test_a_checkpoint_of_version_0_1_0_continues(images, tmp_path):
    """The third epoch, resumed after two of version 0.1.0, ends where 0.1.0 ended it."""
    legacy = pathlib.Path(__file__).parents[1] / "legacy"
    shutil.copytree(legacy / "checkpoints", tmp_path / "checkpoints")
    expected = np.load(legacy / "resumed.npz")
    keras.utils.set_random_seed(0)
    vae = keras_gen.VAE(
        keras_gen.networks.mlp((8, 8, 1), (6,), hidden=(6,)),
        keras_gen.networks.mlp((3,), (8, 8, 1), hidden=(6,)),
        keras_gen.distributions.DiagonalNormal(3),
        keras_gen.distributions.Normal((8, 8, 1), "optimal"),
        seed=1,
    )
    vae.compile("adam")
    checkpoints = keras_gen.Checkpoints(tmp_path / "checkpoints")
    history = vae.fit(images, batch_size=8, epochs=3, verbose=0, callbacks=[checkpoints])
    assert history.epoch == [0, 1, 2]
    np.testing.assert_allclose(history.history["loss"], expected["loss"], rtol=1e-6)
    np.testing.assert_allclose(vae.reconstruct(images[:3]), expected["reconstruct"], rtol=1e-5)
