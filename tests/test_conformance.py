"""What every model must do, whatever it models: the house rules that a Keras user relies on."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, MODELS, tiny

from keras_gen import RegularizedAutoencoder, networks
from keras_gen._serialization import constructor_arguments

FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}
MODES = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "XLA": {"jit_compile": True},
    "two steps an execution": {"steps_per_execution": 2, "jit_compile": False},
}

OF_FEW_EXAMPLES = (
    *("z_score", "kl_sampled", "accuracy", "duplicates"),
    *("commitment_loss", "perplexity", "usage"),
)
"""Ends of the names of logs that are mostly noise for so few examples."""


def assert_weights_equal(a, b, **tolerance):
    for of_a, of_b in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(of_a, of_b, **({"rtol": 0} | tolerance))


def optimizer_state(model):
    return [variable.numpy() for variable in model.optimizer.variables]


@functools.cache
def trained_eagerly(kind, count):
    """Return a model trained eagerly, and its history, to compare the other modes with."""
    model, images = (
        tiny(kind, run_eagerly=True),
        np.random.default_rng(0).random((count, *IMAGE), dtype=np.float32),
    )
    return model, model.fit(images, validation_data=images[:5], epochs=2, **FIT).history


def for_mode(mode, images):
    """The images for a mode: XLA would compile a partial batch by itself."""
    return images[:16] if mode == "XLA" else images


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "eager"])
def test_every_execution_mode_is_the_same_training(make_model, kind, images, mode):
    """It agrees with the eager training; under XLA, random numbers differ (autoencoder: none)."""
    images = for_mode(mode, images)
    reference, expected = trained_eagerly(kind, len(images))
    model = make_model(**MODES[mode])
    before = model.get_weights()
    history = model.fit(images, validation_data=images[:5], epochs=2, **FIT).history
    same_noise = mode != "XLA" or kind == "autoencoder"
    if same_noise:
        assert_weights_equal(model, reference, atol=2e-5)
    assert not all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    for name, values in expected.items():
        noisy = name.endswith(OF_FEW_EXAMPLES)
        # The KL of a layer depends on the sample of the layer above.
        noisy |= kind == "hierarchical_vae" and "kl_loss" in name
        if noisy and not same_noise:
            continue
        np.testing.assert_allclose(
            history[name],
            values,
            **({"rtol": 1e-4, "atol": 1e-5} if same_noise else {"rtol": 0.05}),
        )


@pytest.mark.filterwarnings(
    "ignore:Your input ran out of data"
)  # as Keras says of every source of unknown length
@pytest.mark.parametrize(
    "form", ["data set of unknown length", "generator with weights and no target"]
)
def test_the_quick_training_function_does_what_keras_own_does(images, form, monkeypatch):
    """They agree bit-for-bit, over a partial batch, the end of data and `train_on_batch`."""

    def batches():
        for start in (0, 8, 16):
            batch = images[start : start + 8]
            yield (
                batch
                if form.startswith("data set")
                else (batch, None, np.linspace(0, 2, len(batch), dtype="float32"))
            )

    models, losses_seen = [], []
    for own in (False, True):
        if own:
            monkeypatch.setattr(
                "keras_gen.models.base.GenerativeModel.make_train_function",
                keras.Model.make_train_function,
            )
        model, history = tiny("vae", jit_compile=False), []
        for _ in range(2):
            if form.startswith("data set"):
                data = tf.data.Dataset.from_generator(
                    batches, output_signature=tf.TensorSpec((None, *IMAGE))
                )
            else:
                data = batches()
            history += model.fit(data, verbose=0).history["loss"]
            history.append(model.train_on_batch(images[:8], return_dict=True)["loss"])
        models.append(model)
        losses_seen.append(history)
    assert_weights_equal(*models, atol=0)
    assert losses_seen[0] == losses_seen[1]


def test_the_quick_training_function_is_traced_for_each_form_of_the_batches(images, monkeypatch):
    """The forms take turns, and the weights agree bit-for-bit with those of the Keras function."""
    x, weights = images[:8], np.linspace(0, 2, 8, dtype="float32")
    forms = [
        tf.data.Dataset.from_tensor_slices(data).batch(size, drop_remainder=True)
        for data, size in ((x, 8), (x, 4), ((x, x, weights), 4), (x, 8))
    ]
    models = []
    for own in (False, True):
        if own:
            monkeypatch.setattr(
                "keras_gen.models.base.GenerativeModel.make_train_function",
                keras.Model.make_train_function,
            )
        model = tiny("autoencoder", jit_compile=False)
        for form in forms:
            model.fit(form, verbose=0)
        models.append(model)
    assert_weights_equal(*models, atol=0)


@pytest.mark.filterwarnings("ignore:Even though the .tf.config.experimental_run_functions_eagerly")
def test_fit_obeys_the_setting_that_runs_functions_eagerly(images, monkeypatch):
    model, eager = tiny("autoencoder", jit_compile=False), []
    train_step = type(model).train_step

    def recorded(self, data):
        eager.append(tf.executing_eagerly())
        return train_step(self, data)

    monkeypatch.setattr(type(model), "train_step", recorded)
    model.fit(images[:8], verbose=0)
    tf.config.run_functions_eagerly(True)
    try:
        model.fit(images[:8], verbose=0)
    finally:
        tf.config.run_functions_eagerly(False)
    model.fit(images[:8], verbose=0)
    assert not any(eager[:-1])
    assert eager[-1]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "XLA"])
def test_the_quick_training_function_is_that_of_one_step_of_a_graph(mode, monkeypatch):
    """The function is kept until the user forces a new one."""
    quick = []

    def one_step_function(model, keras_function):
        quick.append(lambda iterator: keras_function(iterator))
        return quick[-1]

    monkeypatch.setattr("keras_gen.models.base.one_step_function", one_step_function)
    model = tiny("autoencoder", **MODES[mode])
    model.make_train_function()
    first = model.train_function
    assert quick == ([first] if mode == "graph" else [])
    model.make_train_function()
    assert model.train_function is first
    model.make_train_function(force=True)
    assert model.train_function is not first


def test_adam_is_fused_on_one_device_only(monkeypatch, two_replicas):
    fused = []
    monkeypatch.setattr("keras_gen.models.base.fuse", fused.append)
    model = tiny("gan")
    assert fused == model.optimizer.optimizers
    with two_replicas.scope():
        tiny("autoencoder")
    assert fused == model.optimizer.optimizers


def test_optimizers_that_fail_in_bfloat16_are_refused():
    keras.config.set_dtype_policy("bfloat16")
    model, _ = MODELS["vae"]()
    with pytest.raises(ValueError, match="Expected an optimizer that works in bfloat16"):
        model.compile(keras.optimizers.Nadam())


@pytest.mark.parametrize("jit_compile", [True, False])
def test_only_with_xla_a_callback_looks_at_the_loss_and_once(jit_compile, images, monkeypatch):
    history = keras.callbacks.History()
    history.epoch = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, **arguments: history)
    model = tiny("autoencoder", jit_compile=jit_compile)
    callbacks = keras.callbacks.CallbackList([])
    for _ in range(2):
        model.fit(images, callbacks=callbacks)
    assert [callback.model for callback in callbacks.callbacks] == [model] * jit_compile


def test_the_end_of_another_worker_is_a_worker_lost_error(images, monkeypatch):
    def fit(self, **arguments):
        raise tf.errors.UnavailableError(None, None, "The worker is gone.")

    monkeypatch.setattr("keras_gen.fitting.multi_worker.several_workers", lambda strategy: True)
    monkeypatch.setattr(keras.Model, "fit", fit)
    with pytest.raises(ConnectionError, match=r"Another worker ended.*The worker is gone"):
        tiny("autoencoder").fit(images)


@pytest.mark.parametrize("mode", ["graph", "XLA"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_stays_close_to_float32(make_model, kind, images, policy, mode):
    images = for_mode(mode, images)
    _, expected = trained_eagerly(kind, len(images))
    keras.config.set_dtype_policy(policy)
    model = make_model(**MODES[mode])
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (
        policy == "mixed_float16"
    )
    np.testing.assert_allclose(
        model.fit(images, epochs=2, **FIT).history["loss"], expected["loss"], rtol=2e-2
    )
    assert all(variable.dtype == "float32" for variable in model.trainable_variables)


def test_an_overflow_under_mixed_float16_skips_the_step_and_halves_the_scale(make_model, images):
    keras.config.set_dtype_policy("mixed_float16")
    model = make_model()
    model.fit(images, **FIT)
    model.optimizer.dynamic_scale.assign(1e38)
    before = [variable.numpy() for variable in model.trainable_variables]
    model.fit(images, steps_per_epoch=1, **FIT)
    assert float(model.optimizer.dynamic_scale) < 1e38
    for old, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def test_evaluation_is_the_same_twice_and_changes_nothing_and_the_loss_is_the_sum_of_its_parts(
    make_model, images
):
    model = make_model()
    before = model.get_weights()
    first = model.evaluate(images, batch_size=8, verbose=0, return_dict=True)
    parts = [value for name, value in first.items() if name.endswith("_loss")]
    assert first["loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert model.evaluate(images, batch_size=8, verbose=0, return_dict=True) == first
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@functools.cache
def trained_on_an_array(kind, count):
    """A model after a `fit` on an array of the images, with what the other forms are compared."""
    model = tiny(kind, run_eagerly=True)
    model.fit(np.random.default_rng(0).random((count, *IMAGE), dtype=np.float32), **FIT)
    return model


@pytest.mark.parametrize(
    "form", ["pair", "dataset", "dataset of pairs", "generator", "torch-like sequence"]
)
def test_every_form_of_fit_is_the_same_training(make_model, kind, images, form):
    images = images[:12]
    batches = [images[:8], images[8:]]

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            return batches[index], batches[index]

    dataset = tf.data.Dataset.from_tensor_slices(images).batch(8)
    forms = {
        "pair": (images, {"y": images, "batch_size": 8}),
        "dataset": (dataset, {}),
        "dataset of pairs": (dataset.map(lambda x: (x, x)), {}),
        "generator": (((batch,) for batch in batches), {"steps_per_epoch": 2}),
        "torch-like sequence": (Sequence(), {}),
    }
    x, arguments = forms[form]
    model = make_model(run_eagerly=True)
    model.fit(x, shuffle=False, verbose=0, **arguments)
    assert_weights_equal(model, trained_on_an_array(kind, len(images)), atol=1e-6)


def test_validation_split_and_train_on_batch(make_model, images):
    history = make_model(run_eagerly=True).fit(images[:8], validation_split=0.25, **FIT).history
    assert {"loss", "val_loss"} <= history.keys()
    logs = make_model(run_eagerly=True).train_on_batch(images[:8], return_dict=True)
    assert logs["loss"] == pytest.approx(
        make_model(run_eagerly=True).fit(images[:8], **FIT).history["loss"][0], rel=1e-5
    )


def test_weights_of_zero_are_examples_left_out(make_model, kind, images):
    """Ten examples of weight 2 and ten of weight 0 give the mean loss of the first ten."""
    weighted_part = {
        "autoencoder": "reconstruction_loss",
        "vae": "reconstruction_loss",
        "hierarchical_vae": "reconstruction_loss",
        "gan": "discriminator_loss",
        "vq_vae": "reconstruction_loss",
    }[kind]
    weights = np.repeat([2.0, 0.0], 10).astype("float32")
    model = make_model()

    def loss(*data, **arguments):
        return model.evaluate(*data, verbose=0, return_dict=True, **arguments)[weighted_part]

    weighted = [
        loss(images, images, sample_weight=weights, batch_size=20),
        loss(images, sample_weight=weights, batch_size=20),
        loss(tf.data.Dataset.from_tensors((images, images, weights))),
    ]
    halves = [
        loss(images, images, sample_weight=np.eye(20, dtype="float32")[i], batch_size=20)
        for i in range(10)
    ]
    assert weighted == pytest.approx(3 * [2 * sum(halves)], rel=1e-4)
    assert weighted[0] != pytest.approx(loss(images, batch_size=20), rel=1e-4)


def test_weights_without_a_target_count_in_fit_and_its_validation(make_model, images):
    images, weights = images[:8], np.linspace(0.5, 1.5, 8, dtype="float32")
    implicit, explicit = make_model(run_eagerly=True), make_model(run_eagerly=True)
    history = implicit.fit(
        images, sample_weight=weights, validation_data=(images, None, weights), **FIT
    ).history
    expected = explicit.fit(
        images, images, sample_weight=weights, validation_data=(images, images, weights), **FIT
    ).history
    assert history == expected
    assert_weights_equal(implicit, explicit, atol=0)


def test_keras_file_brings_back_weights_slots_counters_and_the_training_to_come(
    make_model, images, tmp_path
):
    model = make_model()
    model.fit(images, **FIT)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name, value in constructor_arguments(model).items():
        if not isinstance(value, keras.layers.Layer):
            assert repr(getattr(loaded, name)) == repr(value)
    assert_weights_equal(loaded, model, atol=0)
    assert len(optimizer_state(model)) == len(optimizer_state(loaded)) > 3
    for mine, theirs in zip(optimizer_state(model), optimizer_state(loaded), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    model.fit(images, **FIT)
    loaded.fit(images, **FIT)
    assert_weights_equal(loaded, model, atol=0)


def test_the_built_in_callbacks_work(make_model, images, tmp_path):
    model = make_model(run_eagerly=True)
    callbacks = [
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=1e9),
        keras.callbacks.EarlyStopping(
            "val_loss", patience=3, min_delta=1e9, restore_best_weights=True
        ),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="val_loss", save_best_only=True
        ),
        keras.callbacks.CSVLogger(tmp_path / "metrics.csv"),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
    ]
    optimizers = getattr(model.optimizer, "optimizers", [model.optimizer])
    rates = [float(optimizer.learning_rate) for optimizer in optimizers]
    model.fit(images, validation_data=images, epochs=6, callbacks=callbacks, **FIT)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 4
    assert all(
        float(optimizer.learning_rate) < rate
        for optimizer, rate in zip(optimizers, rates, strict=True)
    )
    keras.saving.load_model(tmp_path / "best.keras").evaluate(images, verbose=0)


def test_a_learning_rate_schedule_of_steps_works(make_model, images):
    model = make_model()
    optimizers = getattr(model.optimizer, "optimizers", [model.optimizer])
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.0)
    before = [variable.numpy() for variable in model.trainable_variables]
    model.fit(images, callbacks=[scheduler], **FIT)
    assert all(float(optimizer.learning_rate) == 0 for optimizer in optimizers)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def test_two_replicas_see_the_whole_batch(kind, images, two_replicas):
    """Logs are those of the whole batch; the training agrees up to the noise of the replicas."""
    _, expected = trained_eagerly(kind, len(images))
    with two_replicas.scope():
        model = tiny(kind)
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(8)
    history = model.fit(dataset, epochs=2, validation_data=dataset, verbose=0).history
    if kind == "autoencoder":
        kernels = [
            variable for variable in model.trainable_variables if variable.path.endswith("kernel")
        ]
        regularization = 1e-3 * sum(float(np.sum(np.square(kernel))) for kernel in kernels)
        assert history["val_regularization_loss"][-1] == pytest.approx(regularization, rel=1e-6)
    assert int(two_replicas.experimental_local_results(model.optimizer.iterations.value)[0]) == 6
    np.testing.assert_allclose(
        history["loss"],
        expected["loss"],
        rtol=1e-5 if kind == "autoencoder" else 2e-2,
    )


def test_a_replica_without_examples_changes_nothing(two_replicas):
    """Of the second batch, the only example goes to the first replica."""
    with two_replicas.scope():
        encoder = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
        model = RegularizedAutoencoder(encoder, networks.mlp((1,), (1,)))
        model.compile(keras.optimizers.SGD(0.1), loss="mse", run_eagerly=True)
    bias = model.decoder.weights[-1]
    before = np.array(bias)
    x = np.array([[3.0], [1.0], [2.0]], np.float32)
    model.fit(tf.data.Dataset.from_tensor_slices(x).batch(2), verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert not np.array_equal(bias, before)


def test_several_steps_per_execution_are_refused_on_several_replicas(images, two_replicas):
    with two_replicas.scope():
        model = tiny("autoencoder", steps_per_execution=2)
    with pytest.raises(ValueError, match=r"steps_per_execution=2\. Compile without it"):
        model.fit(images, verbose=0)


def test_nothing_is_added_to_the_loss_of_frozen_networks():
    assert tiny("vae").minimize(None, None, tf.constant(2.0), [], {}) == 0


def test_noise_differs_by_step_and_replica(make_model, two_replicas):
    model = make_model()
    first, second = two_replicas.experimental_local_results(
        two_replicas.run(lambda: model.noise_seed(training=True))
    )
    model.optimizer.iterations.assign_add(1)
    seeds = {
        tuple(np.asarray(seed))
        for seed in (first, second, model.noise_seed(True), model.noise_seed(False))
    }
    assert len(seeds) == 4


def test_predict_and_summary(make_model, kind, images, capsys):
    model = make_model()
    assert model.built
    assert model.generates_means == (kind != "gan")
    inputs = np.zeros((5, 3), "float32") if kind == "gan" else images[:5]
    np.testing.assert_allclose(model.predict(inputs, verbose=0), model(inputs), atol=1e-6)
    model.summary()
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert f"Trainable params: {trainable:,}" in capsys.readouterr().out


def test_labels_shapes_dtypes_and_ranges_are_refused_with_advice(kind, make_model, images):
    labels = np.arange(20)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    model = make_model(run_eagerly=kind != "autoencoder")
    for call in (functools.partial(model.fit, shuffle=False), model.evaluate):
        for x, y, expected in (
            (images, labels, r"omit them, because this model is not conditional: fit\(x\)"),
            (dataset, None, r"omit them, because this model is not conditional: fit\(x\)"),
            (images[..., 0], None, r"x\[\.\.\., None\]"),
            (
                images.reshape(20, 4, 16, 1),
                None,
                r"Expected `x` of shape \(batch, 8, 8, 1\)\. Received: shape \(20, 4, 16, 1\)",
            ),
            ((images * 255).astype("uint8"), None, r"Received: dtype uint8\. Divide pixels"),
            (
                images * 255,
                None,
                r"Expected data in \[0, 1\].*Scale pixels of 0 to 255 to this range: x / 255",
            ),
            (
                tf.data.Dataset.from_tensor_slices(images * 255).batch(8),
                None,
                r"Expected data in \[0, 1\]",
            ),
            ({"image": images}, None, "one array"),
        ):
            before = model.get_weights()
            with pytest.raises(ValueError, match=expected):
                call(x, y, verbose=0)
            for old, new in zip(before, model.get_weights(), strict=True):
                np.testing.assert_array_equal(old, new)
    for arguments, expected in (
        ({"sample_weight": np.ones((20, 8, 8))}, "one weight for each example"),
        ({"class_weight": {0: 1.0}}, "Use `sample_weight`"),
    ):
        with pytest.raises(ValueError, match=expected):
            model.fit(images, verbose=0, **arguments)
    with pytest.raises(ValueError, match="has no `loss_weights`"):
        make_model(loss_weights=[2.0])


@pytest.mark.parametrize(
    ("kind", "mode"), [*itertools.product(MODELS, ["eager", "graph"]), ("autoencoder", "XLA")]
)
def test_values_out_of_range_and_nan_are_refused_in_every_mode(make_model, images, mode):
    model = make_model(**MODES[mode])
    for value in (255.0, np.nan):
        bad = images.copy()
        bad[13, 2, 3, 0] = value
        calls = [
            lambda bad=bad: model.fit(bad, verbose=0),
            lambda bad=bad: model.evaluate(tf.data.Dataset.from_tensors(bad), verbose=0),
        ]
        if mode != "XLA":  # which leaves out what a batch alone would show
            calls += [
                lambda bad=bad: model.train_on_batch(bad),
                lambda bad=bad: model.test_on_batch(bad),
            ]
            calls += [
                lambda bad=bad: model.fit(
                    ((batch,) for batch in [bad]), steps_per_epoch=1, verbose=0
                )
            ]
        for call in calls:
            before = model.get_weights()
            with pytest.raises(ValueError, match=r"^Expected data in \[0, 1\]"):
                call()
            for old, new in zip(before, model.get_weights(), strict=True):
                np.testing.assert_array_equal(old, new)


def test_weights_of_one_column_and_lists_are_taken(make_model, images):
    images, weights = images[:8], np.linspace(0, 1, 8, dtype="float32")
    expected = (
        make_model(run_eagerly=True)
        .fit(images, sample_weight=weights, validation_data=(images, None, weights), **FIT)
        .history
    )
    for form in (weights[:, None], weights.tolist()):
        validation_data = [images, None, form if isinstance(form, np.ndarray) else weights]
        assert (
            make_model(run_eagerly=True)
            .fit(images, sample_weight=form, validation_data=validation_data, **FIT)
            .history
            == expected
        )


def test_data_sets_of_unknown_rank_train(make_model, images):
    dataset = tf.data.Dataset.from_generator(
        lambda: iter([images[:8], images[8:]]), output_types=tf.float32
    )
    assert np.isfinite(make_model().fit(dataset, steps_per_epoch=2, verbose=0).history["loss"][0])


def test_frozen_networks_do_not_move(kind, images):
    first, second = {"gan": ("generator", "discriminator")}.get(kind, ("encoder", "decoder"))
    for frozen in ((first,), (second,), (first, second)):
        model, arguments = MODELS[kind]()
        for name in frozen:
            getattr(model, name).trainable = False
        model.compile(**arguments, run_eagerly=True)
        before = {
            name: [v.numpy() for v in getattr(model, name).variables if "moving" not in v.path]
            for name in (first, second)
        }
        if kind != "gan" and len(frozen) == 2:
            continue  # nothing is left to train
        model.fit(images[:8], **FIT)
        for name, old in before.items():
            new = [v.numpy() for v in getattr(model, name).variables if "moving" not in v.path]
            assert all(np.array_equal(a, b) for a, b in zip(old, new, strict=True)) == (
                name in frozen
            )


def test_noise_is_new_in_every_accumulated_step(make_model):
    model = make_model()
    if hasattr(model.optimizer, "optimizers"):
        return  # the GAN counts its steps itself
    model.compile(
        **{
            "optimizer": keras.optimizers.Adam(gradient_accumulation_steps=2),
            **({"loss": "mse"} if model.loss else {}),
        }
    )
    seeds = set()
    for _ in range(4):
        seeds.add(tuple(model.noise_seed(training=True).numpy()))
        model.optimizer.apply(
            [tf.zeros_like(v) for v in model.trainable_variables], model.trainable_variables
        )
    assert len(seeds) == 4


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_log_updates_metrics_of_any_class_with_the_number_of_examples(dtype):
    model = tiny("autoencoder")
    model.sum, model.mean = keras.metrics.Sum(name="sum"), keras.metrics.Mean(name="mean")
    for examples, value in ((3, 2.0), (1, 6.0)):
        value = tf.constant(value, dtype)
        model.log(tf.zeros((examples, 4)), sum=value, mean=value)
    assert float(model.sum.result()) == 3 * 2 + 6
    assert float(model.mean.result()) == (3 * 2 + 6) / 4


def test_noise_differs_by_model_and_by_batch_of_an_evaluation(kind, make_model, images):
    one, other = make_model(), make_model()
    other.seed = 2
    assert not np.array_equal(one.noise_seed(training=True), other.noise_seed(training=True))
    seen = []
    noise_seed = one.noise_seed
    one.noise_seed = lambda training: (
        seen.append(noise_seed(training).numpy()) or noise_seed(training)
    )
    one.compile(run_eagerly=True, **MODELS[kind]()[1])
    one.evaluate(np.concatenate([images[:8], images[:8]]), batch_size=8, verbose=0)
    if kind not in ("autoencoder", "vq_vae"):  # which have no noise
        assert len({tuple(seed) for seed in seen}) == 2


SERVING_CONTRACT = {
    "autoencoder": {
        "serving_default": ("inputs", {"reconstructions"}),
        "encode": ("inputs", {"latents"}),
        "decode": ("latents", {"outputs"}),
        "score": ("inputs", {"score", "per_feature"}),
    },
    "vae": {
        "serving_default": ("inputs", {"reconstructions"}),
        "encode": ("inputs", {"mean", "scale"}),
        "decode": ("latents", {"outputs"}),
        "generate": ("seed", {"outputs", "latents"}),
        "score": ("inputs", {"score", "per_feature"}),
    },
    "hierarchical_vae": {
        "serving_default": ("inputs", {"reconstructions"}),
        "encode": ("inputs", {"mean_1", "scale_1", "mean_2", "scale_2"}),
        "decode": ("latents", {"outputs"}),
        "generate": ("seed", {"outputs", "latents"}),
        "score": ("inputs", {"score", "per_feature"}),
    },
    "gan": {
        "serving_default": ("seed", {"outputs", "latents"}),
        "decode": ("latents", {"outputs"}),
        "generate": ("seed", {"outputs", "latents"}),
        "discriminate": ("inputs", {"probability"}),
    },
    "vq_vae": {
        "serving_default": ("inputs", {"reconstructions"}),
        "encode": ("inputs", {"latents"}),
        "decode": ("latents", {"outputs"}),
        "generate": ("seed", {"outputs", "latents"}),
        "score": ("inputs", {"score", "per_feature"}),
    },
}


def test_other_formats_are_written_by_their_own_functions(images, tmp_path, monkeypatch):
    received = []
    monkeypatch.setattr(
        "keras_gen.models.base.write_signature", lambda *arguments: received.append(arguments)
    )
    monkeypatch.setattr(
        keras.Model, "export", lambda self, path, **arguments: received.append((path, arguments))
    )
    model = tiny("vae")
    for name in ("onnx", "litert"):
        model.export(tmp_path / name, name, signature="encode")
        signatures, *rest = received.pop()
        assert signatures.keys() == SERVING_CONTRACT["vae"].keys()
        assert rest == ["encode", tmp_path / name, name, model.name]
    model.export(tmp_path / "model", "openvino", verbose=True)
    assert received == [(tmp_path / "model", {"format": "openvino", "verbose": True})]


def test_signatures_are_those_of_the_serving_contract(make_model, kind, images, tmp_path):
    model = make_model()
    model.export(tmp_path / "model")
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    found = {
        name: (*f.structured_input_signature[1], set(f.structured_outputs))
        for name, f in signatures.items()
    }
    assert found == SERVING_CONTRACT[kind]
    x, seed = tf.constant(images), tf.range(5, dtype=tf.int64)
    if kind == "gan":
        np.testing.assert_allclose(
            signatures["discriminate"](inputs=x)["probability"], model.discriminate(x), atol=1e-6
        )
        for name in ("serving_default", "generate"):
            np.testing.assert_allclose(
                signatures[name](seed=seed)["outputs"], model.generate(seed=seed), atol=1e-6
            )
    else:
        np.testing.assert_allclose(
            signatures["serving_default"](inputs=x)["reconstructions"],
            model.reconstruct(x),
            atol=1e-6,
        )
    if kind == "vae":
        np.testing.assert_allclose(
            signatures["encode"](inputs=x)["mean"], model.encode(x).mean(), atol=1e-6
        )
        np.testing.assert_allclose(
            signatures["encode"](inputs=x)["scale"], model.encode(x).stddev(), atol=1e-6
        )
