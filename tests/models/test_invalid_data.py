"""Invalid data give a ValueError in every method, and an error or an anomaly when served."""

import functools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from support import CLASSES, IMAGE, LATENTS, SERVED, tiny_autoencoder

import keras_gen
from keras_gen import distributions, evaluation, networks

NAN = np.float32("nan")
INF = np.float32("inf")
UNBOUNDED = ("conditional_vae",)  # a normal likelihood accepts all finite numbers
LABELED = ("conditional_vae", "conditional_gan")
SIZES = {"hierarchical_vae": LATENTS + 2}
"""Numbers of latents that are not `LATENTS`. test_hierarchical_vae.py has references for them."""
CODED = ("vq_vae",)  # latents are codes, whose checks test_vector_quantized.py tests


def labels_of(name, number):
    return np.arange(number) % CLASSES if name in LABELED else None


def with_labels(x, labels):
    return (x,) if labels is None else (x, labels)


def data_methods(model, x, labels):
    """Yield (name, call) of each public method and function that takes data."""
    arguments = with_labels(x, labels)
    if not model.has_encoder:
        yield "discriminate", lambda: model.discriminate(*arguments)
        yield "evaluate", lambda: model.evaluate(*arguments, verbose=0)
        return
    for name in ("encode", "latents", "reconstruct", "score"):
        yield name, lambda name=name: getattr(model, name)(*arguments)
    yield "call", lambda: model(arguments if labels is not None else x)
    yield "predict", lambda: model.predict(arguments if labels is not None else x, verbose=0)
    yield "evaluate", lambda: model.evaluate(*arguments, verbose=0)
    yield "evaluation.latents", lambda: evaluation.latents(model, *arguments)
    if model.has_log_likelihood:
        yield "log_weights", lambda: model.log_weights(*arguments)
        yield (
            "log_likelihood",
            lambda: evaluation.log_likelihood(model, *arguments, num_samples=2, verbose=0),
        )
        yield "latent_report", lambda: evaluation.latent_report(model, *arguments)
    if model.threshold is not None:
        yield "is_anomaly", lambda: model.is_anomaly(*arguments)
        yield "calibrate", lambda: model.calibrate(x)


CASES = {
    "NaN": (lambda x: _set(x, NAN), "without NaN"),
    "infinity": (lambda x: _set(x, INF), "Expected data in"),
    "minus infinity": (lambda x: _set(x, -INF), "Expected data in"),
    "values of 0 to 255": (lambda x: x * 255, r"Scale pixels of 0 to 255.*: x / 255\."),
    "uint8": (lambda x: (x * 255).astype("uint8"), "Divide pixels of 0 to 255 by 255"),
    "bool": (lambda x: x > 0.5, "Expected `x` as floats"),
    "no channels": (lambda x: x[..., 0], r"\(batch, 8, 8, 1\).*Add a channel axis: x\[..., None"),
    "another size": (lambda x: x[:, :4], r"\(batch, 8, 8, 1\).*Reshape the data"),
    "text": (lambda x: x.astype(str), "Expected `x`"),
}


def _set(x, value):
    x = x.copy()
    x[13, 2, 3, 0] = value
    return x


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", SERVED)
def test_every_method_refuses_invalid_data(name, case, models, images):
    if name in UNBOUNDED and case == "values of 0 to 255":
        pytest.skip("a normal likelihood accepts all finite numbers")
    model = models[name]
    labels = labels_of(name, len(images))
    change, message = CASES[case]
    listed = list(data_methods(model, change(images), labels))
    assert len(listed) >= 2
    for _, call in listed:
        with pytest.raises(ValueError, match=message):
            call()


def test_inputs_of_an_autoencoder_can_be_noisy(models, images):
    model = models["autoencoder"]
    noisy = images - 0.9
    np.testing.assert_allclose(model.encode(noisy), model.encoder(noisy), rtol=1e-6)
    np.testing.assert_allclose(model.predict(noisy, verbose=0), model.reconstruct(noisy), rtol=1e-5)
    with pytest.raises(ValueError, match=r"Expected data in \[0, 1\]"):
        model.score(noisy)
    with pytest.raises(ValueError, match=r"Expected data in \[0, 1\]"):
        model.encode(images - 1.5)


@pytest.mark.parametrize("mode", [{"run_eagerly": True}, {"jit_compile": True}])
def test_predict_checks_data_sets_and_other_modes(mode, images):
    model, arguments = tiny_autoencoder()
    model.compile(**arguments, **mode)
    expected = model.predict(images, verbose=0)
    for data in (images, (images, images)):
        dataset = tf.data.Dataset.from_tensor_slices(data).batch(20)
        np.testing.assert_allclose(model.predict(dataset, verbose=0), expected, atol=1e-6)
    changed = _set(images, NAN)
    for data in (changed, tf.data.Dataset.from_tensor_slices(changed).batch(20)):
        with pytest.raises(ValueError, match="first in example 13 of `x`"):
            model.predict(data, verbose=0)


def test_predict_checks_the_labels_of_data_sets_under_xla(images):
    model, arguments = SERVED["conditional_vae"]()
    model.compile(**arguments, jit_compile=True)
    labels = labels_of("conditional_vae", 20)
    dataset = tf.data.Dataset.from_tensors(((images, labels),))
    expected = model.reconstruct(images, labels)
    np.testing.assert_allclose(model.predict(dataset, verbose=0), expected, atol=1e-5)
    with pytest.raises(ValueError, match=f"Received: {CLASSES} at index 3"):
        model.predict(tf.data.Dataset.from_tensors(((images, labels + 1),)), verbose=0)


def test_invalid_latents_are_refused(models):
    for name, model in models.items():
        if name in CODED:
            continue
        labels = labels_of(name, 4)
        for value in (NAN, INF):
            latents = np.zeros((4, SIZES.get(name, LATENTS)), "float32")
            latents[2, 1] = value
            with pytest.raises(ValueError, match="first in example 2 of `latents`"):
                model.decode(*with_labels(latents, labels))
        with pytest.raises(ValueError, match="Expected `latents` of shape"):
            model.decode(*with_labels(np.zeros((4, LATENTS + 1), "float32"), labels))


def test_infinite_numbers_are_refused_where_the_range_is_unbounded(images):
    posterior, likelihood = distributions.DiagonalNormal(2), distributions.Normal((3,))
    model = keras_gen.VAE(
        networks.mlp((3,), (4,), hidden=()),
        networks.mlp((2,), (3,), hidden=()),
        posterior,
        likelihood,
    )
    model.compile("adam", run_eagerly=True)
    x = np.zeros((4, 3), "float32")
    x[1, 2] = INF
    with pytest.raises(ValueError, match=r"Received: inf at \[1, 2\] of x"):
        model.fit(x, verbose=0)
    with pytest.raises(ValueError, match="first in example 1"):
        model.score(x)


# === Zero examples ===


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_zero_examples_are_refused(method, make_model, kind, images):
    model = make_model(run_eagerly=True)
    x = images if kind != "gan" or method != "predict" else images.reshape(20, -1)[:, :LATENTS]
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(8)
    sources = {
        "array": x[:0],
        "tensor": tf.constant(x[:0]),
        "data set": dataset.take(0),
        "data set of unknown length": dataset.filter(lambda batch: False),
        "generator": (batch for batch in ()),
    }
    for name, source in sources.items():
        of_known_length = name in ("array", "tensor", "data set")
        unit = "example" if of_known_length else "(example|batch)"
        with pytest.raises(ValueError, match=f"at least one {unit}"):
            getattr(model, method)(source, verbose=0)
    with pytest.raises(ValueError, match="Received: None"):
        getattr(model, method)(None, verbose=0)


def convolutional_autoencoder():
    encoder = networks.conv_encoder(IMAGE, (LATENTS,), filters=(4,))
    decoder = networks.conv_decoder((LATENTS,), IMAGE, filters=(4,))
    model = keras_gen.RegularizedAutoencoder(encoder, decoder)
    return model, {"loss": "mse"}


@pytest.mark.parametrize("name", [*SERVED, "convolutional_autoencoder"])
def test_methods_return_zero_rows_for_zero_examples(name):
    """Convolutions of oneDNN return zero rows of a wrong shape."""
    model, arguments = SERVED.get(name, convolutional_autoencoder)()
    model.compile(**arguments)
    size = SIZES.get(name, LATENTS)
    x, latents = np.zeros((0, *IMAGE), "float32"), np.zeros((0, size), "float32")
    if not model.has_continuous_latents:
        latents = np.zeros((0, *model.code_shape), "int64")
    labels = [np.zeros(0, "int64")] if model.num_classes else []
    assert model.decode(latents, *labels).shape == (0, *IMAGE)
    if model.prior is not None:
        samples = model.generate(seed=np.zeros(0, "int64"), condition=labels[0] if labels else None)
        assert samples.shape == (0, *IMAGE)
    if not model.has_encoder:
        assert model.discriminate(x, *labels).shape == (0,)
        return
    size = size if model.has_continuous_latents else 16
    assert model.latents(x, *labels).shape == (0, size)
    assert model.reconstruct(x, *labels).shape == (0, *IMAGE)
    assert model.score(x, *labels).shape == (0,)


def test_empty_batches_and_validation_data_are_refused(make_model, images):
    model = make_model(run_eagerly=True)
    for call in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="at least one example"):
            call(images[:0])
    for data in (images[:0], tf.data.Dataset.from_tensor_slices(images).batch(8).take(0)):
        with pytest.raises(ValueError, match="at least one example in `validation_data`"):
            model.fit(images, validation_data=data, verbose=0)
    for name in ("batch_size", "steps_per_epoch"):
        with pytest.raises(ValueError, match=rf"`{name}` must be an integer of at least 1"):
            model.fit(images, **{name: 0}, verbose=0)


@pytest.mark.parametrize("weight", [NAN, INF, -1.0])
def test_invalid_sample_weights_are_refused(weight, make_model, images):
    model = make_model(run_eagerly=True)
    weights = np.ones(20, "float32")
    weights[3] = weight
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="`sample_weight` must be finite numbers of at least"):
            call(images, sample_weight=weights, verbose=0)


# === Served ===


def served_of(folder, name):
    """Return {signature: function}, and the loaded object that must stay alive."""
    loaded = tf.saved_model.load(str(folder / name / "1"))
    return {key: f for key, f in loaded.signatures.items() if "_bytes" not in key}, loaded


def request(function, x, labels, latents=None):
    specs = function.structured_input_signature[1]
    number = len(x)
    given = {"inputs": x, "condition": labels, "seed": np.arange(number), "latents": latents}
    return {key: tf.constant(given[key], spec.dtype) for key, spec in specs.items()}


@pytest.mark.parametrize("case", ["NaN", "infinity", "minus infinity", "values of 0 to 255"])
@pytest.mark.parametrize("name", SERVED)
def test_every_signature_refuses_or_marks_invalid_data(name, case, images, published):
    if name in UNBOUNDED and case == "values of 0 to 255":
        pytest.skip("a normal likelihood accepts all finite numbers")
    labels = labels_of(name, 20)
    x = CASES[case][0](images)
    invalid = np.flatnonzero(~np.isfinite(x).all(axis=(1, 2, 3)) | (x > 1).any(axis=(1, 2, 3)))
    signatures, _ = served_of(published, name)
    with_data = {
        key: f for key, f in signatures.items() if "inputs" in str(f.structured_input_signature)
    }
    assert with_data
    for key, function in with_data.items():
        valid = function(**request(function, images, labels))
        if key != "score":
            with pytest.raises(tf.errors.InvalidArgumentError, match="Expected data in"):
                function(**request(function, x, labels))
            continue
        answer = function(**request(function, x, labels))
        score = answer["score"].numpy()
        others = np.setdiff1d(np.arange(20), invalid)
        assert np.all(score[invalid] == INF)
        np.testing.assert_allclose(score[others], valid["score"].numpy()[others], rtol=1e-5)
        if "anomaly" in answer:
            assert answer["anomaly"].numpy()[invalid].all()
        if "per_feature" in answer:
            per_feature = answer["per_feature"].numpy()
            assert np.all((per_feature[invalid] == 0) | (per_feature[invalid] == INF))
            assert np.all(per_feature[invalid].max(axis=(1, 2, 3)) == INF)


def test_a_threshold_without_a_loss_exports_a_score_or_none(images, tmp_path):
    encoder = networks.mlp(IMAGE, (LATENTS,), hidden=())
    decoder = networks.mlp((LATENTS,), IMAGE, hidden=(), output_activation="sigmoid")
    model = keras_gen.RegularizedAutoencoder(encoder, decoder, threshold=0.5)
    model.export(tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    assert "score" not in loaded.signatures
    model.compile("adam", loss="mse")
    assert "score" in model.signatures()


# === Random data ===

VALUES = st.sampled_from([0.0, 0.25, 1.0, 1.0 + 5e-5, 1.5, -0.5, 255.0, NAN, INF, -INF, 1e6])


@st.composite
def random_data(draw):
    """Random data, usually of the right shape and type, with random values."""
    number = draw(st.integers(1, 3))
    shape = draw(st.sampled_from([IMAGE, IMAGE, IMAGE, IMAGE, IMAGE[:2], (8, 8, 3), (64,), ()]))
    x = np.full((number, *shape), 0.5, "float32")
    flat = x.reshape(-1)
    for _ in range(draw(st.integers(0, 2))):
        flat[draw(st.integers(0, flat.size - 1))] = draw(VALUES)
    dtype = draw(
        st.sampled_from(["float32"] * 4 + ["float64", "float16", "uint8", "int64", "bool"])
    )
    with np.errstate(invalid="ignore", over="ignore"):
        return x.astype(dtype)


@st.composite
def random_labels(draw, number):
    elements = st.one_of(st.integers(0, CLASSES - 1), st.integers(-2, CLASSES + 1))
    labels = draw(st.lists(elements, min_size=number, max_size=number))
    dtype = draw(st.sampled_from(["int64"] * 4 + ["int32", "float32", "bool", "str"]))
    shape = draw(st.sampled_from([(number,)] * 5 + [(number, 1)]))
    return np.array(labels).astype(dtype).reshape(shape)


METHODS = {"serving_default": "reconstruct", "encode": "encode"}
"""The method of the model by the name of its served function, where they differ or are noisy."""
NOISY = ("encode", "latents", "reconstruct", "call", "predict")
"""Methods of an autoencoder whose inputs can exceed the range by its width, as noisy images do."""


def is_valid_data(name, x, method=None):
    if x.shape[1:] != IMAGE or x.dtype.kind != "f":
        return False
    if name == "autoencoder" and method in NOISY:
        return bool(np.all((x >= -1) & (x <= 2)))
    x = x.astype("float32")
    low, high = (-np.finfo("f").max, np.finfo("f").max) if name in UNBOUNDED else (-1e-4, 1 + 1e-4)
    if name.endswith("gan"):
        low, high = -1e-4, 1 + 1e-4
    return bool(np.all((x >= low) & (x <= high)))


def is_valid_label(labels):
    if labels is None:
        return True
    right_form = labels.ndim == 1 and labels.dtype.kind in "iu"
    return bool(right_form and np.all((labels >= 0) & (labels < CLASSES)))


@pytest.mark.filterwarnings("ignore:The data contain numbers between the 2 values")
@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(st.data())
@pytest.mark.parametrize("name", SERVED)
def test_random_data_give_the_reference_or_a_value_error(name, models, data):
    model = models[name]
    x = data.draw(random_data())
    labels = data.draw(random_labels(len(x))) if name in LABELED else None
    for method, call in data_methods(model, x, labels):
        if method == "latent_report" and len(x) < 2:
            continue
        valid = is_valid_data(name, x, method) and is_valid_label(labels)
        references = _references(model, x, labels) if valid and name not in SIZES else {}
        if not valid:
            with pytest.raises(ValueError, match=r"Expected|sufficient"):
                call()
        elif method in references:
            np.testing.assert_allclose(np.asarray(call()), references[method], rtol=1e-4, atol=1e-5)
        elif method not in ("evaluate", "latent_report", "calibrate"):
            call()


def _references(model, x, labels):
    """What the networks compute by themselves."""
    x = np.float32(x)
    inputs = x if labels is None else [x, np.int32(labels)]
    if not model.has_encoder:
        return {"discriminate": 1 / (1 + np.exp(-np.asarray(model.discriminator(inputs))[:, 0]))}
    parameters = model.encoder(inputs)
    if not model.has_continuous_latents:
        vectors = model.quantizer(parameters)
        output = 1 / (1 + np.exp(-np.asarray(model.decoder(vectors))))
        vectors = np.reshape(vectors, (len(x), -1))
        return {"latents": vectors, "reconstruct": output, "call": output, "predict": output}
    if not model.has_log_likelihood:
        output = np.asarray(model.decoder(parameters))
        return {"encode": parameters, "latents": parameters, "reconstruct": output, "call": output}
    mean = np.asarray(parameters)[:, :LATENTS]
    return {"latents": mean, "evaluation.latents": mean}


@pytest.fixture(scope="module")
def served(published):
    """Return a function that loads the signatures of a published model once."""
    return functools.cache(lambda name: served_of(published, name)[0])


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(st.data())
@pytest.mark.parametrize("name", SERVED)
def test_random_requests_give_the_reference_or_an_error(name, models, served, data):
    signatures = served(name)
    x = data.draw(random_data().filter(lambda x: x.shape[1:] == IMAGE)).astype("float32")
    labels = None
    if name in LABELED:
        elements = st.integers(-1, CLASSES)
        labels = np.array(data.draw(st.lists(elements, min_size=len(x), max_size=len(x))))
    value = data.draw(st.sampled_from([0.0, 1.0, NAN, INF]))
    latents = np.full((len(x), SIZES.get(name, LATENTS)), value)
    if name in CODED:
        latents = np.full((len(x), 2, 2, 2), value if np.isfinite(value) else 6)
    for key, function in signatures.items():
        inputs = request(function, x, labels, latents)
        valid = is_valid_label(labels)
        if "inputs" in inputs and key != "score":
            valid &= is_valid_data(name, x, METHODS.get(key))
        if "latents" in inputs:
            valid &= bool(np.isfinite(latents).all()) and latents.max(initial=0) < 6
        if not valid:
            with pytest.raises(tf.errors.InvalidArgumentError, match="Expected"):
                function(**inputs)
            continue
        answer = function(**inputs)
        if key == "score":
            of_rows = np.array([is_valid_data(name, row[None]) for row in x], bool)
            # the square of a larger number may be infinite
            small = np.array(
                [np.abs(row[np.isfinite(row)]).max(initial=0) < 1e15 for row in x], bool
            )
            is_infinite = answer["score"].numpy() == INF
            assert np.all(is_infinite[~of_rows])
            assert not np.any(is_infinite[of_rows & small])
            continue
        assert all(np.isfinite(value).all() for value in answer.values())
